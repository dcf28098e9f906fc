//! What the tests of the replica flow share: nodes that publish and follow, each
//! with a database of its own, and what they say of their contents.

use crate::support::{Database, Installation, PATIENCE, ServerProcess, eventually};
use rand::Rng as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

/// Another database of the same kind.
pub(crate) fn another(database: &Database) -> Database {
    if database.is_sqlite() {
        Database::sqlite()
    } else {
        Database::postgres()
    }
}

/// A place where a server publishes or follows, at the same address each time.
pub(crate) struct Node {
    installation: Installation,
    database: String,
    port: u16,
}

impl Node {
    /// With these sections. PostgreSQL knows its sessions by `name`.
    pub(crate) fn new(database: &Database, name: &str, sections: &str) -> Self {
        let node = Self {
            installation: Installation::new(database, name, ""),
            database: database.section(name),
            port: free_port(),
        };
        node.configure(sections);
        node
    }

    /// Has other sections, from the next start or reload on.
    pub(crate) fn configure(&self, sections: &str) {
        let config = format!(
            "{}\n[http]\nlisten = \"127.0.0.1:{}\"\n\n[server]\nlease = \"1s\"\n\n{sections}",
            self.database, self.port
        );
        std::fs::write(self.installation.config(), config).unwrap();
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where its HTTP is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Starts a server and waits until it is ready.
    pub(crate) async fn serve(&self) -> ServerProcess {
        self.installation.serve().await
    }
}

/// A port that nobody listens on, below those that systems give away.
pub(crate) fn free_port() -> u16 {
    let mut random = rand::rng();
    loop {
        let port = random.random_range(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The modifications that give these keys these values.
pub(crate) fn updates<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Vec<Value> {
    let update = |(key, value): (&str, Value)| json!({ "update": [key, value] });
    entries.into_iter().map(update).collect()
}

/// So many entries, `k00000` on.
pub(crate) fn numbered(range: std::ops::Range<usize>, word: &str) -> Vec<Value> {
    let update = |n| json!({ "update": [format!("k{n:05}"), { "n": n, "word": word }] });
    range.map(update).collect()
}

/// Publishes; answers the head that this made.
pub(crate) async fn publish(
    server: &ServerProcess,
    dataset: &str,
    modifications: Vec<Value>,
) -> i64 {
    let path = format!("/v1/datasets/{dataset}/entries");
    let (status, answer) = post(server, &path, &Value::from(modifications)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["head"].as_i64().unwrap()
}

/// Posts JSON.
pub(crate) async fn post(server: &ServerProcess, path: &str, body: &Value) -> (StatusCode, Value) {
    let url = format!("{}{path}", server.address());
    let answer = client().post(url).json(body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or(Value::Null))
}

pub(crate) fn client() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    client.timeout(Duration::from_secs(60)).build().unwrap()
}

/// Gets what may not be there.
pub(crate) async fn get(server: &ServerProcess, path: &str) -> (StatusCode, Value) {
    let url = format!("{}{path}", server.address());
    let answer = client().get(url).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or(Value::Null))
}

/// All entries of a content (`datasets/prices`), by key, and its info.
pub(crate) async fn entries(
    server: &ServerProcess,
    content: &str,
) -> (Value, BTreeMap<String, Value>) {
    let info = server.get(&format!("/v1/{content}/info")).await;
    let mut all = BTreeMap::new();
    let mut after = String::new();
    loop {
        let url = format!("{}/v1/{content}/fetch", server.address());
        let query = [("after", after.as_str()), ("limit", "700")];
        let url = reqwest::Url::parse_with_params(&url, query).unwrap();
        let asked = client().get(url).send().await.unwrap();
        let chunk: Value = asked.json().await.unwrap();
        assert_eq!(chunk["head"], info["head"], "the content rests: {chunk}");
        for entry in chunk["entries"].as_array().unwrap() {
            all.insert(entry[0].as_str().unwrap().to_owned(), entry[1].clone());
        }
        match chunk["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(info["len"].as_u64(), Some(all.len() as u64), "{info}");
    (info, all)
}

/// Waits until a content is at the head (and epoch) of another, which rests, and
/// compares all entries.
pub(crate) async fn becomes_equal(
    (publisher, dataset): (&ServerProcess, &str),
    (follower, replica): (&ServerProcess, &str),
) -> BTreeMap<String, Value> {
    let (theirs, expected) = entries(publisher, dataset).await;
    let what = format!("{replica} is where {dataset} is: {theirs}");
    eventually(PATIENCE, &what, async || {
        let (status, ours) = get(follower, &format!("/v1/{replica}/info")).await;
        status == StatusCode::OK
            && ours["head"] == theirs["head"]
            && ours["epoch"] == theirs["epoch"]
    })
    .await;
    let (_, copied) = entries(follower, replica).await;
    assert!(copied == expected, "{copied:?}\nis not\n{expected:?}");
    expected
}

/// Waits until a replica says that its state is this.
pub(crate) async fn becomes(follower: &ServerProcess, replica: &str, state: &str) {
    let what = format!("replica {replica} becomes {state}");
    eventually(PATIENCE, &what, async || {
        let (_, report) = get(follower, &format!("/v1/replicas/{replica}")).await;
        report["state"] == state
    })
    .await;
}

/// How often a replica was bootstrapped, by reason.
pub(crate) async fn bootstraps(database: &Database, replica: &str) -> Value {
    let sql = format!("SELECT bootstraps AS value FROM replicas WHERE name = '{replica}'");
    let rows = database.texts(&sql).await;
    rows.first()
        .map_or_else(|| json!({}), |row| serde_json::from_str(row).unwrap())
}

/// Requests of a kind for a content that a server counted.
pub(crate) async fn requests(server: &ServerProcess, name: &str, request: &str) -> u64 {
    let metrics = server.page("/metrics").await;
    let label = |key: &str, value: &str| format!("{key}=\"{value}\"");
    let (name, request) = (label("name", name), label("request", request));
    let counted = metrics.lines().filter(|line| {
        let counts = line.starts_with("highwater_dataset_requests_total{");
        counts && line.contains(&name) && line.contains(&request)
    });
    let numbers = counted.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    numbers.sum()
}
