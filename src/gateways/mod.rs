//! Gateways: endpoints at which events are subscribed to and which call back.
//!
//! [`connect`] makes a [`Source`](crate::flows::events::Source) of a
//! subscription. It only asks; the events come by the hook
//! (`POST /v1/hooks/SUBSCRIPTION/SECRET`), on whichever server it reaches.
//!
//! | file | holds |
//! |---|---|
//! | `form` | what is posted, and where it calls back |
//! | `client` | posting it, and what the answer means |
//! | `source` | the source: asks, waits, asks again |

mod client;
mod form;
mod source;
#[cfg(test)]
mod tests;

use crate::config::{GatewayKind, GatewaySettings, SourceSettings, SubscriptionSettings};
use crate::flows::events::Source;
use std::sync::Arc;

/// Why a subscription cannot be had of a gateway. Only a change of
/// configuration mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewayProblem {
    /// The subscription has another source.
    #[error(
        "subscription {0} is not one of a gateway; give it `gateway`, `channel`, `chaincode` and `event_name`"
    )]
    NotOfGateway(String),
    /// An address cannot be used.
    #[error("gateway {gateway}: {key} {problem}")]
    Url {
        /// Name of the gateway.
        gateway: String,
        /// `url` or `callback_base`.
        key: &'static str,
        /// What is wrong with it, and what is expected.
        problem: &'static str,
    },
    /// The token cannot stand in a header.
    #[error("gateway {gateway}: the token holds characters that no header may; use visible ASCII")]
    Token {
        /// Name of the gateway.
        gateway: String,
    },
    /// No HTTP client can be made.
    #[error("gateway {gateway}: no HTTP client can be made: {detail}")]
    Http {
        /// Name of the gateway.
        gateway: String,
        /// Why.
        detail: String,
    },
}

/// The source of a subscription at its gateway.
///
/// # Errors
/// The subscription is not one of a gateway, an address or the token cannot be
/// used, or no HTTP client can be made.
pub fn connect(
    gateway: &GatewaySettings,
    subscription: &SubscriptionSettings,
) -> Result<Arc<dyn Source>, GatewayProblem> {
    let SourceSettings::Gateway(asked) = &subscription.source else {
        let name = subscription.name.to_string();
        return Err(GatewayProblem::NotOfGateway(name));
    };
    match gateway.kind {
        GatewayKind::Rest => Ok(Arc::new(source::RestSource::new(
            gateway,
            subscription,
            asked,
        )?)),
    }
}
