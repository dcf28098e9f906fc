//! A ledger, or a service, that hangs: no other loses throughput.

use crate::life_support::{Db, PATIENCE, Place, Server, ledger, new_ids, sim, submit, text, until};
use highwater::ledgers::LedgerKind;
use highwater::sim::{Behaviour, Fault, SimHandle};
use std::time::{Duration, Instant};

const BATCHES: &str = "[batches]\npoll_interval = \"200ms\"\n\
    repoll = { min = \"100ms\", max = \"500ms\" }\nbackoff = { min = \"200ms\", max = \"1s\" }\n\
    breaker_failures = 2\n";
const LATENCY: Duration = Duration::from_millis(60);
/// Batches of each ledger in a round, asked for 25 at a time on 2 connections.
const ROUND: usize = 500;
/// How much longer the others may take beside one that hangs.
const FACTOR: f64 = 1.5;

fn behaviour() -> Behaviour {
    Behaviour {
        latency: LATENCY,
        ..Behaviour::default()
    }
}

fn hanging() -> Behaviour {
    behaviour().with(Fault::Hang, 1.0)
}

/// Tracks a round at each of these ledgers and waits until those that answer
/// have settled theirs; answers how long that took, and the ids.
async fn round(
    server: &Server,
    sims: &[SimHandle],
    answering: usize,
) -> (Duration, Vec<Vec<String>>) {
    let ids: Vec<Vec<String>> = sims.iter().map(|_| new_ids(ROUND)).collect();
    let begun = Instant::now();
    for (number, sim) in sims.iter().enumerate().rev() {
        submit(server, &format!("l{number}"), sim, "", &ids[number]).await;
    }
    for number in 0..answering {
        until("its batches settle", PATIENCE, async || {
            let name = format!("l{number}");
            let settled = server.total(&name, "settled").await;
            if settled % ROUND as u64 == 0
                && server.outstanding(&format!("ledger={name}")).await == 0
            {
                Ok(())
            } else {
                Err(format!("{name}: {settled} settled"))
            }
        })
        .await;
    }
    (begun.elapsed(), ids)
}

fn assert_no_slower(what: &str, alone: Duration, beside: Duration) {
    println!("{what}: {alone:?} with all answering, {beside:?} beside one that hangs");
    assert!(
        beside.as_secs_f64() <= alone.as_secs_f64() * FACTOR + 0.3,
        "{what}: {beside:?} against {alone:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_ten_ledgers_hangs_and_the_other_nine_lose_nothing() {
    let place = Place::new(Db::Sqlite);
    let sims: Vec<SimHandle> = (0..10)
        .map(|_| sim(LedgerKind::Sawtooth, |options| options.latency = LATENCY))
        .collect();
    let ledgers: String = sims
        .iter()
        .enumerate()
        .map(|(number, sim)| {
            let more = "connections = 2\nids_per_request = 25\ntimeout = \"500ms\"";
            ledger(&format!("l{number}"), LedgerKind::Sawtooth, sim, more)
        })
        .collect();
    let server = Server::start(&place, &format!("{BATCHES}{ledgers}"));
    let tenth = &sims[9];
    // The first round warms up, the second one counts.
    round(&server, &sims, 10).await;
    let (alone, _) = round(&server, &sims, 10).await;
    let mut tracked = 2 * ROUND;
    let gone = Behaviour {
        validator_gone: true,
        ..behaviour()
    };
    for (what, behaviour_now) in [("hanging ledger", hanging()), ("validator gone", gone)] {
        if what == "validator gone" {
            // While requests are under way: those get 503, later ones hang.
            submit(&server, "l9", tenth, "", &new_ids(ROUND)).await;
            tracked += ROUND;
        }
        tenth.set_behaviour(&behaviour_now);
        let before = server.total("l9", "answered").await;
        let (beside, ids) = round(&server, &sims, 9).await;
        tracked += ROUND;
        assert_no_slower(what, alone, beside);

        let view = until("the breaker is open and says why", PATIENCE, async || {
            let view = server.view("l9").await;
            let why = text(&view["last_error"]);
            let told = why.contains("no answer within") || why.contains("503");
            if text(&view["breaker"]) == "open" && told {
                Ok(view)
            } else {
                Err(view.to_string())
            }
        })
        .await;
        assert!(
            !view["retry_at"].is_null() && view["totals"]["unknown"] == 0,
            "{view}"
        );
        if what == "hanging ledger" {
            assert_eq!(server.total("l9", "answered").await, before);
            for row in server.rows("ledger=l9&status=pending").await {
                assert_eq!(
                    (&row["polls"], &row["unknowns"]),
                    (&0.into(), &0.into()),
                    "{row}"
                );
            }
        }
        assert!(server.outstanding("ledger=l9").await >= ids[9].len());
        for number in 0..9 {
            assert_eq!(
                text(&server.view(&format!("l{number}")).await["breaker"]),
                "closed"
            );
        }
        // Back within the longest backoff, and what a few rounds take.
        tenth.set_behaviour(&behaviour());
        let took = server.all_settle("l9").await;
        assert!(took < Duration::from_secs(8), "{took:?}");
        server.assert_true("l9", tenth, tracked).await;
        assert_eq!(server.total("l9", "unknown").await, 0);
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_service_hangs_and_the_others_of_its_ledger_lose_nothing() {
    const SERVICES: usize = 10;
    const EACH: usize = 100;
    let place = Place::new(Db::Sqlite);
    let node = sim(LedgerKind::Splinter, |options| options.latency = LATENCY);
    let more = "connections = 8\nids_per_request = 10\ntimeout = \"500ms\"";
    let section = ledger("supply", LedgerKind::Splinter, &node, more);
    let server = Server::start(&place, &format!("{BATCHES}{section}"));
    let name = |round: usize, service: usize| format!("round-{round}::s{service}");
    let mut took = Vec::new();
    for round in 0..3 {
        let hanging_service = name(round, 0);
        if round == 2 {
            node.set_service_behaviour(&hanging_service, Some(&hanging()));
        }
        let begun = Instant::now();
        for service in 0..SERVICES {
            submit(
                &server,
                "supply",
                &node,
                &name(round, service),
                &new_ids(EACH),
            )
            .await;
        }
        for service in 1..SERVICES {
            let query = format!("ledger=supply&service_id={}", name(round, service));
            until("its batches settle", PATIENCE, async || {
                match server.outstanding(&query).await {
                    0 => Ok(()),
                    count => Err(format!("{count} outstanding")),
                }
            })
            .await;
        }
        took.push(begun.elapsed());
        if round < 2 {
            server.all_settle("supply").await;
        }
    }
    assert_no_slower("hanging service", took[1], took[2]);

    let hung = name(2, 0);
    until("the service is shown, and why", PATIENCE, async || {
        let view = server.view("supply").await;
        let found = view["failing_services"]
            .as_array()
            .unwrap()
            .iter()
            .any(|service| {
                service["service_id"] == hung.as_str()
                    && text(&service["last_error"]).contains("no answer within")
            });
        if found && text(&view["breaker"]) == "closed" {
            Ok(())
        } else {
            Err(view.to_string())
        }
    })
    .await;
    for row in server
        .rows(&format!("ledger=supply&service_id={hung}"))
        .await
    {
        assert_eq!(
            (&row["polls"], &row["unknowns"]),
            (&0.into(), &0.into()),
            "{row}"
        );
    }
    node.set_service_behaviour(&hung, None);
    let back = server.all_settle("supply").await;
    assert!(back < Duration::from_secs(8), "{back:?}");
    server
        .assert_true("supply", &node, 3 * SERVICES * EACH)
        .await;
    server.stop();
}
