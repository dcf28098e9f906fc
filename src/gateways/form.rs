//! The form by which a subscription is asked for; its names are those of the
//! seed `ordered-block-events.md`.

use super::GatewayProblem;
use crate::config::{GatewaySettings, GatewaySource, SecretOf, SubscriptionSettings};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;
use url::form_urlencoded::Serializer;

/// What does not change from one subscription to the next.
pub(super) struct Form {
    asked: GatewaySource,
    /// Holds the secret of the hook, so it is one itself.
    callback: SecretString,
}

impl Form {
    pub(super) fn new(
        gateway: &GatewaySettings,
        subscription: &SubscriptionSettings,
        asked: &GatewaySource,
    ) -> Result<Self, GatewayProblem> {
        check(gateway, "callback_base", &gateway.callback_base)?;
        if gateway.callback_base.query().is_some() {
            return Err(GatewayProblem::Url {
                gateway: gateway.name.clone(),
                key: "callback_base",
                problem: "holds a query; expected what the hook's path is appended to, e.g. \"http://10.0.0.5:8780\"",
            });
        }
        let base = gateway.callback_base.as_str().trim_end_matches('/');
        let mut callback = format!("{base}/v1/hooks/{}", subscription.name);
        if let Some(secret) = &subscription.hook_secret {
            callback.push('/');
            callback.push_str(secret_in_path(secret).expose_secret());
        }
        Ok(Self {
            asked: asked.clone(),
            callback: callback.into(),
        })
    }

    /// The body that asks for these blocks.
    pub(super) fn body(&self, from: i64, to: Option<i64>) -> String {
        let asked = &self.asked;
        let mut form = Serializer::new(String::new());
        form.append_pair("channelName", &asked.channel)
            .append_pair("chaincodeName", &asked.chaincode)
            .append_pair("eventCategory", &asked.event_category)
            .append_pair("eventName", &asked.event_name)
            .append_pair("eventType", &asked.event_type)
            .append_pair("startblock", &from.to_string());
        if let Some(to) = to {
            form.append_pair("endblock", &to.to_string());
        }
        form.append_pair("callbackURL", self.callback.expose_secret())
            .finish()
    }
}

/// The secret as a segment of a path.
pub(super) fn secret_in_path(secret: &SecretOf) -> SecretString {
    utf8_percent_encode(secret.0.expose_secret(), NON_ALPHANUMERIC)
        .to_string()
        .into()
}

/// Checks what all addresses of a gateway must be.
pub(super) fn check(
    gateway: &GatewaySettings,
    key: &'static str,
    url: &Url,
) -> Result<(), GatewayProblem> {
    let problem = if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        "is not an http address; expected one such as \"http://10.0.0.5:9100/subscribe\""
    } else if !url.username().is_empty() || url.password().is_some() {
        "holds credentials, which belong in token_file"
    } else if url.fragment().is_some() {
        "holds a fragment, which is never sent; remove \"#\" and what follows"
    } else {
        return Ok(());
    };
    Err(GatewayProblem::Url {
        gateway: gateway.name.clone(),
        key,
        problem,
    })
}
