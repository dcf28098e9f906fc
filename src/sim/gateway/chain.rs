//! Which events a block holds: a pure function of the seed and its number.

use super::options::{Blocks, GatewayOptions};
use super::subscription::Subscription;
use crate::sim::hash;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Share of relevant transactions that are known by their id; the others are
/// known by the key of their events.
const KNOWN_BY_ID: f64 = 0.7;

/// An event of the simulated chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimEvent {
    /// Its block.
    pub block: i64,
    /// Its number within the block, from 0.
    pub index: u32,
    /// Its transaction, which the next event may share; 64 lower case hex
    /// digits. Empty for events of a block.
    pub tx_id: String,
    /// Its key; no other transaction has it.
    pub key: String,
    /// Its name.
    pub event_name: String,
    /// Whether the application knows it, and by what.
    pub known: SimKnown,
}

/// Whether the application knows an event, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SimKnown {
    /// It does not: it is irrelevant.
    Not,
    /// By its transaction id.
    Transaction,
    /// By its key.
    Key,
}

/// What is drawn of an event or a block, each by itself.
#[derive(Clone, Copy)]
pub(super) enum Draw {
    Empty = 1,
    Count,
    SharesTransaction,
    TransactionId,
    Relevant,
    KnownBy,
    Name,
    Duplicate,
    DuplicatePlace,
    Reorder,
    Order,
    Late,
}

/// The simulated chain.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    seed: u64,
    events: Blocks,
    empty: f64,
    empty_blocks: Vec<Blocks>,
    names: Vec<String>,
    relevant: f64,
    padding: String,
}

impl Chain {
    pub(super) fn new(options: &GatewayOptions) -> Self {
        Self {
            seed: options.seed,
            events: options.events,
            empty: options.empty,
            empty_blocks: options.empty_blocks.clone(),
            names: options.event_names.clone(),
            relevant: options.relevant,
            padding: "x".repeat(usize::try_from(options.padding).unwrap_or(0)),
        }
    }

    /// A number that stands for an event (or, as event 0, for a block).
    pub(super) fn draw(&self, what: Draw, block: i64, index: u32) -> u64 {
        let place = (u128::from(block.cast_unsigned()) << 32) | u128::from(index);
        hash::draw(place, hash::mix(self.seed ^ ((what as u64) << 56)))
    }

    /// The same from 0 to just below 1.
    pub(super) fn share(&self, what: Draw, block: i64, index: u32) -> f64 {
        hash::share(self.draw(what, block, index))
    }

    /// All contract events of a block, in order.
    pub(super) fn events(&self, block: i64) -> Vec<SimEvent> {
        let count = self.count(block);
        let mut events = Vec::with_capacity(count as usize);
        // Number of the first event of the transaction.
        let mut first = 0;
        for index in 0..count {
            if self.share(Draw::SharesTransaction, block, index) >= 0.3 {
                first = index;
            }
            events.push(self.event(block, index, first));
        }
        events
    }

    /// The events of a block that a subscription asks for.
    pub(super) fn events_for(&self, subscription: &Subscription, block: i64) -> Vec<SimEvent> {
        if subscription.of_blocks {
            return vec![SimEvent {
                block,
                index: 0,
                tx_id: String::new(),
                key: format!("block-{block}"),
                event_name: "block".to_owned(),
                known: SimKnown::Not,
            }];
        }
        let mut events = self.events(block);
        events.retain(|event| event.event_name == subscription.event_name);
        events
    }

    /// The event as it is sent to a subscription.
    pub(super) fn json(&self, event: &SimEvent, subscription: &Subscription) -> Value {
        let mut json = json!({
            "blockNumber": event.block,
            "eventIndex": event.index,
            "eventName": event.event_name,
            "eventCategory": subscription.category,
            "channelName": subscription.channel,
        });
        if !subscription.of_blocks {
            json["chaincodeName"] = subscription.chaincode.as_str().into();
            json["transactionId"] = event.tx_id.as_str().into();
            json["payload"] = json!({ "key": event.key, "status": event.index % 4 });
            if !self.padding.is_empty() {
                json["payload"]["padding"] = self.padding.as_str().into();
            }
        }
        json
    }

    fn count(&self, block: i64) -> u32 {
        if block < 0
            || self.empty_blocks.iter().any(|range| range.contains(block))
            || self.share(Draw::Empty, block, 0) < self.empty
        {
            return 0;
        }
        let choices = (self.events.to - self.events.from + 1).cast_unsigned();
        let count = self.draw(Draw::Count, block, 0) % choices.max(1);
        u32::try_from(self.events.from).unwrap_or(0) + u32::try_from(count).unwrap_or(0)
    }

    /// `first` is the first event of its transaction.
    fn event(&self, block: i64, index: u32, first: u32) -> SimEvent {
        let id = self.draw(Draw::TransactionId, block, first);
        let mut tx_id = String::with_capacity(128);
        hash::write_id(&mut tx_id, id);
        tx_id.truncate(64);
        let known = if self.share(Draw::Relevant, block, first) >= self.relevant {
            SimKnown::Not
        } else if self.share(Draw::KnownBy, block, first) < KNOWN_BY_ID {
            SimKnown::Transaction
        } else {
            SimKnown::Key
        };
        let name = self.draw(Draw::Name, block, index) % (self.names.len().max(1) as u64);
        let name = usize::try_from(name).ok().and_then(|n| self.names.get(n));
        SimEvent {
            block,
            index,
            tx_id,
            key: format!("claim-{block}-{first}"),
            event_name: name.cloned().unwrap_or_default(),
            known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn chain(change: impl FnOnce(&mut GatewayOptions)) -> Chain {
        let mut options = GatewayOptions::default();
        change(&mut options);
        Chain::new(&options)
    }

    #[test]
    fn a_chain_is_the_same_in_every_run_of_a_seed_and_another_one_of_another() {
        let all = |seed| -> Vec<SimEvent> {
            let chain = chain(|options| options.seed = seed);
            (0..50).flat_map(|block| chain.events(block)).collect()
        };
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn blocks_hold_what_the_options_say() {
        let chain = chain(|options| {
            options.events = (2..=4).into();
            options.empty_blocks = vec![(100..=199).into()];
            options.relevant = 0.5;
            options.event_names = vec!["A".to_owned(), "B".to_owned()];
        });
        let blocks: Vec<_> = (0..1000).map(|block| chain.events(block)).collect();
        assert!(blocks[100..200].iter().all(Vec::is_empty));
        for (number, events) in blocks.iter().enumerate() {
            let empty = (100..200).contains(&number);
            assert!(empty || (2..=4).contains(&events.len()), "{events:?}");
            for (index, event) in events.iter().enumerate() {
                assert_eq!(event.index as usize, index);
                assert_eq!(event.tx_id.len(), 64);
            }
        }
        let events: Vec<_> = blocks.concat();
        let of = |name| {
            events
                .iter()
                .filter(|event| event.event_name == name)
                .count()
        };
        assert!(of("A") > events.len() / 3 && of("B") > events.len() / 3);
        let irrelevant = events.iter().filter(|event| event.known == SimKnown::Not);
        let irrelevant = irrelevant.count();
        assert!(irrelevant > events.len() / 3 && irrelevant < events.len() * 2 / 3);
        let transactions: HashSet<_> = events.iter().map(|event| &event.tx_id).collect();
        assert!(
            transactions.len() < events.len(),
            "some share a transaction"
        );
        for event in &events {
            let same = events.iter().filter(|other| other.tx_id == event.tx_id);
            for other in same {
                assert_eq!((other.block, other.known), (event.block, event.known));
                assert_eq!(other.key, event.key);
            }
        }
    }
}
