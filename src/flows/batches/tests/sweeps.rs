//! Sweeps: what they find, when they go on, and what wakes them.

use super::{End, START, World, ms};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn a_backlog_beyond_the_queue_is_read_on_as_the_queue_empties() {
    let mut world = World::new("sawtooth", "connections = 2\nids_per_request = 5");
    (0..200).for_each(|seq| world.insert(seq, "", None));
    let mut steps = 0;
    while !world.table.is_empty() {
        world.read();
        assert!(
            world.plan.view(world.now).ledgers[0].queued <= 20,
            "the cap of a service"
        );
        world.take_all();
        while !world.open.is_empty() {
            world.end(0, &End::Settled);
        }
        world.take_all();
        while !world.open.is_empty() {
            world.end(0, &End::Settled);
        }
        let slept = world.sleep();
        assert!(
            world.table.is_empty() || slept <= ms(20),
            "{slept:?} with {} due",
            world.table.len()
        );
        steps += 1;
        assert!(steps < 100);
    }
}

#[test]
fn a_full_queue_is_not_forgotten_when_a_sweep_passed_it_over() {
    let mut world = World::new("sawtooth", "connections = 2\nids_per_request = 5");
    (0..100).for_each(|seq| world.insert(seq, "", None));
    world.read();
    // Sweeps pass while the ledger is slow and the queue is full.
    for _ in 0..3 {
        world.now = world.now.plus(ms(300));
        world.plan.wake(None, world.now);
        world.now = world.now.plus(ms(5));
        world.read();
    }
    let mut done = 0;
    while let Some(seqs) = world.take() {
        done += seqs.len();
        world.end(0, &End::Settled);
        world.now = world.now.plus(ms(6));
        world.read();
    }
    assert_eq!(done, 100, "all of them with no wait for the poll interval");
}

#[test]
fn a_sweep_of_many_pages_goes_on_and_ends() {
    let mut world = World::new("splinter", "connections = 1\nids_per_request = 100");
    for seq in 0..12_000 {
        world.insert(seq, &format!("c::s{}", seq % 100), None);
    }
    let mut seen = BTreeSet::new();
    for _ in 0..2_000 {
        world.read();
        if let Some(seqs) = world.take() {
            assert!(seqs.iter().all(|seq| seen.insert(*seq)));
            world.end(0, &End::Settled);
        } else if world.sleep() > ms(200) {
            break;
        }
    }
    assert_eq!(seen.len(), 12_000);
}

#[test]
fn a_page_older_than_a_return_brings_nothing_back() {
    let mut world = World::new("sawtooth", "connections = 1\nids_per_request = 10");
    world.insert(1, "", None);
    world.read();
    assert_eq!(world.take().unwrap(), [1]);
    world.now = world.now.plus(ms(100));
    let query = world.plan.wants(world.now).remove(0);
    let stale = world.page(&query);
    assert_eq!(stale.rows.len(), 1);
    world.end(0, &End::Settled);
    world.plan.loaded(stale, world.now);
    assert_eq!(world.take(), None);
}

#[test]
fn what_becomes_due_during_a_sweep_is_not_overslept() {
    let mut world = World::new("sawtooth", "connections = 1\nids_per_request = 10");
    world.insert(1, "", None);
    world.read();
    world.take().unwrap();
    world.now = world.now.plus(ms(100));
    let query = world.plan.wants(world.now).remove(0);
    let mut page = world.page(&query);
    // Read before the row was written: nothing is due, now or later.
    page.rows.clear();
    world.end(0, &End::Pending(Duration::from_secs(2)));
    world.plan.loaded(page, world.now);
    assert!(world.sleep() <= Duration::from_secs(2));
    world.read();
    assert_eq!(world.take().unwrap(), [1]);
}

#[test]
fn a_wake_finds_what_came_without_waiting_for_the_interval() {
    let mut world = World::new("sawtooth", "");
    world.read();
    world.now = world.now.plus(Duration::from_secs(60));
    world.insert(1, "", None);
    world.read();
    assert_eq!(world.take(), None, "nobody told");
    world.plan.wake(Some("another"), world.now);
    assert!(world.plan.wants(world.now.plus(ms(10))).is_empty());
    world.plan.wake(Some("l"), world.now);
    assert!(world.sleep() <= ms(5));
    world.read();
    assert_eq!(world.take().unwrap(), [1]);
}

#[test]
fn requests_are_filled_while_a_sweep_goes_on() {
    let mut world = World::new("splinter", "ids_per_request = 10");
    // More than a page, the services taking turns.
    for seq in 0..12_000 {
        world.insert(seq, &format!("c::s{:04}", seq % 1_500), None);
    }
    let first = world.plan.wants(world.now).remove(0);
    let page = world.page(&first);
    world.plan.loaded(page, world.now);
    let second = world.plan.wants(world.now).remove(0);
    assert_eq!(
        world.take(),
        None,
        "four a service are here, and the next page is being read"
    );
    let page = world.page(&second);
    world.plan.loaded(page, world.now);
    world.read();
    assert_eq!(
        world.take().map(|seqs| seqs.len()),
        Some(8),
        "all there are"
    );
}

#[test]
fn wakes_do_not_keep_a_sweep_from_its_end() {
    let mut world = World::new("splinter", "ids_per_request = 100");
    let polled = Some(START.minus(ms(60_000)));
    // A long backlog of one service, another service behind it.
    for seq in 0..9_000 {
        world.insert(seq, &format!("c::s{}", seq % 50), polled);
    }
    world.insert(9_000, "c::behind", Some(START.minus(ms(1))));
    for round in 0..6 {
        for query in world.plan.wants(world.now) {
            let page = world.page(&query);
            world.insert(10_000 + round, "c::new", None);
            world.plan.wake(Some("l"), world.now);
            world.plan.loaded(page, world.now);
        }
        world.now = world.now.plus(ms(10));
    }
    let services: BTreeSet<String> = world
        .take_all()
        .into_iter()
        .zip(&world.open)
        .map(|(_, work)| work.service_id.to_string())
        .collect();
    assert!(services.contains("c::new"), "{services:?}");
    let view = world.plan.view(world.now);
    assert!(
        view.ledgers[0].queued + 9_000 > 9_000 + 4_000,
        "the sweep went on"
    );
}

#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let mut world = World::new("sawtooth", "");
    world.read();
    world.now = world.now.plus(ms(10_000));
    world.read();
    world.insert(1, "", None);
    world.now = START.minus(Duration::from_secs(3600));
    world.read();
    assert_eq!(world.take(), Some(vec![1]));
}
