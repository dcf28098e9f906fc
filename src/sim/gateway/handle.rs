//! What a running gateway tells, and what it can be told, in its process.

use super::chain::{SimEvent, SimKnown};
use super::knobs::GatewayKnobs;
use super::record::SentEvent;
use super::server::GatewayShared;
use crate::sim::peer::Peer;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A running simulated gateway; stops when dropped.
pub struct GatewayHandle {
    peer: Peer,
    shared: Arc<GatewayShared>,
}

/// A subscription that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySubscription {
    /// Its number, from 1 in the order in which they were asked for.
    pub id: u64,
    /// `eventName`
    pub event_name: String,
    /// `startblock`
    pub from: i64,
    /// `endblock`, where it was given.
    pub to: Option<i64>,
    /// `callbackURL`
    pub callback: String,
    /// Whether it is still sent events: neither at its end, nor forgotten.
    pub live: bool,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayStats {
    /// Blocks there are.
    pub blocks: i64,
    /// Subscriptions taken.
    pub subscribed: u64,
    /// Subscriptions refused.
    pub refused: u64,
    /// Subscriptions that are sent events.
    pub live: u64,
    /// Calls sent.
    pub calls: u64,
    /// Calls not answered 2xx.
    pub calls_failed: u64,
    /// Events in calls, also those sent again.
    pub events_sent: u64,
    /// Events in calls answered 2xx.
    pub events_acknowledged: u64,
    /// Events of which is no longer known what was sent (`keep`).
    pub forgotten: u64,
}

impl GatewayStats {
    pub(super) fn of(shared: &GatewayShared) -> Self {
        let blocks = *shared.blocks.borrow();
        let state = shared.state();
        let totals = state.record.totals;
        let live = state.subscriptions.iter().filter(|(known, _)| known.live);
        Self {
            blocks,
            subscribed: state.asked,
            refused: state.refused,
            live: live.count() as u64,
            calls: totals.calls,
            calls_failed: totals.calls_failed,
            events_sent: totals.sent,
            events_acknowledged: totals.acknowledged,
            forgotten: totals.forgotten,
        }
    }
}

impl GatewayHandle {
    pub(super) fn new(peer: Peer, shared: Arc<GatewayShared>) -> Self {
        Self { peer, shared }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.peer.addr()
    }

    /// Where subscriptions are posted: a gateway's `url`.
    pub fn url(&self) -> String {
        format!("http://{}/subscribe", self.addr())
    }

    /// How many blocks there are; their numbers begin with 0.
    pub fn blocks(&self) -> i64 {
        *self.shared.blocks.borrow()
    }

    /// Adds blocks.
    pub fn grow(&self, blocks: u32) {
        self.shared.grow(blocks);
    }

    /// How it behaves.
    pub fn knobs(&self) -> GatewayKnobs {
        self.shared.knobs.borrow().clone()
    }

    /// Changes how it behaves, from the next call on.
    pub fn set(&self, change: impl FnOnce(&mut GatewayKnobs)) {
        self.shared.knobs.send_modify(change);
    }

    /// Crashes: all subscriptions are forgotten, in the middle of whatever they
    /// send. It takes new ones at once.
    pub fn crash(&self) {
        self.shared.crash();
    }

    /// All contract events of these blocks, whether the blocks are there yet or
    /// not, in order.
    pub fn events(&self, blocks: RangeInclusive<i64>) -> Vec<SimEvent> {
        blocks
            .flat_map(|block| self.shared.chain.events(block))
            .collect()
    }

    /// Transaction ids and keys by which relevant events of these blocks are
    /// known.
    pub fn known(&self, blocks: RangeInclusive<i64>) -> (Vec<String>, Vec<String>) {
        known(self.events(blocks))
    }

    /// The subscriptions that were taken, in order; the newest 1000.
    pub fn subscriptions(&self) -> Vec<GatewaySubscription> {
        let state = self.shared.state();
        let known = state.subscriptions.iter().map(|(known, _)| known.clone());
        known.collect()
    }

    /// What was sent to which callback, and how often: in order of block and
    /// index.
    pub fn record(&self) -> Vec<SentEvent> {
        let state = self.shared.state();
        state.record.list(&self.shared.chain, 0, i64::MAX)
    }

    /// Block, transaction and index of every event that was sent to any
    /// callback, once each and in order.
    pub fn sent(&self) -> Vec<(i64, String, u32)> {
        places(self.record())
    }

    /// The same of those that a callback answered 2xx.
    pub fn acknowledged(&self) -> Vec<(i64, String, u32)> {
        let mut record = self.record();
        record.retain(|event| event.acknowledged > 0);
        places(record)
    }

    /// What was counted.
    pub fn stats(&self) -> GatewayStats {
        GatewayStats::of(&self.shared)
    }

    /// Stops at once: what is under way is dropped, the port is free on return.
    pub fn stop(self) {
        drop(self);
    }
}

/// By what relevant events are known: transaction ids and keys, once each.
pub(super) fn known(events: Vec<SimEvent>) -> (Vec<String>, Vec<String>) {
    let (mut tx_ids, mut keys) = (Vec::new(), Vec::new());
    for event in events {
        match event.known {
            SimKnown::Not => {}
            SimKnown::Transaction => tx_ids.push(event.tx_id),
            SimKnown::Key => keys.push(event.key),
        }
    }
    // Events of a transaction follow one another.
    tx_ids.dedup();
    keys.dedup();
    (tx_ids, keys)
}

fn places(record: Vec<SentEvent>) -> Vec<(i64, String, u32)> {
    let place = |event: SentEvent| (event.block, event.tx_id, event.index);
    let mut places: Vec<_> = record.into_iter().map(place).collect();
    places.dedup();
    places
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
