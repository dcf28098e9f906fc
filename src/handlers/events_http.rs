//! The handler `[subscriptions.handler.http]`: an event is posted as a
//! CloudEvent, signed as Standard Webhooks where there is a secret.

use super::client::{SiteClient, SiteRequest};
use super::cloud_event::{CLOUD_EVENT, document, event_id};
use crate::config::EventHttp;
use crate::flows::events::{EventHandler, OpenEvent, SubscriptionName};
use crate::net::webhook::{ID, SIGNATURE, TIMESTAMP, WebhookKey};
use crate::net::{Secrets, one_line};
use crate::time::Timestamp;
use futures_util::future::BoxFuture;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;

/// Largest answer read, in bytes; more than this is a failure.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;
/// Characters shown of what the other side says.
const MAX_WORDS: usize = 200;

/// Posts events.
pub struct EventPosts {
    client: SiteClient,
    settings: EventHttp,
    key: Option<WebhookKey>,
    authorization: Option<HeaderValue>,
    /// What must not come back in an error.
    secrets: Secrets,
}

impl EventPosts {
    /// A handler with these settings.
    ///
    /// # Errors
    /// The secret or the token cannot be sent; they are not repeated.
    pub fn new(settings: EventHttp) -> Result<Self, String> {
        let key = settings.secret.as_ref().map(|secret| &secret.0);
        let key = key.map(WebhookKey::of).transpose()?;
        let mut secrets = Secrets::default();
        if let Some(key) = &key {
            secrets.add(key.secret());
        }
        let mut authorization = None;
        if let Some(token) = &settings.token {
            secrets.add(&token.0);
            let value = format!("Bearer {}", token.0.expose_secret());
            let mut value = HeaderValue::from_str(&value).map_err(|_| {
                "the token of [subscriptions.handler.http] holds characters that no HTTP header takes"
            })?;
            value.set_sensitive(true);
            authorization = Some(value);
        }
        Ok(Self {
            client: SiteClient::new(false),
            settings,
            key,
            authorization,
            secrets,
        })
    }

    async fn post(
        &self,
        subscription: &SubscriptionName,
        event: &OpenEvent,
        attempt: u32,
    ) -> Result<(), String> {
        let body = document(subscription, event, attempt);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(CLOUD_EVENT));
        if let Some(value) = &self.authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        if let Some(key) = &self.key {
            let id = event_id(subscription, event);
            let seconds = (Timestamp::now().millis() / 1000).to_string();
            let signature = key.sign(&id, &seconds, body.as_bytes());
            for (name, value) in [(ID, &id), (TIMESTAMP, &seconds), (SIGNATURE, &signature)] {
                let value = HeaderValue::from_str(value)
                    .map_err(|_| format!("the event's id cannot be sent as {name}"))?;
                headers.insert(name, value);
            }
        }
        let request = SiteRequest {
            method: Method::POST,
            url: self.settings.url.to_string(),
            headers,
            body: Some(body.into()),
            timeout: self.settings.timeout,
            max_response_bytes: MAX_RESPONSE_BYTES,
        };
        let sent = self.client.send(request).await;
        let answer = sent.map_err(|error| self.shown(&error.to_string()))?;
        if answer.status.is_success() {
            return Ok(());
        }
        let words = self.shown(&String::from_utf8_lossy(&answer.body));
        let said = if words.is_empty() {
            String::new()
        } else {
            format!(": {words}")
        };
        Err(format!(
            "{} answered {}, and 2xx is expected{said}",
            self.settings.url, answer.status
        ))
    }

    fn shown(&self, words: &str) -> String {
        one_line(&self.secrets.hide(words), MAX_WORDS)
    }
}

impl EventHandler for EventPosts {
    fn handle<'a>(
        &'a self,
        subscription: &'a SubscriptionName,
        event: &'a OpenEvent,
        attempt: u32,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.post(subscription, event, attempt))
    }
}
