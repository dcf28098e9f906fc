//! Handing over, giving up, being rung, and the promise of the minimum.

use super::*;
use proptest::prelude::*;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn share(weight: u32, minimum: usize, priority: u8) -> Share {
    Share {
        weight,
        minimum,
        priority,
    }
}

fn resource(capacity: usize, shares: &[(&'static str, Share)]) -> Resource {
    let resource = Resource::new("r", capacity);
    resource.configure(capacity, shares);
    resource
}

fn status(resource: &Resource, owner: &str) -> OwnerStatus {
    let mut owners = resource.status().owners.into_iter();
    owners.find(|status| status.owner == owner).unwrap()
}

/// Runs on virtual time.
fn on_virtual_time<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

#[tokio::test(start_paused = true)]
async fn slots_are_handed_over_first_come_first_served() {
    let resource = resource(1, &[]);
    let owner = resource.owner("a");
    let first = owner.try_take().unwrap();
    assert!(owner.try_take().is_none());
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for number in 0..3 {
        let (owner, order) = (owner.clone(), order.clone());
        tasks.spawn(async move {
            let _slot = owner.acquire().await;
            lock(&order).push(number);
        });
        tokio::task::yield_now().await;
    }
    sleep(SECOND).await;
    assert_eq!(status(&resource, "a").waiting, 3);
    drop(first);
    while tasks.join_next().await.is_some() {}
    assert_eq!(*lock(&order), [0, 1, 2]);
    let status = status(&resource, "a");
    assert_eq!((status.used, status.waiting), (0, 0));
    assert_eq!((status.taken_total, status.waits_total), (4, 3));
    assert!((status.wait_longest_seconds - 1.0).abs() < 0.01);
    assert!((status.wait_mean_seconds - 0.75).abs() < 0.01);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_holds_nothing() {
    let resource = resource(1, &[]);
    let owner = resource.owner("a");
    let held = owner.try_take().unwrap();
    assert!(timeout(SECOND, owner.acquire()).await.is_err());
    assert_eq!(status(&resource, "a").waiting, 0);

    // The slot is sent, and the waiter dropped before it looks.
    let mut waiter = Box::pin(owner.acquire());
    assert!(futures_util::poll!(&mut waiter).is_pending());
    drop(held);
    assert_eq!(status(&resource, "a").used, 1);
    drop(waiter);
    assert_eq!(status(&resource, "a").used, 0);
    assert!(owner.try_take().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_standing_demand_keeps_its_place_until_it_is_withdrawn() {
    let resource = resource(2, &[("a", share(1, 0, 0)), ("b", share(1, 1, 0))]);
    let (a, b) = (resource.owner("a"), resource.owner("b"));
    let lent = [a.try_take().unwrap(), a.try_take().unwrap()];
    let demand = b.demand();
    let bell = demand.bell();
    assert!(demand.try_take().is_none());
    demand.want(1);
    assert_eq!(status(&resource, "b").waiting, 1);
    let mut rung = Box::pin(bell.notified());
    assert!(futures_util::poll!(&mut rung).is_pending());

    let [one, two] = lent;
    drop(one);
    rung.await;
    assert!(a.try_take().is_none(), "it is kept for who was rung");
    let taken = demand.try_take().unwrap();
    assert_eq!(status(&resource, "b").waiting, 0);
    assert!((status(&resource, "b").wait_longest_seconds).abs() < 0.01);

    drop(two);
    let more = a.try_take().unwrap();
    demand.want(1);
    let mut waiting = Box::pin(a.acquire());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(taken);
    // Whoever made the demand died.
    drop(demand);
    let slot = timeout(SECOND, waiting).await.unwrap();
    drop((slot, more));
    assert_eq!(resource.status().used, 0);
}

#[tokio::test(start_paused = true)]
async fn a_demand_of_two_holders_stands_for_as_long_as_one_of_them() {
    let resource = resource(1, &[]);
    let held = resource.owner("other").try_take().unwrap();
    let owner = resource.owner("a");
    let (old, new) = (owner.demand(), owner.demand());
    old.want(1);
    new.want(2);
    drop(old);
    assert_eq!(status(&resource, "a").waiting, 2);
    drop(held);
    new.bell().notified().await;
    assert!(new.try_take().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_returned_unused_is_not_counted_and_not_held_against_anybody() {
    let resource = resource(1, &[]);
    let owner = resource.owner("a");
    owner.try_take().unwrap().return_unused();
    let status = status(&resource, "a");
    assert_eq!((status.used, status.taken_total), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn changes_take_effect_on_those_who_wait() {
    let resource = resource(2, &[]);
    let (a, b) = (resource.owner("a"), resource.owner("b"));
    let mut held = vec![a.try_take().unwrap(), a.try_take().unwrap()];
    let mut waiting = Box::pin(b.acquire());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    resource.configure(3, &[]);
    held.push(waiting.await);

    resource.configure(1, &[("b", share(1, 1, 0))]);
    let mut waiting = Box::pin(b.acquire());
    for _ in 0..2 {
        drop(held.pop());
        assert!(
            futures_util::poll!(&mut waiting).is_pending(),
            "still above what there is"
        );
    }
    drop(held);
    drop(waiting.await);
    assert_eq!(status(&resource, "b").minimum, 1);
}

#[test]
fn a_holder_of_the_lock_that_panicked_locks_nobody_out() {
    let resource = resource(1, &[]);
    let held = resource.clone();
    let panicked = std::thread::spawn(move || {
        let _guard = held.shared.state.lock().unwrap();
        panic!("as asked");
    });
    assert!(panicked.join().is_err());
    assert!(resource.owner("a").try_take().is_some());
    assert_eq!(resource.status().used, 0);
}

#[test]
fn status_tells_what_is_lent() {
    let resource = resource(8, &[("a", share(1, 1, 0)), ("b", share(3, 1, 0))]);
    let a = resource.owner("a");
    let slots: Vec<Slot> = (0..8).map_while(|_| a.try_take()).collect();
    let shown = status(&resource, "a");
    assert_eq!((shown.used, shown.entitlement, shown.lent), (8, 2, 6));
    drop(slots);
    assert_eq!(status(&resource, "a").lent, 0);
}

/// Requests of up to a second each, saturating the resource for ever.
fn saturate(owner: &Owner, times: &[u64]) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for start in 0..times.len() {
        let (owner, times) = (owner.clone(), times.to_vec());
        tasks.spawn(async move {
            for turn in start.. {
                let slot = owner.acquire().await;
                sleep(Duration::from_millis(times[turn % times.len()])).await;
                drop(slot);
            }
        });
    }
    tasks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// "With one flow saturating all slots and a second one waking up, the
    /// second gets its minimum within one request time."
    #[test]
    fn who_wakes_up_gets_its_minimum_within_one_request_time(
        times in proptest::collection::vec(1..=1000_u64, 40..80),
        capacity in 8..40_usize,
        minimum in 1..8_usize,
        asleep in 0..5000_u64,
        priority in 0..3_u8,
        by_demand in any::<bool>(),
    ) {
        on_virtual_time(async {
            let resource = resource(capacity, &[("a", share(100, 1, priority)), ("b", share(1, minimum, 1))]);
            let _saturating = saturate(&resource.owner("a"), &times);
            sleep(Duration::from_millis(asleep) + SECOND).await;
            assert_eq!(status(&resource, "a").used, capacity);
            let woken = Instant::now();
            let b = resource.owner("b");
            let mut slots = Vec::new();
            let demand = b.demand();
            let bell = demand.bell();
            demand.want(if by_demand { minimum } else { 0 });
            while slots.len() < minimum {
                if by_demand {
                    bell.notified().await;
                    slots.extend(std::iter::from_fn(|| demand.try_take()));
                } else {
                    slots.push(b.acquire().await);
                }
            }
            assert!(woken.elapsed() <= SECOND, "{:?}", woken.elapsed());
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_minimum_is_kept_through_a_saturation_of_both() {
    let resource = resource(10, &[("a", share(1, 1, 9)), ("b", share(1, 3, 0))]);
    let times: Vec<u64> = (1..50).map(|n| n * 37 % 1000 + 1).collect();
    let _both = (
        saturate(&resource.owner("a"), &times),
        saturate(&resource.owner("b"), &times),
    );
    sleep(3 * SECOND).await;
    for _ in 0..200 {
        sleep(Duration::from_millis(50)).await;
        assert_eq!(status(&resource, "b").used, 3);
        assert_eq!(status(&resource, "a").used, 7);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_made_twice_while_many_take_and_give_up() {
    const CAPACITY: usize = 5;
    let resource = resource(CAPACITY, &[("a", share(2, 1, 0)), ("b", share(1, 2, 1))]);
    let in_use = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for number in 0..60_u64 {
        let owner = resource.owner(["a", "b", "c"][number as usize % 3]);
        let in_use = in_use.clone();
        tasks.spawn(async move {
            for turn in 0..50 {
                let patience = Duration::from_micros((number * 31 + turn * 17) % 700);
                let Ok(_slot) = timeout(patience, owner.acquire()).await else {
                    continue;
                };
                assert!(in_use.fetch_add(1, Ordering::SeqCst) < CAPACITY);
                tokio::task::yield_now().await;
                in_use.fetch_sub(1, Ordering::SeqCst);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let shown = resource.status();
    assert_eq!(shown.used, 0);
    assert!(shown.owners.iter().all(|owner| owner.waiting == 0));
}
