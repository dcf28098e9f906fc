//! The plans of all flows, as the Scheduler asks them: an arm for each.

use super::SchedulerSettings;
use crate::flows::batches::{self, BatchError, BatchesHealth, BatchesPlan};
use crate::flows::sites::{self, SitesPlan, Spreads};
use crate::leases::Holdings;
use crate::messages::{Flow, Page, Report, SettledWork, TicketNews, Wake, Want, Work, WorkId};
use crate::store::{Store, StoreError};
use crate::telemetry::{TRACE_TARGET, as_i64};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tracing::Span;

/// A plan for each flow.
pub(super) struct Plans {
    pub(super) batches: BatchesPlan,
    pub(super) sites: SitesPlan,
}

/// A piece of work to be handed out.
pub(super) struct Next {
    pub(super) work: Work,
    pub(super) id: WorkId,
    pub(super) span: Span,
}

impl Plans {
    pub(super) fn new(settings: SchedulerSettings, health: BatchesHealth, now: Timestamp) -> Self {
        let SchedulerSettings {
            batches,
            ledgers,
            sites,
            jobs,
        } = settings;
        Self {
            batches: BatchesPlan::new(batches, &ledgers, health, now),
            sites: SitesPlan::new(sites, &jobs, now),
        }
    }

    pub(super) fn configure(&mut self, settings: SchedulerSettings, now: Timestamp) {
        let SchedulerSettings {
            batches,
            ledgers,
            sites,
            jobs,
        } = settings;
        self.batches.configure(batches, &ledgers, now);
        self.sites.configure(sites, &jobs, now);
    }

    pub(super) fn hold(&mut self, holdings: &Holdings, now: Timestamp) {
        self.batches.hold(holdings, now);
        self.sites.hold(holdings);
    }

    /// Takes note of work that an earlier Scheduler handed out.
    pub(super) fn adopt(&mut self, work: &WorkId, fetched: bool) {
        match work {
            WorkId::Batches {
                ledger,
                service_id,
                seqs,
            } => self.batches.adopt(ledger, service_id, seqs, fetched),
            WorkId::Sites { job, host, seq, .. } => self.sites.adopt(job, host, *seq, fetched),
        }
    }

    pub(super) fn take_news(&mut self, news: TicketNews, now: Timestamp) {
        match news {
            TicketNews::Fetched(work) => self.freed(&work),
            TicketNews::Paused { host, until } => self.sites.paused(&host, until, now),
            TicketNews::Returned {
                work,
                fetched,
                settled,
            } => {
                if !fetched {
                    self.freed(&work);
                }
                match work {
                    WorkId::Batches {
                        ledger,
                        service_id,
                        seqs,
                    } => {
                        self.batches.returned(&ledger, &seqs);
                        if !settled {
                            self.batches.abandoned(&ledger, &service_id, now);
                        }
                    }
                    WorkId::Sites { job, seq, .. } => {
                        self.sites.returned(&job, seq, settled, now);
                    }
                }
            }
        }
    }

    /// A piece of work is off the network.
    fn freed(&mut self, work: &WorkId) {
        match work {
            WorkId::Batches {
                ledger, service_id, ..
            } => self.batches.fetched(ledger, service_id),
            WorkId::Sites { job, host, .. } => self.sites.fetched(job, host),
        }
    }

    pub(super) fn wake(&mut self, wake: &Wake, now: Timestamp) {
        match wake {
            Wake::Ledger(ledger) => self.batches.wake(Some(ledger), now),
            Wake::Sites => self.sites.wake(now),
            Wake::SitesLeft(sites) => self.sites.left(sites),
        }
    }

    pub(super) fn wants(&mut self, now: Timestamp) -> Vec<Want> {
        let batches = self.batches.wants(now).into_iter().map(Want::Batches);
        batches
            .chain(self.sites.wants(now).into_iter().map(Want::Sites))
            .collect()
    }

    pub(super) fn take_page(&mut self, page: Page, now: Timestamp) {
        match page {
            Page::Batches(page) => self.batches.loaded(page, now),
            Page::Sites(page) => self.sites.loaded(page, now),
            Page::SitesLost(want) => {
                // The LeaseKeeper tells of it, and warns where that is due.
                tracing::debug!(job.key = %want.job.key, job.shard = %want.shard, "the lease was lost before its sites were read");
                self.sites.lease_lost(&want, now);
            }
        }
    }

    pub(super) fn load_failed(
        &mut self,
        want: &Want,
        error: &str,
        now: Timestamp,
        delay: Duration,
    ) {
        match want {
            Want::Batches(query) => {
                tracing::warn!(ledger.name = %query.ledger, error, "due batches could not be read; tried again");
                self.batches.load_failed(&query.ledger, now, delay);
            }
            Want::Sites(want) => {
                tracing::warn!(job.key = %want.job.key, job.shard = %want.shard, error, "due sites could not be read; tried again");
                self.sites.load_failed(want, now, delay);
            }
        }
    }

    pub(super) fn has_work(&self, flow: Flow, now: Timestamp) -> bool {
        match flow {
            Flow::Batches => self.batches.has_work(now),
            Flow::Sites => self.sites.has_work(),
        }
    }

    pub(super) fn next_work(&mut self, flow: Flow, now: Timestamp) -> Option<Next> {
        match flow {
            Flow::Batches => {
                let work = self.batches.next_work(now)?;
                let span = tracing::info_span!(
                    target: TRACE_TARGET,
                    parent: None,
                    "work",
                    work.flow = "batches",
                    ledger.name = %work.ledger,
                    service.id = %work.service_id,
                    batches.count = as_i64(work.batches.len()),
                    work.outcome = tracing::field::Empty,
                );
                let id = WorkId::Batches {
                    ledger: work.ledger.clone(),
                    service_id: work.service_id.clone(),
                    seqs: work.batches.iter().map(|batch| batch.seq).collect(),
                };
                Some(Next {
                    work: Work::Batches(Arc::new(work)),
                    id,
                    span,
                })
            }
            Flow::Sites => {
                let work = self.sites.next_work()?;
                let span = tracing::info_span!(
                    target: TRACE_TARGET,
                    parent: None,
                    "work",
                    work.flow = "sites",
                    job.key = %work.job.key,
                    site.id = %work.site.site_id,
                    work.outcome = tracing::field::Empty,
                );
                let id = WorkId::Sites {
                    lease: work.stake.name.as_str().into(),
                    job: work.job.key.clone(),
                    host: work.host.clone(),
                    seq: work.site.seq,
                };
                Some(Next {
                    work: Work::Sites(Arc::new(work)),
                    id,
                    span,
                })
            }
        }
    }

    /// What came of a piece of work. Answers whether the soft state changed.
    pub(super) fn report(&mut self, settled: &SettledWork, now: Timestamp) -> bool {
        match &settled.report {
            Report::Batches(report) => {
                let changed = self
                    .batches
                    .report(report, settled.asked, now, rand::random());
                if let Some(at) = settled.due_at {
                    self.batches.due_at(&report.ledger, at);
                }
                changed
            }
            Report::Sites(report) => {
                self.sites.report(report, settled.due_at, now);
                false
            }
        }
    }

    pub(super) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let batches = self.batches.wake_at(now);
        batches.into_iter().chain(self.sites.wake_at()).min()
    }

    /// Most pieces of work on the network at once.
    pub(super) const fn max_in_flight(&self, flow: Flow) -> usize {
        match flow {
            Flow::Batches => self.batches.max_in_flight(),
            Flow::Sites => self.sites.max_in_flight(),
        }
    }

    /// Most rows fetched and not yet written.
    pub(super) const fn most_unwritten(&self, flow: Flow) -> usize {
        match flow {
            Flow::Batches => self.batches.most_unwritten(),
            Flow::Sites => self.sites.most_unwritten(),
        }
    }
}

/// Reads what a flow wants.
pub(super) async fn load(store: &Store, spreads: &Spreads, want: Want) -> Result<Page, String> {
    match want {
        Want::Batches(query) => match batches::load(store, query).await {
            Ok(page) => Ok(Page::Batches(page)),
            Err(BatchError::Store(error)) => Err(error),
            Err(error) => Err(error.to_string()),
        },
        Want::Sites(want) => {
            let lost = want.clone();
            match sites::load(store, spreads, want, Timestamp::now()).await {
                Ok(page) => Ok(Page::Sites(page)),
                Err(StoreError::LeaseLost(_)) => Ok(Page::SitesLost(lost)),
                Err(error) => Err(error.to_string()),
            }
        }
    }
}
