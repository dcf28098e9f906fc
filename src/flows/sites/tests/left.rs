//! Hosts that ask to be left alone, and sites that leave.

use super::super::load::SitesRead;
use super::{End, PLAIN, Variant, World, ms, secs};

#[test]
fn a_host_that_asks_for_it_is_left_alone_by_all_jobs_before_its_wish_is_written() {
    let mut world = World::new(Variant {
        second: true,
        ..PLAIN
    });
    world.insert("h", 1);
    world.read();
    assert!(world.take().unwrap());
    assert!(world.plan.has_work(), "the other job would visit it");
    let until = world.now.plus(secs(30));
    world.pause(&"h".into(), until);
    assert!(!world.plan.has_work());
    world.read();
    assert!(!world.take().unwrap());
    world.now = until;
    world.read();
    assert!(world.take().unwrap());
}

#[test]
fn a_wish_is_believed_for_a_day_at_most() {
    let mut world = World::new(PLAIN);
    world.insert("h", 1);
    world.read();
    assert!(world.take().unwrap());
    world.write(0, End::RetryAfter(u64::MAX / 2_000));
    let day = secs(24 * 3600);
    let (report, _) = world.open[0].report.as_ref().unwrap();
    assert_eq!(report.pause, Some(world.now.plus(day)));
}

#[test]
fn a_site_that_was_disabled_is_not_visited_though_it_was_read() {
    let mut world = World::new(PLAIN);
    let (first, second) = (world.insert("h", 1), world.insert("i", 1));
    world.read();
    world.now = world.now.plus(ms(10));
    world.read();
    world.change(first, 4);
    assert!(world.take().unwrap(), "the other one");
    assert!(!world.take().unwrap());
    world.write(0, End::Success);
    world.end(0);

    // While the page that shows it is being read.
    world.now = world.now.plus(secs(11));
    world.begin();
    while !matches!(world.reads[0].want.read, SitesRead::Page { .. }) {
        world.execute(0);
        world.answer(0, true);
        world.begin();
    }
    world.execute(0);
    world.change(second, 3);
    world.answer(0, true);
    assert!(!world.take().unwrap());
    world.read();
    assert!(!world.take().unwrap());
}

#[test]
fn what_is_disabled_by_sql_is_not_visited_after_the_next_look() {
    let mut world = World::new(PLAIN);
    let site = world.insert("h", 1);
    world.read();
    assert!(world.plan.has_work());
    world.change(site, 0);
    world.now = world.now.plus(secs(5));
    world.read();
    assert!(!world.plan.has_work());
    world.change(site, 1);
    world.now = world.now.plus(secs(1));
    world.read();
    assert!(world.take().unwrap());
}
