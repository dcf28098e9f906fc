//! Which batches are asked for first, and how many at once.

use super::super::view::BreakerPosition;
use super::{End, START, World, holdings, ms};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn never_polled_first_then_by_last_poll_then_as_submitted() {
    let mut world = World::new("sawtooth", "connections = 1\nids_per_request = 10");
    let at = |seconds| Some(START.minus(Duration::from_secs(seconds)));
    for (seq, polled) in [(1, at(5)), (2, at(9)), (3, None), (4, at(5)), (5, None)] {
        world.insert(seq, "", polled);
    }
    world.read();
    assert_eq!(world.take().unwrap(), [3, 5, 2, 1, 4]);
}

#[test]
fn a_slow_service_leaves_connections_to_the_others() {
    let mut world = World::new("splinter", "connections = 4\nids_per_request = 1");
    for seq in 0..40 {
        world.insert(seq, if seq < 20 { "c::slow" } else { "c::quick" }, None);
    }
    world.read();
    let taken = world.take_all();
    assert_eq!(
        taken,
        [[0], [1], [20], [21]],
        "two services share four connections evenly"
    );
    // The slow one's stay open; the other one goes on.
    for _ in 0..18 {
        let quick = world
            .open
            .iter()
            .position(|work| &*work.service_id == "c::quick")
            .unwrap();
        world.end(quick, &End::Settled);
        world.now = world.now.plus(ms(6));
        world.read();
        let next = world.take().unwrap();
        assert!(next[0] >= 22, "{next:?}");
    }
    // Alone, a service leaves one connection free for whoever comes.
    let mut world = World::new("splinter", "connections = 4\nids_per_request = 1");
    (0..9).for_each(|seq| world.insert(seq, "c::s", None));
    world.read();
    assert_eq!(world.take_all().len(), 3);
}

#[test]
fn what_is_held_is_not_handed_out_again_and_what_is_adopted_neither() {
    let mut world = World::new("sawtooth", "connections = 3\nids_per_request = 2");
    (1..=4).for_each(|seq| world.insert(seq, "", None));
    world.plan.adopt("l", &Arc::from(""), &[1, 2], false);
    world.read();
    assert_eq!(world.take_all(), [[3, 4]]);
    world.now = world.now.plus(ms(100));
    world.plan.wake(Some("l"), world.now);
    world.now = world.now.plus(ms(10));
    world.read();
    assert_eq!(world.take(), None);
    // The adopted work came back with nothing: done again.
    world.plan.fetched("l", "");
    world.plan.returned("l", &[1, 2]);
    world
        .plan
        .abandoned(&Arc::from("l"), &Arc::from(""), world.now);
    world.now = world.now.plus(ms(300));
    world.read();
    assert_eq!(world.take().unwrap(), [1, 2]);
}

#[test]
fn a_ledger_removed_and_added_again_remembers_what_is_out() {
    let mut world = World::new("sawtooth", "");
    world.insert(1, "", None);
    world.read();
    assert_eq!(world.take(), Some(vec![1]));
    world.plan.configure(world.batches.clone(), &[], world.now);
    world
        .plan
        .configure(world.batches.clone(), &world.ledgers.clone(), world.now);
    world.plan.hold(&holdings(), world.now);
    world.now = world.now.plus(ms(100));
    world.read();
    assert_eq!(world.take(), None, "it is out still");
    world.end(0, &End::Settled);
    assert!(world.table.is_empty());
}

#[test]
fn an_open_breaker_rests_then_probes_once_then_lets_all_pass() {
    let mut world = World::new("splinter", "connections = 4\nids_per_request = 1");
    for seq in 0..8 {
        world.insert(seq, &format!("c::s{seq}"), None);
    }
    world.read();
    assert_eq!(world.take_all().len(), 4);
    let breaker = |world: &World| world.plan.view(world.now).ledgers[0].breaker;
    world.fail(0);
    assert_eq!(breaker(&world), BreakerPosition::Closed);
    world.fail(0);
    assert_eq!(breaker(&world), BreakerPosition::Open);
    world.fail(0);
    world.fail(0);
    assert_eq!(world.take(), None);
    assert!(world.plan.wants(world.now.plus(ms(900))).is_empty());
    assert_eq!(world.sleep(), Duration::from_secs(1));
    assert_eq!(breaker(&world), BreakerPosition::HalfOpen);
    world.read();
    assert_eq!(world.take_all().len(), 1, "one to see whether it is back");
    world.fail(0);
    assert_eq!(world.sleep(), Duration::from_secs(2), "longer each time");
    world.read();
    assert_eq!(world.take_all().len(), 1);
    world.end(0, &End::Settled);
    assert_eq!(breaker(&world), BreakerPosition::Closed);
    world.now = world.now.plus(ms(10));
    world.read();
    assert_eq!(world.take_all().len(), 4);
}
