//! What the tests of the event flow share: a server with two subscriptions at a
//! simulated gateway, and what it says of them.

use crate::support::{Database, Installation, PATIENCE, ServerProcess, eventually};
use highwater::sim::{ConsumerHandle, GatewayHandle, SimEvent, SimKnown};
use rand::Rng as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::TcpListener;

/// The control token.
pub(crate) const TOKEN: &str = "token-of-an-operator";

/// A place where a server runs `claims` (judged) and `audits` (everything), both
/// at one gateway and with a consumer each.
pub(crate) struct Place {
    pub(crate) installation: Installation,
    port: u16,
}

impl Place {
    pub(crate) fn new(
        database: &Database,
        gateway: &GatewayHandle,
        claims: &ConsumerHandle,
        audits: &ConsumerHandle,
    ) -> Self {
        let port = free_port();
        let subscription = |name: &str, consumer: &ConsumerHandle, relevance: &str| {
            format!(
                "[[subscriptions]]\nname = \"{name}\"\ngateway = \"customs\"\nchannel = \"main\"\n\
                 chaincode = \"contract\"\nevent_name = \"CLAIM_STATUS_CHANGE\"\nwindow = 40\n\
                 hook_secret_file = \"hook.secret\"\nrelevance = {relevance}\n\
                 fields = {{ key = \"/payload/key\", ordinal = \"/eventIndex\" }}\n\
                 retry = {{ attempts = 2, delay = \"20ms\", max_delay = \"40ms\" }}\n\n\
                 [subscriptions.handler.http]\nurl = \"{}\"\n\n",
                consumer.url()
            )
        };
        // Its first line belongs to [http].
        let sections = format!(
            "control_token_file = \"control.token\"\n\n[server]\nlease = \"1s\"\n\n\
             [[gateways]]\nname = \"customs\"\nkind = \"rest\"\nurl = \"{}\"\n\
             callback_base = \"http://127.0.0.1:{port}\"\n\n{}{}",
            gateway.url(),
            subscription("claims", claims, "{ attempts = 2, delay = \"200ms\" }"),
            subscription("audits", audits, "\"all\""),
        );
        let installation = Installation::new(database, "server", &sections);
        let write = |name: &str, text: &str| {
            std::fs::write(installation.path().join(name), text).unwrap();
        };
        write("control.token", TOKEN);
        write("hook.secret", "a/secret-of%the+hook");
        Self { installation, port }
    }

    /// Starts a server where the gateway calls it, and waits until it is ready.
    pub(crate) async fn serve(&self) -> ServerProcess {
        let listen = format!("127.0.0.1:{}", self.port);
        let variables = [("HIGHWATER_HTTP__LISTEN", listen.as_str())];
        let mut server = self.installation.start_with(&variables);
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
