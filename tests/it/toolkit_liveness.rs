//! Services without life are noticed from another thread and replaced within
//! their deadline; what they still do has no effect.

use crate::toolkit_support::{BlockByTask, Ignored, Kennel, PATIENCE, Ping, build, echo};
use highwater::watchdog::{Fault, Keeper, ServiceState};
use std::time::{Duration, Instant};

/// Short enough for a test, long enough for a busy machine.
const DEADLINE: Duration = Duration::from_secs(4);
/// What the replacement takes on a busy machine, once it was decided.
const GRACE: Duration = Duration::from_secs(3);

#[actix::test]
async fn a_service_that_blocks_its_thread_is_replaced_within_its_deadline() {
    let kennel = Kennel::start(DEADLINE, |query| {
        let (one, other) = (echo("blocker").on_thread("shared"), echo("neighbour"));
        query.register(build(one), Keeper::Supervisor)?;
        query.register(build(other.on_thread("shared")), Keeper::Supervisor)
    });
    for service in ["blocker", "neighbour"] {
        kennel.until_state(service, ServiceState::Running).await;
    }
    let blocked_for = DEADLINE * 3;
    let begun = Instant::now();
    kennel
        .query
        .inject("blocker", Fault::Block(blocked_for))
        .unwrap();
    let ping = kennel.intercom::<Ping>("blocker");
    // Senders go on by themselves: what they sent to the old one is lost, and said so.
    let status = kennel
        .until("blocker", |status| {
            status.generation == 2 && status.state == ServiceState::Running
        })
        .await;
    assert!(begun.elapsed() < DEADLINE + GRACE, "{:?}", begun.elapsed());
    assert_eq!(ping.send(Ping, PATIENCE).await, Ok(2));
    assert_eq!(status.restarts.get("unresponsive"), Some(&1));
    let error = status.last_error.unwrap();
    assert!(
        error.starts_with("unresponsive: it blocked its thread for"),
        "{error}"
    );
    assert_eq!(status.thread, "blocker", "it harms nobody else any more");
    let neighbour = kennel
        .until("neighbour", |status| {
            status.generation == 2 && status.state == ServiceState::Running
        })
        .await;
    assert_eq!(neighbour.restarts.get("thread_blocked"), Some(&1));
    let lost = kennel.query.watchdog().status().lost_threads;
    assert_eq!(lost.len(), 1);
    assert_eq!((&*lost[0].thread, &*lost[0].service), ("shared", "blocker"));

    // The thread comes back, with nothing on it.
    kennel
        .until("blocker", |_| {
            let status = kennel.query.watchdog().status();
            status.lost_threads.is_empty() && status.recovered_threads == 1
        })
        .await;
    assert!(begun.elapsed() >= blocked_for);
    // What it still said was not taken for a word of its successor.
    let later = Instant::now();
    while later.elapsed() < DEADLINE * 2 {
        assert_eq!(kennel.ping("blocker").await, 2);
        assert_eq!(kennel.ping("neighbour").await, 2);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[actix::test]
async fn who_waits_for_the_former_mailbox_accuses_none_of_the_next() {
    // It has to stay alive for longer than in the other tests, however busy the
    // machine is meanwhile.
    let deadline = DEADLINE * 2;
    let kennel = Kennel::start(deadline, |query| {
        let blocker = highwater::watchdog::Registration::new("blocker").answers::<Ping>();
        query.register(build(blocker), Keeper::Supervisor)
    });
    kennel.until_state("blocker", ServiceState::Running).await;
    let fault = Fault::Block(Duration::from_secs(60));
    kennel.query.inject("blocker", fault).unwrap();
    let ping = kennel.intercom::<Ping>("blocker");
    let moment = Duration::from_millis(100);
    while ping.send(Ping, moment).await.is_ok() {}
    // It gets this while it is blocked, and never answers it.
    let waiting = actix_rt::spawn(async move { ping.send(Ping, deadline * 2).await });
    kennel
        .until("blocker", |status| status.generation == 2)
        .await;
    // By then it would have been accused for as long as it takes.
    assert!(waiting.await.unwrap().is_err());
    let status = kennel.query.status("blocker").unwrap();
    assert_eq!(status.generation, 2, "{status:?}");
    assert_eq!(kennel.ping("blocker").await, 2);
}

/// Has the service's thread blocked by a task of its own, between its turns.
#[actix::test]
async fn a_thread_that_a_task_blocks_is_given_up_as_well() {
    let kennel = Kennel::start(DEADLINE, |query| {
        let blocker = echo("blocker").accepts::<BlockByTask>().on_thread("shared");
        query.register(build(blocker), Keeper::Supervisor)?;
        query.register(
            build(echo("neighbour").on_thread("shared")),
            Keeper::Supervisor,
        )
    });
    for service in ["blocker", "neighbour"] {
        kennel.until_state(service, ServiceState::Running).await;
    }
    let block = kennel.intercom::<BlockByTask>("blocker");
    block.send(BlockByTask, PATIENCE).await.unwrap();
    let begun = Instant::now();
    for service in ["blocker", "neighbour"] {
        kennel
            .until(service, |status| {
                status.generation == 2 && status.state == ServiceState::Running
            })
            .await;
    }
    assert!(begun.elapsed() < DEADLINE + GRACE, "{:?}", begun.elapsed());
    assert_eq!(kennel.query.watchdog().status().lost_threads.len(), 1);
    assert_eq!(kennel.ping("neighbour").await, 2);
}

#[actix::test]
async fn a_service_that_waits_for_ever_is_replaced_on_its_thread() {
    let kennel = Kennel::start(DEADLINE, |query| {
        let (one, other) = (echo("waiter").on_thread("shared"), echo("neighbour"));
        query.register(build(one), Keeper::Supervisor)?;
        query.register(build(other.on_thread("shared")), Keeper::Supervisor)
    });
    kennel.until_state("waiter", ServiceState::Running).await;
    let begun = Instant::now();
    kennel.query.inject("waiter", Fault::Hang).unwrap();
    let status = kennel
        .until("waiter", |status| {
            status.generation == 2 && status.state == ServiceState::Running
        })
        .await;
    assert!(begun.elapsed() < DEADLINE + GRACE, "{:?}", begun.elapsed());
    let error = status.last_error.unwrap();
    assert!(
        error.contains("it did not answer its watchdog for"),
        "{error}"
    );
    assert_eq!(kennel.ping("waiter").await, 2);
    assert_eq!(kennel.ping("neighbour").await, 1, "its thread was free");
    assert!(kennel.query.watchdog().status().lost_threads.is_empty());
}

#[actix::test]
async fn a_service_that_takes_messages_and_answers_none_is_replaced() {
    let kennel = Kennel::start(DEADLINE, |query| {
        let mute = highwater::watchdog::Registration::new("mute")
            .accepts::<Ping>()
            .answers::<Ignored>();
        query.register(build(mute), Keeper::Supervisor)
    });
    kennel.until_state("mute", ServiceState::Running).await;
    let ignored = kennel.intercom::<Ignored>("mute");
    let begun = Instant::now();
    let sent = actix_rt::spawn(async move { ignored.send(Ignored, DEADLINE * 3).await });
    let status = kennel.until("mute", |status| status.generation == 2).await;
    assert!(begun.elapsed() < DEADLINE + GRACE, "{:?}", begun.elapsed());
    let error = status.last_error.unwrap();
    assert!(error.contains("it answered no Ignored for"), "{error}");
    assert_eq!(kennel.ping("mute").await, 2);
    assert!(
        sent.await.unwrap().is_err(),
        "nobody waits for longer than he said"
    );
}

#[actix::test]
async fn no_more_threads_are_lost_than_the_limit_allows() {
    let kennel = Kennel::start(DEADLINE, |query| {
        query.register(build(echo("blocker")), Keeper::Supervisor)?;
        query.register(build(echo("other")), Keeper::Supervisor)
    });
    // The limit is two.
    for generation in 1..=3 {
        kennel
            .until("blocker", |status| {
                status.generation == generation && status.state == ServiceState::Running
            })
            .await;
        let fault = Fault::Block(Duration::from_secs(40));
        kennel.query.inject("blocker", fault).unwrap();
    }
    let status = kennel.until_state("blocker", ServiceState::Failed).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("2 threads are lost already"), "{error}");
    assert_eq!(kennel.query.watchdog().status().lost_threads.len(), 3);
    assert_eq!(kennel.ping("other").await, 1);
}

#[actix::test]
async fn a_supervisor_that_blocks_is_replaced_as_well() {
    let kennel = Kennel::start(DEADLINE, |query| {
        query.register(build(echo("echo")), Keeper::Supervisor)
    });
    kennel.until_state("echo", ServiceState::Running).await;
    let fault = Fault::Block(Duration::from_secs(20));
    kennel.query.inject("supervisor", fault).unwrap();
    let fault = Fault::Panic("while nobody supervises".to_owned());
    kennel.query.inject("echo", fault).unwrap();
    kennel
        .until("supervisor", |status| status.generation == 2)
        .await;
    kennel.until("echo", |status| status.generation == 2).await;
    assert_eq!(kennel.ping("echo").await, 2);
}
