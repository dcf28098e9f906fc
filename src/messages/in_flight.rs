//! Work in flight, and the ticket that travels with each piece of it.
//!
//! A ticket is a credit of the Scheduler's. Wherever it is dropped (the work
//! was settled, an actor panicked with it, a mailbox was thrown away), the
//! credit comes back and the Scheduler is rung: no piece of work is ever lost
//! sight of, and none is handed out twice at once. The register lives outside
//! the Scheduler, so that a restarted one knows what is still under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

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
}

/// A ticket that has come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Which work it was for.
    pub work: WorkId,
    /// Whether the work was settled; otherwise whoever had it let it fall.
    pub settled: bool,
}

/// All work in flight; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: HashMap<u64, WorkId>,
    returned: Vec<Returned>,
}

impl InFlight {
    /// Opens a ticket for a piece of work.
    pub fn open(&self, work: WorkId) -> Ticket {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        state.open.insert(number, work);
        Ticket { number, settled: false, shared: self.shared.clone() }
    }

    /// How many tickets are open.
    pub fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Work whose tickets are open, for a Scheduler that begins: tickets that
    /// came back before this moment are none of its business, later ones are,
    /// and no ticket is both.
    pub fn take_over(&self) -> Vec<WorkId> {
        let mut state = self.lock();
        state.returned.clear();
        state.open.values().cloned().collect()
    }

    /// Takes the tickets that have come back since the last call.
    pub fn take_returned(&self) -> Vec<Returned> {
        std::mem::take(&mut self.lock().returned)
    }

    /// Waits until a ticket comes back.
    pub async fn bell(&self) {
        self.shared.bell.notified().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The credit of one piece of work; comes back when it is dropped.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    settled: bool,
    shared: Arc<Shared>,
}

impl Ticket {
    /// Gives the ticket back as settled.
    pub fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(work) = state.open.remove(&self.number) {
            state.returned.push(Returned { work, settled: self.settled });
        }
        drop(state);
        self.shared.bell.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(seq: i64) -> WorkId {
        WorkId::Batches { ledger: Arc::from("l"), service_id: Arc::from(""), seqs: vec![seq] }
    }

    #[test]
    fn who_takes_over_is_told_of_each_ticket_once() {
        let in_flight = InFlight::default();
        let (before, open) = (in_flight.open(work(1)), in_flight.open(work(2)));
        before.settle();
        assert_eq!(in_flight.take_over(), [work(2)]);
        drop(open);
        assert_eq!(in_flight.take_returned(), [Returned { work: work(2), settled: false }]);
    }

    #[test]
    fn a_ticket_comes_back_whether_settled_or_dropped_in_a_panic() {
        let in_flight = InFlight::default();
        let settled = in_flight.open(work(1));
        let lost = in_flight.open(work(2));
        assert_eq!(in_flight.count(), 2);
        settled.settle();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = lost;
            panic!("as asked");
        }));
        assert!(panicked.is_err());
        assert_eq!(
            in_flight.take_returned(),
            [Returned { work: work(1), settled: true }, Returned { work: work(2), settled: false }]
        );
        assert_eq!(in_flight.count(), 0);
        assert!(in_flight.take_returned().is_empty());
    }
}
