//! What the plan of a subscription does in the cases that matter, one by one.

use super::plan_desk::{Desk, START};
use super::{
    Checkpoint, Decision, EventChange, Known, Marked, OpenEvent, Place, Step, SubscriptionName,
    SubscriptionState,
};
use crate::config::{
    EventCode, EventHandlerSettings, Late, Order, Relevance, SourceSettings, SubscriptionSettings,
};
use std::time::Duration;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn at(block: i64, arrival: i64) -> Place {
    Place {
        block,
        rank: 0,
        arrival,
    }
}

fn event(place: Place, tx_id: &str) -> OpenEvent {
    OpenEvent {
        place,
        tx_id: tx_id.to_owned(),
        event_id: String::new(),
        event_name: "E".to_owned(),
        payload: "{}".into(),
        key: None,
        occurred_at: None,
        received_at: START,
        decision: Decision::Pending,
        attempts: 0,
        attempts_before: 0,
        late: false,
    }
}

fn settings() -> SubscriptionSettings {
    let name = SubscriptionName::parse("claims").unwrap();
    SubscriptionSettings::new(name, SourceSettings::Hook)
}

fn with_handler(mut settings: SubscriptionSettings) -> SubscriptionSettings {
    settings.handler = EventHandlerSettings::Code(EventCode {
        timeout: ms(60_000),
    });
    settings
}

#[test]
fn a_thousand_irrelevant_events_cost_a_few_waits_and_a_relevant_one_behind_them_comes_after() {
    let mut desk = Desk::new(&with_handler(settings()));
    desk.known.insert("ours".to_owned());
    let mut events: Vec<OpenEvent> = (1..=1000).map(|i| event(at(i, i), "theirs")).collect();
    events.push(event(at(1001, 1001), "ours"));
    desk.record(events);
    while desk.handed.is_empty() {
        assert!(desk.sleep() > Duration::ZERO);
    }
    assert_eq!(desk.decided(Decision::Irrelevant).len(), 1000);
    assert_eq!(
        desk.now.since(START),
        ms(8000),
        "four windows of two seconds"
    );
    assert_eq!(desk.handed, [(at(1001, 1001), 1)]);
    desk.handled(at(1001, 1001), Ok(()));
    assert_eq!(
        desk.written.last(),
        Some(&EventChange::Position(at(1001, 1001)))
    );
}

#[test]
fn an_id_that_becomes_known_ends_its_wait_at_once() {
    let mut desk = Desk::new(&settings());
    desk.record(vec![event(at(1, 1), "tx"), event(at(2, 2), "other")]);
    assert!(desk.written.is_empty());
    desk.plan.known(&Known {
        tx_ids: vec!["tx".to_owned()],
        keys: Vec::new(),
    });
    desk.go();
    assert_eq!(desk.processed(), [at(1, 1)]);
    let view = desk.plan.view(desk.now);
    assert_eq!((view.waiting, view.position), (1, Some(at(1, 1))));
}

#[test]
fn a_key_counts_as_a_transaction_does() {
    let mut desk = Desk::new(&settings());
    let mut keyed = event(at(1, 1), "tx");
    keyed.key = Some("claim-7".to_owned());
    desk.record(vec![keyed]);
    desk.plan.known(&Known {
        tx_ids: vec!["claim-7".to_owned()],
        keys: Vec::new(),
    });
    desk.go();
    assert!(desk.processed().is_empty(), "that is no transaction");
    desk.plan.known(&Known {
        tx_ids: Vec::new(),
        keys: vec!["claim-7".to_owned()],
    });
    desk.go();
    assert_eq!(desk.processed(), [at(1, 1)]);
}

#[test]
fn an_event_that_happened_before_the_whole_wait_is_not_waited_for() {
    let mut desk = Desk::new(&settings());
    let mut old = event(at(1, 1), "tx");
    old.occurred_at = Some(START.minus(ms(2000)));
    let mut young = event(at(2, 2), "tx");
    young.occurred_at = Some(START.minus(ms(1999)));
    desk.record(vec![old, young]);
    assert_eq!(desk.decided(Decision::Irrelevant), [at(1, 1)]);
    assert_eq!(desk.sleep(), ms(1000));
}

#[test]
fn where_the_table_is_read_a_run_of_events_is_one_group() {
    let mut settings = settings();
    settings.relevance = Relevance::All;
    let mut desk = Desk::new(&settings);
    desk.record((1..=1200).map(|i| event(at(i / 3, i), "tx")).collect());
    assert_eq!(desk.marks, 3, "groups of 500");
    let processed = desk.processed();
    assert!(processed.len() == 1200 && processed.is_sorted());
    let positions: Vec<&EventChange> = desk
        .written
        .iter()
        .filter(|change| matches!(change, EventChange::Position(_)))
        .collect();
    assert_eq!(
        positions.last(),
        Some(&&EventChange::Position(at(400, 1200)))
    );
}

#[test]
fn an_event_is_handed_over_when_the_one_before_it_is_durable() {
    let mut settings = with_handler(settings());
    settings.relevance = Relevance::All;
    let mut desk = Desk::new(&settings);
    desk.record(vec![event(at(1, 1), "a"), event(at(2, 2), "b")]);
    desk.plan.handled(at(1, 1), Ok(()), desk.now);
    let steps = desk.plan.next(desk.now);
    assert!(matches!(steps[..], [Step::Mark(_)]), "{steps:?}");
    assert!(desk.plan.next(desk.now).is_empty());
    desk.plan.marked(Marked::Away("gone".to_owned()), desk.now);
    assert!(desk.plan.next(desk.now).is_empty(), "after a pause");
    assert_eq!(desk.sleep(), ms(100));
    assert_eq!(desk.processed(), [at(1, 1)]);
    assert_eq!(desk.handed, [(at(1, 1), 1), (at(2, 2), 1)]);
}

#[test]
fn a_handler_that_fails_is_tried_later_and_later_and_then_the_subscription_halts() {
    let mut settings = with_handler(settings());
    settings.relevance = Relevance::All;
    settings.retry.attempts = 4;
    settings.retry.max_delay = ms(2000);
    let mut desk = Desk::new(&settings);
    desk.record(vec![event(at(1, 1), "a")]);
    let mut pauses = Vec::new();
    for _ in 0..3 {
        desk.handled(at(1, 1), Err("refused"));
        pauses.push(desk.sleep());
    }
    assert_eq!(pauses, [ms(1000), ms(2000), ms(2000)]);
    desk.handled(at(1, 1), Err("refused"));
    assert_eq!(desk.state(), SubscriptionState::Halted);
    let halted = EventChange::Halted {
        place: at(1, 1),
        at: desk.now,
        error: "refused".to_owned(),
    };
    assert_eq!(desk.written.last(), Some(&halted));
    assert_eq!(desk.plan.wake_at(desk.now), None);
    // An operator's retry is a new round of tries.
    desk.plan.checkpoint(Checkpoint {
        orders: 1,
        last_arrival: 1,
        ..Checkpoint::default()
    });
    let steps = desk.plan.next(desk.now);
    let [Step::Load(load)] = steps[..] else {
        panic!("{steps:?}");
    };
    let mut again = event(at(1, 1), "a");
    (again.attempts, again.decision) = (4, Decision::Relevant);
    again.attempts_before = 4;
    desk.plan.loaded(&load, vec![again], desk.now);
    desk.go();
    desk.handled(at(1, 1), Err("refused"));
    assert_eq!(desk.state(), SubscriptionState::Running);
    assert_eq!(desk.handed.last(), Some(&(at(1, 1), 5)));
}

#[test]
fn what_is_skipped_while_its_handler_has_it_is_noted_as_processed() {
    let mut settings = with_handler(settings());
    settings.relevance = Relevance::All;
    let mut desk = Desk::new(&settings);
    desk.record(vec![event(at(1, 1), "a"), event(at(2, 2), "b")]);
    assert_eq!(desk.handed, [(at(1, 1), 1)]);
    // An operator skips it: it is in no page any more.
    desk.plan.checkpoint(Checkpoint {
        orders: 1,
        last_arrival: 2,
        ..Checkpoint::default()
    });
    let steps = desk.plan.next(desk.now);
    let [Step::Load(load)] = steps[..] else {
        panic!("{steps:?}");
    };
    desk.plan
        .loaded(&load, vec![event(at(2, 2), "b")], desk.now);
    desk.go();
    assert_eq!(desk.handed.len(), 1, "one at a time");
    desk.handled(at(1, 1), Ok(()));
    let noted = EventChange::Processed {
        place: at(1, 1),
        at: desk.now,
        attempts: 1,
    };
    assert!(desk.written.contains(&noted), "{:?}", desk.written);
    assert_eq!(desk.handed.last(), Some(&(at(2, 2), 1)));
}

#[test]
fn after_a_retry_all_tries_are_made_however_many_there_were_before() {
    let mut settings = with_handler(settings());
    settings.relevance = Relevance::All;
    settings.retry.attempts = 3;
    let mut desk = Desk::new(&settings);
    // Of a time when `retry.attempts` was another.
    let mut again = event(at(1, 1), "a");
    (again.attempts, again.attempts_before) = (5, 5);
    desk.record(vec![again]);
    for attempt in 6..8 {
        desk.handled(at(1, 1), Err("refused"));
        assert_eq!(desk.state(), SubscriptionState::Running, "{attempt}");
        desk.sleep();
    }
    desk.handled(at(1, 1), Err("refused"));
    assert_eq!(desk.state(), SubscriptionState::Halted);
    assert_eq!(desk.handed.last(), Some(&(at(1, 1), 8)));
}

#[test]
fn while_paused_nothing_is_handled_and_nothing_becomes_irrelevant() {
    let mut desk = Desk::new(&settings());
    desk.plan.checkpoint(Checkpoint {
        orders: 1,
        paused: Some((START, "maintenance".to_owned())),
        ..Checkpoint::default()
    });
    desk.go();
    desk.known.insert("a".to_owned());
    desk.record(vec![event(at(1, 1), "a"), event(at(2, 2), "b")]);
    desk.now = desk.now.plus(ms(60_000));
    desk.go();
    assert!(desk.written.is_empty());
    assert_eq!(desk.state(), SubscriptionState::Paused);
}

#[test]
fn a_block_is_done_by_ordinal_once_it_is_quiet() {
    let mut settings = settings();
    settings.relevance = Relevance::All;
    settings.order = Order::Ordinal { settle: ms(2000) };
    let mut desk = Desk::new(&settings);
    let ranked = |block, rank, arrival, received_at| OpenEvent {
        received_at,
        ..event(
            Place {
                block,
                rank,
                arrival,
            },
            "tx",
        )
    };
    desk.record(vec![ranked(7, 5, 1, START)]);
    assert_eq!(desk.state(), SubscriptionState::Settling);
    desk.now = START.plus(ms(1500));
    desk.record(vec![ranked(8, 0, 2, desk.now)]);
    desk.now = START.plus(ms(1900));
    desk.record(vec![ranked(7, 2, 3, desk.now)]);
    desk.now = START.plus(ms(3600));
    desk.go();
    assert!(desk.processed().is_empty(), "block 8 waits for block 7");
    desk.now = START.plus(ms(3900));
    desk.go();
    let order: Vec<(i64, i64)> = desk.processed().iter().map(|p| (p.block, p.rank)).collect();
    assert_eq!(order, [(7, 2), (7, 5), (8, 0)]);
}

#[test]
fn a_late_event_halts_and_all_late_ones_known_are_processed_when_told_to() {
    let mut settings = settings();
    settings.relevance = Relevance::All;
    let mut desk = Desk::new(&settings);
    desk.record(vec![event(at(5, 1), "tx")]);
    let mut late = event(at(4, 2), "tx");
    late.late = true;
    desk.plan.recorded(vec![late.clone()], desk.now);
    let steps = desk.plan.next(desk.now);
    let [Step::Load(load)] = steps[..] else {
        panic!("the rows know whether it is open: {steps:?}");
    };
    assert_eq!(load.after, None);
    desk.plan.loaded(&load, vec![late.clone()], desk.now);
    desk.go();
    assert_eq!(desk.processed(), [at(5, 1)]);
    assert_eq!(desk.state(), SubscriptionState::Halted);
    let (arrival, _, error) = desk.plan.view(desk.now).halted.unwrap();
    assert!(arrival == 2 && error.contains("came after its place was passed"));
    // The retry of an operator.
    let from = Checkpoint {
        orders: 1,
        last_arrival: 3,
        late_to: 3,
        position: Some(at(5, 1)),
        ..Checkpoint::default()
    };
    desk.plan.checkpoint(from);
    let steps = desk.plan.next(desk.now);
    let [Step::Load(load)] = steps[..] else {
        panic!("{steps:?}");
    };
    let mut other = event(at(4, 3), "other");
    other.late = true;
    desk.plan.loaded(&load, vec![late, other], desk.now);
    desk.go();
    assert_eq!(desk.processed(), [at(5, 1), at(4, 2), at(4, 3)]);
    // The next one is news again.
    let mut next = event(at(3, 4), "next");
    next.late = true;
    desk.plan.recorded(vec![next.clone()], desk.now);
    let steps = desk.plan.next(desk.now);
    let [Step::Load(load)] = steps[..] else {
        panic!("{steps:?}");
    };
    desk.plan.loaded(&load, vec![next], desk.now);
    desk.go();
    assert_eq!(desk.state(), SubscriptionState::Halted);
    assert_eq!(desk.processed().len(), 3);
}

#[test]
fn a_late_event_is_processed_at_once_where_that_is_wanted() {
    let mut settings = with_handler(settings());
    settings.relevance = Relevance::All;
    settings.late = Late::Process;
    let mut desk = Desk::new(&settings);
    desk.record(vec![event(at(5, 1), "tx"), event(at(6, 2), "tx")]);
    desk.handled(at(5, 1), Ok(()));
    desk.plan.recorded(vec![event(at(4, 3), "tx")], desk.now);
    let steps = desk.plan.next(desk.now);
    let [Step::Load(load)] = steps[..] else {
        panic!("{steps:?}");
    };
    desk.plan.loaded(
        &load,
        vec![event(at(4, 3), "tx"), event(at(6, 2), "tx")],
        desk.now,
    );
    desk.go();
    desk.handled(at(6, 2), Ok(()));
    desk.handled(at(4, 3), Ok(()));
    assert_eq!(desk.processed(), [at(5, 1), at(6, 2), at(4, 3)]);
    assert_eq!(desk.plan.view(desk.now).position, Some(at(6, 2)));
}

#[test]
fn what_another_server_may_have_recorded_before_is_looked_for_first() {
    let mut settings = settings();
    settings.relevance = Relevance::All;
    let mut desk = Desk::new(&settings);
    desk.plan.recorded(vec![event(at(6, 2), "tx")], desk.now);
    let steps = desk.plan.next(desk.now);
    let [Step::Sweep(sweep)] = steps[..] else {
        panic!("{steps:?}");
    };
    let both = vec![event(at(5, 1), "tx"), event(at(6, 2), "tx")];
    desk.plan.swept(&sweep, both, desk.now);
    desk.go();
    assert_eq!(desk.processed(), [at(5, 1), at(6, 2)]);
}
