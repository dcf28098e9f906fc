use super::*;
use crate::config::{
    CivicrmHandler, CivicrmVersion, CodeHandler, CommandHandler, Credential, HttpHandler,
};
use crate::handlers::sample::{job, visit};
use crate::handlers::testing_peer::{Act, Peer, json as json_answer};
use crate::handlers::{PollError, PollEvent, SiteRequest};
use serde_json::json;
use std::sync::{Mutex, PoisonError};

const POLL: &str = "app:org.example:job=sync:poll";

/// Who was called, in order.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<&'static str>>>);

impl Calls {
    fn put(&self, name: &'static str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name);
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn code() -> HandlerSettings {
    HandlerSettings::Code(CodeHandler {
        timeout: Duration::from_secs(60),
    })
}

fn command(script: &str) -> HandlerSettings {
    HandlerSettings::Command(CommandHandler {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        timeout: Duration::from_secs(60),
        max_output_bytes: 64 * 1024,
    })
}

fn connected(handler: HandlerSettings, listeners: &Listeners) -> Arc<dyn Handler> {
    let job = JobSettings::new(job(), handler);
    let client = SiteClient::new(false);
    connect(&job, None, &SitesSettings::default(), listeners, &client).unwrap()
}

/// Listeners that put their name into the list, and succeed.
fn recording(calls: &Calls, events: &[(&str, &'static str)]) -> Listeners {
    let mut listeners = Listeners::default();
    for &(event, name) in events {
        let calls = calls.clone();
        listeners
            .on(event, move |_| {
                calls.put(name);
                async { Ok(()) }
            })
            .unwrap();
    }
    listeners
}

fn failure(visited: &Visited) -> (FailureKind, &str) {
    let error = visited.result.as_ref().unwrap_err();
    (error.kind, &error.detail)
}

#[tokio::test]
async fn listeners_are_called_in_order_those_of_the_job_before_those_of_every_job() {
    let calls = Calls::default();
    let listeners = recording(
        &calls,
        &[
            ("civi_cxn.post-poll", "after, every"),
            ("civi_cxn.poll", "poll, every"),
            ("civi_cxn.pre-poll", "before, every"),
            ("app:org.example:job=sync:post-poll", "after"),
            (POLL, "poll 1"),
            ("app:org.example:job=other:poll", "another job's"),
            (POLL, "poll 2"),
            ("app:org.example:job=sync:pre-poll", "before"),
        ],
    );
    let visited = connected(code(), &listeners).visit(&visit()).await;
    assert_eq!(visited, Visited::well(None));
    let expected = [
        "before",
        "before, every",
        "poll 1",
        "poll 2",
        "poll, every",
        "after",
        "after, every",
    ];
    assert_eq!(calls.take(), expected);
}

#[tokio::test]
async fn an_event_knows_app_job_site_and_how_it_stands() {
    let mut listeners = Listeners::default();
    listeners
        .on(POLL, |event: PollEvent| async move {
            let told = visit();
            assert_eq!(event.app().title, "org.example");
            assert_eq!(event.app().id.as_str(), "org.example");
            assert_eq!(*event.job(), told.job);
            assert_eq!(*event.site(), told.site);
            assert_eq!(event.label("region"), Some("north"));
            assert_eq!(event.labels()["size"], json!(3));
            assert_eq!(event.last_run_at(), told.last_run_at);
            assert_eq!((event.level(), event.count()), (1, 2));
            assert_eq!(event.outcome(), None);
            Ok(())
        })
        .unwrap();
    let visited = connected(code(), &listeners).visit(&visit()).await;
    assert_eq!(visited, Visited::well(None));
}

#[tokio::test]
async fn a_failure_before_the_visit_prevents_it_and_is_its_outcome() {
    let calls = Calls::default();
    let mut listeners = recording(
        &calls,
        &[
            ("app:org.example:job=sync:post-poll", "after"),
            (POLL, "poll"),
        ],
    );
    listeners
        .on("civi_cxn.pre-poll", |event| async move {
            Err(format!("{} is on holiday", event.site().site_id).into())
        })
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let handler = command(&format!("touch {}", mark.display()));
    let visited = connected(handler, &listeners).visit(&visit()).await;
    assert_eq!(
        failure(&visited),
        (FailureKind::Handler, "site-7 is on holiday")
    );
    assert_eq!(calls.take(), ["after"]);
    assert!(!mark.exists(), "the command did not run");
}

#[tokio::test]
async fn listeners_work_after_a_handler_that_succeeded_and_not_after_one_that_failed() {
    let calls = Calls::default();
    let mut listeners = recording(&calls, &[(POLL, "poll")]);
    listeners
        .on(POLL, |event| async move {
            let learned = event.result();
            event.set_result(json!({"learned": learned}))?;
            Ok(())
        })
        .unwrap();
    let visited = connected(command("echo 7"), &listeners)
        .visit(&visit())
        .await;
    assert_eq!(visited, Visited::well(Some(r#"{"learned":7}"#.to_owned())));
    assert_eq!(calls.take(), ["poll"]);
    let visited = connected(command("exit 4"), &listeners)
        .visit(&visit())
        .await;
    assert_eq!(failure(&visited).0, FailureKind::Exit);
    assert!(calls.take().is_empty());
}

#[tokio::test]
async fn what_a_listener_learns_is_kept_and_bounded() {
    let mut listeners = Listeners::default();
    listeners
        .on(POLL, |event| async move {
            event.set_result(json!({"rounds": 1}))?;
            let big = event.set_result(json!("x".repeat(17 * 1024)));
            assert!(
                big.unwrap_err()
                    .to_string()
                    .contains("sites.max_result_bytes (16384)")
            );
            Ok(())
        })
        .unwrap();
    let visited = connected(code(), &listeners).visit(&visit()).await;
    assert_eq!(visited, Visited::well(Some(r#"{"rounds":1}"#.to_owned())));
}

#[tokio::test]
async fn what_is_learned_before_a_failure_is_not_kept_and_the_row_ends() {
    let calls = Calls::default();
    let mut listeners = Listeners::default();
    listeners
        .on(POLL, |event| async move {
            event.set_result(json!(1))?;
            let number: u32 = "seven".parse()?;
            event.set_result(json!(number))
        })
        .unwrap();
    let others = calls.clone();
    listeners
        .on(POLL, move |_| {
            others.put("second");
            async { Ok(()) }
        })
        .unwrap();
    let visited = connected(code(), &listeners).visit(&visit()).await;
    assert_eq!(
        failure(&visited),
        (FailureKind::Handler, "invalid digit found in string")
    );
    assert!(calls.take().is_empty());
}

#[tokio::test]
async fn after_the_visit_listeners_are_told_the_outcome_and_cannot_change_it() {
    let calls = Calls::default();
    let seen = Arc::new(Mutex::new(None));
    let mut listeners = Listeners::default();
    listeners
        .on(POLL, |_| async { Err("no luck".into()) })
        .unwrap();
    listeners
        .on("civi_cxn.post-poll", |event: PollEvent| async move {
            event.set_result(json!(1))
        })
        .unwrap();
    listeners
        .on("civi_cxn.post-poll", |_| async { panic!("careless") })
        .unwrap();
    let (last, put) = (calls.clone(), seen.clone());
    listeners
        .on("civi_cxn.post-poll", move |event: PollEvent| {
            last.put("last");
            *put.lock().unwrap() = event.outcome().cloned();
            async { Ok(()) }
        })
        .unwrap();
    let visited = connected(code(), &listeners).visit(&visit()).await;
    assert_eq!(failure(&visited), (FailureKind::Handler, "no luck"));
    assert_eq!(calls.take(), ["last"], "whatever those before it did");
    assert_eq!(seen.lock().unwrap().take(), Some(visited));
}

#[tokio::test]
async fn a_panic_is_a_failure_of_this_visit_alone() {
    let mut listeners = Listeners::default();
    listeners
        .on(POLL, |event: PollEvent| async move {
            assert!(
                event.site().site_id != "site-7",
                "not {}",
                event.site().site_id
            );
            Ok(())
        })
        .unwrap();
    let handler = connected(code(), &listeners);
    let visited = handler.visit(&visit()).await;
    assert_eq!(
        failure(&visited),
        (FailureKind::Panic, "a panic: not site-7")
    );
    let mut other = visit();
    other.site.site_id = "site-8".to_owned();
    assert_eq!(handler.visit(&other).await, Visited::well(None));

    // Before there is a future at all.
    let mut listeners = Listeners::default();
    fn careless(_: PollEvent) -> std::future::Ready<Result<(), PollError>> {
        panic!("at once")
    }
    listeners.on(POLL, careless).unwrap();
    let visited = connected(code(), &listeners).visit(&visit()).await;
    assert_eq!(failure(&visited), (FailureKind::Panic, "a panic: at once"));
}

#[tokio::test]
async fn a_panic_of_a_configured_handler_is_a_failure_too() {
    struct Careless;
    impl Handler for Careless {
        fn visit<'a>(&'a self, _: &'a Visit) -> BoxFuture<'a, Visited> {
            panic!("in the handler")
        }
    }
    let handler = Connected {
        common: Arc::new(Common::new(&job().app, None, SiteClient::new(false), 1)),
        work: Some(Box::new(Careless)),
        before: Vec::new(),
        poll: Vec::new(),
        after: Vec::new(),
        limit: Duration::from_secs(1),
    };
    let visited = handler.visit(&visit()).await;
    assert_eq!(
        failure(&visited),
        (FailureKind::Panic, "a panic: in the handler")
    );
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_never_ends_is_cut() {
    for (event, outcome) in [
        ("civi_cxn.pre-poll", Some("pre-poll")),
        (POLL, Some("poll")),
        ("civi_cxn.post-poll", None),
    ] {
        let mut listeners = Listeners::default();
        listeners.on(POLL, |_| async { Ok(()) }).unwrap();
        listeners
            .on(event, |_| std::future::pending::<Result<(), PollError>>())
            .unwrap();
        let visited = connected(code(), &listeners).visit(&visit()).await;
        match outcome {
            Some(step) => {
                let (kind, detail) = failure(&visited);
                assert_eq!(kind, FailureKind::Timeout);
                assert_eq!(
                    detail,
                    format!(
                        "a listener of {step} did not end within 1m (timeout of the job's handler)"
                    )
                );
            }
            None => assert_eq!(visited, Visited::well(None)),
        }
    }
}

#[test]
fn a_job_of_code_without_a_listener_says_which_event_to_register() {
    let settings = JobSettings::new(job(), code());
    let (sites, client) = (SitesSettings::default(), SiteClient::new(false));
    let mut listeners = Listeners::default();
    listeners
        .on("civi_cxn.pre-poll", |_| async { Ok(()) })
        .unwrap();
    let problem = connect(&settings, None, &sites, &listeners, &client)
        .map(|_| ())
        .unwrap_err();
    assert!(problem.contains("org.example/sync"), "{problem}");
    assert!(
        problem.contains("\"app:org.example:job=sync:poll\""),
        "{problem}"
    );
    listeners.on("civi_cxn.poll", |_| async { Ok(()) }).unwrap();
    assert!(connect(&settings, None, &sites, &listeners, &client).is_ok());
}

#[tokio::test]
async fn a_listener_asks_the_site_and_the_client_says_why_it_did_not_answer() {
    let peer = Peer::start(vec![Act::Send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n[5, 52]".to_vec(),
    )])
    .await;
    let mut listeners = Listeners::default();
    listeners
        .on(POLL, |event: PollEvent| async move {
            let request = SiteRequest::get(&event.site().url);
            let answer = event.client().send(request).await?;
            event.set_result(serde_json::from_slice(&answer.body)?)
        })
        .unwrap();
    let mut visit = visit();
    visit.site.url.clone_from(&peer.url);
    let visited = connected(code(), &listeners).visit(&visit).await;
    assert_eq!(visited, Visited::well(Some("[5,52]".to_owned())));

    let job = JobSettings::new(job(), code());
    let client = SiteClient::new(true);
    let denying = connect(&job, None, &SitesSettings::default(), &listeners, &client).unwrap();
    assert_eq!(failure(&denying.visit(&visit).await).0, FailureKind::Denied);
}

#[tokio::test]
async fn a_listener_calls_civicrm_with_the_keys_of_the_app() {
    let peer = Peer::start(vec![json_answer(r#"{"values": [{"name": "php"}]}"#)]).await;
    let mut listeners = Listeners::default();
    listeners
        .on(POLL, |event: PollEvent| async move {
            let civicrm = event.civicrm().await?;
            let url = &event.site().url;
            let answer = civicrm.call4(url, "System", "check", &json!({})).await?;
            event.set_result(answer["values"].clone())
        })
        .unwrap();
    let app = AppSettings {
        id: job().app,
        title: "Inventory".to_owned(),
        url: None,
        api_key: Some(Credential::Shared("s3cr3t-key".into())),
        site_key: None,
    };
    let settings = JobSettings::new(job(), code());
    let (sites, client) = (SitesSettings::default(), SiteClient::new(false));
    let handler = connect(&settings, Some(&app), &sites, &listeners, &client).unwrap();
    let mut visit = visit();
    visit.site.url.clone_from(&peer.url);
    let visited = handler.visit(&visit).await;
    assert_eq!(
        visited,
        Visited::well(Some(r#"[{"name":"php"}]"#.to_owned()))
    );
    assert!(peer.asked()[0].contains("s3cr3t-key"));
}

#[tokio::test]
async fn the_network_handlers_are_built_with_their_settings() {
    let peer = Peer::start(vec![json_answer(r#"{"values": [1]}"#)]).await;
    let mut visit = visit();
    visit.site.url.clone_from(&peer.url);
    let http = HttpHandler {
        path: "/status".to_owned(),
        result: Some("/values".to_owned()),
        ..HttpHandler::default()
    };
    let civicrm = CivicrmHandler {
        version: CivicrmVersion::V4,
        path: "/api4".to_owned(),
        entity: "System".to_owned(),
        action: "check".to_owned(),
        params: json!({}),
        timeout: Duration::from_secs(30),
        max_response_bytes: 1024,
        keep_result: true,
    };
    let none = Listeners::default();
    for handler in [
        HandlerSettings::Http(http),
        HandlerSettings::Civicrm(civicrm),
    ] {
        let visited = connected(handler, &none).visit(&visit).await;
        assert_eq!(visited, Visited::well(Some("[1]".to_owned())));
    }
    let asked = peer.asked();
    assert!(asked[0].starts_with("GET /status "), "{asked:?}");
    assert!(
        asked[1].starts_with("POST /api4/System/check "),
        "{asked:?}"
    );
    let http = HttpHandler {
        method: "GET IT".to_owned(),
        ..HttpHandler::default()
    };
    let settings = JobSettings::new(job(), HandlerSettings::Http(http));
    let (sites, client) = (SitesSettings::default(), SiteClient::new(false));
    let problem = connect(&settings, None, &sites, &none, &client).map(|_| ());
    assert!(problem.unwrap_err().contains("GET IT"));
}
