//! Hot hosts, leases that come and go, policies that change, pauses.

use super::super::load::SitesRead;
use super::super::names::{AppName, JobKey};
use super::super::standing::Standing;
use super::{End, PLAIN, Read, Row, START, Variant, World, ms, secs};
use crate::leases::Holdings;
use crate::time::Timestamp;
use std::collections::HashMap;

fn key() -> JobKey {
    JobKey::new(AppName::parse("a").unwrap(), "one").unwrap()
}

#[test]
fn a_hot_host_keeps_no_other_waiting_and_the_plan_does_not_spin() {
    const HOT: i64 = 50_000;
    let mut world = World::new(PLAIN);
    let mut add = |host: &str, at: Timestamp| {
        let site = world.insert(host, 5_000);
        world.next_row += 1;
        let row = Row {
            job: key(),
            site,
            standing: Standing::default(),
            next_due_at: Some(at),
        };
        world.rows.insert(world.next_row, row);
    };
    for _ in 0..HOT {
        add("hot", START.minus(secs(3600)));
    }
    for number in 0..8 {
        add(&format!("cold{number}"), START.plus(secs(number)));
    }
    let end = START.plus(secs(11));
    let mut visited = HashMap::new();
    while world.now < end {
        world.read();
        while world.take().unwrap() {
            let open = &world.open[world.open.len() - 1];
            visited.insert(open.work.site.seq, world.now);
        }
        assert!(world.plan.view(world.now).jobs[0].waiting <= 3_000);
        world.now = world.now.plus(ms(100));
        // A visit takes half a second.
        while world
            .open
            .first()
            .is_some_and(|open| world.now >= open.begun.plus(ms(500)))
        {
            world.write(0, End::Success);
            world.end(0);
        }
    }
    for number in 0..8 {
        let at = visited[&(HOT + 1 + number)];
        let late = at.since(START.plus(secs(number.unsigned_abs())));
        assert!(late <= ms(2_200), "cold{number} is late by {late:?}");
    }
    assert!(world.pages <= 10 * 26, "{} pages", world.pages);
}

#[test]
fn an_answer_to_what_was_asked_under_an_earlier_lease_is_not_taken() {
    let mut world = World::new(PLAIN);
    world.insert("h", 1);
    world.begin();
    world.execute(0);
    // The database was out of reach for a while, then the same lease is told.
    world.plan.hold(&Holdings::default());
    world.plan.hold(&world.told.clone());
    world.begin();
    assert_eq!(world.reads.len(), 2);
    world.answer(0, true);
    assert!(
        world.plan.wants(world.now).is_empty(),
        "the second look is under way"
    );
    world.execute(0);
    world.answer(0, true);
    world.read();
    assert!(world.take().unwrap());
}

#[test]
fn a_fenced_shard_rests_until_its_lease_is_known() {
    let mut world = World::new(PLAIN);
    world.insert("h", 1);
    world.read();
    assert!(world.take().unwrap());
    world
        .leases
        .values_mut()
        .for_each(|lease| *lease = (false, lease.1 + 1));
    world.write(0, End::Success);
    world.end(0);
    world.now = world.now.plus(secs(60));
    assert!(world.plan.wants(world.now).is_empty());
    assert_eq!(world.plan.wake_at(), None);
    world.lease_all();
    world.tell();
    world.read();
    assert!(world.take().unwrap());
}

#[test]
fn a_shard_whose_lease_was_lost_while_it_was_prepared_waits_to_be_told() {
    let mut world = World::new(PLAIN);
    world.insert("h", 1);
    world.begin();
    let Read { want, .. } = world.reads.remove(0);
    world.plan.lease_lost(&want, world.now);
    world.now = world.now.plus(secs(5));
    assert!(world.plan.wants(world.now).is_empty());
    // The LeaseKeeper has it back, under another epoch.
    world.leases.values_mut().for_each(|lease| lease.1 += 1);
    world.tell();
    world.read();
    assert!(world.take().unwrap());
}

#[test]
fn an_outcome_judged_by_a_former_policy_is_corrected_when_it_is_written() {
    let mut world = World::new(Variant {
        long: true,
        ..PLAIN
    });
    world.insert("h", 1);
    world.read();
    assert!(world.take().unwrap());
    world.configure(PLAIN);
    world.read();
    // Due in 60 seconds by the policy it was begun with, in 10 by the new one.
    world.write(0, End::Success);
    world.end(0);
    world.settle_down(secs(60)).unwrap();
}

#[test]
fn what_could_not_be_put_off_is_put_off_later() {
    let mut world = World::new(PLAIN);
    world.insert("h", 1);
    world.insert("h", 2);
    world.now = world.now.plus(ms(10));
    world.read();
    world.now = world.now.plus(ms(10));
    world.read();
    assert!(world.take().unwrap());
    world.write(0, End::RetryAfter(30));
    world.end(0);
    world.begin();
    assert!(matches!(world.reads[0].want.read, SitesRead::PutOff(_)));
    world.answer(0, false);
    assert!(world.plan.wants(world.now).is_empty());
    world.now = world.now.plus(ms(500));
    world.begin();
    assert!(matches!(world.reads[0].want.read, SitesRead::PutOff(_)));
    world.settle_down(secs(60)).unwrap();
}
