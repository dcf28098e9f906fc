//! A server in this process, on a database of its own, for the tests of its life.

use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use highwater::app::{self, AppError, Launch, Ready, Reloader, Resources, StopHandle};
use highwater::config::{self, LoadOptions, Loaded};
use highwater::handlers::Listeners;
use highwater::ledgers::LedgerKind;
use highwater::sim::{LedgerSim, SimHandle, SimOptions, SimStatus};
use highwater::watchdog::{Fault, ServiceStatus, WatchdogQuery};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for whatever is to happen, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Db {
    Sqlite,
    Postgres,
}

/// A folder and a database of one test's own.
pub(crate) struct Place {
    folder: TempDir,
    /// PostgreSQL: address and schema.
    postgres: Option<(String, String)>,
}

impl Place {
    pub(crate) fn new(db: Db) -> Self {
        static SCHEMAS: AtomicU64 = AtomicU64::new(0);
        let postgres = (db == Db::Postgres).then(|| {
            let url = std::env::var("HIGHWATER_TEST_POSTGRES_URL").expect(
                "HIGHWATER_TEST_POSTGRES_URL is not set; ./scripts/test starts a PostgreSQL and sets it",
            );
            let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
            (url, format!("life_{}_{number}", std::process::id()))
        });
        Self {
            folder: tempfile::tempdir().unwrap(),
            postgres,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The sections that every configuration here has.
    pub(crate) fn base(&self) -> String {
        let database = match &self.postgres {
            None => "url = \"sqlite://highwater.db\"\nsynchronous = \"normal\"".to_owned(),
            Some((url, schema)) => {
                format!("url = \"{url}\"\nschema = \"{schema}\"\nconnections = 4")
            }
        };
        format!(
            "[database]\n{database}\n\
             [http]\nlisten = \"127.0.0.1:0\"\ncontrol_token_file = \"control.token\"\n"
        )
    }

    /// Writes the configuration file of [`Server::start_from_file`].
    pub(crate) fn write(&self, sections: &str) {
        let text = format!("{}[log]\nfilter = \"off\"\n{sections}", self.base());
        std::fs::write(self.path().join("highwater.toml"), text).unwrap();
    }

    pub(crate) fn control_token(&self) -> String {
        std::fs::read_to_string(self.path().join("control.token"))
            .unwrap()
            .trim()
            .to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((url, schema)) = self.postgres.take() else {
            return;
        };
        let drop_schema = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut conn = AsyncPgConnection::establish(&url).await.unwrap();
                let statement = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
                conn.batch_execute(&statement).await.unwrap();
            });
        };
        // A thread of its own, since this may be one of a runtime.
        let dropped = std::thread::spawn(drop_schema).join();
        assert!(
            dropped.is_ok() || std::thread::panicking(),
            "the schema was not dropped"
        );
    }
}

/// HTTP to a server, in this process or in another.
#[derive(Clone)]
pub(crate) struct Api {
    base: String,
    client: reqwest::Client,
}

impl Api {
    pub(crate) fn new(base: String) -> Self {
        Self {
            base,
            client: reqwest::Client::new(),
        }
    }

    pub(crate) async fn text(&self, path: &str) -> (u16, String) {
        let response = self
            .client
            .get(format!("{}{path}", self.base))
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.text(path).await;
        (
            status,
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}")),
        )
    }

    pub(crate) async fn post(&self, path: &str, body: &Value, token: Option<&str>) -> (u16, Value) {
        let mut request = self.client.post(format!("{}{path}", self.base)).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn track(&self, ledger: &str, service_id: &str, ids: &[String]) {
        for part in ids.chunks(10_000) {
            let batches: Vec<Value> = part
                .iter()
                .map(|id| json!({"ledger": ledger, "service_id": service_id, "batch_id": id}))
                .collect();
            let (status, body) = self
                .post("/v1/batches", &json!({ "batches": batches }), None)
                .await;
            assert_eq!(
                (status, &body["accepted"]),
                (202, &part.len().into()),
                "{body}"
            );
        }
    }

    /// All rows that a query lets through (`ledger=a&status=pending`).
    pub(crate) async fn rows(&self, query: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut cursor = String::new();
        loop {
            let (status, mut page) = self
                .get(&format!("/v1/batches?limit=1000&{query}{cursor}"))
                .await;
            assert_eq!(status, 200, "{page}");
            rows.append(page["items"].as_array_mut().unwrap());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return rows,
            }
        }
    }

    pub(crate) async fn outstanding(&self, query: &str) -> usize {
        let mut count = 0;
        for status in ["pending", "valid"] {
            count += self.rows(&format!("{query}&status={status}")).await.len();
        }
        count
    }

    /// Waits until nothing of a ledger is outstanding; answers how long that took.
    pub(crate) async fn all_settle(&self, ledger: &str) -> Duration {
        let begun = Instant::now();
        let query = format!("ledger={ledger}");
        until(
            &format!("all batches of {ledger} settle"),
            PATIENCE,
            async || match self.outstanding(&query).await {
                0 => Ok(()),
                count => Err(format!(
                    "{count} are outstanding; {}",
                    self.view(ledger).await
                )),
            },
        )
        .await;
        begun.elapsed()
    }

    /// The Scheduler's view of a ledger.
    pub(crate) async fn view(&self, ledger: &str) -> Value {
        let (_, body) = self.get("/v1/ledgers").await;
        let items = body["items"].as_array().unwrap();
        let found = items.iter().find(|item| item["name"] == ledger);
        found.map_or(Value::Null, |item| item["view"].clone())
    }

    /// What a ledger and its services are said to suffer from.
    pub(crate) async fn troubles(&self, ledger: &str) -> String {
        let view = self.view(ledger).await;
        let mut troubles = view["last_error"].as_str().unwrap_or_default().to_owned();
        for service in view["failing_services"].as_array().into_iter().flatten() {
            troubles.push('\n');
            troubles.push_str(service["last_error"].as_str().unwrap_or_default());
        }
        troubles
    }

    pub(crate) async fn total(&self, ledger: &str, count: &str) -> u64 {
        self.view(ledger).await["totals"][count]
            .as_u64()
            .unwrap_or(0)
    }

    /// Every batch of a ledger has the status that the ledger gives it.
    pub(crate) async fn assert_true(&self, ledger: &str, sim: &SimHandle, expected: usize) {
        let rows = self.rows(&format!("ledger={ledger}")).await;
        assert_eq!(rows.len(), expected, "batches of {ledger}");
        for row in rows {
            let (service_id, id) = (text(&row["service_id"]), text(&row["batch_id"]));
            let truth = match sim.status_of(service_id, id) {
                SimStatus::Committed => "committed",
                SimStatus::Invalid => "invalid",
                other => panic!("{ledger} says {other:?} of {id}"),
            };
            assert_eq!(text(&row["status"]), truth, "{row}");
        }
    }
}

/// A server in this process; drained when dropped.
pub(crate) struct Server {
    pub(crate) api: Api,
    /// The capability to control it.
    pub(crate) query: WatchdogQuery,
    pub(crate) resources: Resources,
    stop: StopHandle,
    thread: Option<JoinHandle<Result<(), AppError>>>,
}

impl std::ops::Deref for Server {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Server {
    /// Starts a server with the place's database and these further sections.
    pub(crate) fn start(place: &Place, sections: &str) -> Self {
        let text = format!("{}[log]\nfilter = \"off\"\n{sections}", place.base());
        let options = LoadOptions {
            create_control_token: true,
        };
        let config = config::parse(&text, "test.toml", place.path(), [], options)
            .unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        Self::launch(config, None)
    }

    /// Starts a server from a file in the place's folder, which it can read again.
    pub(crate) fn start_from_file(place: &Place, sections: &str) -> Self {
        let file = place.path().join("highwater.toml");
        place.write(sections);
        let load = move || {
            let options = LoadOptions {
                create_control_token: true,
            };
            config::load(&file, [], options)
        };
        let config = load().unwrap_or_else(|errors| panic!("{errors}"));
        Self::launch(config, Some(Box::new(load)))
    }

    fn launch(config: Loaded, reload: Option<Reloader>) -> Self {
        let (tell, told) = mpsc::channel::<Ready>();
        let on_ready = Box::new(move |ready| tell.send(ready).unwrap());
        let launch = Launch {
            config,
            reload,
            on_ready: Some(on_ready),
            listeners: Listeners::default(),
        };
        let thread = std::thread::spawn(move || app::run(launch));
        let Ok(ready) = told.recv_timeout(PATIENCE) else {
            panic!("the server did not start: {:?}", thread.join());
        };
        show_panics();
        Self {
            api: Api::new(format!("http://{}", ready.http_addr)),
            query: ready.query,
            resources: ready.resources,
            stop: ready.stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn service(&self, name: &str) -> ServiceStatus {
        self.query.status(name).unwrap()
    }

    /// Makes a service panic.
    pub(crate) fn panic(&self, service: &str, message: &str) {
        let fault = Fault::Panic(message.to_owned());
        self.query.inject(service, fault).unwrap();
    }

    /// Waits for the end of a server that drains.
    pub(crate) fn ended(mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    /// Drains the server.
    pub(crate) fn stop(mut self) {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the server panicked"
            );
        }
    }
}

/// The server logs panics, and logs are off here: those of the tests
/// themselves are to be read.
fn show_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let watch = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            watch(info);
            let thread = std::thread::current();
            eprintln!("{}: {info}", thread.name().unwrap_or("a thread"));
        }));
    });
}

/// Waits until something is so; says what it last saw when it never is.
pub(crate) async fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        let seen = match look().await {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(
            Instant::now() < deadline,
            "not within {patience:?}: {what}; last seen: {seen}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A simulated ledger.
pub(crate) fn sim(kind: LedgerKind, change: impl FnOnce(&mut SimOptions)) -> SimHandle {
    let mut options = SimOptions::of(kind);
    change(&mut options);
    LedgerSim::start(options).unwrap()
}

/// A `[[ledgers]]` section.
pub(crate) fn ledger(name: &str, kind: LedgerKind, sim: &SimHandle, more: &str) -> String {
    let url = sim.url();
    format!("[[ledgers]]\nname = \"{name}\"\nkind = \"{kind}\"\nurl = \"{url}\"\n{more}\n")
}

/// Batch ids that no other call has made.
pub(crate) fn new_ids(count: usize) -> Vec<String> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let first = NEXT.fetch_add(count as u64, Ordering::Relaxed);
    (first..first + count as u64)
        .map(|number| {
            (0..8).fold(String::new(), |mut id, part| {
                write!(id, "{:016x}", mixed(number * 8 + part)).unwrap();
                id
            })
        })
        .collect()
}

/// Spreads a number over all its bits.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut value = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Submits ids to the ledger and tracks them at the server.
pub(crate) async fn submit(
    api: &Api,
    name: &str,
    sim: &SimHandle,
    service_id: &str,
    ids: &[String],
) {
    sim.submit_many(service_id, ids.iter().map(String::as_str));
    api.track(name, service_id, ids).await;
}

/// A text in JSON.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
