//! What a listener is told of a visit, and what it may do with it.

use super::civicrm::CivicrmClient;
use super::client::SiteClient;
use super::credentials::secret_of;
use super::listeners::PollError;
use crate::config::{AppSettings, Credential};
use crate::flows::sites::{AppName, JobKey, SiteInfo, Visit, VisitError, Visited};
use crate::time::Timestamp;
use serde_json::{Map, Value};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use url::Url;

/// An app as listeners see it: without its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppInfo {
    /// Its id.
    pub id: AppName,
    /// Its title; the id where none is configured.
    pub title: String,
    /// Its own address.
    pub url: Option<Url>,
}

/// What the events of all visits of a job have in common.
pub(super) struct Common {
    app: AppInfo,
    client: SiteClient,
    api_key: Option<Credential>,
    site_key: Option<Credential>,
    max_result_bytes: usize,
}

impl Common {
    /// Of a job of an app that is configured, or of which only the id is known.
    pub(super) fn new(
        id: &AppName,
        app: Option<&AppSettings>,
        client: SiteClient,
        max_result_bytes: usize,
    ) -> Self {
        Self {
            app: AppInfo {
                id: id.clone(),
                title: app.map_or_else(|| id.to_string(), |app| app.title.clone()),
                url: app.and_then(|app| app.url.clone()),
            },
            client,
            api_key: app.and_then(|app| app.api_key.clone()),
            site_key: app.and_then(|app| app.site_key.clone()),
            max_result_bytes,
        }
    }
}

/// One visit, as the listeners of its events see it. A clone is cheap and is
/// of the same visit.
#[derive(Clone)]
pub struct PollEvent {
    told: Arc<Told>,
    outcome: Option<Arc<Visited>>,
}

struct Told {
    common: Arc<Common>,
    visit: Visit,
    labels: Map<String, Value>,
    /// What is learned, a JSON document.
    learned: Mutex<Option<String>>,
}

impl PollEvent {
    /// The event before a visit; nothing is learned yet.
    pub(super) fn new(common: Arc<Common>, visit: &Visit) -> Self {
        Self {
            told: Arc::new(Told {
                common,
                labels: serde_json::from_str(&visit.site.labels).unwrap_or_default(),
                visit: visit.clone(),
                learned: Mutex::new(None),
            }),
            outcome: None,
        }
    }

    /// The same visit, when it is known what came of it.
    pub(super) fn ended(&self, outcome: &Visited) -> Self {
        Self {
            told: self.told.clone(),
            outcome: Some(Arc::new(outcome.clone())),
        }
    }

    /// The application.
    pub fn app(&self) -> &AppInfo {
        &self.told.common.app
    }

    /// The job.
    pub fn job(&self) -> &JobKey {
        &self.told.visit.job
    }

    /// The site that is visited.
    pub fn site(&self) -> &SiteInfo {
        &self.told.visit.site
    }

    /// The site's labels; none where an application wrote by SQL what is no
    /// JSON object.
    pub fn labels(&self) -> &Map<String, Value> {
        &self.told.labels
    }

    /// A label that is a text.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.told.labels.get(name).and_then(Value::as_str)
    }

    /// When the last visit began; `None` for the first.
    pub fn last_run_at(&self) -> Option<Timestamp> {
        self.told.visit.last_run_at
    }

    /// Level of the retry policy at which the site stands.
    pub fn level(&self) -> u32 {
        self.told.visit.level
    }

    /// Failures in a row at this level.
    pub fn count(&self) -> u32 {
        self.told.visit.count
    }

    /// HTTP to the site: `SiteRequest::get(&event.site().url)`. Its failures
    /// keep their kind when they are passed on by `?`; whether a status is a
    /// failure is for the listener to say.
    pub fn client(&self) -> &SiteClient {
        &self.told.common.client
    }

    /// Calls of CiviCRM's API, with the app's keys: `event.civicrm().await?
    /// .call4(&event.site().url, "System", "check", &json!({})).await?`. Without
    /// keys where the app has none.
    ///
    /// # Errors
    /// `Handler`: a key that lies in a file for each site cannot be read.
    pub async fn civicrm(&self) -> Result<CivicrmClient, VisitError> {
        let common = &self.told.common;
        let key = async |credential: &Option<Credential>| match credential {
            Some(credential) => secret_of(credential, &self.site().site_id).await.map(Some),
            None => Ok(None),
        };
        let (api_key, site_key) = (key(&common.api_key).await?, key(&common.site_key).await?);
        Ok(CivicrmClient::new(common.client.clone(), api_key, site_key))
    }

    /// What came of the visit; only listeners of `post-poll` are told.
    pub fn outcome(&self) -> Option<&Visited> {
        self.outcome.as_deref()
    }

    /// What was learned so far: by the configured handler, or by a listener.
    pub fn result(&self) -> Option<Value> {
        let learned = self.learned();
        learned
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
    }

    /// Says what was learned of the site, in place of what was said before. It
    /// is kept when the visit succeeds.
    ///
    /// # Errors
    /// The document is longer than `sites.max_result_bytes`, or the visit is
    /// over (`post-poll`); nothing is changed then.
    pub fn set_result(&self, document: Value) -> Result<(), PollError> {
        if self.outcome.is_some() {
            return Err("a result is set too late: the visit is over".into());
        }
        let text = document.to_string();
        let most = self.told.common.max_result_bytes;
        if text.len() > most {
            return Err(format!(
                "the result of {} bytes is longer than sites.max_result_bytes ({most})",
                text.len()
            )
            .into());
        }
        *self.learned() = Some(text);
        Ok(())
    }

    /// What is learned until now, a JSON document.
    pub(super) fn learned(&self) -> MutexGuard<'_, Option<String>> {
        let learned = &self.told.learned;
        learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which visit it is of.
impl fmt::Debug for PollEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollEvent")
            .field("visit", &self.told.visit)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}
