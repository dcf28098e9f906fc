//! What the database does: it answers reads, takes outcomes, and is changed by
//! people.

use super::super::load::{SitesBrought, SitesRead};
use super::super::rules::change_of;
use super::super::standing::Standing;
use super::super::visit::{FailureKind, Visited};
use super::super::work::{SitesOutcome, SitesReport};
use super::{End, Row, World, ms, secs};
use crate::config::JobSettings;
use crate::store::DueSite;
use crate::time::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;

impl World {
    /// The database does what a read asks for.
    pub(super) fn execute(&mut self, place: usize) {
        if self.reads[place].brought.is_some() {
            return;
        }
        let want = self.reads[place].want.clone();
        let key = want.job.key.clone();
        let in_range = |world: &Self, row: &Row| {
            let site = world.sites[row.site].as_ref();
            row.job == key && site.is_some_and(|site| want.shard.codes().contains(&site.code))
        };
        let brought = match &want.read {
            SitesRead::Prepare {
                first,
                after,
                waiting,
            } => {
                let of_shard: Vec<i64> = self
                    .rows
                    .iter()
                    .filter(|(_, row)| in_range(self, row))
                    .map(|(seq, _)| *seq)
                    .collect();
                if *first {
                    for seq in of_shard {
                        let row = self.rows.get_mut(&seq).unwrap();
                        correct(row, &want.job, self.now);
                    }
                }
                let of_job = self.rows.values().filter(|row| row.job == key);
                let known: HashSet<usize> = of_job.map(|row| row.site).collect();
                let mut added = 0;
                for number in usize::try_from(*after).unwrap()..self.sites.len() {
                    let Some(site) = &self.sites[number] else {
                        continue;
                    };
                    if known.contains(&number) || !want.shard.codes().contains(&site.code) {
                        continue;
                    }
                    added += 1;
                    self.next_row += 1;
                    let row = Row {
                        job: key.clone(),
                        site: number,
                        standing: Standing::default(),
                        next_due_at: Some(self.now.plus(ms(5 * (added - 1)))),
                    };
                    self.rows.insert(self.next_row, row);
                }
                let pauses = self.pauses.iter().filter(|_| *first);
                let stays = |seq: &&i64| {
                    let site = self.rows.get(*seq).map(|row| &self.sites[row.site]);
                    site.is_some_and(|site| site.as_ref().is_some_and(|site| site.enabled))
                };
                let gone = waiting.iter().filter(|seq| !stays(seq)).copied().collect();
                SitesBrought::Prepared {
                    added: usize::try_from(added).unwrap(),
                    pauses: pauses
                        .map(|(host, until)| (host.to_string(), *until))
                        .collect(),
                    gone,
                    seen: i64::try_from(self.sites.len().saturating_sub(2)).unwrap(),
                }
            }
            SitesRead::Page { now, after, limit } => {
                let limit = usize::try_from(*limit).unwrap().min(self.page_limit);
                let mut due: Vec<(Timestamp, i64)> = Vec::new();
                let mut next_due: Option<Timestamp> = None;
                for (seq, row) in &self.rows {
                    let enabled = self.sites[row.site].as_ref().is_some_and(|s| s.enabled);
                    let Some(at) = row.next_due_at.filter(|_| enabled && in_range(self, row))
                    else {
                        continue;
                    };
                    if at > *now {
                        next_due = Some(next_due.map_or(at, |known| known.min(at)));
                    } else if (at, *seq) > *after {
                        due.push((at, *seq));
                    }
                }
                due.sort_unstable();
                due.truncate(limit);
                let done = due.len() < limit;
                SitesBrought::Rows {
                    rows: due.iter().map(|(_, seq)| self.due_site(*seq)).collect(),
                    done,
                    next_due: next_due.filter(|_| done),
                }
            }
            SitesRead::PutOff(sites) => {
                for (seq, at) in sites {
                    if let Some(row) = self.rows.get_mut(seq)
                        && row.next_due_at.is_some_and(|due| due < *at)
                    {
                        row.next_due_at = Some(*at);
                    }
                }
                SitesBrought::PutOff
            }
        };
        self.reads[place].brought = Some(brought);
    }

    fn due_site(&self, seq: i64) -> DueSite {
        let row = &self.rows[&seq];
        let site = self.sites[row.site].as_ref().unwrap();
        DueSite {
            seq,
            site_id: format!("s{}", row.site),
            url: site.url.clone(),
            labels: "{}".into(),
            batch_code: site.code.into(),
            level: i32::try_from(row.standing.level).unwrap(),
            count: i32::try_from(row.standing.count).unwrap(),
            last_run_at: row.standing.last_run_at,
            next_due_at: row.next_due_at,
        }
    }

    /// An outcome is written, if the lease allows it; the plan hears of it later.
    pub(super) fn write(&mut self, place: usize, end: End) {
        if self.open[place].report.is_some() {
            return;
        }
        self.fetched(place);
        let open = &self.open[place];
        let mut visited = match end {
            End::Success | End::Refused => Visited::well(None),
            End::Failure | End::RetryAfter(_) => Visited::failed(FailureKind::Timeout, "slow"),
        };
        if let End::RetryAfter(seconds) = end {
            visited.retry_after = Some(secs(seconds));
        }
        let outcome = SitesOutcome {
            work: Arc::new(open.work.clone()),
            visited,
            begun: open.begun,
            took: self.now.since(open.begun),
        };
        let mut report = SitesReport::of(&outcome);
        if let Some(until) = report.pause {
            // Told at once, and once more when it is written.
            self.pause(&report.host, until);
        }
        let open = &self.open[place];
        let mut due_at = None;
        if matches!(end, End::Refused) {
            report.refused = Some("no".into());
            let until = self.now.plus(secs(60));
            self.refused.insert(report.seq, until);
        } else if self.is_held(&open.work.stake) {
            let change = change_of(&outcome, 20, self.now, |at, _| at);
            due_at = change.next_due_at;
            if let Some((host, until)) = &change.pause {
                let known = self.pauses.entry(host.clone()).or_insert(*until);
                *known = (*known).max(*until);
            }
            if let Some(row) = self.rows.get_mut(&change.seq) {
                row.standing = Standing {
                    level: change.level,
                    count: change.count,
                    last_run_at: change.last_run_at,
                    given_up_at: change.given_up_at,
                };
                row.next_due_at = change.next_due_at;
            }
        } else {
            report.fenced = true;
        }
        self.open[place].report = Some((report, due_at));
    }

    pub(super) fn change(&mut self, site: usize, how: u8) {
        let mut rows = self.rows.values_mut().filter(|row| row.site == site);
        match (how, &mut self.sites[site]) {
            // By SQL: the plan hears nothing.
            (0, Some(site)) => site.enabled = false,
            (4, Some(found)) => {
                found.enabled = false;
                self.told_left.insert(site);
                self.plan.left(&[format!("s{site}")]);
            }
            (1, Some(found)) => {
                found.enabled = true;
                self.told_left.remove(&site);
                self.plan.wake(self.now);
            }
            (2, Some(_)) => {
                if let Some(row) = rows.find(|row| row.standing.given_up_at.is_some()) {
                    row.standing = Standing::default();
                    row.next_due_at = Some(self.now);
                    self.plan.wake(self.now);
                }
            }
            (3, found) => {
                *found = None;
                self.told_left.insert(site);
                self.plan.left(&[format!("s{site}")]);
                self.rows.retain(|_, row| row.site != site);
            }
            _ => {}
        }
    }
}

/// What `correct_due_times` does to a row.
fn correct(row: &mut Row, job: &JobSettings, now: Timestamp) {
    if let Some(mended) = row.standing.mended(now) {
        row.standing = mended;
    }
    let level = job
        .retry
        .level(usize::try_from(row.standing.level).unwrap());
    let Some(due) = row.standing.due_at(&job.retry, now) else {
        return;
    };
    let latest = due.plus(level.period.mul_f64(0.05));
    if row.next_due_at.is_none_or(|at| at > latest) {
        row.next_due_at = Some(due);
    }
}
