//! What the load benchmarks share: the databases they run on, a server of this
//! process, and its rate beside the limit that bare parts set.
//!
//! `c` is a bare HTTP client, `d` the bare bulk statement with the same
//! durability; where both are used on the same cores the limit is
//! `1 / (1/c + 1/d)`. Of events the two are the bare insert and the bare update.

use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use highwater::app::{self, Launch};
use highwater::config::{self, DatabaseSettings, LoadOptions, Loaded};
use highwater::handlers::Listeners;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds of which the one in the middle counts.
pub(crate) const ROUNDS: usize = 3;

/// A database of one round.
pub(crate) struct Place {
    folder: PathBuf,
    pub(crate) url: String,
    pub(crate) schema: &'static str,
}

impl Place {
    /// The same with its tables in another schema, on PostgreSQL.
    #[allow(dead_code, reason = "not all benchmarks have several")]
    pub(crate) fn in_schema(self, schema: &'static str) -> Self {
        Self { schema, ..self }
    }

    /// The text of a configuration with this database, a free port, and more
    /// sections.
    pub(crate) fn text(&self, sections: &str) -> String {
        format!(
            "[database]\nurl = \"{}\"\nschema = \"{}\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"warn\"\n{sections}",
            self.url, self.schema
        )
    }

    /// Such a configuration, read.
    pub(crate) fn load(&self, sections: &str) -> Loaded {
        let text = self.text(sections);
        let options = LoadOptions::default();
        config::parse(&text, "bench.toml", &self.folder, [], options).unwrap()
    }

    /// How the database is opened.
    pub(crate) fn database(&self) -> DatabaseSettings {
        self.load("").settings.database
    }

    /// Where files stand beside the database.
    #[allow(dead_code, reason = "not all benchmarks have processes")]
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file beside the database, which configurations name by `name`.
    #[allow(dead_code, reason = "not all benchmarks need one")]
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    /// Leaves nothing of the database.
    pub(crate) fn clear(&self, runtime: &Runtime) {
        if let Some(path) = self.url.strip_prefix("sqlite://") {
            for ending in ["", "-wal", "-shm", ".lock"] {
                drop(std::fs::remove_file(format!("{path}{ending}")));
            }
            return;
        }
        runtime.block_on(async {
            let mut conn = AsyncPgConnection::establish(&self.url).await.unwrap();
            conn.batch_execute(&format!(
                "DROP SCHEMA IF EXISTS \"{}\" CASCADE",
                self.schema
            ))
            .await
            .unwrap();
        });
    }
}

/// What one round measured.
pub(crate) struct Round {
    /// Of the bare client, or the first bare statement, a second.
    pub(crate) client: f64,
    /// Of the bare statement, a second.
    pub(crate) bulk: f64,
    /// Of the server, a second.
    pub(crate) reached: f64,
    /// What else is in the table.
    pub(crate) more: Vec<String>,
}

impl Round {
    fn limit(&self) -> f64 {
        1.0 / (1.0 / self.client + 1.0 / self.bulk)
    }

    /// Share of the limit that the server reaches.
    fn share(&self) -> f64 {
        self.reached / self.limit()
    }

    fn cells(&self) -> Vec<String> {
        let rates = [self.client, self.bulk, self.limit(), self.reached];
        let mut cells: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        cells.push(format!("{:.0}%", self.share() * 100.0));
        cells.extend_from_slice(&self.more);
        cells
    }
}

/// Does something on each database there is, `round` being part of the name of
/// a SQLite file; PostgreSQL's tables go to `schema`.
pub(crate) fn on_databases(
    schema: &'static str,
    mut act: impl FnMut(&Runtime, &str, &dyn Fn(&str) -> Place),
) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let sqlite = format!("sqlite://{}/NAME.db", folder.path().display());
    let mut databases = vec![("SQLite", sqlite, "highwater")];
    match std::env::var("HIGHWATER_TEST_POSTGRES_URL") {
        Ok(url) => databases.push(("PostgreSQL", url, schema)),
        Err(_) => eprintln!("PostgreSQL is left out: HIGHWATER_TEST_POSTGRES_URL is not set"),
    }
    // `-- postgresql`: on this one alone.
    let asked = |label: &str| std::env::args().any(|it| it.eq_ignore_ascii_case(label));
    if databases.iter().any(|(label, ..)| asked(label)) {
        databases.retain(|(label, ..)| asked(label));
    }
    for (label, url, schema) in databases {
        let place = |name: &str| Place {
            folder: folder.path().to_owned(),
            url: url.replace("NAME", name),
            schema,
        };
        act(&runtime, label, &place);
    }
}

/// A table of the median round on each database.
pub(crate) fn compare<const N: usize>(
    schema: &'static str,
    header: [&str; N],
    run_once: impl Fn(&Runtime, &Place) -> Round,
) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.set_header(header);
    on_databases(schema, |runtime, label, place| {
        let mut rounds = Vec::new();
        for number in 0..ROUNDS {
            let place = place(&format!("run{number}"));
            let round = run_once(runtime, &place);
            let cells = round.cells();
            let cells = header[1..].iter().zip(&cells);
            let told: Vec<String> = cells.map(|(what, cell)| format!("{what} {cell}")).collect();
            eprintln!("{label}: {}", told.join(", "));
            rounds.push(round);
            place.clear(runtime);
        }
        rounds.sort_by(|a, b| a.share().total_cmp(&b.share()));
        let cells = rounds[ROUNDS / 2].cells();
        table.add_row([label.to_owned()].into_iter().chain(cells));
    });
    table
}

/// A server of this process.
pub(crate) struct Running {
    ready: app::Ready,
    thread: std::thread::JoinHandle<Result<(), app::AppError>>,
}

impl Running {
    /// Starts it; it is ready when this returns.
    pub(crate) fn start(config: Loaded) -> Self {
        let (ready_sender, ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            app::run(Launch {
                config,
                reload: None,
                on_ready: Some(Box::new(move |ready| ready_sender.send(ready).unwrap())),
                listeners: Listeners::default(),
            })
        });
        let ready = ready.recv().unwrap();
        Self { ready, thread }
    }

    /// Where it listens.
    #[allow(dead_code, reason = "not all benchmarks call it")]
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.ready.http_addr)
    }

    /// Drains it.
    pub(crate) fn stop(self) {
        self.ready.stop.stop();
        self.thread.join().unwrap().unwrap();
    }
}

/// Waits until a look says so, and answers how long it took since `begun`.
pub(crate) async fn until(begun: Instant, what: &str, look: impl AsyncFn() -> bool) -> Duration {
    while !look().await {
        assert!(begun.elapsed() < Duration::from_secs(300), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

/// How long a bare client takes for so many requests over so many connections;
/// it throws the bodies away.
#[allow(dead_code, reason = "not all benchmarks have a peer")]
pub(crate) fn bare_client(
    runtime: &Runtime,
    connections: usize,
    requests: usize,
    request: impl Fn(&reqwest::Client, usize) -> reqwest::RequestBuilder + Send + Sync + 'static,
) -> Duration {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let shared = Arc::new((AtomicUsize::new(0), request));
    let begun = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..connections)
            .map(|_| {
                let (client, shared) = (client.clone(), shared.clone());
                tokio::spawn(async move {
                    let (next, request) = &*shared;
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= requests {
                            break;
                        }
                        let answer = request(&client, number).send().await.unwrap();
                        assert_eq!(answer.status(), 200);
                        std::hint::black_box(answer.bytes().await.unwrap());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    begun.elapsed()
}

/// Memory of this process that is resident now, in megabytes; that of what is
/// simulated is in it.
pub(crate) fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}
