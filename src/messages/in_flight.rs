//! Work in flight, and the ticket that travels with each piece of it.
//!
//! A ticket is a credit of the Scheduler's. Wherever it is dropped (the work
//! was settled, an actor panicked with it, a mailbox was thrown away), the
//! credit comes back and the Scheduler is rung: no piece of work is ever lost
//! sight of, and none is handed out twice at once. The register lives outside
//! the Scheduler, so that a restarted one knows what is still under way.
//!
//! With the ticket travels the fetch slot: given back once the work is off the
//! network, and with the ticket at the latest. A ticket also carries the root of
//! the work's trace, where traces are sent: the trace ends with the ticket.

use super::Flow;
use crate::flows::sites::JobKey;
use crate::leases::batches_lease;
use crate::time::Timestamp;
use crate::watchdog::Slot;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tracing::Span;

/// Which work a ticket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkId {
    /// Batches of one service.
    Batches {
        /// Name of the ledger.
        ledger: Arc<str>,
        /// Service id.
        service_id: Arc<str>,
        /// The rows.
        seqs: Vec<i64>,
    },
    /// A visit of a site.
    Sites {
        /// Name of the lease under which it is made.
        lease: Arc<str>,
        /// The job.
        job: JobKey,
        /// The host that is visited.
        host: Arc<str>,
        /// The row of `poll_status`.
        seq: i64,
    },
}

/// News of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TicketNews {
    /// The network work is over; its connection is free. The outcome is on its
    /// way into the database.
    Fetched(WorkId),
    /// The host of a visit asked to be left alone; its wish is on its way into
    /// the database.
    Paused {
        /// The host.
        host: Arc<str>,
        /// Until then.
        until: Timestamp,
    },
    /// The ticket has come back.
    Returned {
        /// Which work it was for.
        work: WorkId,
        /// Whether its connection was reported free before.
        fetched: bool,
        /// Whether the work was settled; otherwise whoever had it let it fall.
        settled: bool,
    },
}

/// All work in flight; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    bell: Mutex<Arc<Notify>>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: HashMap<u64, Open>,
    /// Of the open ones, how many are still on the network, by flow.
    fetching: [usize; Flow::ALL.len()],
    /// Units of work (rows) of those that are being written, by flow.
    writing: [usize; Flow::ALL.len()],
    news: Vec<TicketNews>,
}

#[derive(Debug)]
struct Open {
    work: WorkId,
    fetched: bool,
    slot: Option<Slot>,
    /// Whether a task of the runtime has the ticket, which lets it fall whatever
    /// becomes of the actors.
    in_task: bool,
}

impl WorkId {
    /// Which flow's work it is.
    pub const fn flow(&self) -> Flow {
        match self {
            Self::Batches { .. } => Flow::Batches,
            Self::Sites { .. } => Flow::Sites,
        }
    }

    /// Whether it is done under this lease.
    pub fn is_under(&self, lease: &str) -> bool {
        match self {
            Self::Batches { ledger, .. } => batches_lease(ledger) == lease,
            Self::Sites { lease: under, .. } => **under == *lease,
        }
    }

    /// How many rows the work is about.
    pub const fn rows(&self) -> usize {
        match self {
            Self::Batches { seqs, .. } => seqs.len(),
            Self::Sites { .. } => 1,
        }
    }

    /// The same without its rows: enough to know whose connection is free.
    fn without_rows(&self) -> Self {
        match self {
            Self::Batches {
                ledger, service_id, ..
            } => Self::Batches {
                ledger: ledger.clone(),
                service_id: service_id.clone(),
                seqs: Vec::new(),
            },
            visit @ Self::Sites { .. } => visit.clone(),
        }
    }
}

impl InFlight {
    /// Opens a ticket for a piece of work, which holds this fetch slot while it
    /// is on the network.
    pub fn open(&self, work: WorkId, slot: Slot) -> Ticket {
        let mut state = self.shared.lock();
        state.next += 1;
        let number = state.next;
        state.fetching[work.flow().index()] += 1;
        state.open.insert(
            number,
            Open {
                work,
                fetched: false,
                slot: Some(slot),
                in_task: false,
            },
        );
        Ticket {
            number,
            settled: false,
            shared: self.shared.clone(),
            span: Span::none(),
        }
    }

    /// How many tickets are open.
    pub fn count(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// Whether work under this lease is in flight.
    pub fn is_under(&self, lease: &str) -> bool {
        let state = self.shared.lock();
        state.open.values().any(|open| open.work.is_under(lease))
    }

    /// How many pieces of a flow's work are on the network.
    pub fn fetching(&self, flow: Flow) -> usize {
        self.shared.lock().fetching[flow.index()]
    }

    /// How many rows of a flow are fetched and not yet written.
    pub fn rows_writing(&self, flow: Flow) -> usize {
        self.shared.lock().writing[flow.index()]
    }

    /// Work whose tickets are open, and whether it is fetched, for a Scheduler
    /// that begins: news from before this moment is none of its business,
    /// later news is, and no ticket is both.
    pub fn take_over(&self) -> Vec<(WorkId, bool)> {
        // Who waits for the former bell is gone, or blocked.
        *self.shared.bell() = Arc::default();
        let mut state = self.shared.lock();
        state.news.clear();
        state
            .open
            .values()
            .map(|open| (open.work.clone(), open.fetched))
            .collect()
    }

    /// Takes the tickets from the actors that have them: one is on a thread that
    /// was lost, and may never let them fall. Their work is done again; what still
    /// comes of the old is written if it can be, and its ticket is nobody's any
    /// more. Tasks of the runtime keep theirs ([`Ticket::in_task`]).
    pub fn revoke_all(&self) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let mut slots = Vec::new();
        for (_, open) in state.open.extract_if(|_, open| !open.in_task) {
            let flow = open.work.flow().index();
            if open.fetched {
                state.writing[flow] -= open.work.rows();
            } else {
                state.fetching[flow] -= 1;
            }
            slots.extend(open.slot);
            state.news.push(TicketNews::Returned {
                work: open.work,
                fetched: open.fetched,
                settled: false,
            });
        }
        drop(guard);
        // A slot goes to whoever is next, for which the lock is not held.
        drop(slots);
        self.shared.ring();
    }

    /// Takes the news since the last call, in the order of events.
    pub fn take_news(&self) -> Vec<TicketNews> {
        std::mem::take(&mut self.shared.lock().news)
    }

    /// Waits until there is news.
    pub async fn bell(&self) {
        let bell = self.shared.bell().clone();
        bell.notified().await;
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bell(&self) -> std::sync::MutexGuard<'_, Arc<Notify>> {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.bell().notify_one();
    }
}

/// The credit of one piece of work; comes back when it is dropped.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    settled: bool,
    shared: Arc<Shared>,
    span: Span,
}

impl Ticket {
    /// The same with the root of its work's trace.
    #[must_use]
    pub fn traced(mut self, span: Span) -> Self {
        self.span = span;
        self
    }

    /// The root of the work's trace, the parent of whatever is done for it;
    /// disabled while traces are not sent.
    pub const fn span(&self) -> &Span {
        &self.span
    }

    /// Gives the fetch slot back: the network work is over, whatever came of it.
    pub fn give_slot_back(&self) {
        let mut state = self.shared.lock();
        let open = state.open.get_mut(&self.number);
        let slot = open.and_then(|open| open.slot.take());
        // The slot goes to whoever is next, for which the lock is not held.
        drop(state);
        drop(slot);
    }

    /// Tells whether a task of the runtime has the ticket now, and not an actor:
    /// then it comes back whatever becomes of the actors' threads, and the work
    /// goes on.
    pub fn in_task(&self, in_task: bool) {
        if let Some(open) = self.shared.lock().open.get_mut(&self.number) {
            open.in_task = in_task;
        }
    }

    /// Tells that the network work is over: its connection is free, while the
    /// ticket travels on with the outcome.
    pub fn fetched(&self) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let mut slot = None;
        if let Some(open) = state.open.get_mut(&self.number)
            && !open.fetched
        {
            open.fetched = true;
            slot = open.slot.take();
            let flow = open.work.flow().index();
            state.fetching[flow] -= 1;
            state.writing[flow] += open.work.rows();
            state
                .news
                .push(TicketNews::Fetched(open.work.without_rows()));
        }
        drop(guard);
        drop(slot);
        self.shared.ring();
    }

    /// Tells that the host of this visit wants to be left alone, before that is
    /// written.
    pub fn pause(&self, until: Timestamp) {
        let mut state = self.shared.lock();
        let open = state.open.get(&self.number);
        if let Some(WorkId::Sites { host, .. }) = open.map(|open| &open.work) {
            let host = host.clone();
            state.news.push(TicketNews::Paused { host, until });
        }
        drop(state);
        self.shared.ring();
    }

    /// Gives the ticket back as settled.
    pub fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let mut held = None;
        if let Some(open) = state.open.remove(&self.number) {
            let Open {
                work,
                fetched,
                slot,
                in_task: _,
            } = open;
            held = slot;
            let flow = work.flow().index();
            if fetched {
                state.writing[flow] -= work.rows();
            } else {
                state.fetching[flow] -= 1;
            }
            state.news.push(TicketNews::Returned {
                work,
                fetched,
                settled: self.settled,
            });
        }
        drop(guard);
        drop(held);
        self.shared.ring();
        let outcome = if self.settled { "settled" } else { "returned" };
        self.span.record("work.outcome", outcome);
    }
}

#[cfg(test)]
#[path = "in_flight_tests.rs"]
mod tests;
