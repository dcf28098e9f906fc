//! What becomes of the batches of a simulated ledger.

use super::*;
use crate::sim::Span;

fn ledger(kind: LedgerKind, change: impl FnOnce(&mut SimOptions)) -> SimLedger {
    let mut options = SimOptions {
        commit_after: Span::from(Duration::from_secs(4)),
        ..SimOptions::of(kind)
    };
    change(&mut options);
    SimLedger::new(options)
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_795_245_931_000 + millis)
}

fn look(ledger: &mut SimLedger, id: &str, millis: i64) -> SimStatus {
    ledger.ask("s", &[(hash::key(id), id)], at(millis))[0].status
}

fn ids(count: u64) -> Vec<String> {
    (0..count).map(hash::test_id).collect()
}

#[test]
fn a_splinter_batch_goes_from_pending_over_valid_to_committed() {
    let mut ledger = ledger(LedgerKind::Splinter, |_| {});
    ledger.submit("s", "a", None, at(0));
    assert_eq!(look(&mut ledger, "a", 2999), SimStatus::Pending);
    assert_eq!(look(&mut ledger, "a", 3000), SimStatus::Valid);
    assert_eq!(look(&mut ledger, "a", 4000), SimStatus::Committed);
    assert_eq!(look(&mut ledger, "b", 4000), SimStatus::Unknown);
    ledger.submit("s", "a", None, at(5000));
    assert_eq!(look(&mut ledger, "a", 9000), SimStatus::Invalid);
}

#[test]
fn only_the_newest_100_are_remembered() {
    let mut ledger = ledger(LedgerKind::Splinter, |o| o.commit_after = Span::default());
    let ids = ids(105);
    for id in &ids {
        ledger.submit("s", id, None, at(0));
    }
    for (number, id) in ids.iter().enumerate() {
        let status = look(&mut ledger, id, 1);
        assert_eq!(status == SimStatus::Unknown, number < 5, "{number}");
        assert_eq!(ledger.status_of("s", id, at(1)), status);
    }
}

#[test]
fn a_forgotten_batch_is_seen_again_when_its_turn_comes() {
    let mut ledger = ledger(LedgerKind::Splinter, |o| o.remember = Some(2));
    ledger.submit("s", "first", None, at(0));
    ledger.submit("s", "b", None, at(100));
    ledger.submit("s", "c", None, at(100));
    assert_eq!(look(&mut ledger, "first", 200), SimStatus::Unknown);
    assert_eq!(
        ledger.status_of("s", "first", at(200)),
        SimStatus::Committed
    );
    assert_eq!(look(&mut ledger, "first", 3000), SimStatus::Valid);
    assert_eq!(look(&mut ledger, "b", 3001), SimStatus::Unknown);
    assert_eq!(look(&mut ledger, "first", 4000), SimStatus::Committed);
    assert_eq!(look(&mut ledger, "b", 4100), SimStatus::Committed);
    assert_eq!(look(&mut ledger, "c", 4100), SimStatus::Unknown);
}

#[test]
fn a_restart_forgets_what_the_recordings_say() {
    let mut splinter = ledger(LedgerKind::Splinter, |_| {});
    splinter.submit("s", "a", None, at(0));
    splinter.restart(at(5000));
    assert_eq!(look(&mut splinter, "a", 5000), SimStatus::Unknown);

    let mut sawtooth = ledger(LedgerKind::Sawtooth, |_| {});
    sawtooth.submit("s", "committed", Some(Fate::Commit), at(0));
    sawtooth.submit("s", "invalid", Some(Fate::Invalid), at(0));
    sawtooth.submit("s", "pending", Some(Fate::StayPending), at(0));
    sawtooth.restart(at(5000));
    assert_eq!(look(&mut sawtooth, "committed", 5000), SimStatus::Committed);
    assert_eq!(look(&mut sawtooth, "invalid", 5000), SimStatus::Unknown);
    assert_eq!(look(&mut sawtooth, "pending", 5000), SimStatus::Unknown);
}

#[test]
fn sawtooth_forgets_an_invalid_batch_nobody_asks_about() {
    let mut ledger = ledger(LedgerKind::Sawtooth, |_| {});
    for id in ["asked", "left"] {
        ledger.submit("s", id, Some(Fate::Invalid), at(0));
    }
    assert_eq!(look(&mut ledger, "asked", 500_000), SimStatus::Invalid);
    assert_eq!(look(&mut ledger, "asked", 1_000_000), SimStatus::Invalid);
    assert_eq!(look(&mut ledger, "left", 1_000_000), SimStatus::Unknown);
}

#[test]
fn shares_decide_fates_and_are_told_in_advance() {
    let mut ledger = ledger(LedgerKind::Splinter, |o| {
        (o.invalid, o.stay_valid, o.stay_pending, o.never_known) = (0.1, 0.1, 0.1, 0.1);
        (o.auto_submit, o.remember) = (true, Some(0));
    });
    let mut counts: HashMap<SimStatus, u32> = HashMap::new();
    for id in ids(2000) {
        let truth = ledger.status_of("s", &id, at(0));
        assert_ne!(look(&mut ledger, &id, 0), SimStatus::Committed);
        assert_eq!(look(&mut ledger, &id, 4000), truth);
        *counts.entry(truth).or_default() += 1;
    }
    for (status, count) in counts {
        let expected = if status == SimStatus::Committed {
            1200
        } else {
            200
        };
        assert!(count.abs_diff(expected) < 60, "{status:?}: {count}");
    }
}

#[test]
fn asking_after_the_final_answer_is_counted() {
    let mut ledger = ledger(LedgerKind::Sawtooth, |o| o.keep_ids = 1);
    ledger.submit("s", "a", None, at(0));
    let twice = [(hash::key("a"), "a"), (hash::key("a"), "a")];
    ledger.ask("s", &twice, at(0));
    ledger.peek("s", &twice, at(4000));
    ledger.ask("s", &twice, at(4000));
    assert_eq!(ledger.stats().asked_after_final, 0);
    look(&mut ledger, "a", 4001);
    look(&mut ledger, "a", 4002);
    let stats = ledger.stats();
    assert_eq!(stats.asked_after_final, 2);
    assert_eq!(stats.asked_after_final_ids, ["a"]);
}

#[test]
fn a_batch_is_small() {
    assert!(size_of::<Batch>() <= 24);
}
