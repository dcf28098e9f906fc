//! How often batches are polled, given up, revived, and left alone.

use crate::life_support::{
    Api, Db, PATIENCE, Place, Server, ledger, new_ids, sim, submit, text, until,
};
use highwater::ledgers::LedgerKind;
use highwater::sim::{Behaviour, Fate, Fault, SimHandle};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn submit_as(sim: &SimHandle, ids: &[String], fate: Fate) {
    for id in ids {
        sim.submit_as("", id, fate);
    }
}

async fn asked(sim: &SimHandle, requests: u64) {
    until("the ledger is asked", PATIENCE, async || {
        let seen = sim.stats().requests;
        if seen >= requests {
            Ok(())
        } else {
            Err(format!("{seen} requests"))
        }
    })
    .await;
}

/// The history of a batch's polls: when each was answered.
async fn polls(api: &Api, row: &Value) -> Vec<Value> {
    let path = format!("/v1/batches/trace/{}", text(&row["batch_id"]));
    let (status, detail) = api.get(&path).await;
    assert_eq!(status, 200, "{detail}");
    detail["history"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stays_pending_is_no_busy_loop() {
    let trace = sim(LedgerKind::Sawtooth, |_| {});
    let place = Place::new(Db::Sqlite);
    let section = ledger("trace", LedgerKind::Sawtooth, &trace, "");
    let batches =
        "[batches]\npoll_interval = \"50ms\"\nrepoll = { min = \"200ms\", max = \"1s\" }\n";
    let server = Server::start(&place, &format!("{batches}{section}"));
    let ids = new_ids(50);
    submit_as(&trace, &ids, Fate::StayPending);
    let begun = Instant::now();
    server.track("trace", "", &ids).await;
    until("the fifth poll of each", PATIENCE, async || {
        let rows = server.rows("ledger=trace").await;
        let least = rows.iter().filter_map(|row| row["polls"].as_i64()).min();
        if least >= Some(5) {
            Ok(())
        } else {
            Err(format!("{least:?} polls"))
        }
    })
    .await;
    // Looked at before the clock, so that the clock allows for what was seen.
    let rows = server.rows("ledger=trace").await;
    let took = begun.elapsed();
    // At once, then after 0.2, 0.4, 0.8 and from then on every 1 s at the soonest.
    let mut allowed = 1;
    let mut at = Duration::ZERO;
    for gap in [200, 400, 800].into_iter().chain(std::iter::repeat(1000)) {
        at += Duration::from_millis(gap);
        if at > took {
            break;
        }
        allowed += 1;
    }
    assert!(took < Duration::from_secs(10), "{took:?}");
    for row in &rows {
        let count = row["polls"].as_i64().unwrap();
        assert!(
            count <= allowed,
            "{count} polls in {took:?}, allowed are {allowed}"
        );
        assert_eq!(
            polls(&server, row).await.len() as i64,
            row["polls"].as_i64().unwrap().max(count)
        );
    }
    assert!(trace.stats().ids_asked <= 50 * (allowed as u64 + 1));
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_polled_ones_come_first() {
    let trace = sim(LedgerKind::Sawtooth, |options| {
        options.latency = Duration::from_millis(150);
    });
    let place = Place::new(Db::Sqlite);
    let section = ledger(
        "trace",
        LedgerKind::Sawtooth,
        &trace,
        "connections = 1\nids_per_request = 10",
    );
    let batches =
        "[batches]\npoll_interval = \"50ms\"\nrepoll = { min = \"10ms\", max = \"10ms\" }\n";
    let server = Server::start(&place, &format!("{batches}{section}"));
    let old = new_ids(60);
    submit_as(&trace, &old, Fate::StayPending);
    server.track("trace", "", &old).await;
    // All of the old ones were polled once: now they are due all the time.
    asked(&trace, 7).await;
    let new = new_ids(10);
    submit_as(&trace, &new, Fate::Commit);
    let before = trace.stats().requests;
    server.track("trace", "", &new).await;
    until("the new ones settle", PATIENCE, async || {
        match server.rows("ledger=trace&status=committed").await.len() {
            10 => Ok(()),
            count => Err(format!("{count} committed")),
        }
    })
    .await;
    let requests = trace.stats().requests - before;
    assert!(
        requests <= 4,
        "{requests} requests, of which six would be for the old ones first"
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_up_is_lost_and_revived_is_pending_again() {
    for db in [Db::Sqlite, Db::Postgres] {
        let trace = sim(LedgerKind::Sawtooth, |_| {});
        let place = Place::new(db);
        let section = ledger("trace", LedgerKind::Sawtooth, &trace, "");
        let batches = "[batches]\npoll_interval = \"50ms\"\nrepoll = { min = \"100ms\", max = \"300ms\" }\n\
                       give_up_after = { age = \"1s\" }\n";
        let server = Server::start(&place, &format!("{batches}{section}"));
        // Never known to the ledger, which answers Unknown.
        let ids = new_ids(3);
        server.track("trace", "", &ids).await;
        let early = server.rows("ledger=trace").await;
        assert!(
            early.iter().all(|row| text(&row["status"]) == "pending"),
            "{early:?}"
        );
        server.all_settle("trace").await;
        for row in server.rows("ledger=trace").await {
            assert_eq!(text(&row["status"]), "lost", "{row}");
            assert!(text(&row["last_error"]).contains("given up"), "{row}");
            // Unknown was answered and counted more than once before, and ended nothing.
            assert!(row["unknowns"].as_i64() > Some(1), "{row}");
            assert_eq!(row["unknowns"], row["polls"], "{row}");
        }
        let keys: Vec<Value> = ids
            .iter()
            .map(|id| json!({"ledger": "trace", "batch_id": id}))
            .collect();
        let body = json!({ "batches": keys });
        let (status, _) = server.post("/v1/batches/revive", &body, None).await;
        assert_eq!(status, 401);
        submit_as(&trace, &ids, Fate::Commit);
        let (status, answer) = server
            .post("/v1/batches/revive", &body, Some(&place.control_token()))
            .await;
        assert_eq!((status, &answer["revived"]), (200, &3.into()), "{answer}");
        server.all_settle("trace").await;
        server.assert_true("trace", &trace, 3).await;
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fallback_ledger_is_polled_at_its_own_interval_and_at_once_on_demand() {
    let trace = sim(LedgerKind::Sawtooth, |_| {});
    let place = Place::new(Db::Sqlite);
    let section = ledger("trace", LedgerKind::Sawtooth, &trace, "role = \"fallback\"");
    let batches = "[batches]\npoll_interval = \"50ms\"\nfallback_poll_interval = \"1500ms\"\n\
                   repoll = { min = \"50ms\", max = \"50ms\" }\n";
    let server = Server::start(&place, &format!("{batches}{section}"));
    let ids = new_ids(5);
    submit_as(&trace, &ids, Fate::StayPending);
    server.track("trace", "", &ids).await;
    asked(&trace, 1).await;
    let first = Instant::now();
    asked(&trace, 3).await;
    let took = first.elapsed();
    assert!(
        took > Duration::from_millis(2500),
        "two more polls within {took:?}"
    );

    // Far from due: on demand it is asked at once. What was asked just now is
    // written first, which says when it is due next.
    until("the third answer is written", PATIENCE, async || {
        let rows = server.rows("ledger=trace").await;
        if rows.iter().all(|row| row["polls"] == 3) {
            Ok(())
        } else {
            Err(format!("{rows:?}"))
        }
    })
    .await;
    let before = trace.stats().requests;
    let demanded = Instant::now();
    let (status, answer) = server
        .post("/v1/batches/poll-now", &json!({"ledger": "trace"}), None)
        .await;
    assert_eq!((status, &answer["due"]), (200, &5.into()), "{answer}");
    asked(&trace, before + 1).await;
    assert!(
        demanded.elapsed() < Duration::from_secs(1),
        "{:?}",
        demanded.elapsed()
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poll_now_makes_a_batch_due_at_once() {
    let trace = sim(LedgerKind::Sawtooth, |_| {});
    let place = Place::new(Db::Sqlite);
    let section = ledger("trace", LedgerKind::Sawtooth, &trace, "");
    let batches = "[batches]\nrepoll = { min = \"1h\", max = \"1h\" }\n";
    let server = Server::start(&place, &format!("{batches}{section}"));
    let ids = new_ids(2);
    // Not known yet when they are asked for first.
    server.track("trace", "", &ids).await;
    until("both were polled", PATIENCE, async || {
        let rows = server.rows("ledger=trace").await;
        if rows.iter().all(|row| row["polls"] == 1) {
            Ok(())
        } else {
            Err(format!("{rows:?}"))
        }
    })
    .await;
    submit_as(&trace, &ids, Fate::Commit);
    let body = json!({"batches": [{"ledger": "trace", "batch_id": ids[0]}]});
    let (status, answer) = server.post("/v1/batches/poll-now", &body, None).await;
    assert_eq!((status, &answer["due"]), (200, &1.into()), "{answer}");
    until("it is committed", PATIENCE, async || {
        let rows = server.rows("ledger=trace&status=committed").await;
        if rows.len() == 1 {
            Ok(())
        } else {
            Err(format!("{rows:?}"))
        }
    })
    .await;
    let waiting = server.rows("ledger=trace&status=pending").await;
    assert_eq!(
        (waiting.len(), &waiting[0]["polls"]),
        (1, &1.into()),
        "the other one waits"
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_does_not_hammer_a_failing_ledger_afresh() {
    for (db, kind) in [
        (Db::Sqlite, LedgerKind::Sawtooth),
        (Db::Postgres, LedgerKind::Splinter),
    ] {
        // All of them remembered: forgetting is another matter.
        let failing = sim(kind, |options| options.remember = Some(0));
        failing.set_behaviour(&Behaviour::always(Fault::Fail));
        let place = Place::new(db);
        let section = ledger(
            "trace",
            kind,
            &failing,
            "connections = 8\nids_per_request = 5",
        );
        let batches =
            "[batches]\npoll_interval = \"50ms\"\nbackoff = { min = \"4s\", max = \"4s\" }\n";
        let config = format!("{batches}{section}");
        let service = if kind == LedgerKind::Sawtooth {
            ""
        } else {
            "circuit::s"
        };
        let server = Server::start(&place, &config);
        submit(&server, "trace", &failing, service, &new_ids(200)).await;
        until("it is backed off", PATIENCE, async || {
            let troubles = server.troubles("trace").await;
            if troubles.contains("500") {
                Ok(())
            } else {
                Err(troubles)
            }
        })
        .await;
        let failed_at = Instant::now();
        server.stop();
        let before = failing.stats().requests;
        let server = Server::start(&place, &config);
        until("the ledger is held again", PATIENCE, async || {
            let view = server.view("trace").await;
            if view["held"] == true {
                Ok(())
            } else {
                Err(view.to_string())
            }
        })
        .await;
        let watched = Instant::now();
        until("a second is over", PATIENCE, async || {
            let requests = failing.stats().requests - before;
            // The backoff is 2 to 4 s from the failure on.
            let resting = failed_at.elapsed() < Duration::from_millis(1500);
            assert!(
                !resting || requests == 0,
                "{requests} requests right after the restart"
            );
            if watched.elapsed() > Duration::from_secs(1) {
                Ok(())
            } else {
                Err(String::new())
            }
        })
        .await;
        failing.set_behaviour(&Behaviour::default());
        server.all_settle("trace").await;
        server.assert_true("trace", &failing, 200).await;
        server.stop();
    }
}
