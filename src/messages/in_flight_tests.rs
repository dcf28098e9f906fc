//! Numbers in flight, and who has to answer for them.

use super::*;
use crate::watchdog::Resource;

/// A register, and slots for what is opened there.
fn register() -> (InFlight, Resource) {
    (InFlight::default(), Resource::new("fetch", 2))
}

fn slot(slots: &Resource) -> Slot {
    slots.owner("batches").try_take().unwrap()
}

fn work(seq: i64) -> WorkId {
    WorkId::Batches {
        ledger: Arc::from("l"),
        service_id: Arc::from(""),
        seqs: vec![seq],
    }
}

#[test]
fn who_takes_over_is_told_of_each_ticket_once() {
    let (in_flight, slots) = register();
    let (before, open) = (
        in_flight.open(work(1), slot(&slots)),
        in_flight.open(work(2), slot(&slots)),
    );
    before.settle();
    assert_eq!(in_flight.take_over(), [(work(2), false)]);
    drop(open);
    let returned = TicketNews::Returned {
        work: work(2),
        fetched: false,
        settled: false,
    };
    assert_eq!(in_flight.take_news(), [returned]);
}

#[test]
fn a_ticket_comes_back_whether_settled_or_dropped_in_a_panic() {
    let (in_flight, slots) = register();
    let settled = in_flight.open(work(1), slot(&slots));
    let lost = in_flight.open(work(2), slot(&slots));
    assert_eq!(in_flight.count(), 2);
    settled.settle();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _held = lost;
        panic!("as asked");
    }));
    assert!(panicked.is_err());
    assert_eq!(
        in_flight.take_news(),
        [
            TicketNews::Returned {
                work: work(1),
                fetched: false,
                settled: true
            },
            TicketNews::Returned {
                work: work(2),
                fetched: false,
                settled: false
            },
        ]
    );
    assert_eq!(
        (in_flight.count(), in_flight.fetching(Flow::Batches)),
        (0, 0)
    );
    assert_eq!(slots.status().used, 0);
    assert!(in_flight.take_news().is_empty());
}

#[test]
fn a_fetched_ticket_frees_its_connection_and_stays_open_until_written() {
    let (in_flight, slots) = register();
    let ticket = in_flight.open(work(1), slot(&slots));
    assert_eq!(slots.status().used, 1);
    ticket.fetched();
    ticket.fetched();
    assert_eq!(slots.status().used, 0);
    assert_eq!(
        (
            in_flight.count(),
            in_flight.fetching(Flow::Batches),
            in_flight.rows_writing(Flow::Batches)
        ),
        (1, 0, 1)
    );
    assert_eq!(in_flight.take_news().len(), 1);
    ticket.settle();
    let returned = TicketNews::Returned {
        work: work(1),
        fetched: true,
        settled: true,
    };
    assert_eq!(in_flight.take_news(), [returned]);
    assert_eq!(
        (in_flight.count(), in_flight.rows_writing(Flow::Batches)),
        (0, 0)
    );
}

#[test]
fn a_failed_fetch_gives_its_slot_back_before_its_ticket() {
    let (in_flight, slots) = register();
    let ticket = in_flight.open(work(1), slot(&slots));
    ticket.give_slot_back();
    assert_eq!(
        (slots.status().used, in_flight.fetching(Flow::Batches)),
        (0, 1)
    );
    drop(ticket);
    assert_eq!(
        (slots.status().used, in_flight.fetching(Flow::Batches)),
        (0, 0)
    );
}
