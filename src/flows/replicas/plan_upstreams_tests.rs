//! What the plan does with several upstreams, and with such as do not do all that
//! they are asked.

use super::change::BootstrapReason;
use super::model::{Chunk, Epoch};
use super::plan_desk::Desk;
use super::plan_step::Ask;
use super::traits::UpstreamError;
use super::view::ReplicaState;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn is_chunk(ask: &Ask, behind: &str) -> bool {
    matches!(ask, Ask::Fetch(fetching) if matches!(&fetching.chunk,
        Chunk::Key { after, limit, .. } if after == behind && *limit > 0))
}

fn is_diff(ask: &Ask) -> bool {
    matches!(ask, Ask::Fetch(fetching)
        if matches!(&fetching.chunk, Chunk::Key { limit: 0, .. }))
}

/// A range that is done at an older head while a diff is on its way takes no
/// part in it.
#[test]
fn a_diff_brings_forward_only_ranges_that_it_begins_at() {
    let mut desk = Desk::new(2, |of| (of.ranges, of.chunk) = (3, 3));
    let keys: Vec<String> = "abcdefghijklmn".chars().map(String::from).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    desk.publish(0, &keys);
    desk.nodes[1] = desk.nodes[0].clone();
    // How both stand, and where ranges begin: a to e, f to j, k to n.
    while !desk.asks.iter().any(|(_, _, ask)| is_chunk(ask, "")) {
        assert!(desk.answer(|_, ask| matches!(ask, Ask::Info { .. })));
    }
    assert!(desk.answer(|at, ask| at == 0 && is_chunk(ask, "")));
    assert!(desk.answer(|at, ask| at == 1 && is_chunk(ask, "e")));
    desk.publish(0, &["g"]);
    assert!(desk.answer(|at, ask| at == 0 && is_chunk(ask, "c")));
    desk.publish(0, &["a"]);
    assert!(desk.answer(|at, ask| at == 0 && is_chunk(ask, "j")));
    desk.now = desk.now.plus(Duration::from_secs(6));
    desk.turn();
    // The diff for what is done is on its way, from a head beyond the update of g.
    assert!(desk.asks.iter().any(|(_, _, ask)| is_diff(ask)));
    // The lagging one has no such update yet.
    assert!(desk.answer(|at, ask| at == 1 && is_chunk(ask, "h")));
    assert!(desk.answer(|_, ask| is_diff(ask)));
    desk.nodes[1] = desk.nodes[0].clone();
    desk.run(Duration::from_secs(10));
    assert_eq!(desk.head(), Some(16));
    assert_eq!(desk.rows.live, desk.nodes[0].data);
}

#[test]
fn of_several_upstreams_the_one_that_is_ahead_is_followed() {
    let mut desk = Desk::new(2, |_| {});
    desk.publish(1, &["a", "b"]);
    desk.nodes[0] = desk.nodes[1].clone();
    desk.run(Duration::from_secs(5));
    assert_eq!(desk.head(), Some(2));
    // The first of them, a replica, stands still.
    desk.publish(1, &["c", "d"]);
    desk.run(Duration::from_secs(40));
    assert_eq!(desk.head(), Some(4));
    assert_eq!(desk.rows.live, desk.nodes[1].data);
    assert_eq!(desk.rows.standing.bootstraps.len(), 1);
}

#[test]
fn one_that_is_ahead_is_followed_whatever_it_says_of_itself() {
    let mut desk = Desk::new(2, |_| {});
    desk.publish(0, &["a", "b"]);
    desk.nodes[1] = desk.nodes[0].clone();
    (desk.nodes[0].state, desk.nodes[1].state) = (Some("live"), Some("failing"));
    desk.run(Duration::from_secs(5));
    assert_eq!(desk.head(), Some(2));
    desk.publish(1, &["c"]);
    desk.answered = 0;
    desk.run(MINUTE);
    assert_eq!(desk.head(), Some(3));
    assert!(desk.answered < 20, "{} answers", desk.answered);
}

#[test]
fn an_order_to_copy_anew_leaves_nothing_waiting_for_ever() {
    let mut desk = Desk::new(1, |_| {});
    desk.publish(0, &["a"]);
    desk.run(Duration::from_secs(5));
    // How it stands is asked, and not answered yet.
    desk.nodes[0].renew("e1".to_owned());
    assert!(desk.answer(|_, ask| matches!(ask, Ask::Watch { .. })));
    assert!(
        desk.asks
            .iter()
            .any(|(_, _, ask)| matches!(ask, Ask::Info { .. }))
    );
    desk.plan.bootstrap(desk.now);
    desk.run(MINUTE);
    desk.nodes[0].renew("e2".to_owned());
    desk.publish(0, &["b"]);
    desk.run(MINUTE);
    assert_eq!(desk.head(), Some(1));
    assert_eq!(desk.rows.live, desk.nodes[0].data);
}

#[test]
fn an_upstream_that_fails_at_chunks_alone_is_asked_ever_less_often() {
    let mut desk = Desk::new(1, |of| of.ranges = 1);
    desk.publish(0, &["a"]);
    desk.nodes[0].refuses = Some(|ask| matches!(ask, Ask::Fetch(_)).then(broken));
    desk.run(MINUTE * 10);
    assert_eq!(desk.view().state, ReplicaState::Failing);
    assert!(desk.answered < 60, "{} answers", desk.answered);
    desk.nodes[0].refuses = None;
    desk.run(MINUTE * 2);
    assert_eq!(
        (desk.head(), desk.view().state),
        (Some(1), ReplicaState::Live)
    );
}

#[test]
fn digests_that_take_for_ever_do_not_keep_the_copy_back() {
    let mut desk = Desk::new(1, |_| {});
    desk.publish(0, &["a"]);
    desk.run(Duration::from_secs(5));
    desk.hangs = |ask| matches!(ask, Ask::Digests { .. });
    desk.plan.verify();
    for head in 2..20 {
        desk.publish(0, &["a"]);
        desk.run(Duration::from_secs(8));
        assert_eq!(desk.head(), Some(head));
    }
}

#[test]
fn a_copy_begins_with_the_upstream_that_is_furthest() {
    let mut desk = Desk::new(2, |_| {});
    desk.nodes[1].keep = 2;
    desk.publish(1, &["a"]);
    desk.nodes[0] = desk.nodes[1].clone();
    desk.publish(1, &["b", "c", "d", "e"]);
    desk.run(Duration::from_secs(5));
    assert_eq!(desk.head(), Some(5));
}

#[test]
fn a_lagging_upstream_takes_no_copy_back_in_time_while_the_other_is_away() {
    let mut desk = Desk::new(2, |_| {});
    desk.publish(0, &["a"]);
    desk.nodes[1] = desk.nodes[0].clone();
    desk.publish(0, &["b", "c"]);
    desk.run(Duration::from_secs(40));
    assert_eq!(desk.head(), Some(3));
    desk.nodes[0].down = true;
    desk.run(MINUTE * 15);
    assert_eq!((desk.head(), desk.begun), (Some(3), 1));
    assert!(desk.view().lag > MINUTE * 14, "{:?}", desk.view());
    desk.nodes[0].down = false;
    desk.publish(0, &["d"]);
    desk.run(MINUTE * 2);
    assert_eq!((desk.head(), desk.begun), (Some(4), 1));
}

#[test]
fn while_the_upstream_is_away_nobody_claims_that_the_copy_has_all() {
    let mut desk = Desk::new(1, |_| {});
    desk.publish(0, &["a"]);
    desk.run(Duration::from_secs(10));
    assert_eq!(desk.view().lag, Duration::ZERO);
    desk.nodes[0].down = true;
    desk.run(MINUTE * 10);
    let view = desk.view();
    assert_eq!(view.state, ReplicaState::Failing);
    assert!(view.lag > MINUTE * 9, "{:?}", view.lag);
    let level_at = desk.rows.standing.level_at.unwrap();
    assert!(desk.now.since(level_at) > MINUTE * 9);
}

#[test]
fn a_replica_of_one_that_is_not_up_to_date_does_not_claim_to_be() {
    let mut desk = Desk::new(1, |_| {});
    desk.publish(0, &["a"]);
    desk.nodes[0].state = Some("live");
    desk.run(Duration::from_secs(5));
    assert_eq!(
        (desk.view().lag, desk.view().trouble),
        (Duration::ZERO, None)
    );
    desk.nodes[0].state = Some("failing");
    // As its wait ends.
    assert!(desk.answer(|_, ask| matches!(ask, Ask::Watch { .. })));
    desk.run(MINUTE);
    let view = desk.view();
    assert!(view.lag >= MINUTE, "{:?}", view.lag);
    assert!(view.trouble.unwrap().contains("failing itself"));
}

#[test]
fn one_that_is_back_is_asked_for_a_short_answer_first() {
    let mut desk = Desk::new(1, |_| {});
    desk.publish(0, &["a"]);
    desk.run(Duration::from_secs(5));
    desk.nodes[0].down = true;
    desk.run(Duration::from_secs(5));
    assert_eq!(desk.view().state, ReplicaState::Failing);
    desk.nodes[0].down = false;
    // The head does not move, so a wait would not be answered.
    desk.run(Duration::from_secs(15));
    assert_eq!(desk.view().state, ReplicaState::Live);
    assert!(matches!(desk.asks[..], [(_, _, Ask::Watch { .. })]));
}

#[test]
fn what_is_waited_for_is_not_slowed_down_by_the_poll_interval() {
    let mut desk = Desk::new(1, |of| of.poll_interval = MINUTE * 60);
    desk.publish(0, &["a"]);
    desk.run(Duration::from_secs(5));
    for head in 2..10 {
        desk.publish(0, &["a"]);
        desk.run(Duration::from_secs(2));
        assert_eq!(desk.head(), Some(head));
        // Also between the times at which that is written.
        let level_at = desk.view().level_at.unwrap();
        assert!(desk.now.since(level_at) <= Duration::from_secs(2));
    }
}

#[test]
fn an_upstream_that_cannot_be_waited_for_is_polled() {
    for for_now in [None, Some(MINUTE)] {
        let mut desk = Desk::new(1, |_| {});
        desk.publish(0, &["a"]);
        desk.nodes[0].refuses = Some(match for_now {
            None => |ask| matches!(ask, Ask::Watch { .. }).then(|| unable(None)),
            Some(_) => |ask| matches!(ask, Ask::Watch { .. }).then(|| unable(Some(MINUTE))),
        });
        desk.run(Duration::from_secs(5));
        for head in 2..20 {
            desk.publish(0, &["a"]);
            desk.run(Duration::from_secs(5));
            assert_eq!(desk.head(), Some(head));
            assert_eq!(desk.view().state, ReplicaState::Live);
        }
    }
}

#[test]
fn an_upstream_that_does_nothing_of_all_is_failing() {
    let mut desk = Desk::new(1, |_| {});
    desk.publish(0, &["a"]);
    desk.run(Duration::from_secs(5));
    desk.nodes[0].refuses = Some(|_| Some(unable(None)));
    desk.run(MINUTE);
    assert_eq!(desk.view().state, ReplicaState::Failing);
    desk.nodes[0].refuses = None;
    desk.publish(0, &["b"]);
    desk.run(MINUTE * 2);
    assert_eq!(
        (desk.head(), desk.view().state),
        (Some(2), ReplicaState::Live)
    );
}

fn unable(for_now: Option<Duration>) -> UpstreamError {
    UpstreamError::Unable {
        why: "it does not do that".to_owned(),
        for_now,
    }
}

fn broken() -> UpstreamError {
    UpstreamError::Failed {
        why: "no whole answer".to_owned(),
        retry_after: None,
    }
}

#[test]
fn digests_that_fail_hold_up_nothing_but_the_audit() {
    for refuses in [
        (|ask| matches!(ask, Ask::Digests { .. }).then(broken)) as fn(&Ask) -> _,
        |ask| matches!(ask, Ask::Digests { .. }).then(|| unable(None)),
    ] {
        let mut desk = Desk::new(1, |of| of.audit_interval = Some(Duration::from_secs(1)));
        desk.publish(0, &["a"]);
        desk.nodes[0].refuses = Some(refuses);
        desk.run(Duration::from_secs(5));
        for head in 2..20 {
            desk.publish(0, &["a"]);
            desk.run(Duration::from_secs(5));
            assert_eq!(desk.head(), Some(head));
            assert_eq!(desk.view().state, ReplicaState::Live);
        }
        desk.plan.verify();
        desk.run(MINUTE);
        assert!(desk.plan.cannot_verify().is_some());
        desk.nodes[0].refuses = None;
        desk.plan.verify();
        desk.run(MINUTE);
        assert_eq!(desk.plan.cannot_verify(), None);
        assert_eq!(desk.rows.standing.audited.map(|(_, found)| found), Some(0));
    }
}

#[test]
fn what_changed_since_is_followed_before_it_is_compared() {
    let mut desk = Desk::new(1, |_| {});
    desk.publish(0, &["a", "b", "c"]);
    desk.run(Duration::from_secs(5));
    desk.nodes[0].page = 2;
    desk.plan.verify();
    for round in 0..10 {
        desk.publish(0, &["a", "b", "c", "d", "e", "f", "g"]);
        desk.run(Duration::from_millis(100));
        assert_ne!(desk.view().state, ReplicaState::Failing, "{round}");
    }
    desk.run(MINUTE);
    assert_eq!(desk.head(), Some(desk.nodes[0].head));
    assert_eq!(desk.rows.standing.audited.map(|(_, found)| found), Some(0));
}

#[test]
fn an_upstream_of_ever_other_epochs_is_copied_ever_less_often() {
    let mut desk = Desk::new(1, |_| {});
    desk.publish(0, &["a"]);
    for round in 0..6000 {
        if round % 10 == 0 {
            desk.nodes[0].renew(format!("e{round}"));
        }
        desk.run(Duration::from_millis(100));
    }
    let all: u64 = desk.rows.standing.bootstraps.values().sum();
    assert!((5..20).contains(&all), "{all} bootstraps in ten minutes");
    assert!(desk.rows.standing.bootstraps[&BootstrapReason::Epoch] > 3);
    // Once it was followed for a while, the next is copied at once.
    desk.run(MINUTE * 10);
    desk.nodes[0].renew("another".to_owned());
    desk.run(Duration::from_secs(5));
    let epoch = desk
        .rows
        .standing
        .live
        .as_ref()
        .map(|(_, epoch, ..)| epoch.clone());
    assert_eq!(epoch, Some(Epoch::told("another")));
}

#[test]
fn an_epoch_that_cannot_be_kept_is_its_upstreams_failure() {
    for epoch in ["a\0b".to_owned(), "e".repeat(65)] {
        let mut desk = Desk::new(1, |_| {});
        desk.publish(0, &["a"]);
        desk.nodes[0].renew(epoch);
        desk.run(MINUTE);
        assert_eq!((desk.begun, desk.view().state), (0, ReplicaState::Failing));
    }
}
