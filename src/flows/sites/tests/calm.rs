//! Once all goes well, everything is visited in time.

use super::super::work::host_of;
use super::{End, Row, World, ms};
use crate::time::Timestamp;
use proptest::prelude::*;
use std::time::Duration;

/// How late a visit may begin when nothing is in its way: a look for changes
/// (5s) and the longest pause of a sweep.
const GRACE: Duration = Duration::from_secs(8);
/// A site that nobody told of is found by the next full look.
const FOUND_WITHIN: Duration = Duration::from_secs(67);

impl World {
    /// When a row has to be visited at the latest, if it has to be.
    fn latest(&self, seq: i64, row: &Row, calm: Timestamp) -> Option<Timestamp> {
        let job = self.job(&row.job)?;
        let site = self.sites[row.site].as_ref().filter(|site| site.enabled)?;
        let last = row.standing.last_run_at;
        let due = row.standing.due_at(&job.retry, last.unwrap_or(calm))?;
        let paused = self.pauses.get(&host_of(&site.url)).copied();
        let told = self.told_pauses.get(&host_of(&site.url)).copied();
        let refused = self.refused.get(&seq).copied();
        // One that was never visited is due since it was found, which may be later.
        let found = row.next_due_at.filter(|_| last.is_none());
        [Some(due), Some(calm), found, paused, told, refused]
            .into_iter()
            .flatten()
            .max()
            .map(|at| at.plus(GRACE))
    }

    /// From now on all goes well: everything is visited in time.
    pub(super) fn settle_down(&mut self, during: Duration) -> Result<(), TestCaseError> {
        while !self.reads.is_empty() {
            self.execute(0);
            self.answer(0, true);
        }
        self.lease_all();
        self.tell();
        while !self.open.is_empty() {
            self.write(0, End::Success);
            self.end(0);
        }
        let calm = self.now;
        let end = calm.plus(during);
        let mut rounds = 0;
        while self.now < end {
            rounds += 1;
            prop_assert!(rounds < 20_000, "the plan spins");
            self.read();
            while self.take()? {}
            for (seq, row) in &self.rows {
                let out = self
                    .open
                    .iter()
                    .any(|open| open.work.site.seq == *seq && open.work.job.key == row.job);
                if let Some(latest) = self.latest(*seq, row, calm).filter(|_| !out) {
                    prop_assert!(
                        self.now <= latest,
                        "{} is late by {:?} at {}: {:?}",
                        seq,
                        self.now.since(latest),
                        self.now,
                        row
                    );
                }
            }
            self.all_sites_are_found(calm)?;
            if self.open.is_empty() {
                let at = self.plan.wake_at();
                prop_assert!(at.is_some(), "the plan sleeps for ever");
                let slept = at.unwrap().since(self.now).max(ms(1));
                self.now = self.now.plus(slept);
            } else {
                self.now = self.now.plus(ms(20));
                while !self.open.is_empty() {
                    self.write(0, End::Success);
                    self.end(0);
                }
            }
        }
        Ok(())
    }

    fn all_sites_are_found(&self, calm: Timestamp) -> Result<(), TestCaseError> {
        for (number, site) in self.sites.iter().enumerate() {
            let Some(site) = site else { continue };
            if self.now <= site.since.max(calm).plus(FOUND_WITHIN) {
                continue;
            }
            for job in &self.jobs {
                let known = |row: &Row| row.job == job.key && row.site == number;
                prop_assert!(
                    self.rows.values().any(known),
                    "site {} is not found for {}",
                    number,
                    job.key
                );
            }
        }
        Ok(())
    }
}
