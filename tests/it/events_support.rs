//! What the tests of the event flow share: a server with two subscriptions at a
//! simulated gateway, and what it says of them.

use crate::support::{Database, Installation, PATIENCE, ServerProcess, eventually};
use highwater::sim::{ConsumerHandle, GatewayHandle, SimEvent, SimKnown};
use rand::Rng as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The control token.
pub(crate) const TOKEN: &str = "token-of-an-operator";

/// How a subscription of a [`Place`] is judged: `claims`, and `audits`.
pub(crate) const SOON: &str = "{ attempts = 2, delay = \"200ms\" }";
pub(crate) const ALL: &str = "\"all\"";

/// A place where a server runs subscriptions at one gateway, with a consumer each.
/// Each start of a server calls the consumers by a path of its own.
pub(crate) struct Place {
    pub(crate) installation: Installation,
    database: String,
    name: String,
    gateway: String,
    port: u16,
    starts: AtomicU32,
    lease: Duration,
    sections: Mutex<String>,
}

impl Place {
    /// With `claims` (judged) and `audits` (everything), and a lease that no busy
    /// machine loses: who loses it hands an event over again.
    pub(crate) fn new(
        database: &Database,
        gateway: &GatewayHandle,
        claims: &ConsumerHandle,
        audits: &ConsumerHandle,
    ) -> Self {
        let both = [("claims", claims, SOON), ("audits", audits, ALL)];
        Self::named("server", Duration::from_secs(20), database, gateway, &both)
    }

    /// With these subscriptions: name, consumer and relevance. PostgreSQL knows
    /// its sessions by `name`.
    pub(crate) fn named(
        name: &str,
        lease: Duration,
        database: &Database,
        gateway: &GatewayHandle,
        subscriptions: &[(&str, &ConsumerHandle, &str)],
    ) -> Self {
        let installation = Installation::new(database, name, "");
        let write = |name: &str, text: &str| {
            std::fs::write(installation.path().join(name), text).unwrap();
        };
        write("control.token", TOKEN);
        write("hook.secret", "a/secret-of%the+hook");
        let place = Self {
            installation,
            database: database.section(name),
            name: name.to_owned(),
            gateway: gateway.url(),
            port: free_port(),
            starts: AtomicU32::new(0),
            lease,
            sections: Mutex::default(),
        };
        place.subscribe(subscriptions);
        place
    }

    /// Has other subscriptions, from the next start or reload on.
    pub(crate) fn subscribe(&self, subscriptions: &[(&str, &ConsumerHandle, &str)]) {
        let mut sections = String::new();
        for (name, consumer, relevance) in subscriptions {
            sections.push_str(&format!(
                "[[subscriptions]]\nname = \"{name}\"\ngateway = \"customs\"\nchannel = \"main\"\n\
                 chaincode = \"contract\"\nevent_name = \"CLAIM_STATUS_CHANGE\"\nwindow = 40\n\
                 hook_secret_file = \"hook.secret\"\nrelevance = {relevance}\n\
                 fields = {{ key = \"/payload/key\", ordinal = \"/eventIndex\" }}\n\
                 retry = {{ attempts = 2, delay = \"20ms\", max_delay = \"40ms\" }}\n\n\
                 [subscriptions.handler.http]\nurl = \"{}/START\"\n\n",
                consumer.url()
            ));
        }
        *self.sections.lock().unwrap() = sections;
        self.write();
    }

    /// Writes the configuration for the start that is next, or runs.
    fn write(&self) {
        let start = format!("{}-{}", self.name, self.starts.load(Ordering::Relaxed));
        let config = format!(
            "{}\n[http]\ncontrol_token_file = \"control.token\"\nlisten = \"127.0.0.1:{port}\"\n\n\
             [server]\nlease = \"{}s\"\n\n\
             [[gateways]]\nname = \"customs\"\nkind = \"rest\"\nurl = \"{}\"\n\
             callback_base = \"http://127.0.0.1:{port}\"\n\n{}",
            self.database,
            self.lease.as_secs(),
            self.gateway,
            self.sections
                .lock()
                .unwrap()
                .replace("/START\"", &format!("/{start}\"")),
            port = self.port,
        );
        std::fs::write(self.installation.config(), config).unwrap();
    }

    /// Starts a server where the gateway calls it, and waits until it is ready.
    pub(crate) async fn serve(&self) -> ServerProcess {
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.write();
        let mut server = self.installation.start();
        server.ready().await;
        server
    }
}

/// A port that nobody listens on, below those that systems give away.
fn free_port() -> u16 {
    let mut random = rand::rng();
    loop {
        let port = random.random_range(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Sends an operator's call, which must succeed.
pub(crate) async fn order(server: &ServerProcess, path: &str, body: &Value) -> Value {
    let (status, answer) = call(server, path, body).await;
    assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    answer
}

/// Sends an operator's call.
pub(crate) async fn call(server: &ServerProcess, path: &str, body: &Value) -> (StatusCode, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}{path}", server.address());
    let call = client.post(url).bearer_auth(TOKEN).json(body);
    let answer = call.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or(Value::Null))
}

/// Makes known what is relevant of these blocks.
pub(crate) async fn make_known(server: &ServerProcess, gateway: &GatewayHandle, blocks: i64) {
    let (tx_ids, keys) = gateway.known(0..=blocks - 1);
    order(
        server,
        "/v1/known",
        &json!({ "tx_ids": tx_ids, "keys": keys }),
    )
    .await;
}

/// Ids that a consumer gets for events of a subscription.
pub(crate) fn ids(subscription: &str, events: &[SimEvent]) -> BTreeSet<String> {
    let id = |event: &SimEvent| {
        format!(
            "{subscription}/{}/{}/{}",
            event.block, event.tx_id, event.index
        )
    };
    events.iter().map(id).collect()
}

/// Those of them that are relevant.
pub(crate) fn relevant(events: &[SimEvent]) -> Vec<SimEvent> {
    let relevant = events.iter().filter(|event| event.known != SimKnown::Not);
    relevant.cloned().collect()
}

/// Blocks of what a consumer took, in its order.
pub(crate) fn blocks(taken: &[String]) -> Vec<i64> {
    let block = |id: &String| id.split('/').nth(1).unwrap().parse().unwrap();
    taken.iter().map(block).collect()
}

/// Waits until a subscription has recorded so many events, and none is open.
pub(crate) async fn all_done(database: &Database, subscription: &str, events: usize) {
    let count = |condition: &str| {
        format!(
            "SELECT count(*) AS value FROM events WHERE subscription = '{subscription}' AND {condition}"
        )
    };
    let all = i64::try_from(events).unwrap();
    let recorded = count("1 = 1");
    let open = count("(decision = 'pending' OR (decision = 'relevant' AND processed_at IS NULL))");
    eventually(
        PATIENCE,
        "all events are recorded and done with",
        async || database.number(&recorded).await == all && database.number(&open).await == 0,
    )
    .await;
}

/// What a consumer was called with by one start of a server.
#[derive(Debug)]
pub(crate) struct Calls {
    /// `NAME-START`.
    pub(crate) by: String,
    /// Ids of the events, in order of arrival.
    pub(crate) ids: Vec<String>,
}

/// Everything that a consumer was called with, by who called. The starts of one
/// server follow one another, however late a killed one's last call is read.
pub(crate) fn calls(consumer: &ConsumerHandle) -> Vec<Calls> {
    let mut all: Vec<Calls> = Vec::new();
    for call in consumer.received() {
        let by = call.path.trim_start_matches("/process/").to_owned();
        match all.iter_mut().find(|calls| calls.by == by) {
            Some(calls) => calls.ids.push(call.id),
            None => all.push(Calls {
                by,
                ids: vec![call.id],
            }),
        }
    }
    all
}

/// How often a server took a subscription over, by its log: what was with the
/// handler before is handed over again.
pub(crate) fn taken_over(log: &str, subscription: &str) -> usize {
    let name = format!("subscription.name={subscription} ");
    let lines = log
        .lines()
        .filter(|line| line.contains(" a subscription is run here") && line.contains(&name));
    lines.count()
}

/// All of them were handed over, in order; each once, but that a start may begin
/// with the event that was handed over last before it. Answers how many did.
/// `again` is how often a lease was lost and regained meanwhile.
pub(crate) fn check_calls(all: &[Calls], expected: &BTreeSet<String>, again: usize) -> usize {
    let mut seen: Vec<&String> = Vec::new();
    let mut known = BTreeSet::new();
    let (mut repeats, mut within) = (0, 0);
    for calls in all {
        for (index, id) in calls.ids.iter().enumerate() {
            if known.insert(id) {
                seen.push(id);
                continue;
            }
            assert_eq!(seen.last(), Some(&id), "{id} came again behind others");
            if index == 0 {
                repeats += 1;
            } else {
                within += 1;
            }
        }
    }
    assert!(within <= again, "{within} came again, {again} takeovers");
    let seen: Vec<String> = seen.into_iter().cloned().collect();
    assert!(blocks(&seen).is_sorted(), "not in order: {seen:?}");
    assert_eq!(&seen.into_iter().collect::<BTreeSet<_>>(), expected);
    repeats + within
}
