//! Which blocks are complete: with order by ordinal, a block is taken as such
//! once nothing came for it for a while.

use crate::config::Order;
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// Blocks that may not be complete.
#[derive(Debug)]
pub(super) struct Settling {
    order: Order,
    /// When something came for a block last.
    heard: BTreeMap<i64, Timestamp>,
}

impl Settling {
    pub(super) const fn new(order: Order) -> Self {
        Self {
            order,
            heard: BTreeMap::new(),
        }
    }

    pub(super) const fn order(&self) -> Order {
        self.order
    }

    pub(super) fn clear(&mut self) {
        self.heard.clear();
    }

    /// Something came for a block.
    pub(super) fn heard(&mut self, block: i64, at: Timestamp) {
        if self.order == Order::Arrival {
            return;
        }
        let last = self.heard.entry(block).or_insert(at);
        *last = (*last).max(at);
    }

    /// Whether a block is complete.
    pub(super) fn is_quiet(&self, block: i64, now: Timestamp) -> bool {
        self.quiet_at(block).is_none_or(|at| at <= now)
    }

    /// When a block is complete.
    pub(super) fn quiet_at(&self, block: i64) -> Option<Timestamp> {
        match self.order {
            Order::Arrival => None,
            Order::Ordinal { settle } => self.heard.get(&block).map(|at| at.plus(settle)),
        }
    }

    /// Blocks before this one are passed.
    pub(super) fn forget_before(&mut self, block: i64) {
        while let Some(first) = self.heard.first_entry()
            && *first.key() < block
        {
            first.remove();
        }
    }
}
