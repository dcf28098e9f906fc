//! The validated settings: what the rest of the code sees of a configuration.

use super::dataset_settings::{DatasetSettings, ReplicaSettings, ReplicationSettings};
use super::event_settings::{EventsSettings, GatewaySettings, SubscriptionSettings};
use super::resources::ResourcesSettings;
use super::site_settings::{AppSettings, JobSettings, SitesSettings};
use crate::flows::replicas::Content;
use crate::ledgers::LedgerKind;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// A whole configuration, valid.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[database]`
    pub database: DatabaseSettings,
    /// `[http]`
    pub http: HttpSettings,
    /// `[server]`
    pub server: ServerSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[batches]`
    pub batches: BatchesSettings,
    /// `[resources]`
    pub resources: ResourcesSettings,
    /// `[retention]`
    pub retention: RetentionSettings,
    /// `[watchdog]`
    pub watchdog: WatchdogSettings,
    /// `[[ledgers]]`, names distinct.
    pub ledgers: Vec<LedgerSettings>,
    /// `[sites]`
    pub sites: SitesSettings,
    /// `[[apps]]`, ids distinct.
    pub apps: Vec<AppSettings>,
    /// `[[jobs]]`, apps and names distinct.
    pub jobs: Vec<JobSettings>,
    /// `[events]`
    pub events: EventsSettings,
    /// `[[gateways]]`, names distinct.
    pub gateways: Vec<GatewaySettings>,
    /// `[[subscriptions]]`, names distinct.
    pub subscriptions: Vec<SubscriptionSettings>,
    /// `[replication]`
    pub replication: ReplicationSettings,
    /// `[[datasets]]`, names distinct.
    pub datasets: Vec<DatasetSettings>,
    /// `[[replicas]]`, names distinct.
    pub replicas: Vec<ReplicaSettings>,
}

/// `[database]`: where everything is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSettings {
    /// SQLite file or PostgreSQL address.
    pub location: DatabaseLocation,
    /// PostgreSQL schema of all tables. Default `highwater`.
    pub schema: String,
    /// Connections for reading (SQLite), or in all (PostgreSQL). Default 8.
    pub connections: usize,
    /// `synchronous` of SQLite. Default `full`: what is acknowledged survives a power cut.
    pub synchronous: Synchronous,
}

/// Which database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseLocation {
    /// `sqlite://PATH`, made absolute against the configuration's folder.
    Sqlite(PathBuf),
    /// `postgres://…`, which may hold a password: never shown whole.
    Postgres(PostgresUrl),
}

/// As an address, without its password.
impl std::fmt::Display for DatabaseLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => write!(f, "{url}"),
        }
    }
}

/// A PostgreSQL address; its `Debug` and `Display` hide the password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// Takes an address as written.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The address with its password, for connecting only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Url::parse(&self.0) {
            Ok(mut url) => {
                if url.password().is_some() && url.set_password(Some("***")).is_err() {
                    return f.write_str("postgres://***");
                }
                // `password`, `sslpassword`: the driver takes them here as well.
                if url.query_pairs().any(|(key, _)| key.contains("password")) {
                    url.set_query(None);
                }
                write!(f, "{url}")
            }
            Err(_) => f.write_str("postgres://***"),
        }
    }
}

impl std::fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// SQLite's `synchronous`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// Survives a power cut.
    Full,
    /// Survives a crash of the process, not a power cut.
    Normal,
}

/// `[http]`: pages and API.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Address to listen on. Default `127.0.0.1:8780`; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Token for operator actions and control; accepted wherever another token is.
    pub control_token: Option<SecretString>,
    /// Token for what applications send in; open when `None`.
    pub intake_token: Option<SecretString>,
    /// Token for reading; open when `None`.
    pub read_token: Option<SecretString>,
    /// Largest request body. Default 8 MiB.
    pub max_body_bytes: usize,
}

/// `[server]`: the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// How long a drain may take. Default 30s.
    pub shutdown_timeout: Duration,
    /// How long a lease lasts without a heartbeat. Default 10s.
    pub lease: Duration,
}

/// `[log]`: what is logged, how, and where to.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    /// Filter directives as of `tracing`. Default `info,actix_server=warn,actix_http=off`.
    pub filter: String,
    /// Shape of a line. Default `text`.
    pub format: LogFormat,
    /// Whether lines go to standard error. Default yes.
    pub stderr: bool,
    /// The file that lines go to as well. Default none.
    pub file: Option<LogFileSettings>,
    /// Where traces are sent. Default nowhere.
    pub traces: Option<TraceSettings>,
}

/// `[log] file`: a log file that is begun anew from time to time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFileSettings {
    /// Its path; where it rotates, each file has the date behind that.
    pub path: PathBuf,
    /// When a new one is begun. Default daily.
    pub rotation: LogRotation,
    /// How many files are kept, the one in use among them. Default 7.
    pub keep: usize,
}

/// When a log file is begun anew, by UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRotation {
    /// Each day.
    Daily,
    /// Each hour.
    Hourly,
    /// Never: one file, which somebody else looks after.
    Never,
}

/// `[log] traces`: OpenTelemetry traces, by OTLP over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    /// Where they are posted; no user or password in it.
    pub endpoint: Url,
    /// Share of the units of work that are traced, 0 to 1. Default 1.
    pub sample: f64,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[batches]`: the batch flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchesSettings {
    /// How long to wait when nothing is due. Default 5s.
    pub poll_interval: Duration,
    /// The same for ledgers of role `fallback`. Default 60s.
    pub fallback_poll_interval: Duration,
    /// How soon a batch that is still outstanding is polled again. Default 1s growing to 60s.
    pub repoll: Range,
    /// When an undecided batch is given up. Default after 24h.
    pub give_up_after: GiveUpAfter,
    /// How long a failing ledger or service is left alone. Default 1s growing to 5min.
    pub backoff: Range,
    /// Services failing in a row, with no success between, that open a ledger's breaker. Default 5.
    pub breaker_failures: u32,
    /// Most requests open at once, over all ledgers. Default 64.
    pub max_in_flight: usize,
    /// The Updater commits after so long at the latest. Default 5ms.
    pub commit_interval: Duration,
    /// The Updater commits when it holds so many rows, and no more at a time. Default 2000.
    pub commit_rows: usize,
}

/// A duration that grows from `min` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First value; not 0.
    pub min: Duration,
    /// Last value; not below `min`.
    pub max: Duration,
}

/// When an undecided batch becomes `lost`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GiveUpAfter {
    /// Time since it was submitted.
    pub age: Duration,
    /// Polls that the ledger answered; both must be reached when given.
    pub polls: Option<u32>,
}

/// `[retention]`: how long what is over is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Settled batches, from `settled_at` on. Default 30d.
    pub settled_batches: Duration,
    /// What operators did, from when they did it. Default 365d.
    pub audit: Duration,
    /// Events that are done with, from when they were recorded. Default 90d.
    pub events: Duration,
    /// Newest polls kept of each site and job, and newest results. Default 20.
    pub polls_per_site: usize,
    /// Age of the history of datasets and replicas: their own settings, gathered.
    pub histories: BTreeMap<Content, Duration>,
}

/// `[watchdog]`: how services are kept running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchdogSettings {
    /// How soon a service that ended is built again. Default 50ms growing to 10s.
    pub restart_backoff: Range,
    /// A service that ran so long starts again from `restart_backoff.min`. Default 30s.
    pub restart_quiet: Duration,
    /// More restarts than this within `restart_period`, and a service is failed. Default 10.
    pub restart_limit: u32,
    /// See `restart_limit`. Default 60s.
    pub restart_period: Duration,
    /// How long a service may leave its watchdog's probe unanswered. Default 10s.
    pub deadline: Duration,
    /// Most threads that may be lost to blocked services. Default 4.
    pub lost_threads: usize,
}

/// Whether polling is how a ledger's batches are settled, or a check on another means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerRole {
    /// Polling is the means: `poll_interval`.
    Primary,
    /// Another means is primary: `fallback_poll_interval`.
    Fallback,
}

/// `[[ledgers]]`: one ledger.
#[derive(Clone, Debug)]
pub struct LedgerSettings {
    /// Identity of the ledger.
    pub name: String,
    /// Protocol.
    pub kind: LedgerKind,
    /// Base address; no credentials in it.
    pub url: Url,
    /// Primary or fallback. Default primary.
    pub role: LedgerRole,
    /// Most requests open at once. Default 8.
    pub connections: usize,
    /// Ids in one request. Default 500 (Sawtooth), 100 (Splinter).
    pub ids_per_request: usize,
    /// Time limit of one request, connecting included. Default 10s.
    pub timeout: Duration,
    /// Seconds the ledger may hold a request; `None` (the default) never asks it to.
    pub wait: Option<Duration>,
    /// Largest answer read. Default 8 MiB.
    pub max_response_bytes: usize,
    /// Whether the ledger's stream is listened to, so that batches are polled
    /// sooner and settle by their transactions. Default false.
    pub stream: bool,
    /// Token sent as `Authorization`: `Bearer Cylinder:…` to Splinter, `Bearer …` to Sawtooth.
    pub token: Option<SecretString>,
}

impl PartialEq for LedgerSettings {
    fn eq(&self, other: &Self) -> bool {
        use secrecy::ExposeSecret as _;
        // Taken apart in full, so that a new field cannot be forgotten here.
        let Self {
            name,
            kind,
            url,
            role,
            connections,
            ids_per_request,
            timeout,
            wait,
            max_response_bytes,
            stream,
            token,
        } = self;
        let exposed = |token: &Option<SecretString>| {
            let token = token.as_ref()?;
            Some(token.expose_secret().to_owned())
        };
        *name == other.name
            && *kind == other.kind
            && *url == other.url
            && *role == other.role
            && *connections == other.connections
            && *ids_per_request == other.ids_per_request
            && *timeout == other.timeout
            && *wait == other.wait
            && *max_response_bytes == other.max_response_bytes
            && *stream == other.stream
            && exposed(token) == exposed(&other.token)
    }
}
