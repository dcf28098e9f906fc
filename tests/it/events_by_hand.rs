//! Events from a shell: how subscriptions stand, lists, one event's story, orders
//! and what is known.

use crate::command_line::{Ended, program};
use crate::events_store::{heard, name, open};
use crate::support::{Database, Installation, on_both_databases};
use highwater::flows::events::{EventChange, Place};
use highwater::store::{MarkGroup, RecordGroup, Store};
use highwater::time::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

on_both_databases!(
    events_are_listed_and_shown_with_their_story,
    a_halt_is_ended_by_retry_or_skip_and_recorded,
    pauses_and_replays_are_ordered_from_a_shell,
    ids_and_keys_are_made_known_and_forgotten,
);

fn installation(database: &Database) -> Installation {
    let place = Installation::new(
        database,
        "events",
        "\n[[subscriptions]]\nname = \"claims\"\nhook_secret_file = \"hook.secret\"\n\
         [[subscriptions]]\nname = \"quiet\"\nhook_secret_file = \"hook.secret\"\n",
    );
    std::fs::write(place.path().join("hook.secret"), "a-secret-of-the-hook").unwrap();
    place
}

fn run(place: &Installation, args: &[&str], input: &str) -> Ended {
    let mut command = program(place.path());
    let args = [&["events"], args].concat();
    Ended::from(command.args(args).write_stdin(input).output().unwrap())
}

/// Runs what is to succeed; answers its JSON.
fn done(place: &Installation, args: &[&str]) -> Value {
    let ended = run(place, &[args, &["-o", "json"]].concat(), "");
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
    serde_json::from_str(&ended.out).unwrap()
}

fn audit(place: &Installation) -> Vec<Value> {
    let mut command = program(place.path());
    let out = command.args(["audit", "-o", "json"]).output().unwrap();
    let page: Value = serde_json::from_slice(&out.stdout).unwrap();
    page["items"].as_array().unwrap().clone()
}

/// Records three events of `claims`, in blocks 5 to 7.
async fn record(store: &Store) {
    let events = (5..=7).map(|block| (heard(block, &format!("t{block}"), "0"), false));
    let group = RecordGroup {
        subscription: name("claims"),
        heard: events.collect(),
        source_state: None,
    };
    store.record_events(vec![group]).await.unwrap();
}

/// Has `claims` halted on its first event.
async fn halt(store: &Store) {
    let names = ["events:claims".to_owned()];
    let long = Duration::from_secs(60);
    let held = store.hold_leases("server-1", &names, long, false).await;
    let stake = held.unwrap().remove(0);
    let place = Place {
        block: 5,
        rank: 0,
        arrival: 1,
    };
    let error = "the consumer answered 503".to_owned();
    let changes = vec![
        EventChange::Failed {
            place,
            attempts: 5,
            error: error.clone(),
        },
        EventChange::Halted {
            place,
            at: Timestamp::now(),
            error,
        },
    ];
    let orders = store.checkpoint("claims").await.unwrap().orders;
    let group = MarkGroup {
        subscription: name("claims"),
        stake,
        orders,
        changes: changes.into(),
    };
    let written = store.mark_events("server-1", vec![group]).await;
    assert_eq!(written.unwrap(), [true]);
    store.release_leases("server-1", &names).await.unwrap();
}

async fn events_are_listed_and_shown_with_their_story(database: &Database) {
    let place = installation(database);
    record(&open(database).await).await;
    let all = done(&place, &["status"]);
    assert_eq!(all["items"][0]["name"], "claims");
    assert_eq!(all["items"][0]["open"], 3);
    assert_eq!(all["items"][0]["lag_blocks"], 2);
    assert_eq!(all["items"][0]["state"], "not_run");
    assert_eq!(all["items"][1]["name"], "quiet");
    assert_eq!(done(&place, &["status", "quiet"])["open"], 0);
    let arrivals = |page: &Value| -> Vec<i64> {
        let items = page["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["arrival"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(arrivals(&done(&place, &["list", "claims"])), [3, 2, 1]);
    let by_block = done(&place, &["list", "claims", "--block", "6", "--open"]);
    assert_eq!(arrivals(&by_block), [2]);
    let by_tx = done(&place, &["list", "claims", "--tx", "t7"]);
    assert_eq!(arrivals(&by_tx), [3]);
    let none = done(&place, &["list", "claims", "--decision", "skipped"]);
    assert_eq!(arrivals(&none), [0; 0]);
    let first = done(&place, &["list", "claims", "--limit", "2"]);
    let next = first["next"].as_str().unwrap();
    let older = done(
        &place,
        &["list", "claims", "--limit", "2", "--cursor", next],
    );
    assert_eq!((arrivals(&first), arrivals(&older)), (vec![3, 2], vec![1]));

    let one = done(&place, &["show", "claims", "2"]);
    assert_eq!(one["payload"]["tx"], "t6");
    assert!(
        one["story"][0]["what"]
            .as_str()
            .unwrap()
            .contains("arrival 2 in block 6")
    );
    let shown = run(&place, &["show", "claims", "2"], "");
    assert!(shown.out.contains("not decided yet"), "{}", shown.out);
    assert!(shown.out.contains("é \\\"quoted\\\""), "{}", shown.out);

    for (args, code, words) in [
        (&["show", "claims", "99"][..], 1, "no event of arrival 99"),
        (&["list", "nobody"], 2, "known: claims, quiet"),
        (&["status", "a b"], 2, "is no name of a subscription"),
        (
            &["list", "claims", "--decision", "maybe"],
            2,
            "pending, relevant",
        ),
        (&["list", "--open"], 2, "SUBSCRIPTION"),
    ] {
        let ended = run(&place, args, "");
        assert_eq!(ended.code, code, "{args:?}: {ended:?}");
        assert!(ended.err.contains(words), "{args:?}: {}", ended.err);
    }
}

async fn a_halt_is_ended_by_retry_or_skip_and_recorded(database: &Database) {
    let place = installation(database);
    let store = open(database).await;
    record(&store).await;
    let refused = run(&place, &["retry", "claims", "--reason", "try"], "");
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("is not halted"), "{}", refused.err);
    halt(&store).await;
    let status = done(&place, &["status", "claims"]);
    assert_eq!(status["state"], "halted");
    assert_eq!(status["halted"]["arrival"], 1);
    let words = run(&place, &["status"], "").out;
    assert!(words.contains("the consumer answered 503"), "{words}");
    for args in [
        &["retry", "claims"][..],
        &["retry", "claims", "--reason", "  "],
    ] {
        let ended = run(&place, args, "");
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains("reason"), "{}", ended.err);
    }
    let retried = done(&place, &["retry", "claims", "--reason", "it is back"]);
    assert_eq!(
        retried,
        json!({"subscription": "claims", "arrival": 1, "events": null})
    );
    halt(&store).await;
    let skipped = done(&place, &["skip", "claims", "--reason", "theirs"]);
    assert_eq!(skipped["arrival"], 1);
    let named = run(
        &place,
        &["skip", "claims", "2", "--reason", "theirs too"],
        "",
    );
    assert_eq!(
        (named.code, named.out.as_str()),
        (0, "event 2 of claims is skipped\n")
    );
    let one = done(&place, &["show", "claims", "1"]);
    assert_eq!(
        (one["decision"].as_str(), one["last_error"].as_str()),
        (Some("skipped"), Some("theirs"))
    );

    let rows = audit(&place);
    let told: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| {
            (
                row["action"].as_str().unwrap(),
                row["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("subscriptions.skip", "done"),
            ("subscriptions.skip", "done"),
            ("subscriptions.retry", "done"),
            ("subscriptions.retry", "refused"),
        ]
    );
    assert_eq!(rows[0]["target"], "claims");
    assert!(rows[0].to_string().contains("theirs too"), "{}", rows[0]);
}

async fn pauses_and_replays_are_ordered_from_a_shell(database: &Database) {
    let place = installation(database);
    // Before its first event, too.
    let paused = run(&place, &["pause", "quiet", "--reason", "it is moved"], "");
    assert_eq!((paused.code, paused.out.as_str()), (0, "quiet is paused\n"));
    let status = done(&place, &["status", "quiet"]);
    assert_eq!(
        (&status["state"], &status["paused"]["reason"]),
        (&json!("paused"), &json!("it is moved"))
    );
    let again = run(&place, &["pause", "quiet", "--reason", "again"], "");
    assert_eq!(again.code, 1);
    assert!(again.err.contains("paused already"), "{}", again.err);
    done(&place, &["resume", "quiet", "--reason", "it was moved"]);
    assert_eq!(done(&place, &["status", "quiet"])["state"], "not_run");

    record(&open(database).await).await;
    let replayed = done(
        &place,
        &["replay", "claims", "--from-block", "6", "--reason", "lost"],
    );
    assert_eq!(replayed["events"], 0, "all are open still");
    let ahead = run(
        &place,
        &["replay", "claims", "--from-block", "8", "--reason", "lost"],
        "",
    );
    assert_eq!(ahead.code, 1);
    assert!(ahead.err.contains("its highest is 7"), "{}", ahead.err);
}

async fn ids_and_keys_are_made_known_and_forgotten(database: &Database) {
    let place = installation(database);
    let added = run(
        &place,
        &["known", "add", "--tx", "t1", "--tx", "t2", "--key", "k1"],
        "",
    );
    assert_eq!(
        (added.code, added.out.as_str()),
        (0, "3 made known, 0 known already\n")
    );
    let input = "t2\nt3\n{\"key\":\"k1\"}\n{\"tx\":\"t4\",\"key\":\"k2\"}\n\n{\"id\":1}\n{}\n";
    let ended = run(
        &place,
        &["known", "add", "--file", "-", "-o", "json"],
        input,
    );
    assert_eq!(ended.code, 1, "{ended:?}");
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (&report["changed"], &report["unchanged"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(
        (&report["refused"], &report["errors"][0]["line"]),
        (&json!(2), &json!(6))
    );
    let file = place.path().join("keys.txt");
    std::fs::write(&file, "k1\nk2\nk3\n").unwrap();
    let file = file.to_str().unwrap();
    let removed = run(
        &place,
        &["known", "remove", "--file", file, "--lines", "key"],
        "",
    );
    assert_eq!(
        (removed.code, removed.out.as_str()),
        (0, "2 forgotten, 1 not known\n")
    );
    let left = "SELECT count(*) AS value FROM known_transactions";
    assert_eq!(database.number(left).await, 4);
    assert_eq!(
        database
            .number("SELECT count(*) AS value FROM known_keys")
            .await,
        0
    );
    for (args, words) in [
        (&["known", "add"][..], "nothing is named"),
        (&["known", "add", "--tx", ""], "expected 1 to 256"),
    ] {
        let ended = run(&place, args, "");
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(words), "{}", ended.err);
    }
}
