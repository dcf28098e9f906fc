//! What a subscription is sent next: pure.

use super::chain::{Chain, Draw, SimEvent};
use super::knobs::GatewayKnobs;
use super::subscription::Subscription;
use std::collections::BTreeMap;

/// Blocks that are looked at for events in one step, so that an empty chain
/// does not keep a thread.
const MOST_BLOCKS: i64 = 4096;
/// Events that are taken in one step, about.
const MOST_EVENTS: usize = 10_000;
/// Blocks by which an event is late at most, so that few are put off at a time.
const LATEST: u32 = 1000;

/// What a subscription was sent so far, and what is put off.
pub(super) struct Stream {
    pub(super) subscription: Subscription,
    /// The block that comes next.
    next: i64,
    /// Events that are late, by the block after which they are sent.
    late: BTreeMap<i64, Vec<SimEvent>>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// These calls, so many at a time; then the next step.
    Send {
        calls: Vec<Vec<SimEvent>>,
        at_once: usize,
    },
    /// The chain has no more blocks yet.
    Wait,
    /// `endblock` was reached, and everything sent.
    End,
}

impl Stream {
    pub(super) fn new(subscription: Subscription) -> Self {
        Self {
            next: subscription.from,
            subscription,
            late: BTreeMap::new(),
        }
    }

    /// What is to be done, of a chain with so many blocks.
    pub(super) fn step(&mut self, chain: &Chain, knobs: &GatewayKnobs, blocks: i64) -> Step {
        let list = knobs.list.max(1);
        let concurrency = knobs.concurrency.max(1);
        let wanted = match (knobs.overlap_blocks, list) {
            (true, _) => list.saturating_mul(concurrency),
            (false, 1) => 1,
            (false, list) => list,
        };
        let wanted = wanted.min(MOST_EVENTS);
        let at_once = if knobs.overlap_blocks || list == 1 {
            concurrency
        } else {
            1
        };
        let mut events = Vec::new();
        let end = blocks.min(self.next.saturating_add(MOST_BLOCKS));
        let before = self.next;
        while events.len() < wanted && self.next < end && self.subscription.wants(self.next) {
            self.take_block(chain, knobs, &mut events);
        }
        if self.next == before {
            if self.subscription.wants(self.next) {
                return Step::Wait;
            }
            // Nothing comes any more that it could come after.
            return match self.put_off() {
                Some(step) => step,
                None => Step::End,
            };
        }
        let calls = events.chunks(list).map(<[SimEvent]>::to_vec).collect();
        Step::Send { calls, at_once }
    }

    /// What was put off, where it is waited for longer than it is worth.
    pub(super) fn put_off(&mut self) -> Option<Step> {
        let late = std::mem::take(&mut self.late);
        let calls: Vec<_> = late
            .into_values()
            .flatten()
            .map(|event| vec![event])
            .collect();
        (!calls.is_empty()).then_some(Step::Send { calls, at_once: 1 })
    }

    /// Takes the events of the next block, and those put off until then.
    fn take_block(&mut self, chain: &Chain, knobs: &GatewayKnobs, into: &mut Vec<SimEvent>) {
        let block = self.next;
        let mut events = chain.events_for(&self.subscription, block);
        let falls = |what, event: &SimEvent, share: f64| {
            chain.share(what, event.block, event.index) < share
        };
        let late = events.extract_if(.., |event| falls(Draw::Late, event, knobs.late));
        let late: Vec<_> = late.collect();
        if !late.is_empty() {
            let after = block.saturating_add(knobs.late_by.min(LATEST).into());
            self.late.entry(after).or_default().extend(late);
        }
        if chain.share(Draw::Reorder, block, 0) < knobs.reorder {
            events.sort_by_cached_key(|event| chain.draw(Draw::Order, block, event.index));
        }
        let twice = events
            .iter()
            .filter(|event| falls(Draw::Duplicate, event, knobs.duplicates));
        for event in twice.cloned().collect::<Vec<_>>() {
            let first = events.iter().position(|other| other.index == event.index);
            let behind = events.len() - first.unwrap_or(0);
            let place = chain.draw(Draw::DuplicatePlace, block, event.index) % (behind as u64);
            let place = events.len() - usize::try_from(place).unwrap_or(0);
            events.insert(place, event);
        }
        into.append(&mut events);
        let rest = self.late.split_off(&(block + 1));
        into.extend(
            std::mem::replace(&mut self.late, rest)
                .into_values()
                .flatten(),
        );
        self.next = block + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::gateway::GatewayOptions;
    use crate::sim::gateway::subscription::example;

    fn chain() -> Chain {
        Chain::new(&GatewayOptions {
            events: (3..=5).into(),
            ..GatewayOptions::default()
        })
    }

    /// All calls of a subscription to a chain of so many blocks.
    fn calls(knobs: &GatewayKnobs, from: i64, to: Option<i64>, blocks: i64) -> Vec<Vec<SimEvent>> {
        let (mut stream, chain) = (Stream::new(example(from, to)), chain());
        let mut all = Vec::new();
        loop {
            match stream.step(&chain, knobs, blocks) {
                Step::Send { calls, .. } => all.extend(calls),
                Step::Wait | Step::End => {
                    if let Some(Step::Send { calls, .. }) = stream.put_off() {
                        all.extend(calls);
                    }
                    return all;
                }
            }
        }
    }

    fn places(events: &[SimEvent]) -> Vec<(i64, u32)> {
        let place = |event: &SimEvent| (event.block, event.index);
        events.iter().map(place).collect()
    }

    fn chain_places(from: i64, to: i64) -> Vec<(i64, u32)> {
        let chain = chain();
        let events: Vec<_> = (from..=to).flat_map(|block| chain.events(block)).collect();
        places(&events)
    }

    #[test]
    fn events_come_in_order_one_by_one_and_end_with_endblock() {
        let calls = calls(&GatewayKnobs::default(), 3, Some(7), 100);
        assert!(calls.iter().all(|call| call.len() == 1));
        assert_eq!(places(&calls.concat()), chain_places(3, 7));
        let mut stream = Stream::new(example(3, Some(4)));
        let knobs = GatewayKnobs::default();
        assert!(matches!(
            stream.step(&chain(), &knobs, 4),
            Step::Send { .. }
        ));
        assert_eq!(stream.step(&chain(), &knobs, 4), Step::Wait);
        assert!(matches!(
            stream.step(&chain(), &knobs, 5),
            Step::Send { .. }
        ));
        assert_eq!(stream.step(&chain(), &knobs, 5), Step::End);
    }

    #[test]
    fn lists_hold_so_many_events_and_no_more() {
        let knobs = GatewayKnobs {
            list: 10,
            ..GatewayKnobs::default()
        };
        let calls = calls(&knobs, 0, None, 50);
        assert!(calls.iter().all(|call| call.len() <= 10));
        assert!(calls.len() < 50);
        assert_eq!(places(&calls.concat()), chain_places(0, 49));
    }

    #[test]
    fn knobs_change_order_and_number_and_lose_nothing() {
        let knob = |change: fn(&mut GatewayKnobs)| {
            let mut knobs = GatewayKnobs::default();
            change(&mut knobs);
            places(&calls(&knobs, 0, Some(99), 100).concat())
        };
        let whole = chain_places(0, 99);
        let duplicates = knob(|knobs| knobs.duplicates = 0.2);
        let reordered = knob(|knobs| knobs.reorder = 0.5);
        let late = knob(|knobs| knobs.late = 0.2);
        assert!(duplicates.len() > whole.len() && duplicates.len() < whole.len() * 3 / 2);
        assert!(duplicates.is_sorted_by_key(|place| place.0));
        assert!(!reordered.is_sorted() && reordered.is_sorted_by_key(|place| place.0));
        assert!(!late.is_sorted_by_key(|place| place.0));
        for mut sent in [duplicates, reordered, late] {
            sent.sort_unstable();
            sent.dedup();
            assert_eq!(sent, whole);
        }
    }
}
