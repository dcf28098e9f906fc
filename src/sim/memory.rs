//! Which batches of a service a Splinter node remembers.
//!
//! A node keeps the newest 100 in memory. A batch that drops out while it is
//! still queued is `Unknown` until its turn comes; then it is entered again
//! and another one drops out (recorded: 130 batches posted at once).

use super::hash::Key;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The newest batches of one service, oldest first.
pub(super) struct Memory {
    /// How many; 0 remembers all.
    limit: usize,
    newest: VecDeque<Key>,
    /// When forgotten batches that are still queued get their turn.
    turns: BinaryHeap<Reverse<(i64, Key)>>,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            newest: VecDeque::new(),
            turns: BinaryHeap::new(),
        }
    }

    /// Enters a batch; returns the one that drops out for it.
    pub(super) fn enter(&mut self, key: Key) -> Option<Key> {
        if self.limit == 0 {
            return None;
        }
        self.newest.push_back(key);
        if self.newest.len() > self.limit {
            self.newest.pop_front()
        } else {
            None
        }
    }

    /// Notes when a batch that dropped out gets its turn, in milliseconds.
    pub(super) fn await_turn(&mut self, at: i64, key: Key) {
        self.turns.push(Reverse((at, key)));
    }

    /// The next batch whose turn has come by `now`, and when it came.
    pub(super) fn next_turn(&mut self, now: i64) -> Option<(i64, Key)> {
        let Reverse((at, _)) = self.turns.peek()?;
        if *at > now {
            return None;
        }
        self.turns.pop().map(|Reverse(turn)| turn)
    }

    /// Forgets everything, as a node does that restarts.
    pub(super) fn clear(&mut self) {
        self.newest.clear();
        self.turns.clear();
    }
}
