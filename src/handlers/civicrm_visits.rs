//! The handler `[jobs.handler.civicrm]`: a call of CiviCRM's API.

use super::Handler;
use super::civicrm::{Call, CivicrmClient};
use super::client::SiteClient;
use super::credentials::secret_of;
use super::learned::kept;
use super::templates::template;
use crate::config::{AppSettings, CivicrmHandler, Credential};
use crate::flows::sites::{FailureKind, Template, Visit, VisitError, Visited};
use futures_util::future::BoxFuture;

/// Visits sites by a call of CiviCRM's API each.
pub struct CivicrmVisits {
    client: SiteClient,
    settings: CivicrmHandler,
    path: Template,
    api_key: Option<Credential>,
    site_key: Option<Credential>,
    tries_more: u32,
    max_result_bytes: usize,
}

impl CivicrmVisits {
    /// A handler that sends the app's keys. It tries again at once, up to
    /// `tries_more` times, where no answer came; the time limit of the settings
    /// is for each try. Of the result at most `max_result_bytes` are kept.
    ///
    /// # Errors
    /// The path is no template.
    pub fn new(
        client: SiteClient,
        settings: CivicrmHandler,
        app: Option<&AppSettings>,
        tries_more: u32,
        max_result_bytes: usize,
    ) -> Result<Self, String> {
        Ok(Self {
            client,
            path: template(&settings.path)?,
            settings,
            api_key: app.and_then(|app| app.api_key.clone()),
            site_key: app.and_then(|app| app.site_key.clone()),
            tries_more,
            max_result_bytes,
        })
    }

    async fn visited(&self, visit: &Visit) -> Result<Visited, VisitError> {
        let settings = &self.settings;
        let key = async |credential: &Option<Credential>| match credential {
            Some(credential) => secret_of(credential, &visit.site.site_id).await.map(Some),
            None => Ok(None),
        };
        let (api_key, site_key) = (key(&self.api_key).await?, key(&self.site_key).await?);
        let client = CivicrmClient::new(self.client.clone(), api_key, site_key)
            .within(settings.timeout, settings.max_response_bytes)
            .trying_again(self.tries_more);
        let path = self.path.fill_path(visit);
        let path = path.map_err(|why| VisitError::new(FailureKind::Handler, &why))?;
        let call = Call {
            version: settings.version,
            site_url: &visit.site.url,
            path: &path,
            entity: &settings.entity,
            action: &settings.action,
            params: &settings.params,
        };
        let (answered, retry_after) = client.call(&call).await?;
        let result = answered.map(|json| {
            // Some actions of version 3 answer with one value, in `result`.
            let values = json.get("values").or_else(|| json.get("result"));
            settings
                .keep_result
                .then(|| kept(values, &client.secrets(), self.max_result_bytes, visit))
                .flatten()
        });
        Ok(Visited {
            result,
            retry_after,
        })
    }
}

impl Handler for CivicrmVisits {
    fn visit<'a>(&'a self, visit: &'a Visit) -> BoxFuture<'a, Visited> {
        Box::pin(async move {
            self.visited(visit).await.unwrap_or_else(|error| Visited {
                result: Err(error),
                retry_after: None,
            })
        })
    }
}
