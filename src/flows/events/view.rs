//! What the event flow shows of itself, on this server.

use super::model::SubscriptionName;
use super::plan_view::SubscriptionView;
use super::source::SourceState;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The subscriptions of this server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventsView {
    /// By name; those that are configured.
    pub subscriptions: BTreeMap<SubscriptionName, Arc<SubscriberView>>,
}

/// A subscription, as its Subscriber knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriberView {
    /// Who runs it.
    pub holder: Holder,
    /// How far it is; only where it is run here, and its rows were read.
    pub plan: Option<SubscriptionView>,
    /// How its source stands; only where it is run here and has one.
    pub source: Option<SourceView>,
    /// Why its rows cannot be read, where they cannot.
    pub trouble: Option<String>,
}

/// Who runs a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This server.
    Here,
    /// That other server.
    Other(String),
    /// No server that is known of.
    Nobody,
}

/// How a source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceView {
    /// What it is: its address, without secrets.
    pub place: String,
    /// What it told last; `None` while it does not run.
    pub state: Option<SourceState>,
    /// Times it failed in a row.
    pub failures: u32,
    /// Why it ended last, where it failed, and when.
    pub last_error: Option<(Timestamp, String)>,
}
