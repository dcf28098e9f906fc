//! The real program as a process: started, asked, stopped in every way.

use super::{Database, PATIENCE, eventually};
use reqwest::StatusCode;
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Lines of each log shown when a test fails.
const SHOWN: usize = 60;

/// A folder with a configuration, from which servers are started.
///
/// Shows the servers' logs when the test fails: declare it before them.
pub(crate) struct Installation {
    name: String,
    folder: TempDir,
    starts: AtomicU32,
}

impl Installation {
    /// With these sections beside `[database]` and `[http]`. PostgreSQL knows
    /// the server's sessions by `name` (see [`Database::session_name`]).
    pub(crate) fn new(database: &Database, name: &str, sections: &str) -> Self {
        let place = Self {
            name: name.to_owned(),
            folder: tempfile::tempdir().unwrap(),
            starts: AtomicU32::new(0),
        };
        place.reconfigure(database, name, sections);
        place
    }

    /// Writes another configuration, for the next start or reload.
    pub(crate) fn reconfigure(&self, database: &Database, name: &str, sections: &str) {
        let config = format!(
            "{}\n[http]\nlisten = \"127.0.0.1:0\"\n\n{sections}",
            database.section(name)
        );
        std::fs::write(self.path().join("highwater.toml"), config).unwrap();
    }

    /// The folder of the configuration, where servers run.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Its configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("highwater.toml")
    }

    /// Starts a server and waits until it is ready.
    pub(crate) async fn serve(&self) -> ServerProcess {
        let mut server = self.start();
        server.ready().await;
        server
    }

    /// Starts a server without waiting for it.
    pub(crate) fn start(&self) -> ServerProcess {
        self.start_with(&[])
    }

    /// The same, with these variables.
    pub(crate) fn start_with(&self, variables: &[(&str, &str)]) -> ServerProcess {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        let path = |stream: &str| self.folder.path().join(format!("{number}.{stream}"));
        let (out, err) = (path("out"), path("err"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command
            .args(["serve", "--config", "highwater.toml"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HIGHWATER_")) {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        ServerProcess {
            child: command.spawn().unwrap(),
            started: Instant::now(),
            out,
            err,
            address: String::new(),
            client: client(),
        }
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for number in 0..*self.starts.get_mut() {
            let path = self.folder.path().join(format!("{number}.err"));
            let log = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN)..];
            eprintln!("--- log of server {}, start {number}:", self.name);
            eprintln!("{}", shown.join("\n"));
        }
    }
}

/// A server that runs; killed with its value.
pub(crate) struct ServerProcess {
    child: Child,
    started: Instant,
    out: PathBuf,
    err: PathBuf,
    address: String,
    client: reqwest::Client,
}

impl ServerProcess {
    /// Waits until it is ready; answers how long after its start that was.
    pub(crate) async fn ready(&mut self) -> Duration {
        eventually(PATIENCE, "the server says where it listens", async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}");
            }
            let said = std::fs::read_to_string(&self.out).unwrap();
            let address = said
                .lines()
                .find_map(|line| line.strip_prefix("listening on "));
            self.address = address.unwrap_or_default().to_owned();
            said.ends_with('\n') && !self.address.is_empty()
        })
        .await;
        eventually(PATIENCE, "the server is ready", async || {
            let answer = self
                .client
                .get(format!("{}/readyz", self.address))
                .send()
                .await;
            answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
        })
        .await;
        self.started.elapsed()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether a lease's holder is this process.
    pub(crate) fn is_holder(&self, holder: &str) -> bool {
        holder.contains(&format!("-{}-", self.pid()))
    }

    /// `http://HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What it logged until now.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }

    /// Gets what must be there.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.answer(path).await.json().await.unwrap()
    }

    /// Gets a page.
    pub(crate) async fn page(&self, path: &str) -> String {
        self.answer(path).await.text().await.unwrap()
    }

    async fn answer(&self, path: &str) -> reqwest::Response {
        let url = format!("{}{path}", self.address);
        let answer = self.client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "GET {path}");
        answer
    }

    /// Tracks batches that are all new.
    pub(crate) async fn track(&self, body: &Value) {
        let (status, answer) = post(&self.client, &self.address, body).await.unwrap();
        assert!(status.is_success(), "{status}: {answer}");
        assert_eq!(answer["known"], 0, "{answer}");
        assert_eq!(
            answer["accepted"].as_u64(),
            body["batches"].as_array().map(|b| b.len() as u64)
        );
    }

    /// Names of the ledgers that it says it holds.
    pub(crate) async fn held(&self) -> Vec<String> {
        let list = self.get("/v1/ledgers").await;
        let items = list["items"].as_array().unwrap();
        let held = items.iter().filter(|item| item["view"]["held"] == true);
        held.map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// `kill -9`; answers what it logged, when the process is gone.
    pub(crate) fn kill9(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log()
    }

    /// `kill -STOP`.
    pub(crate) fn stop_signal(&self) {
        self.signal("STOP");
    }

    /// `kill -CONT`.
    pub(crate) fn cont(&self) {
        self.signal("CONT");
    }

    /// SIGHUP.
    pub(crate) fn hangup(&self) {
        self.signal("HUP");
    }

    /// SIGTERM; the drain must end well.
    pub(crate) async fn terminate(mut self) {
        self.signal("TERM");
        let status = self.end().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Waits until the process ends by itself.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let mut ended = None;
        eventually(PATIENCE, "the server ends", async || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        ended.unwrap()
    }

    fn signal(&self, name: &str) {
        // A shell's own `kill`: there may be no program of that name.
        let kill = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(status.success(), "{kill}");
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended before; then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `POST /v1/batches` by a client that lives on while servers come and go.
async fn post(
    client: &reqwest::Client,
    address: &str,
    body: &Value,
) -> reqwest::Result<(StatusCode, Value)> {
    let answer = client
        .post(format!("{address}/v1/batches"))
        .json(body)
        .send()
        .await?;
    let status = answer.status();
    Ok((status, answer.json().await.unwrap_or(Value::Null)))
}

/// An application that tracks batches and does not give up while servers come
/// and go: each call is made until it is answered well.
pub(crate) struct Tracker {
    address: watch::Sender<String>,
    task: JoinHandle<()>,
}

impl Tracker {
    /// Begins to make these calls, one after another.
    pub(crate) fn start(
        address: &str,
        bodies: impl Iterator<Item = Value> + Send + 'static,
    ) -> Self {
        let (address, current) = watch::channel(address.to_owned());
        let task = tokio::spawn(async move {
            let client = client();
            for body in bodies {
                loop {
                    let address = current.borrow().clone();
                    match post(&client, &address, &body).await {
                        Ok((status, _)) if status.is_success() => break,
                        Ok((status, answer)) if !status.is_server_error() => {
                            panic!("{status}: {answer}");
                        }
                        _ => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                }
            }
        });
        Self { address, task }
    }

    /// The server is somewhere else now.
    pub(crate) fn moved(&self, address: &str) {
        self.address.send_replace(address.to_owned());
    }

    /// Waits until every call was answered well.
    pub(crate) async fn done(self) {
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("all calls are answered")
            .unwrap();
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}
