//! CiviCRM's API: a client for both versions.
//!
//! The wire format is that of `civicrm/ajax/api4` (version 4, keys as `AuthX`
//! headers) and of `civicrm/ajax/rest` (version 3, keys as fields), as
//! docs.civicrm.org/dev describes them: a POST of a form, whose header
//! `X-Requested-With` tells it from a forged one.

use super::address::address;
use super::client::{SiteAnswer, SiteClient, SiteRequest};
use super::expect::{body_words, excerpt, other_status, unexpected};
use crate::config::CivicrmVersion;
use crate::flows::sites::template::percent_encoded;
use crate::flows::sites::{FailureKind, VisitError};
use crate::net::Secrets;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use std::time::Duration;
use url::form_urlencoded;

/// Where version 4 lies on a site whose pages have clean addresses.
const PATH_4: &str = "/civicrm/ajax/api4";
/// Where version 3 lies.
const PATH_3: &str = "/civicrm/ajax/rest";

/// Calls CiviCRM's API on sites, with the keys of one site or app.
#[derive(Clone)]
pub struct CivicrmClient {
    client: SiteClient,
    api_key: Option<SecretString>,
    site_key: Option<SecretString>,
    timeout: Duration,
    max_response_bytes: usize,
    tries_more: u32,
}

/// One call.
pub(super) struct Call<'a> {
    /// Version of the API.
    pub(super) version: CivicrmVersion,
    /// Address of the site, with or without a slash at the end.
    pub(super) site_url: &'a str,
    /// Where the API lies on the site.
    pub(super) path: &'a str,
    /// What is acted on.
    pub(super) entity: &'a str,
    /// What is done.
    pub(super) action: &'a str,
    /// Its parameters, a JSON object.
    pub(super) params: &'a Value,
}

impl<'a> Call<'a> {
    /// A call of a site whose pages have clean addresses.
    fn of(
        version: CivicrmVersion,
        site_url: &'a str,
        entity: &'a str,
        action: &'a str,
        params: &'a Value,
    ) -> Self {
        Self {
            version,
            site_url,
            path: match version {
                CivicrmVersion::V4 => PATH_4,
                CivicrmVersion::V3 => PATH_3,
            },
            entity,
            action,
            params,
        }
    }
}

impl CivicrmClient {
    /// A client that sends these keys, waits 30 seconds for an answer and reads
    /// at most 1 MiB of it.
    pub fn new(
        client: SiteClient,
        api_key: Option<SecretString>,
        site_key: Option<SecretString>,
    ) -> Self {
        Self {
            client,
            api_key,
            site_key,
            timeout: Duration::from_secs(30),
            max_response_bytes: 1024 * 1024,
            tries_more: 0,
        }
    }

    /// The same with up to so many tries more, at once, where no answer came.
    #[must_use]
    pub fn trying_again(self, tries_more: u32) -> Self {
        Self { tries_more, ..self }
    }

    /// The same with another time limit of each try and bound, in bytes.
    #[must_use]
    pub fn within(self, timeout: Duration, max_response_bytes: usize) -> Self {
        Self {
            timeout,
            max_response_bytes,
            ..self
        }
    }

    /// Calls version 4 on the site at `url`. Returns the whole answer, an
    /// object with `values`.
    ///
    /// # Errors
    /// `Api`: CiviCRM says that it failed, and why. Else as for
    /// [`SiteClient::send`]; `Unexpected` where it is no answer of CiviCRM.
    pub async fn call4(
        &self,
        url: &str,
        entity: &str,
        action: &str,
        params: &Value,
    ) -> Result<Value, VisitError> {
        let call = Call::of(CivicrmVersion::V4, url, entity, action, params);
        self.call(&call).await?.0
    }

    /// Calls version 3 on the site at `url`. Returns the whole answer, an
    /// object with `is_error` 0, mostly with `values`.
    ///
    /// # Errors
    /// As for [`Self::call4`].
    pub async fn call3(
        &self,
        url: &str,
        entity: &str,
        action: &str,
        params: &Value,
    ) -> Result<Value, VisitError> {
        let call = Call::of(CivicrmVersion::V3, url, entity, action, params);
        self.call(&call).await?.0
    }

    /// What an answer says, and how long the host asks to be left alone.
    pub(super) async fn call(
        &self,
        call: &Call<'_>,
    ) -> Result<(Result<Value, VisitError>, Option<Duration>), VisitError> {
        let request = self.request(call)?;
        let answer = self.client.send_again(request, self.tries_more).await?;
        let retry_after = answer.retry_after;
        Ok((read(call.version, &answer, &self.secrets()), retry_after))
    }

    /// What must not be shown of its answers.
    pub(super) fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        for key in [&self.api_key, &self.site_key].into_iter().flatten() {
            secrets.add(key);
        }
        secrets
    }

    fn request(&self, call: &Call<'_>) -> Result<SiteRequest, VisitError> {
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_static("x-requested-with"),
            HeaderValue::from_static("XMLHttpRequest"),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let mut form = form_urlencoded::Serializer::new(String::new());
        let mut path = call.path.to_owned();
        match call.version {
            CivicrmVersion::V4 => {
                path.push('/');
                path.push_str(&percent_encoded(call.entity));
                path.push('/');
                path.push_str(&percent_encoded(call.action));
                form.append_pair("params", &call.params.to_string());
                if let Some(key) = &self.api_key {
                    let value = format!("Bearer {}", key.expose_secret());
                    headers.insert("x-civi-auth", sensitive(&value)?);
                }
                if let Some(key) = &self.site_key {
                    headers.insert("x-civi-key", sensitive(key.expose_secret())?);
                }
            }
            CivicrmVersion::V3 => {
                form.append_pair("entity", call.entity)
                    .append_pair("action", call.action)
                    .append_pair("json", &call.params.to_string());
                for (name, key) in [("api_key", &self.api_key), ("key", &self.site_key)] {
                    if let Some(key) = key {
                        form.append_pair(name, key.expose_secret());
                    }
                }
            }
        }
        // Sites are registered with and without a slash at the end.
        let site_url = call.site_url.trim().trim_end_matches('/');
        Ok(SiteRequest {
            method: Method::POST,
            url: address(site_url, &path)?,
            headers,
            body: Some(form.finish().into()),
            timeout: self.timeout,
            max_response_bytes: self.max_response_bytes,
        })
    }
}

fn sensitive(value: &str) -> Result<HeaderValue, VisitError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        VisitError::new(
            FailureKind::Handler,
            "a key holds characters that no HTTP header takes",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// What an answer says.
fn read(
    version: CivicrmVersion,
    answer: &SiteAnswer,
    secrets: &Secrets,
) -> Result<Value, VisitError> {
    let json = match serde_json::from_slice::<Value>(&answer.body) {
        Ok(json) if json.is_object() && answer.cut.is_none() => Some(json),
        _ => None,
    };
    if let Some(json) = &json
        && let Some(words) = failure(version, json)
    {
        let status = answer.status.as_u16();
        let words = excerpt(words.as_bytes(), secrets);
        let detail = format!("CiviCRM says (status {status}): {words}");
        return Err(VisitError::new(FailureKind::Api, &detail));
    }
    if !answer.status.is_success() {
        return Err(other_status(answer, "2xx", secrets));
    }
    let (member, of) = match version {
        CivicrmVersion::V4 => ("values", "version 4"),
        CivicrmVersion::V3 => ("is_error", "version 3"),
    };
    match json {
        Some(json) if json.get(member).is_some() => Ok(json),
        _ => Err(unexpected(&format!(
            "an answer of CiviCRM's API {of} was expected, a JSON object with \"{member}\"; {}",
            body_words(answer, secrets)
        ))),
    }
}

/// CiviCRM's words where it says that it failed.
fn failure(version: CivicrmVersion, json: &Value) -> Option<String> {
    let set = |name| json.get(name).is_some_and(is_set);
    let failed = match version {
        // The code of an exception may be 0.
        CivicrmVersion::V4 => set("error_message") || set("error_code"),
        CivicrmVersion::V3 => set("is_error"),
    };
    if !failed {
        return None;
    }
    let message = match json.get("error_message") {
        Some(Value::String(message)) if !message.is_empty() => message.clone(),
        Some(other) if is_set(other) => other.to_string(),
        _ => "nothing about why it failed".to_owned(),
    };
    Some(match json.get("error_code") {
        Some(code) if is_set(code) => {
            let code = code
                .as_str()
                .map_or_else(|| code.to_string(), str::to_owned);
            format!("{message} (error code {code})")
        }
        _ => message,
    })
}

/// Whether a flag is set: PHP sends it as a number or as a text.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(text.trim(), "" | "0"),
        Value::Array(_) | Value::Object(_) => true,
    }
}
