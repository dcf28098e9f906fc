//! The settings of the site flow: `[sites]`, `[[apps]]` and `[[jobs]]`.

use crate::flows::sites::{AppName, JobKey, RetryPolicy};
use secrecy::{ExposeSecret as _, SecretString};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// `[sites]`: the site flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitesSettings {
    /// Most visits under way at once, over all jobs. Default 64.
    pub max_in_flight: usize,
    /// How often new sites and changes by SQL are looked for. Default 5s.
    pub sweep_interval: Duration,
    /// Whether addresses that resolve inward are refused. Default no.
    pub deny_private_networks: bool,
    /// Largest document that a handler may learn, in bytes. Default 16 KiB.
    pub max_result_bytes: usize,
    /// The Updater commits after so long at the latest. Default 25ms.
    pub commit_interval: Duration,
    /// The Updater commits when it holds so many rows, and no more at a time. Default 2000.
    pub commit_rows: usize,
}

/// `[[apps]]`: an application whose sites are visited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSettings {
    /// Its id.
    pub id: AppName,
    /// Its title, for pages and handlers. Default the id.
    pub title: String,
    /// Its own address, for handlers. Default none.
    pub url: Option<Url>,
    /// API key of its sites, sent by handlers that need one.
    pub api_key: Option<Credential>,
    /// Site key of its sites, sent by handlers that need one.
    pub site_key: Option<Credential>,
}

/// A secret by reference.
#[derive(Clone, Debug)]
pub enum Credential {
    /// One for all sites.
    Shared(SecretString),
    /// A file for each site: `{site_id}` stands in its path, made absolute;
    /// read at each visit.
    PerSite(PathBuf),
}

/// `[[jobs]]`: a named piece of periodic work on every site of an app.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSettings {
    /// App and name; distinct. The name's default is `default`.
    pub key: JobKey,
    /// Retry policy. Default `1 hour (x48); 1 day (x90)`.
    pub retry: RetryPolicy,
    /// Shards into which servers split the job, 1 to 256. Default 1.
    pub batches: u16,
    /// Most visits of one host under way at once, by this job on one server.
    /// Default 4.
    pub per_host: usize,
    /// Whether servers run it; otherwise only `highwater poll` does. Default yes.
    pub server: bool,
    /// Tries after the first within a visit, where no answer came. Commands and
    /// Rust code are tried once whatever it says. Default 0.
    pub tries_more: u32,
    /// What is done on a site.
    pub handler: HandlerSettings,
}

/// `[jobs.handler]`: what a job does on a site; one of them.
#[derive(Clone, Debug, PartialEq)]
pub enum HandlerSettings {
    /// `[jobs.handler.http]`
    Http(HttpHandler),
    /// `[jobs.handler.civicrm]`
    Civicrm(CivicrmHandler),
    /// `[jobs.handler.command]`
    Command(CommandHandler),
    /// `[jobs.handler.code]`: Rust code registered for the job's event.
    Code(CodeHandler),
}

/// `[jobs.handler.http]`: an HTTP request with conditions on the answer.
/// `{site_id}`, `{app_id}` and `{label:NAME}` are filled in where it says template.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpHandler {
    /// Method, in capitals. Default `GET`.
    pub method: String,
    /// Template, appended to the site's address as it stands. Default empty.
    pub path: String,
    /// Headers; their values are templates.
    pub headers: Vec<(String, String)>,
    /// Body, a template. Default none.
    pub body: Option<String>,
    /// `Authorization: Bearer …`. Default none.
    pub token: Option<Credential>,
    /// User and password for `Authorization: Basic …`. Default none.
    pub basic: Option<(String, Credential)>,
    /// Time limit of a try, connecting included. Default 10s.
    pub timeout: Duration,
    /// Largest answer read, in bytes. Default 1 MiB.
    pub max_response_bytes: usize,
    /// What the answer has to be.
    pub expect: Expect,
    /// JSON pointer (RFC 6901) of what is kept of a JSON answer as the site's
    /// result; `""` is all of it. Default nothing.
    pub result: Option<String>,
}

/// `expect` of `[jobs.handler.http]`: all of it has to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Expect {
    /// Codes, as `"2xx"`, `"200"`, `"200-204, 304"`. Default `2xx`.
    pub status: Vec<RangeInclusive<u16>>,
    /// Headers that have to be there, and what their values have to contain.
    pub headers: Vec<(String, String)>,
    /// Text that the body has to contain.
    pub body_contains: Option<String>,
    /// Text that the body must not contain.
    pub body_lacks: Option<String>,
    /// JSON pointers and the values that have to stand there.
    pub json: Vec<(String, serde_json::Value)>,
}

/// `[jobs.handler.civicrm]`: a CiviCRM API call. The app's keys are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct CivicrmHandler {
    /// Version of the API. Default 4.
    pub version: CivicrmVersion,
    /// Template, appended to the site's address. Default
    /// `/civicrm/ajax/api4` or `/civicrm/ajax/rest`.
    pub path: String,
    /// Entity, e.g. `System`.
    pub entity: String,
    /// Action, e.g. `check`.
    pub action: String,
    /// Parameters: a JSON object.
    pub params: serde_json::Value,
    /// Time limit of a try. Default 30s.
    pub timeout: Duration,
    /// Largest answer read, in bytes. Default 1 MiB.
    pub max_response_bytes: usize,
    /// Whether the values of the answer are kept as the site's result. Default yes.
    pub keep_result: bool,
}

/// Version of CiviCRM's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CivicrmVersion {
    /// `civicrm/ajax/rest`.
    V3,
    /// `civicrm/ajax/api4`.
    V4,
}

/// `[jobs.handler.command]`: a command; the site comes on its standard input
/// as JSON, its exit code 0 is success, and JSON on its standard output is
/// kept as the site's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandHandler {
    /// Program and arguments, no shell. The program is an absolute path or a
    /// name that `PATH` leads to; the arguments are templates.
    pub args: Vec<String>,
    /// Time limit, after which it is killed with the children in its process
    /// group. Default 60s.
    pub timeout: Duration,
    /// Most bytes read of its output. Default 64 KiB.
    pub max_output_bytes: usize,
}

/// `[jobs.handler.code]`: Rust code, registered for the job's event name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeHandler {
    /// Time limit. Default 60s.
    pub timeout: Duration,
}

/// By what they hold.
impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Shared(one), Self::Shared(other)) => {
                one.expose_secret() == other.expose_secret()
            }
            (Self::PerSite(one), Self::PerSite(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Credential {}

impl Default for SitesSettings {
    fn default() -> Self {
        Self {
            max_in_flight: 64,
            sweep_interval: Duration::from_secs(5),
            deny_private_networks: false,
            max_result_bytes: 16 * 1024,
            commit_interval: Duration::from_millis(25),
            commit_rows: 2000,
        }
    }
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            status: vec![200..=299],
            headers: Vec::new(),
            body_contains: None,
            body_lacks: None,
            json: Vec::new(),
        }
    }
}

impl Default for HttpHandler {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: String::new(),
            headers: Vec::new(),
            body: None,
            token: None,
            basic: None,
            timeout: Duration::from_secs(10),
            max_response_bytes: 1024 * 1024,
            expect: Expect::default(),
            result: None,
        }
    }
}

impl JobSettings {
    /// A job with the defaults.
    pub fn new(key: JobKey, handler: HandlerSettings) -> Self {
        Self {
            key,
            retry: RetryPolicy::default(),
            batches: 1,
            per_host: 4,
            server: true,
            tries_more: 0,
            handler,
        }
    }
}
