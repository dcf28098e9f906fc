//! The handler `[jobs.handler.http]`: a request with conditions on the answer.

use super::Handler;
use super::address::address;
use super::client::{SiteClient, SiteRequest};
use super::credentials::secret_of;
use super::expect::check;
use super::learned::kept;
use super::templates::template;
use crate::config::HttpHandler;
use crate::flows::sites::template::{as_it_is, json_escaped, percent_encoded};
use crate::flows::sites::{FailureKind, Template, Visit, VisitError, Visited};
use crate::net::Secrets;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;
use serde_json::Value;

/// Visits sites by an HTTP request each.
pub struct HttpVisits {
    client: SiteClient,
    settings: HttpHandler,
    method: Method,
    path: Template,
    headers: Vec<(HeaderName, Template)>,
    body: Option<Template>,
    /// How what is filled into the body is escaped.
    body_escape: fn(&str) -> String,
    /// A JSON answer is needed.
    reads_json: bool,
    tries_more: u32,
    max_result_bytes: usize,
}

impl HttpVisits {
    /// A handler. It tries again at once, up to `tries_more` times, where no
    /// answer came; the time limit of the settings is for each try. Of the
    /// result at most `max_result_bytes` are kept.
    ///
    /// # Errors
    /// Says which method or header cannot be sent, or what is no template.
    pub fn new(
        client: SiteClient,
        settings: HttpHandler,
        tries_more: u32,
        max_result_bytes: usize,
    ) -> Result<Self, String> {
        let method = Method::from_bytes(settings.method.as_bytes()).map_err(|_| {
            format!(
                "\"{}\" is no HTTP method: expected e.g. GET",
                settings.method
            )
        })?;
        let headers = settings
            .headers
            .iter()
            .map(|(name, value)| match HeaderName::try_from(name.as_str()) {
                Ok(name) => Ok((name, template(value)?)),
                Err(_) => Err(format!(
                    "\"{name}\" is no header's name: expected e.g. Accept"
                )),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let content_type = settings
            .headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str()))
            .map_or("", |(_, value)| value.as_str());
        let body_escape = if content_type.contains("json") {
            json_escaped
        } else if content_type.contains("urlencoded") {
            percent_encoded
        } else {
            as_it_is
        };
        Ok(Self {
            client,
            method,
            path: template(&settings.path)?,
            headers,
            body: settings.body.as_deref().map(template).transpose()?,
            body_escape,
            reads_json: settings.result.is_some() || !settings.expect.json.is_empty(),
            settings,
            tries_more,
            max_result_bytes,
        })
    }

    async fn request(
        &self,
        visit: &Visit,
        secrets: &mut Secrets,
    ) -> Result<SiteRequest, VisitError> {
        let settings = &self.settings;
        let path = self.path.fill_path(visit).map_err(|why| failed(&why))?;
        let url = address(&visit.site.url, &path)?;
        let mut headers = HeaderMap::new();
        for (name, template) in &self.headers {
            let value = template.fill(visit, as_it_is).map_err(|why| failed(&why))?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
                failed(&format!(
                    "what is filled into the header {name} cannot be sent: it holds line ends or other control characters"
                ))
            })?;
            headers.append(name.clone(), value);
        }
        if let Some(authorization) = self.authorization(visit, secrets).await? {
            let mut value = HeaderValue::from_str(&authorization)
                .map_err(|_| failed("the secret holds characters that no HTTP header takes"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let body = match &self.body {
            Some(body) => {
                let filled = body.fill(visit, self.body_escape);
                Some(filled.map_err(|why| failed(&why))?)
            }
            None => None,
        };
        Ok(SiteRequest {
            method: self.method.clone(),
            url,
            headers,
            body: body.map(Into::into),
            timeout: settings.timeout,
            max_response_bytes: settings.max_response_bytes,
        })
    }

    async fn authorization(
        &self,
        visit: &Visit,
        secrets: &mut Secrets,
    ) -> Result<Option<String>, VisitError> {
        let site_id = &visit.site.site_id;
        if let Some(token) = &self.settings.token {
            let token = secret_of(token, site_id).await?;
            secrets.add(&token);
            return Ok(Some(format!("Bearer {}", token.expose_secret())));
        }
        if let Some((user, password)) = &self.settings.basic {
            let password = secret_of(password, site_id).await?;
            secrets.add(&password);
            let both = STANDARD.encode(format!("{user}:{}", password.expose_secret()));
            secrets.add(&both.clone().into());
            return Ok(Some(format!("Basic {both}")));
        }
        Ok(None)
    }

    async fn visited(&self, visit: &Visit) -> Result<Visited, VisitError> {
        let mut secrets = Secrets::default();
        let request = self.request(visit, &mut secrets).await?;
        let answer = self.client.send_again(request, self.tries_more).await?;
        let json: Option<Value> = self
            .reads_json
            .then(|| serde_json::from_slice(&answer.body).ok())
            .flatten();
        let checked = check(&self.settings.expect, &answer, json.as_ref(), &secrets);
        let learned = self.settings.result.as_ref().and_then(|pointer| {
            checked.as_ref().ok()?;
            let value = json.as_ref().and_then(|json| json.pointer(pointer));
            kept(value, &secrets, self.max_result_bytes, visit)
        });
        Ok(Visited {
            result: checked.map(|()| learned),
            retry_after: answer.retry_after,
        })
    }
}

fn failed(why: &str) -> VisitError {
    VisitError::new(FailureKind::Handler, why)
}

impl Handler for HttpVisits {
    fn visit<'a>(&'a self, visit: &'a Visit) -> BoxFuture<'a, Visited> {
        Box::pin(async move {
            self.visited(visit).await.unwrap_or_else(|error| Visited {
                result: Err(error),
                retry_after: None,
            })
        })
    }
}
