//! The log of the real program: outputs, changed live and refused, and traces.

use crate::support::{
    Database, Installation, PATIENCE, ServerProcess, batch_id, eventually, tracking,
};
use highwater::ledgers::LedgerKind;
use highwater::sim::{Behaviour, Fault, LedgerSim, SimHandle, SimOptions};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn sim() -> SimHandle {
    let options = SimOptions {
        auto_submit: true,
        ..SimOptions::of(LedgerKind::Sawtooth)
    };
    LedgerSim::start(options).unwrap()
}

fn sections(log: &str, sim: &SimHandle) -> String {
    format!(
        "[log]\n{log}\n[batches]\nrepoll = {{ min = \"50ms\", max = \"200ms\" }}\n\
         [[ledgers]]\nname = \"trace\"\nkind = \"sawtooth\"\nurl = \"{}\"\n",
        sim.url()
    )
}

async fn settle(server: &ServerProcess, database: &Database, numbers: std::ops::Range<usize>) {
    let settled = numbers.end as i64;
    let body = tracking(numbers.map(|n| ("trace".to_owned(), String::new(), batch_id(n))));
    server.track(&body).await;
    eventually(PATIENCE, "all batches settle", async || {
        database.count("status = 'committed'").await == settled
    })
    .await;
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

async fn metric(server: &ServerProcess, sample: &str) -> u64 {
    let metrics = server.page("/metrics").await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(sample));
    let value = value.unwrap_or_else(|| panic!("no {sample} in {metrics}"));
    value.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn level_format_and_file_are_changed_live_and_the_file_is_written_to_its_end() {
    let (database, sim) = (Database::sqlite(), sim());
    let place = Installation::new(&database, "server", &sections("filter = \"warn\"", &sim));
    let server = place.serve().await;
    assert_eq!(server.log(), "", "nothing at warn or above");

    let (first, second) = (
        place.path().join("logs/first.log"),
        place.path().join("second"),
    );
    let log = "filter = \"info\"\nformat = \"json\"\n\
               file = { path = \"logs/first.log\", rotation = \"never\" }";
    place.reconfigure(&database, "server", &sections(log, &sim));
    server.hangup();
    eventually(PATIENCE, "the file is written", async || {
        read(&first).contains("log settings applied")
    })
    .await;
    // Both outputs, each line an object.
    for text in [read(&first), server.log()] {
        let line = text
            .lines()
            .find(|line| line.contains("log settings applied"));
        let entry: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
        assert_eq!(
            (&entry["level"], &entry["logging.filter"]),
            (&"INFO".into(), &"info".into())
        );
    }

    let log = "filter = \"highwater=debug\"\nstderr = false\n\
               file = { path = \"second\", rotation = \"never\" }";
    place.reconfigure(&database, "server", &sections(log, &sim));
    server.hangup();
    eventually(PATIENCE, "the other file is written", async || {
        read(&second).contains("log settings applied")
    })
    .await;
    let before = read(&first);
    server.page("/").await;
    eventually(PATIENCE, "debug is logged", async || {
        read(&second).contains("url.path=/ ")
    })
    .await;
    assert!(
        read(&second).contains("DEBUG"),
        "text again: {}",
        read(&second)
    );
    settle(&server, &database, 0..10).await;
    assert_eq!(metric(&server, "highwater_log_lines_lost_total ").await, 0);
    let on_stderr = server.log();
    assert!(!on_stderr.contains("url.path"), "off: {on_stderr}");
    server.terminate().await;
    assert_eq!(read(&first), before, "the former file is left alone");
    assert!(
        read(&second).contains("highwater::app::wiring: stopped"),
        "{}",
        read(&second)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotating_file_keeps_so_many_of_its_own_and_touches_no_other() {
    let (database, sim) = (Database::sqlite(), sim());
    let log = "filter = \"info\"\nfile = { path = \"highwater\", keep = 2 }";
    let place = Installation::new(&database, "server", &sections(log, &sim));
    for day in 1..=5 {
        std::fs::write(
            place.path().join(format!("highwater.2020-01-0{day}")),
            "old",
        )
        .unwrap();
    }
    let server = place.serve().await;
    let dated = || {
        let entries = std::fs::read_dir(place.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut dated: Vec<String> = names
            .filter(|name| name.starts_with("highwater.2"))
            .collect();
        dated.sort();
        dated
    };
    let files = dated();
    assert_eq!(
        (files.len(), files[0].as_str()),
        (2, "highwater.2020-01-05"),
        "{files:?}"
    );
    server.terminate().await;
    assert!(place.path().join("highwater.toml").exists());
    let written = read(&place.path().join(&files[1]));
    assert!(
        written.contains(" ready ") && written.trim_end().ends_with("stopped"),
        "{written}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_opened_refuses_the_reload_and_the_start() {
    let (database, sim) = (Database::sqlite(), sim());
    let place = Installation::new(&database, "server", &sections("filter = \"info\"", &sim));
    let server = place.serve().await;
    let log = "filter = \"off\"\nfile = { path = \"highwater.toml/log\" }";
    let broken = sections(log, &sim).replace("\"trace\"", "\"renamed\"");
    place.reconfigure(&database, "server", &broken);
    server.hangup();
    eventually(PATIENCE, "the refusal is told", async || {
        metric(&server, "highwater_reload_failed ").await == 1
    })
    .await;
    let ready = server.get("/readyz").await["warnings"].to_string();
    assert!(
        ready.contains("highwater.toml/log") && ready.contains("log.file.path"),
        "{ready}"
    );
    let log = server.log();
    assert!(log.contains("the reload changed nothing"), "{log}");
    // Neither the filter nor anything else has changed.
    settle(&server, &database, 0..10).await;
    server.terminate().await;

    let mut refused = place.start();
    assert_eq!(refused.end().await.code(), Some(1));
    assert!(
        refused.log().contains("highwater.toml/log"),
        "{}",
        refused.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_leaves_what_it_logged_in_the_file() {
    let (database, sim) = (Database::sqlite(), sim());
    let log = "filter = \"info\"\nfile = { path = \"log\", rotation = \"never\" }";
    let place = Installation::new(&database, "server", &sections(log, &sim));
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken_address = taken.local_addr().unwrap().to_string();
    let config = place.path().join("highwater.toml");
    let changed = read(&config).replace("127.0.0.1:0", &taken_address);
    std::fs::write(&config, changed).unwrap();
    let mut server = place.start();
    assert_eq!(server.end().await.code(), Some(1), "{}", server.log());
    let written = read(&place.path().join("log"));
    assert!(written.contains("database migrated"), "{written}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_of_a_failed_reload_are_a_line_each() {
    let (database, sim) = (Database::sqlite(), sim());
    let good = sections("filter = \"warn\"", &sim);
    let place = Installation::new(&database, "server", &good);
    let server = place.serve().await;
    let broken = good
        .replace("repoll", "repol")
        .replace("sawtooth", "sawtoot");
    place.reconfigure(&database, "server", &broken);
    server.hangup();
    eventually(PATIENCE, "both are told", async || {
        server.log().lines().count() >= 2
    })
    .await;
    let log = server.log();
    for line in log.lines() {
        assert!(line.contains("the reload changed nothing"), "{log}");
        assert!(line.contains("config.problem=highwater.toml:"), "{log}");
    }
    assert_eq!(log.lines().count(), 2, "{log}");
    server.terminate().await;
}

/// An OTLP endpoint: keeps what is posted to it.
struct Collector {
    endpoint: String,
    received: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let keep = received.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let request = answer(connection).await;
                keep.lock().unwrap().push(request);
            }
        });
        Self { endpoint, received }
    }

    fn config(&self) -> String {
        format!(
            "filter = \"info\"\ntraces = {{ endpoint = \"{}\" }}",
            self.endpoint
        )
    }

    /// All spans, by trace.
    fn traces(&self) -> BTreeMap<Vec<u8>, Vec<Span>> {
        let mut traces: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
        for request in self.received.lock().unwrap().iter() {
            for resource in &request.resource_spans {
                let attributes = &resource.resource.as_ref().unwrap().attributes;
                let names: Vec<&str> = attributes.iter().map(|a| a.key.as_str()).collect();
                for name in ["service.name", "service.instance.id", "service.version"] {
                    assert!(names.contains(&name), "{name} in {names:?}");
                }
                for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
                    traces
                        .entry(span.trace_id.clone())
                        .or_default()
                        .push(span.clone());
                }
            }
        }
        traces
    }
}

/// Reads one request, answers it, and ends the connection.
async fn answer(mut connection: TcpStream) -> ExportTraceServiceRequest {
    let mut read = Vec::new();
    let body = loop {
        assert!(connection.read_buf(&mut read).await.unwrap() > 0, "cut off");
        let Some(head) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&read[..head]).to_lowercase();
        assert!(
            text.contains("content-type: application/x-protobuf"),
            "{text}"
        );
        let length = text.split("content-length: ").nth(1).unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if read.len() >= head + 4 + length {
            break read.split_off(head + 4);
        }
    };
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    connection.write_all(ok).await.unwrap();
    ExportTraceServiceRequest::decode(body.as_slice()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == key);
    let found = found.unwrap_or_else(|| panic!("no {key} in {span:?}"));
    format!(
        "{:?}",
        found.value.as_ref().unwrap().value.as_ref().unwrap()
    )
}

/// The trace is one tree: work → fetch → request, and work → commit.
fn assert_tree(spans: &[Span], traceparent: &str) {
    let named = |name: &str| {
        let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name} in {spans:?}");
        found[0]
    };
    let (work, fetch) = (named("work"), named("fetch"));
    let (request, commit) = (named("request"), named("commit"));
    assert_eq!(spans.len(), 4, "{spans:?}");
    assert!(work.parent_span_id.is_empty(), "{work:?}");
    assert_eq!(fetch.parent_span_id, work.span_id);
    assert_eq!(request.parent_span_id, fetch.span_id);
    assert_eq!(commit.parent_span_id, work.span_id);
    for child in [fetch, request, commit] {
        let within = work.start_time_unix_nano..=work.end_time_unix_nano;
        assert!(within.contains(&child.start_time_unix_nano), "{child:?}");
        assert!(within.contains(&child.end_time_unix_nano), "{child:?}");
    }
    assert!(fetch.end_time_unix_nano <= commit.start_time_unix_nano);
    assert_eq!(attribute(work, "ledger.name"), "StringValue(\"trace\")");
    assert_eq!(attribute(work, "work.outcome"), "StringValue(\"settled\")");
    assert_eq!(attribute(work, "batches.count"), "IntValue(1)");
    assert_eq!(attribute(commit, "batches.settled"), "IntValue(1)");
    assert_eq!(
        attribute(request, "http.response.status_code"),
        "IntValue(200)"
    );
    let url = attribute(request, "url.full");
    assert!(
        url.contains("/batch_statuses") && !url.contains('?'),
        "{url}"
    );
    let sent = format!("00-{}-{}-01", hex(&request.trace_id), hex(&request.span_id));
    assert_eq!(traceparent, sent, "what the ledger was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_of_work_is_one_trace_that_the_ledger_is_told_of() {
    let (database, sim, collector) = (Database::sqlite(), sim(), Collector::start().await);
    let off = sections("filter = \"info\"", &sim);
    let on = sections(&collector.config(), &sim);
    let place = Installation::new(&database, "server", &off);
    let server = place.serve().await;
    settle(&server, &database, 0..1).await;
    assert_eq!(sim.stats().last_traceparent, None, "nothing is traced");

    let change = async |sections: &str, times: usize| {
        place.reconfigure(&database, "server", sections);
        server.hangup();
        eventually(PATIENCE, "it is applied", async || {
            server.log().matches("log settings applied").count() == times
        })
        .await;
    };
    change(&on, 1).await;
    settle(&server, &database, 1..2).await;
    let first = sim.stats().last_traceparent.unwrap();
    change(&off, 2).await;
    eventually(PATIENCE, "what was queued is sent", async || {
        collector.traces().values().any(|spans| spans.len() == 4)
    })
    .await;
    let traces = collector.traces();
    assert_eq!(traces.len(), 1, "{traces:?}");
    assert_tree(traces.values().next().unwrap(), &first);

    settle(&server, &database, 2..3).await;
    assert_eq!(
        sim.stats().last_traceparent.as_ref(),
        Some(&first),
        "off again"
    );

    // At the end of the process the last ones are sent at once.
    change(&on, 3).await;
    settle(&server, &database, 3..4).await;
    let last = sim.stats().last_traceparent.unwrap();
    assert_ne!(last, first);
    let log = server.log();
    server.terminate().await;
    let traces = collector.traces();
    assert_eq!(traces.len(), 2, "{traces:?}");
    let (_, spans) = traces
        .iter()
        .find(|(id, _)| last.contains(&hex(id)))
        .unwrap();
    assert_tree(spans, &last);
    assert!(!log.contains("fetch.requests"), "spans are no lines: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_request_is_a_failed_span_of_its_trace() {
    let (database, sim, collector) = (Database::sqlite(), sim(), Collector::start().await);
    sim.set_behaviour(&Behaviour::always(Fault::Fail));
    let place = Installation::new(&database, "server", &sections(&collector.config(), &sim));
    let server = place.serve().await;
    let body = tracking([("trace".to_owned(), String::new(), batch_id(1))]);
    server.track(&body).await;
    eventually(PATIENCE, "the failure is traced", async || {
        collector.traces().values().any(|spans| spans.len() == 3)
    })
    .await;
    let traces = collector.traces();
    let spans = traces.values().find(|spans| spans.len() == 3).unwrap();
    for name in ["fetch", "request"] {
        let span = spans.iter().find(|span| span.name == name).unwrap();
        let status = span.status.as_ref().unwrap().code;
        assert_eq!(status, StatusCode::Error as i32, "{span:?}");
        assert!(!attribute(span, "error").is_empty());
    }
    let request = spans.iter().find(|span| span.name == "request").unwrap();
    let status = attribute(request, "http.response.status_code");
    assert_eq!(status, "IntValue(500)");
    assert_eq!(request.kind, SpanKind::Client as i32);
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_away_holds_up_nothing() {
    let (database, sim) = (Database::sqlite(), sim());
    // It accepts, and never answers.
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let log = format!(
        "filter = \"info\"\ntraces = {{ endpoint = \"http://{}\" }}",
        hangs.local_addr().unwrap()
    );
    let place = Installation::new(&database, "server", &sections(&log, &sim));
    let server = place.serve().await;
    settle(&server, &database, 0..200).await;
    let begun = Instant::now();
    server.terminate().await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(hangs);

    // Nobody listens there any more: what is not sent is counted, and told once.
    let server = place.serve().await;
    settle(&server, &database, 200..400).await;
    let lost = async || metric(&server, "highwater_trace_spans_lost_total ").await;
    eventually(PATIENCE, "lost spans are counted", async || {
        lost().await > 0
    })
    .await;
    let before = lost().await;
    settle(&server, &database, 400..410).await;
    eventually(PATIENCE, "more are lost", async || lost().await > before).await;
    let told = server.log().matches("traces are not taken").count();
    assert_eq!(told, 1, "{}", server.log());
    server.terminate().await;
}
