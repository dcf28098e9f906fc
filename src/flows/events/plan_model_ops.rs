//! What happens to a subscription in the plan's model test, and with which settings.

use super::SubscriptionName;
use crate::config::{
    EventCode, EventHandlerSettings, Late, Order, Relevance, RelevanceWait, SourceSettings,
    SubscriptionSettings,
};
use proptest::prelude::*;
use std::time::Duration;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Record {
        block: i64,
        rank: i64,
        id: u8,
        news: u8,
    },
    Known {
        id: u8,
        told: bool,
    },
    News(usize),
    Pass(u64),
    Next,
    Perform(usize),
    Tell(usize),
    /// The answer is lost: whether it was done or not.
    Away(usize),
    Look,
    Crash,
    /// The gateway forgot its subscriptions; it is asked anew.
    Subscribe,
    Fail(u32),
    Pause,
    Resume,
    Retry,
    Skip,
    Configure(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0_i64..6, 0_i64..3, 0_u8..30, 0_u8..4)
            .prop_map(|(block, rank, id, news)| Op::Record { block, rank, id, news }),
        2 => (0_u8..30, any::<bool>()).prop_map(|(id, told)| Op::Known { id, told }),
        2 => (0_usize..4).prop_map(Op::News),
        3 => (0_u64..1500).prop_map(Op::Pass),
        8 => Just(Op::Next),
        8 => (0_usize..4).prop_map(Op::Perform),
        8 => (0_usize..4).prop_map(Op::Tell),
        1 => (0_usize..4).prop_map(Op::Away),
        2 => Just(Op::Look),
        1 => Just(Op::Crash),
        1 => Just(Op::Subscribe),
        1 => (1_u32..4).prop_map(Op::Fail),
        1 => Just(Op::Pause),
        1 => Just(Op::Resume),
        1 => Just(Op::Retry),
        1 => Just(Op::Skip),
        1 => (1_usize..6).prop_map(Op::Configure),
    ]
}

pub(super) fn settings(table: bool, late: Late, order: Order) -> SubscriptionSettings {
    let name = SubscriptionName::parse("claims").unwrap();
    let mut settings = SubscriptionSettings::new(name, SourceSettings::Hook);
    settings.relevance = Relevance::Known(RelevanceWait {
        window: 3,
        ..RelevanceWait::default()
    });
    settings.retry.attempts = 2;
    (settings.late, settings.order) = (late, order);
    if !table {
        settings.handler = EventHandlerSettings::Code(EventCode {
            timeout: Duration::from_secs(60),
        });
    }
    settings
}

/// A chain of blocks, each with some events.
pub(super) fn chain() -> impl Strategy<Value = Vec<(i64, u8)>> {
    proptest::collection::vec(proptest::collection::btree_set(0_u8..30, 1..5), 1..25).prop_map(
        |blocks| {
            let numbered = (0..).zip(blocks);
            numbered
                .flat_map(|(block, ids)| ids.into_iter().map(move |id| (block, id)))
                .collect()
        },
    )
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(), 0..250)
}
