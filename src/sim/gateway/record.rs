//! What was sent and acknowledged. Bounded: the events of the highest blocks
//! are kept, and as many callbacks as a test can have.

use super::chain::Chain;
use super::subscription::Subscription;
use std::collections::BTreeMap;

/// Callbacks that are told apart; later ones count as the last.
const MOST_LISTENERS: usize = 1000;

/// What became of an event at one callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentEvent {
    /// Its block.
    pub block: i64,
    /// Its transaction; empty for events of a block.
    pub tx_id: String,
    /// Its number within the block.
    pub index: u32,
    /// Its name.
    pub event_name: String,
    /// Where it was sent: the `callbackURL`.
    pub callback: String,
    /// Times it was sent.
    pub sent: u32,
    /// Times that was answered 2xx.
    pub acknowledged: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    sent: u32,
    acknowledged: u32,
}

struct Listener {
    callback: String,
    of_blocks: bool,
}

/// What was sent and acknowledged.
#[derive(Default)]
pub(super) struct Record {
    keep: usize,
    listeners: Vec<Listener>,
    /// By block, index and listener.
    events: BTreeMap<(i64, u32, usize), Counts>,
    pub(super) totals: Totals,
}

/// Counts of everything, also of what is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) calls: u64,
    pub(super) calls_failed: u64,
    /// Events of which is no longer known what was sent.
    pub(super) forgotten: u64,
}

impl Record {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            keep,
            ..Self::default()
        }
    }

    /// The number of a subscription's callback.
    pub(super) fn listener(&mut self, subscription: &Subscription) -> usize {
        let callback = subscription.callback.as_str();
        let of_blocks = subscription.of_blocks;
        let same = |known: &Listener| known.callback == callback && known.of_blocks == of_blocks;
        if let Some(known) = self.listeners.iter().position(same) {
            return known;
        }
        if self.listeners.len() < MOST_LISTENERS {
            self.listeners.push(Listener {
                callback: callback.to_owned(),
                of_blocks,
            });
        }
        self.listeners.len() - 1
    }

    /// A call with these events (block and index) goes out.
    pub(super) fn sent(&mut self, listener: usize, events: &[(i64, u32)]) {
        self.totals.calls += 1;
        for (block, index) in events {
            self.totals.sent += 1;
            let counts = self.events.entry((*block, *index, listener)).or_default();
            counts.sent = counts.sent.saturating_add(1);
            if self.events.len() > self.keep && self.events.pop_first().is_some() {
                self.totals.forgotten += 1;
            }
        }
    }

    /// It was answered.
    pub(super) fn answered(&mut self, listener: usize, events: &[(i64, u32)], taken: bool) {
        if !taken {
            self.totals.calls_failed += 1;
            return;
        }
        for (block, index) in events {
            self.totals.acknowledged += 1;
            if let Some(counts) = self.events.get_mut(&(*block, *index, listener)) {
                counts.acknowledged = counts.acknowledged.saturating_add(1);
            }
        }
    }

    /// What was sent of these blocks, by block, index and callback.
    pub(super) fn list(&self, chain: &Chain, from: i64, to: i64) -> Vec<SentEvent> {
        let mut block_events = (i64::MIN, Vec::new());
        let mut list = Vec::new();
        let range = (from, 0, 0)..=(to.max(from), u32::MAX, usize::MAX);
        for ((block, index, listener), counts) in self.events.range(range) {
            let Some(listener) = self.listeners.get(*listener) else {
                continue;
            };
            if block_events.0 != *block {
                block_events = (*block, chain.events(*block));
            }
            let event = block_events.1.get(*index as usize);
            let event = event.filter(|_| !listener.of_blocks);
            list.push(SentEvent {
                block: *block,
                tx_id: event.map_or_else(String::new, |event| event.tx_id.clone()),
                index: *index,
                event_name: event.map_or("block", |event| &event.event_name).to_owned(),
                callback: listener.callback.clone(),
                sent: counts.sent,
                acknowledged: counts.acknowledged,
            });
        }
        list
    }

    /// Times an event was sent and acknowledged, over all callbacks.
    pub(super) fn counts(&self, block: i64, index: u32) -> (u32, u32) {
        let range = (block, index, 0)..=(block, index, usize::MAX);
        let counts = self.events.range(range).map(|(_, counts)| counts);
        counts.fold((0, 0), |sum, counts| {
            (sum.0 + counts.sent, sum.1 + counts.acknowledged)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::gateway::GatewayOptions;
    use crate::sim::gateway::subscription::example;

    #[test]
    fn what_is_kept_is_bounded_and_what_is_counted_is_not() {
        let chain = Chain::new(&GatewayOptions::default());
        let mut record = Record::new(10);
        let listener = record.listener(&example(0, None));
        for block in 0..100 {
            record.sent(listener, &[(block, 0)]);
            record.sent(listener, &[(block, 0)]);
            record.answered(listener, &[(block, 0)], false);
            record.answered(listener, &[(block, 0)], true);
        }
        let list = record.list(&chain, 0, i64::MAX);
        assert_eq!(list.len(), 10);
        assert_eq!(
            (list[0].block, list[0].sent, list[0].acknowledged),
            (90, 2, 1)
        );
        assert_eq!(list[0].tx_id, chain.events(90)[0].tx_id);
        assert_eq!(record.counts(95, 0), (2, 1));
        let totals = record.totals;
        assert_eq!(
            (totals.sent, totals.acknowledged, totals.forgotten),
            (200, 100, 90)
        );
        assert_eq!((totals.calls, totals.calls_failed), (200, 100));
    }
}
