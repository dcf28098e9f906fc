//! The source against the simulated gateway, over real sockets, with a hook and
//! a sink that keep what they hear in memory.

use super::{GatewayProblem, connect};
use crate::config::{
    GatewayKind, GatewaySettings, GatewaySource, SecretOf, SourceSettings, SubscriptionSettings,
};
use crate::flows::events::{
    Checkpoint, Heard, Recorded, RefusedBlock, Sink, SinkError, Source, SourceEnd, SourceState,
    SubscriptionName,
};
use crate::sim::{GatewayHandle, GatewayOptions, GatewaySim, Outage};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::future::BoxFuture;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use url::Url;

const SECRET: &str = "s3cret of/the+hook";
const TOKEN: &str = "token-of-the-gateway";
const PATIENCE: Duration = Duration::from_secs(60);

/// What a database would hold, and the hook would write.
struct Known {
    events: BTreeSet<(i64, i64)>,
    heard_at: Instant,
    source_state: Option<String>,
    told: Vec<SourceState>,
    wrong_calls: usize,
    /// Blocks that the hook refuses, and what it refused.
    refuses: Vec<i64>,
    refused: Option<(i64, Instant)>,
}

#[derive(Clone)]
struct Memory(Arc<Mutex<Known>>);

impl Memory {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Known {
            events: BTreeSet::new(),
            heard_at: Instant::now(),
            source_state: None,
            told: Vec::new(),
            wrong_calls: 0,
            refuses: Vec::new(),
            refused: None,
        })))
    }

    fn read<T>(&self, read: impl FnOnce(&mut Known) -> T) -> T {
        read(&mut self.0.lock().unwrap())
    }

    fn checkpoint(&self) -> Checkpoint {
        self.read(|known| {
            let blocks: BTreeSet<i64> = known.events.iter().map(|(block, _)| *block).collect();
            Checkpoint {
                highest_block: blocks.iter().next_back().copied(),
                second_block: blocks.iter().rev().nth(1).copied(),
                source_state: known.source_state.clone(),
                ..Checkpoint::default()
            }
        })
    }

    /// Serves the hook; where it listens.
    fn serve(&self) -> Url {
        let memory = self.clone();
        let app = move || {
            App::new()
                .app_data(web::Data::new(memory.clone()))
                .route("/v1/hooks/{subscription}/{secret}", web::post().to(hook))
        };
        let server = HttpServer::new(app).workers(1).disable_signals();
        let server = server.bind(("127.0.0.1", 0)).unwrap();
        let addr = server.addrs()[0];
        actix_web::rt::spawn(server.run());
        format!("http://{addr}").parse().unwrap()
    }
}

async fn hook(
    path: web::Path<(String, String)>,
    event: web::Json<serde_json::Value>,
    memory: web::Data<Memory>,
) -> HttpResponse {
    let right = path.0 == "claims" && path.1 == SECRET;
    let number = |name: &str| event[name].as_i64().unwrap();
    memory.read(|known| {
        known.heard_at = Instant::now();
        let block = number("blockNumber");
        if known.refuses.contains(&block) {
            let lowest = known.refused.map_or(block, |(lowest, _)| lowest.min(block));
            known.refused = Some((lowest, Instant::now()));
            return HttpResponse::ServiceUnavailable().finish();
        }
        if right {
            known.events.insert((block, number("eventIndex")));
            return HttpResponse::Ok().finish();
        }
        known.wrong_calls += 1;
        HttpResponse::Unauthorized().finish()
    })
}

impl Sink for Memory {
    fn record(&self, _: Vec<Heard>) -> BoxFuture<'_, Result<Recorded, SinkError>> {
        panic!("events come by the hook");
    }

    fn remember(&self, state: String) -> BoxFuture<'_, Result<(), SinkError>> {
        self.read(|known| known.source_state = Some(state));
        Box::pin(async { Ok(()) })
    }

    fn tell(&self, state: SourceState) {
        self.read(|known| known.told.push(state));
    }

    fn silent_for(&self) -> Duration {
        self.read(|known| known.heard_at.elapsed())
    }

    fn highest_block(&self) -> Option<i64> {
        self.checkpoint().highest_block
    }

    fn refused(&self) -> Option<RefusedBlock> {
        let refused = self.read(|known| known.refused);
        refused.map(|(block, at)| RefusedBlock {
            block,
            first: at.elapsed(),
            last: at.elapsed(),
        })
    }
}

fn gateway_settings(url: &str, callback_base: Url) -> GatewaySettings {
    GatewaySettings {
        name: "customs".to_owned(),
        kind: GatewayKind::Rest,
        url: url.parse().unwrap(),
        callback_base,
        token: Some(SecretOf(TOKEN.into())),
        timeout: Duration::from_secs(5),
    }
}

fn subscription(window: Option<i64>, silence: Duration) -> SubscriptionSettings {
    let source = SourceSettings::Gateway(GatewaySource {
        gateway: "customs".to_owned(),
        channel: "dhlecomchannel".to_owned(),
        chaincode: "businesscontract".to_owned(),
        event_category: "Contract".to_owned(),
        event_name: "CLAIM_STATUS_CHANGE".to_owned(),
        event_type: "full".to_owned(),
        start_block: 0,
        window,
    });
    let name = SubscriptionName::parse("claims").unwrap();
    SubscriptionSettings {
        hook_secret: Some(SecretOf(SECRET.into())),
        silence,
        ..SubscriptionSettings::new(name, source)
    }
}

/// A gateway that wants the token.
fn start(options: GatewayOptions) -> GatewayHandle {
    GatewaySim::start(GatewayOptions {
        token: Some(TOKEN.to_owned()),
        ..options
    })
    .unwrap()
}

fn source(
    gateway: &GatewayHandle,
    memory: &Memory,
    window: Option<i64>,
    silence: Duration,
) -> Arc<dyn Source> {
    let settings = gateway_settings(&gateway.url(), memory.serve());
    connect(&settings, &subscription(window, silence)).unwrap()
}

/// Runs a source as the Subscriber does, until this is true; how it ended
/// meanwhile.
async fn run_until(
    source: &dyn Source,
    memory: &Memory,
    mut until: impl FnMut() -> bool,
) -> Vec<SourceEnd> {
    let mut ends = Vec::new();
    let runs = async {
        loop {
            let end = source.run(memory.checkpoint(), memory).await;
            let renewed = end == SourceEnd::Renew;
            ends.push(end);
            if !renewed {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let looks = async {
        while !until() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = runs => {}
        () = looks => {}
        () = tokio::time::sleep(PATIENCE) => panic!("not within {PATIENCE:?}"),
    }
    ends
}

/// Whether everything in the chain was heard.
fn all_heard(gateway: &GatewayHandle, memory: &Memory) -> bool {
    let events = gateway.events(0..=gateway.blocks() - 1);
    memory.read(|known| known.events.len() == events.len())
}

fn assert_no_gaps(gateway: &GatewayHandle) {
    let asked = gateway.subscriptions();
    assert_eq!(asked[0].from, 0);
    for pair in asked.windows(2) {
        let end = pair[0].to.unwrap_or(i64::MAX);
        assert!(pair[1].from <= end, "a gap between {pair:?}");
    }
}

#[actix_web::test]
async fn a_subscription_is_renewed_before_its_window_ends_until_all_is_heard() {
    let gateway = start(GatewayOptions::resting(300));
    let memory = Memory::new();
    let source = source(&gateway, &memory, Some(40), Duration::from_secs(3600));
    let ends = run_until(&*source, &memory, || all_heard(&gateway, &memory)).await;
    assert!(ends.iter().all(|end| *end == SourceEnd::Renew), "{ends:?}");
    let asked = gateway.subscriptions();
    assert_eq!((asked[0].from, asked[0].to), (0, Some(39)));
    assert!(asked.len() > 5, "{asked:?}");
    assert_no_gaps(&gateway);
    let live = SourceState::Live {
        from: Some(0),
        to: Some(39),
    };
    memory.read(|known| {
        assert_eq!(known.told[..2], [SourceState::Connecting, live]);
        assert_eq!(known.wrong_calls, 0);
    });
    assert_eq!(source.place(), gateway.url());
}

#[actix_web::test]
async fn a_stretch_without_events_that_is_longer_than_the_window_is_passed() {
    let gateway = start(GatewayOptions {
        empty_blocks: vec![(20..=400).into()],
        ..GatewayOptions::resting(430)
    });
    let memory = Memory::new();
    let source = source(&gateway, &memory, Some(20), Duration::from_millis(100));
    run_until(&*source, &memory, || all_heard(&gateway, &memory)).await;
    assert_no_gaps(&gateway);
}

#[actix_web::test]
async fn a_gateway_that_forgot_us_is_subscribed_to_again_after_silence() {
    let gateway = start(GatewayOptions::resting(10));
    let memory = Memory::new();
    let source = source(&gateway, &memory, None, Duration::from_millis(200));
    for _ in 0..3 {
        run_until(&*source, &memory, || all_heard(&gateway, &memory)).await;
        gateway.crash();
        gateway.grow(10);
    }
    run_until(&*source, &memory, || all_heard(&gateway, &memory)).await;
    let asked = gateway.subscriptions();
    assert_eq!((asked[0].from, asked[0].to), (0, None));
    assert!(asked.len() >= 4, "{asked:?}");
    assert!(
        asked.iter().skip(1).all(|later| later.from >= 8),
        "{asked:?}"
    );
}

#[actix_web::test]
async fn a_gateway_that_gives_up_is_asked_for_what_the_hook_refused() {
    let gateway = start(GatewayOptions::resting(60));
    gateway.set(|knobs| knobs.give_up_after = Some(1));
    let memory = Memory::new();
    memory.read(|known| known.refuses = (20..=22).collect());
    let source = source(&gateway, &memory, None, Duration::from_secs(3600));
    // The gateway goes on with the rest, and the database is there again.
    let rest: BTreeSet<i64> = gateway.events(0..=59).iter().map(|e| e.block).collect();
    let rest = rest.iter().filter(|block| !(20..=22).contains(*block));
    let rest = rest.count();
    let heard = || {
        memory.read(|known| {
            let blocks: BTreeSet<i64> = known.events.iter().map(|(block, _)| *block).collect();
            if blocks.len() == rest {
                known.refuses.clear();
            }
        });
        all_heard(&gateway, &memory)
    };
    let ends = run_until(&*source, &memory, heard).await;
    assert_eq!(ends, [SourceEnd::Renew]);
    let asked = gateway.subscriptions();
    let lowest = memory.read(|known| known.refused).map(|(block, _)| block);
    assert_eq!(Some(asked[1].from), lowest, "{asked:?}");
}

#[actix_web::test]
async fn an_outage_is_survived() {
    let gateway = start(GatewayOptions::resting(50));
    let memory = Memory::new();
    let source = source(&gateway, &memory, Some(20), Duration::from_millis(200));
    for outage in [Outage::Unavailable, Outage::Hangup] {
        gateway.set(|knobs| knobs.outage = outage);
        let mut looks = 0;
        let ends = run_until(&*source, &memory, || {
            looks += 1;
            looks > 100
        })
        .await;
        assert!(
            ends.iter()
                .any(|end| matches!(end, SourceEnd::Failed { .. })),
            "{ends:?}"
        );
    }
    gateway.set(|knobs| knobs.outage = Outage::None);
    run_until(&*source, &memory, || all_heard(&gateway, &memory)).await;
    assert_no_gaps(&gateway);
}

async fn end_of(gateway: &GatewayHandle, memory: &Memory) -> SourceEnd {
    let source = source(gateway, memory, Some(1000), Duration::from_secs(3600));
    source.run(Checkpoint::default(), memory).await
}

#[actix_web::test]
async fn a_refusal_is_told_from_a_failure_and_both_say_what_and_why() {
    let gateway = start(GatewayOptions::resting(0));
    let memory = Memory::new();
    let url = gateway.url();

    gateway.set(|knobs| knobs.refuse = Some(403));
    let refused = SourceEnd::Refused(format!(
        "{url} answered 403: {{\"error\":\"subscriptions are refused\"}}"
    ));
    assert_eq!(end_of(&gateway, &memory).await, refused);

    for status in [429, 503] {
        gateway.set(|knobs| {
            knobs.refuse = Some(status);
            knobs.retry_after = Some(17);
        });
        let SourceEnd::Failed { why, retry_after } = end_of(&gateway, &memory).await else {
            panic!("{status} is no failure");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(17)));
        assert!(
            why.starts_with(&format!("{url} answered {status}: ")),
            "{why}"
        );
    }

    gateway.set(|knobs| {
        knobs.refuse = None;
        knobs.outage = Outage::Hang;
    });
    let mut settings = gateway_settings(&url, "http://127.0.0.1:1".parse().unwrap());
    settings.timeout = Duration::from_millis(100);
    let subscription = subscription(None, Duration::from_secs(3600));
    let impatient = connect(&settings, &subscription).unwrap();
    let timed_out = SourceEnd::Failed {
        why: format!("{url} did not answer within timeout = 100ms"),
        retry_after: None,
    };
    assert_eq!(
        impatient.run(Checkpoint::default(), &memory).await,
        timed_out
    );

    gateway.stop();
    let SourceEnd::Failed { why, .. } = impatient.run(Checkpoint::default(), &memory).await else {
        panic!("a gateway that is gone is no failure");
    };
    assert!(why.contains("refused"), "{why}");
    let connecting = |told: &SourceState| *told == SourceState::Connecting;
    assert!(memory.read(|known| known.told.iter().all(connecting)));
}

/// Answers with the form that was posted, so long that it must be cut.
async fn echo(req: HttpRequest, form: String) -> HttpResponse {
    match req.path() {
        "/elsewhere" => HttpResponse::Found()
            .insert_header(("location", "http://127.0.0.1:9/login"))
            .finish(),
        _ => HttpResponse::BadRequest().body(format!("no: {form} {}", "x".repeat(1 << 20))),
    }
}

#[actix_web::test]
async fn words_of_a_gateway_are_bounded_and_hold_no_secret() {
    let app = || App::new().default_service(web::to(echo));
    let server = HttpServer::new(app).workers(1).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    let base = format!("http://{}", server.addrs()[0]);
    actix_web::rt::spawn(server.run());
    let end = async |path: &str| {
        let settings = gateway_settings(&format!("{base}{path}"), base.parse().unwrap());
        let source = connect(&settings, &subscription(Some(5), PATIENCE)).unwrap();
        source.run(Checkpoint::default(), &Memory::new()).await
    };
    let SourceEnd::Refused(words) = end("/subscribe?key=k3y").await else {
        panic!("a 400 is no refusal");
    };
    assert!(
        words.contains("startblock=0&endblock=4&callbackURL="),
        "{words}"
    );
    assert!(words.contains("%2Fv1%2Fhooks%2Fclaims%2F*** x"), "{words}");
    assert!(words.chars().count() < 500, "{words}");
    for secret in ["s3cret", TOKEN, "k3y"] {
        assert!(!words.contains(secret), "{words}");
    }
    let SourceEnd::Refused(words) = end("/elsewhere").await else {
        panic!("a redirect was followed");
    };
    assert!(words.contains("a redirect"), "{words}");
}

#[test]
fn what_cannot_be_used_is_refused_with_its_name() {
    let base: Url = "http://127.0.0.1:8780".parse().unwrap();
    let subscription = subscription(None, PATIENCE);
    let problem = |change: fn(&mut GatewaySettings)| {
        let mut settings = gateway_settings("http://127.0.0.1:9100/subscribe", base.clone());
        change(&mut settings);
        connect(&settings, &subscription).err().unwrap().to_string()
    };
    let credentials = problem(|gateway| gateway.url = "http://u:p@host/".parse().unwrap());
    assert_eq!(
        credentials,
        "gateway customs: url holds credentials, which belong in token_file"
    );
    let scheme = problem(|gateway| gateway.callback_base = "ftp://host/".parse().unwrap());
    assert!(scheme.starts_with("gateway customs: callback_base is not an http address"));
    let token = problem(|gateway| gateway.token = Some(SecretOf("a\nb".into())));
    assert!(token.contains("the token holds characters"), "{token}");
    let hook_only = SubscriptionSettings {
        source: SourceSettings::Hook,
        ..subscription.clone()
    };
    let settings = gateway_settings("http://127.0.0.1:9100/subscribe", base.clone());
    assert_eq!(
        connect(&settings, &hook_only).err(),
        Some(GatewayProblem::NotOfGateway("claims".to_owned()))
    );
}
