//! Every recorded stream of a real ledger, played to the real client.

use crate::recordings::{is_stream, recordings};
use crate::replay::{Act, Replay};
use crate::stream_support::{Memory, patient, settings, source};
use futures_util::{SinkExt as _, StreamExt as _};
use highwater::flows::events::{Checkpoint, Source, SourceEnd};
use highwater::ledgers::{LedgerKind, SawtoothStream, SplinterStream, StreamLimits};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

const SERVICE: &str = "1mtlg-MEz1L::a000";

/// What becomes of a recording: events in the recorder, those that came again,
/// abandoned blocks.
const STREAMED: &[(&str, usize, usize)] = &[
    ("real_ws_get_block_deltas", 1, 0),
    ("real_ws_get_block_deltas_unknown_block", 0, 0),
    ("real_ws_rest_api_ended", 1, 0),
    ("real_ws_subscribe_deltas", 6, 0),
    // A block without a match, one with, one without.
    ("real_ws_subscribe_prefix", 1, 0),
    ("real_ws_validator_restart", 3, 0),
    ("stub_ws_fork_detected_9_to_10", 10, 0),
    // 365 to 368, then a ledger that began anew, below the first block wanted.
    ("stub_ws_validator_lost_and_back", 4, 4),
    ("ws_subscribe_live", 13, 0),
    ("ws_subscribe_no_last_seen", 13, 0),
    ("ws_subscribe_node_stopped", 0, 0),
    ("ws_subscribe_ping_echo_close", 1, 0),
    ("ws_subscribe_resume_last", 3, 0),
    ("ws_subscribe_resume_mid", 0, 0),
    ("ws_subscribe_resume_mid_service_v2", 5, 0),
    ("ws_subscribe_unknown_event", 6, 0),
];

/// Refused upgrades, whether for good, and what is said.
const REFUSED: &[(&str, bool, &str)] = &[
    (
        "ws_subscribe_empty_last_seen_event",
        false,
        "last_seen_event must not be empty",
    ),
    ("ws_subscribe_no_auth", true, "token_file"),
    ("ws_subscribe_plain_get", false, "500"),
    ("ws_subscribe_protocol_2", false, "newer protocol"),
    ("ws_subscribe_token_not_permitted", true, "not authorized"),
    (
        "ws_subscribe_unknown_circuit",
        false,
        "ZZZZZ-ZZZZZ not found",
    ),
    ("ws_subscribe_unknown_service", false, "service zzzz"),
];

/// A server that accepts one websocket, sends texts (on Sawtooth when it was
/// asked) and ends the connection.
struct Script {
    url: String,
    sending: JoinHandle<Vec<String>>,
}

impl Script {
    async fn start(kind: LedgerKind, texts: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let sending = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
            let mut said = Vec::new();
            if kind == LedgerKind::Sawtooth {
                let asked = socket.next().await.unwrap().unwrap();
                said.push(asked.into_text().unwrap().as_str().to_owned());
            }
            for text in texts {
                socket.send(Message::text(text)).await.unwrap();
            }
            socket.close(None).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Text(text) = message {
                    said.push(text.as_str().to_owned());
                }
            }
            said
        });
        Self { url, sending }
    }
}

fn kind_of(folder: &str) -> LedgerKind {
    if folder == "splinter" {
        LedgerKind::Splinter
    } else {
        LedgerKind::Sawtooth
    }
}

/// Texts that the ledger sent, but for echoes and answers to what we never send.
fn texts(lines: &[Value]) -> Vec<String> {
    let mut said = BTreeSet::new();
    let mut texts = Vec::new();
    for line in lines {
        let Some(data) = line["data"].as_str() else {
            continue;
        };
        let is_text = line["opcode"] == "text" || line["frame"] == "text";
        if line["from"] == "client" || line["direction"] == "client->server" {
            said.insert(data);
        } else if is_text && !said.contains(data) && !data.contains("\"error\"") {
            texts.push(data.to_owned());
        }
    }
    texts
}

#[tokio::test]
async fn every_recorded_stream_is_read() {
    let mut streamed = BTreeSet::new();
    for folder in ["sawtooth", "splinter"] {
        for entry in std::fs::read_dir(recordings().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if !is_stream(&path) || path.extension().unwrap() != "jsonl" {
                continue;
            }
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let content = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<Value> = content
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            play(&name, kind_of(folder), texts(&lines)).await;
            streamed.insert(name);
        }
    }
    let listed: BTreeSet<String> = STREAMED
        .iter()
        .map(|(name, ..)| (*name).to_owned())
        .collect();
    assert_eq!(streamed, listed);
}

async fn play(name: &str, kind: LedgerKind, texts: Vec<String>) {
    let expected = STREAMED.iter().find(|(known, ..)| *known == name);
    let (_, events, abandoned) = expected.unwrap_or_else(|| panic!("{name} is not listed"));
    let first = texts.first().and_then(|text| {
        let first: Value = serde_json::from_str(text).ok()?;
        first["block_num"].as_str()?.parse().ok()
    });
    let script = Script::start(kind, texts.clone()).await;
    let settings = settings(kind, &script.url);
    let memory = Memory::default();
    let end = match kind {
        LedgerKind::Splinter => {
            let source = source(SERVICE, 0);
            let stream = SplinterStream::new(&settings, &source, None, patient()).unwrap();
            stream.run(Checkpoint::default(), &memory).await
        }
        LedgerKind::Sawtooth => {
            let source = source("", first.unwrap_or(0));
            let stream = SawtoothStream::new(&settings, &source, None, patient()).unwrap();
            stream.run(Checkpoint::default(), &memory).await
        }
    };
    assert!(
        matches!(&end, SourceEnd::Failed { why, .. } if why.contains("ended")),
        "{name}: {end:?}"
    );
    memory.look(|kept| {
        assert_eq!(kept.events.len(), *events, "{name}");
        assert_eq!(kept.again, 0, "{name}: what is known is recognised before");
        let told: usize = kept.forks.iter().map(|fork| fork.abandoned.len()).sum();
        assert_eq!(told, *abandoned, "{name}");
    });
    if kind == LedgerKind::Splinter {
        // In the order of their first arrival, each once, as they came.
        let mut firsts: Vec<&String> = Vec::new();
        for text in &texts {
            if !firsts.contains(&text) {
                firsts.push(text);
            }
        }
        memory.look(|kept| {
            let payloads: Vec<&String> = kept.events.iter().map(|event| &event.payload).collect();
            assert_eq!(payloads, firsts, "{name}");
        });
    }
    let said = script.sending.await.unwrap();
    match kind {
        LedgerKind::Splinter => assert!(said.is_empty(), "{name}: {said:?}"),
        LedgerKind::Sawtooth => assert_eq!(said[0], r#"{"action":"subscribe"}"#, "{name}"),
    }
}

#[tokio::test]
async fn every_recorded_refusal_of_a_stream_is_told() {
    let mut refused = BTreeMap::new();
    for entry in std::fs::read_dir(recordings().join("splinter")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if !is_stream(&path) || path.extension().unwrap() != "json" || name.contains("order") {
            continue;
        }
        let content: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let response = &content["response"];
        let body = response["body"].as_str().unwrap();
        let mut wire = format!("HTTP/1.1 {} x\r\n", response["status"]);
        for header in response["headers"].as_array().unwrap() {
            wire.push_str(&format!(
                "{}: {}\r\n",
                header[0].as_str().unwrap(),
                header[1].as_str().unwrap()
            ));
        }
        wire.push_str(&format!("\r\n{body}"));
        let replay = Replay::start(vec![Act::SendAndClose(wire.into_bytes())]).await;
        let mut settings = replay.settings(LedgerKind::Splinter);
        settings.token = Some("TOKEN".to_owned().into());
        let stream = SplinterStream::new(&settings, &source(SERVICE, 0), None, patient()).unwrap();
        let end = stream.run(Checkpoint::default(), &Memory::default()).await;
        let (for_good, why) = match end {
            SourceEnd::Refused(why) => (true, why),
            SourceEnd::Failed { why, .. } => (false, why),
            SourceEnd::Renew => panic!("{name}"),
        };
        let seen = replay.seen();
        assert_eq!(seen[0].target, "/scabbard/1mtlg-MEz1L/a000/ws/subscribe");
        assert_eq!(seen[0].header("authorization"), ["Bearer Cylinder:TOKEN"]);
        assert_eq!(seen[0].header("splinterprotocolversion"), ["1"]);
        refused.insert(name, (for_good, why));
    }
    for (name, for_good, says) in REFUSED {
        let (known, why) = refused.remove(*name).unwrap();
        assert_eq!(known, *for_good, "{name}: {why}");
        assert!(why.contains(says), "{name}: {why}");
    }
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test]
async fn a_silent_ledger_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
        // Never read from, so that pings are not answered.
        std::future::pending::<()>().await;
        drop(socket);
    });
    let limits = StreamLimits {
        ping: Duration::from_millis(20),
        idle: Duration::from_millis(200),
        ..patient()
    };
    let settings = settings(LedgerKind::Splinter, &url);
    let stream = SplinterStream::new(&settings, &source(SERVICE, 0), None, limits).unwrap();
    let end = stream.run(Checkpoint::default(), &Memory::default()).await;
    assert!(
        matches!(&end, SourceEnd::Failed { why, .. } if why.contains("nothing was heard")),
        "{end:?}"
    );
    silent.abort();
}

#[tokio::test]
async fn what_makes_no_sense_or_is_too_long_is_never_passed_over() {
    let long = format!(r#"{{"id":"{}","state_changes":[]}}"#, "a".repeat(2_000));
    for (text, says) in [("{}", "makes no sense"), (&*long, "max_response_bytes")] {
        let script = Script::start(LedgerKind::Splinter, vec![text.to_owned()]).await;
        let mut settings = settings(LedgerKind::Splinter, &script.url);
        settings.max_response_bytes = 1_000;
        let stream = SplinterStream::new(&settings, &source(SERVICE, 0), None, patient()).unwrap();
        let end = stream.run(Checkpoint::default(), &Memory::default()).await;
        assert!(
            matches!(&end, SourceEnd::Failed { why, .. } if why.contains(says)),
            "{end:?}"
        );
    }
}

#[tokio::test]
async fn a_ledger_out_of_reach_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let settings = settings(LedgerKind::Sawtooth, &url);
    let stream: Arc<dyn Source> =
        Arc::new(SawtoothStream::new(&settings, &source("", 0), None, patient()).unwrap());
    let end = stream.run(Checkpoint::default(), &Memory::default()).await;
    assert!(
        matches!(&end, SourceEnd::Failed { why, .. } if why.contains("cannot connect")),
        "{end:?}"
    );
}
