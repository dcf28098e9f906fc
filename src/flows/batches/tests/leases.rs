//! Leases that are lost, fenced, and had again.

use super::super::work::BatchesReport;
use super::{End, World, holdings, ms, report};
use crate::leases::Holdings;

fn holdings_at(epoch: i64) -> Holdings {
    let mut holdings = holdings();
    for stake in holdings.held.values_mut() {
        stake.epoch = epoch;
    }
    holdings
}

#[test]
fn nothing_is_asked_without_the_lease() {
    let mut world = World::new("sawtooth", "connections = 2\nids_per_request = 1");
    (1..=3).for_each(|seq| world.insert(seq, "", None));
    world.read();
    world.take().unwrap();
    world.plan.hold(&Holdings::default(), world.now);
    assert_eq!(world.take(), None);
    assert_eq!(world.plan.wake_at(world.now), None);
    assert!(world.plan.wants(world.now.plus(ms(100))).is_empty());
    world.plan.hold(&holdings(), world.now);
    world.now = world.now.plus(ms(10));
    world.read();
    assert_eq!(
        world.take().unwrap(),
        [2],
        "what is still out is not asked again"
    );
}

#[test]
fn under_a_new_epoch_nothing_read_under_the_old_one_is_used() {
    let mut world = World::new("sawtooth", "");
    world.insert(1, "", None);
    world.read();
    // Another server settles it while this one stands still.
    world.table.clear();
    world.plan.hold(&holdings_at(7), world.now);
    assert_eq!(world.take(), None);
    world.insert(2, "", None);
    world.now = world.now.plus(ms(10));
    let query = world.plan.wants(world.now).remove(0);
    let page = world.page(&query);
    world.plan.hold(&holdings_at(8), world.now);
    world.plan.loaded(page, world.now);
    assert_eq!(world.take(), None, "the page is of the old epoch");
    world.now = world.now.plus(ms(10));
    world.read();
    assert_eq!(world.take(), Some(vec![2]));
    assert_eq!(world.open[0].stake.epoch, 8);
}

#[test]
fn a_fenced_ledger_rests_until_its_lease_is_known() {
    let mut world = World::new("sawtooth", "");
    world.insert(1, "", None);
    world.read();
    world.take();
    let work = world.open.remove(0);
    let fenced = BatchesReport {
        fenced: true,
        ..report(&work, &End::Settled)
    };
    world.plan.report(&fenced, 1, world.now, 0.0);
    world.plan.fetched("l", "");
    world.plan.returned("l", &[1]);
    world.now = world.now.plus(ms(5_000));
    assert!(world.plan.wants(world.now).is_empty());
    assert_eq!(world.plan.wake_at(world.now), None);
    world.plan.hold(&holdings_at(9), world.now);
    world.read();
    assert_eq!(world.take(), Some(vec![1]));
}
