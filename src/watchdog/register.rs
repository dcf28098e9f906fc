//! What the register holds, and what one service's end means for others: those
//! that depend on it, and those whose thread it blocked.

use super::entry::{Entry, Then, find};
use super::exit::ExitReason;
use super::notes::Note;
use super::registry::WatchdogLimits;
use super::state::SavedValue;
use super::status::LostThread;
use super::thread::Thread;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

#[derive(Default)]
pub(super) struct Register {
    pub(super) entries: Vec<Entry>,
    pub(super) threads: BTreeMap<Arc<str>, Thread>,
    pub(super) lost: Vec<Lost>,
    pub(super) recovered: u64,
    pub(super) limits: WatchdogLimits,
    /// When the sentinel looked last.
    pub(super) looked_at: Option<Instant>,
    /// Whether nothing is started any more.
    pub(super) closing: bool,
    /// What is to be logged.
    pub(super) notes: Vec<Note>,
    pub(super) saved: Vec<SavedValue>,
    pub(super) ids: u64,
}

/// A thread that is blocked.
pub(super) struct Lost {
    pub(super) shown: LostThread,
    pub(super) thread: Thread,
    /// Its turns when it was given up.
    pub(super) turns: u64,
}
impl Register {
    /// Forgets those that have left; answers what is to be logged.
    pub(super) fn settle(&mut self) -> Vec<Note> {
        let mut notes = std::mem::take(&mut self.notes);
        for entry in &mut self.entries {
            notes.append(&mut entry.notes);
        }
        self.entries.retain(|entry| !entry.has_left());
        notes
    }

    /// Whether one of these services depends on `name`, or is it.
    pub(super) fn leads_to(&self, from: &[Arc<str>], name: &str) -> bool {
        let mut seen: Vec<&str> = Vec::new();
        let mut next: Vec<&str> = from.iter().map(|on| &**on).collect();
        while let Some(on) = next.pop() {
            if on == name {
                return true;
            }
            if !seen.contains(&on) {
                seen.push(on);
                let entry = self.entries.iter().find(|entry| &*entry.name == on);
                next.extend(
                    entry
                        .into_iter()
                        .flat_map(|e| e.depends_on.iter().map(|on| &**on)),
                );
            }
        }
        false
    }

    /// Whether what a service waits for is there.
    pub(super) fn may_start(&self, entry: &Entry) -> bool {
        entry
            .depends_on
            .iter()
            .filter_map(|name| find(&self.entries, name).ok())
            .all(|on| on.running.is_some())
            && entry
                .waits_for
                .as_ref()
                .and_then(|name| find(&self.entries, name).ok())
                .is_none_or(|on| on.running.is_some())
    }

    /// Has those that depend on a service that ended end as well.
    pub(super) fn followers_of(&mut self, name: &Arc<str>) {
        let followers = self.entries.iter_mut().filter(|entry| {
            entry.depends_on.contains(name) && entry.running.is_some() && entry.then.is_none()
        });
        for entry in followers {
            entry.tell_to_end(Then::Follow(name.clone()));
        }
    }

    /// Gives a thread up for lost, and every service that ran on it.
    pub(super) fn lose_thread(&mut self, culprit: usize, reason: ExitReason) {
        let entry = &self.entries[culprit];
        let Some(running) = &entry.running else {
            return;
        };
        let thread = running.thread.clone();
        let by = entry.name.clone();
        let limit = self.limits.lost_threads;
        self.lost.push(Lost {
            shown: LostThread {
                thread: entry.thread.to_string(),
                service: by.to_string(),
                since: Timestamp::now(),
            },
            turns: thread.turns.count(),
            thread: thread.clone(),
        });
        self.threads
            .retain(|_, known| !Arc::ptr_eq(&known.turns, &thread.turns));
        for entry in &mut self.entries {
            let there = entry
                .running
                .as_ref()
                .is_some_and(|running| Arc::ptr_eq(&running.thread.turns, &thread.turns));
            if !there {
                continue;
            }
            entry.lost = true;
            if entry.name == by {
                if self.lost.len() > limit {
                    entry.forbidden = Some(format!(
                        "{limit} threads are lost already, and no more are risked"
                    ));
                }
                // What blocked once harms nobody else when it blocks again.
                entry.thread = entry.name.clone();
                entry.give_up(reason.clone());
            } else {
                entry.give_up(ExitReason::ThreadBlocked { by: by.to_string() });
            }
        }
    }
}
