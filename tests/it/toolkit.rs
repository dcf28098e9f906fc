//! The service toolkit by itself: settings, state, intercoms, restarts and the
//! privileged channel, as the seed's requirements (LLR) have them.

use crate::toolkit_support::{Echo, Kennel, PATIENCE, Pass, Ping, build, echo};
use actix::{Actor, Context, Handler, Message};
use highwater::time::Timestamp;
use highwater::watchdog::{
    Envelope, Fault, IntercomError, Keeper, LookupError, Order, OrderError, Registration,
    RestartPolicy, SavedValue, ServiceContext, ServiceState, SettingsReader, State, StateHandle,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(10);

/// Adds to its state, as its settings say; answers both.
#[derive(Debug, Message)]
#[rtype(result = "(u64, u64)")]
struct Count;

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Total(u64);

impl State for Total {
    const VERSION: i32 = 1;
}

struct Counter {
    _context: ServiceContext,
    step: SettingsReader<u64>,
    total: StateHandle<Total>,
}

impl Counter {
    fn new(context: ServiceContext) -> Result<Self, LookupError> {
        Ok(Self {
            step: context.settings()?,
            total: context.state()?,
            _context: context,
        })
    }
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Envelope<Count>> for Counter {
    type Result = actix::MessageResult<Envelope<Count>>;

    fn handle(&mut self, envelope: Envelope<Count>, _: &mut Self::Context) -> Self::Result {
        let Count = envelope.open();
        let step = self.step.current();
        self.total.modify(|total| total.0 += step);
        actix::MessageResult((step, self.total.current().0))
    }
}

fn counter() -> Registration<Counter> {
    let check = |step: &u64| {
        if *step > 0 {
            Ok(())
        } else {
            Err("0 counts nothing; 1 or more does".to_owned())
        }
    };
    Registration::<Counter>::new("counter")
        .checked_settings(3_u64, check)
        .state::<Total>()
        .accepts::<Count>()
}

#[actix::test]
async fn llr_cfg_1_registration_creates_a_settings_updater_with_the_initial_settings() {
    let kennel = Kennel::start(DEADLINE, |query| {
        query.register(counter().built_by(Counter::new), Keeper::Supervisor)
    });
    let count = kennel.intercom::<Count>("counter");
    assert_eq!(count.send(Count, PATIENCE).await.unwrap(), (3, 3));
    assert_eq!(kennel.query.update_settings("counter", 5_u64), Ok(true));
    assert_eq!(kennel.query.update_settings("counter", 5_u64), Ok(false));
    assert_eq!(count.send(Count, PATIENCE).await.unwrap(), (5, 8));
    let wrong = kennel.query.update_settings("counter", 0_u64);
    assert_eq!(
        wrong.unwrap_err().to_string(),
        "settings of service \"counter\": 0 counts nothing; 1 or more does"
    );
    let wrong = kennel.query.update_settings("counter", "5".to_owned());
    assert!(matches!(wrong, Err(LookupError::NoSettings { .. })));
    assert_eq!(count.send(Count, PATIENCE).await.unwrap(), (5, 13));
    let changes = kennel.query.status("counter").unwrap().settings_changes;
    assert_eq!(changes, Some(1), "once, and nothing by what was refused");
}

fn saved(version: i32, json: &str) -> SavedValue {
    SavedValue {
        service: "counter".to_owned(),
        version,
        json: json.to_owned(),
        saved_at: Timestamp::now(),
    }
}

#[actix::test]
async fn llr_ss_1_registration_creates_a_state_saver_with_what_was_saved_or_the_default() {
    for (saved, initial, usable) in [
        (vec![], 0, true),
        (vec![saved(1, "7")], 7, true),
        (vec![saved(1, "{")], 0, false),
        (vec![saved(2, "7")], 0, false),
    ] {
        let kennel = Kennel::start(DEADLINE, |query| {
            query.remember(saved);
            query.register(counter().built_by(Counter::new), Keeper::Supervisor)
        });
        assert_eq!(kennel.query.unusable_states().is_empty(), usable);
        let count = kennel.intercom::<Count>("counter");
        assert_eq!(count.send(Count, PATIENCE).await, Ok((3, initial + 3)));
        assert!(kennel.query.states()[0].unsaved().is_some());
    }
}

#[actix::test]
async fn settings_and_state_outlive_a_panic_of_their_service() {
    let kennel = Kennel::start(DEADLINE, |query| {
        query.remember(vec![saved(1, "40")]);
        query.register(counter().built_by(Counter::new), Keeper::Supervisor)
    });
    let count = kennel.intercom::<Count>("counter");
    kennel.query.update_settings("counter", 2_u64).unwrap();
    assert_eq!(
        count.send(Count, PATIENCE).await.unwrap(),
        (2, 42),
        "it began with what was saved"
    );
    let fault = Fault::Panic("as asked".to_owned());
    kennel.query.inject("counter", fault).unwrap();
    kennel
        .until("counter", |status| status.restarts.get("panic") == Some(&1))
        .await;
    assert_eq!(count.send(Count, PATIENCE).await.unwrap(), (2, 44));
    let states = kennel.query.states();
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].service(), "counter");
}

#[actix::test]
async fn llr_ic_1_registration_creates_an_intercom_handle_and_its_receiver() {
    let kennel = Kennel::start(DEADLINE, |query| {
        query.register(build(echo("echo")), Keeper::Supervisor)
    });
    assert_eq!(kennel.ping("echo").await, 1);
    let refused = kennel.query.watchdog().intercom::<Count>("test", "echo");
    assert!(matches!(refused, Err(LookupError::NotAccepted { .. })));
}

#[actix::test]
async fn llr_ic_2_any_service_asks_for_a_handle_to_any_other_by_name_at_run_time() {
    let kennel = Kennel::start(DEADLINE, |query| {
        query.register(build(echo("first")), Keeper::Supervisor)?;
        query.register(build(echo("second").on_thread("first")), Keeper::Supervisor)
    });
    for (from, to) in [("first", "second"), ("second", "first"), ("first", "first")] {
        kennel.until_state(to, ServiceState::Running).await;
        let pass = kennel.intercom::<Pass>(from);
        assert!(
            pass.send(Pass(to), PATIENCE).await.unwrap(),
            "{from} → {to}"
        );
    }
    let pass = kennel.intercom::<Pass>("first");
    assert!(!pass.send(Pass("nobody"), PATIENCE).await.unwrap());
    // One that was registered later is found as well.
    kennel
        .query
        .register(build(echo("third")), Keeper::Supervisor)
        .unwrap();
    kennel.query.start("third").unwrap();
    kennel.until_state("third", ServiceState::Running).await;
    assert!(pass.send(Pass("third"), PATIENCE).await.unwrap());
}

#[actix::test]
async fn llr_ic_3_a_handle_keeps_the_connection_up_through_restarts() {
    let kennel = Kennel::start(DEADLINE, |query| {
        query.register(build(echo("echo")), Keeper::Supervisor)
    });
    let ping = kennel.intercom::<Ping>("echo");
    assert_eq!(ping.send(Ping, PATIENCE).await, Ok(1));
    for generation in 2..6 {
        let fault = Fault::Panic("as asked".to_owned());
        kennel.query.inject("echo", fault).unwrap();
        kennel
            .until("echo", |status| {
                status.generation == generation && status.state == ServiceState::Running
            })
            .await;
        assert_eq!(ping.send(Ping, PATIENCE).await, Ok(generation));
    }
    // A sender waits for a service that is away, bounded.
    kennel.query.stop("echo").unwrap();
    kennel.until_state("echo", ServiceState::Stopped).await;
    let away = ping.send(Ping, Duration::from_millis(20)).await;
    assert!(matches!(away, Err(IntercomError::Away { .. })), "{away:?}");
    let waiting = actix_rt::spawn({
        let ping = ping.clone();
        async move { ping.send(Ping, PATIENCE).await }
    });
    kennel.query.start("echo").unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(6));
    kennel.query.unregister("echo").unwrap();
    let begun = std::time::Instant::now();
    let gone = loop {
        match ping.send(Ping, PATIENCE).await {
            // It may answer until it has ended.
            Ok(_) if begun.elapsed() < PATIENCE => {}
            other => break other,
        }
    };
    assert!(matches!(gone, Err(IntercomError::Ended { .. })), "{gone:?}");
    assert!(kennel.query.status("echo").is_err());
}

#[actix::test]
async fn llr_ic_4_propagation_is_measured_for_each_pair_of_services() {
    let kennel = Kennel::start(DEADLINE, |query| {
        query.register(build(echo("first")), Keeper::Supervisor)?;
        query.register(build(echo("second")), Keeper::Supervisor)
    });
    kennel.until_state("second", ServiceState::Running).await;
    let pass = kennel.intercom::<Pass>("first");
    for _ in 0..10 {
        assert!(pass.send(Pass("second"), PATIENCE).await.unwrap());
    }
    let handles = [kennel.intercom::<Ping>("second"), kennel.intercom("second")];
    for _ in 0..5 {
        handles[0].send(Ping, PATIENCE).await.unwrap();
    }
    let pair = |from: &str| {
        let status = kennel.query.status("second").unwrap();
        let mut stats = status.intercoms.into_iter();
        stats.find(|stats| stats.from == from && stats.message == "Ping")
    };
    kennel
        .until("second", |_| {
            pair("first").is_some_and(|s| s.in_flight == 0)
        })
        .await;
    let (first, test) = (pair("first").unwrap(), pair("test").unwrap());
    assert_eq!(
        (first.messages, first.failures, first.open_handles),
        (10, 0, 0)
    );
    assert_eq!((test.messages, test.failures, test.open_handles), (5, 0, 2));
    for stats in [&first, &test] {
        assert!(stats.propagation_mean_seconds > 0.0, "{stats:?}");
        assert!(stats.propagation_p99_seconds >= stats.propagation_p50_seconds);
        let deviation = stats.propagation_stddev_seconds;
        assert!((deviation * deviation - stats.propagation_variance).abs() < 1e-9);
    }
    let [one, _other] = handles;
    drop(one);
    assert_eq!(pair("test").unwrap().open_handles, 1);
}

#[actix::test]
async fn a_dependent_is_restarted_with_what_it_depends_on_and_waits_for_it() {
    let kennel = Kennel::start(DEADLINE, |query| {
        let dependent = echo("dependent").depends_on("base");
        query.register(build(dependent), Keeper::Supervisor)?;
        query.register(build(echo("base")), Keeper::Supervisor)?;
        query.register(build(echo("other")), Keeper::Supervisor)
    });
    for service in ["base", "dependent", "other"] {
        kennel.until_state(service, ServiceState::Running).await;
    }
    let fault = Fault::Panic("as asked".to_owned());
    kennel.query.inject("base", fault).unwrap();
    kennel
        .until("dependent", |status| {
            status.restarts.get("dependency") == Some(&1) && status.state == ServiceState::Running
        })
        .await;
    assert_eq!(kennel.restarts("base", "panic"), 1);
    assert_eq!(kennel.query.status("other").unwrap().generation, 1);
    // Stopped with it, and started with it.
    kennel.query.stop("base").unwrap();
    let waiting = kennel
        .until_state("dependent", ServiceState::Restarting)
        .await;
    assert_eq!(waiting.waits_for.as_deref(), Some("base"));
    kennel.query.start("base").unwrap();
    kennel.until_state("dependent", ServiceState::Running).await;
}

#[actix::test]
async fn a_factory_that_fails_is_tried_again_and_then_failed_with_its_reason() {
    let tries = Arc::new(AtomicU64::new(0));
    let counted = tries.clone();
    let kennel = Kennel::start(DEADLINE, move |query| {
        let service = Registration::<Echo>::new("broken")
            .restarted_by(RestartPolicy {
                min: Duration::from_millis(1),
                intensity: 4,
                ..RestartPolicy::default()
            })
            .built_by(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                Err::<Echo, _>("no such file")
            });
        query.register(service, Keeper::Supervisor)
    });
    let status = kennel.until_state("broken", ServiceState::Failed).await;
    assert_eq!(tries.load(Ordering::Relaxed), 5);
    assert_eq!(status.restarts.get("error"), Some(&4));
    assert_eq!(
        status.last_error.as_deref(),
        Some("it could not be built: no such file")
    );
}

#[actix::test]
async fn an_operator_stops_starts_and_restarts_and_what_cannot_be_is_refused() {
    let mut kennel = Kennel::start(DEADLINE, |query| {
        query.register(build(echo("echo")), Keeper::Supervisor)
    });
    kennel.until_state("echo", ServiceState::Running).await;
    let query = kennel.query.clone();
    query.stop("echo").unwrap();
    kennel.until_state("echo", ServiceState::Stopped).await;
    query.start("echo").unwrap();
    assert_eq!(kennel.ping("echo").await, 2);
    query.restart("echo").unwrap();
    kennel
        .until("echo", |status| {
            status.generation == 3 && status.state == ServiceState::Running
        })
        .await;
    assert_eq!(kennel.restarts("echo", "asked"), 1);

    let unknown = query.restart("ehco").unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "there is no service \"ehco\"; there are: supervisor, echo"
    );
    let twice = query.register(build(echo("echo")), Keeper::Supervisor);
    assert_eq!(twice, Err(LookupError::Exists("echo".to_owned())));
    let keeper = query.stop("supervisor");
    assert!(matches!(keeper, Err(LookupError::NotAllowed { .. })));
    query.restart("supervisor").unwrap();
    kennel
        .until("supervisor", |status| {
            status.generation == 2 && status.state == ServiceState::Running
        })
        .await;
    assert_eq!(kennel.ping("echo").await, 3, "the others stay");

    // Orders to the application come out where they are carried out.
    let told = actix_rt::spawn({
        let query = query.clone();
        async move { query.reload(true).await }
    });
    match kennel.orders.next().await {
        Some(Order::Reload { reset: true, reply }) => {
            reply.send(Err(OrderError::NoFile)).unwrap();
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(told.await.unwrap(), Err(OrderError::NoFile));

    query.close();
    assert_eq!(query.start("echo"), Err(LookupError::ShuttingDown));
    assert_eq!(query.restart("echo"), Err(LookupError::ShuttingDown));
    query.stop("echo").unwrap();
}
