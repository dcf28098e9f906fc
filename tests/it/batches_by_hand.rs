//! `highwater batches`: tracking, listing, showing and reviving from a shell.

use crate::command_line::Place;
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use serde_json::Value;

const SERVICE: &str = "btXBt-Rb4VS::a000";

fn id(digit: char) -> String {
    digit.to_string().repeat(128)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// What an application or a server would have done to the table.
fn sql(place: &Place, statement: &str) {
    let path = place.folder.path().join("highwater.db");
    let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    conn.batch_execute(statement).unwrap();
}

#[test]
fn tracking_twice_does_no_harm() {
    let place = Place::new();
    let (a, b) = (id('a'), id('b'));
    let track = ["batches", "track", "--ledger", "trace", "--output", "json"];
    let first = place.done(&[&track[..], &[&a]].concat());
    assert_eq!(json(&first)["accepted"], 1);
    let second = json(&place.done(&[&track[..], &[&a, &b]].concat()));
    assert_eq!(
        (&second["accepted"], &second["known"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn wrong_ids_are_refused_before_anything_is_tracked() {
    let place = Place::new();
    let a = id('a');
    let ended = place.run(
        &["batches", "track", "--ledger", "trace", &a, "XYZ", "0x12"],
        "",
    );
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("XYZ") && ended.err.contains("0x12"));
    let ended = place.run(&["batches", "track", "--ledger", "tracee", &a], "");
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("supply-chain, trace"), "{}", ended.err);
    // A Splinter batch went to a service; a Sawtooth batch did not.
    let ended = place.run(&["batches", "track", "--ledger", "supply-chain", &a], "");
    assert_eq!(ended.code, 2);
    let list = json(&place.done(&["batches", "list", "--output", "json"]));
    assert_eq!(list["items"], Value::Array(Vec::new()));
}

#[test]
fn bad_lines_are_named_and_good_ones_kept() {
    let place = Place::new();
    let (a, b) = (id('a'), id('b'));
    let input = format!(
        "{{\"ledger\":\"trace\",\"service_id\":\"\",\"batch_id\":\"{a}\"}}\n\
         nonsense\n\
         \n\
         {{\"ledger\":\"nowhere\",\"batch_id\":\"{a}\"}}\n\
         {{\"ledger\":\"supply-chain\",\"service_id\":\"{SERVICE}\",\"batch_id\":\"{b}\",\
           \"transaction_ids\":[\"t1\",\"t2\"]}}\n\
         {{\"ledger\":\"trace\",\"batch_id\":\"short\"}}"
    );
    let ended = place.run(&["batches", "track", "--output", "json"], &input);
    assert_eq!(ended.code, 1, "{ended:?}");
    let report = json(&ended.out);
    assert_eq!(
        (&report["accepted"], &report["refused"]),
        (&2.into(), &3.into())
    );
    let lines: Vec<_> = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["line"].as_i64().unwrap())
        .collect();
    assert_eq!(lines, [2, 4, 6]);
    for line in ["line 2: ", "line 4: ", "line 6: "] {
        assert!(ended.err.contains(line), "{}", ended.err);
    }
    let shown = place.done(&[
        "batches",
        "show",
        "--ledger",
        "supply-chain",
        &b,
        "--output",
        "json",
    ]);
    assert_eq!(
        json(&shown)["transaction_ids"],
        serde_json::json!(["t1", "t2"])
    );
}

#[test]
fn a_dash_reads_standard_input_and_options_fill_in() {
    let place = Place::new();
    let input = format!("{{\"batch_id\":\"{}\"}}\n", id('a'));
    let ended = place.run(&["batches", "track", "--ledger", "trace", "-"], &input);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    assert_eq!(ended.out, "1 batch tracked, 0 known already\n");
    let nothing = place.run(&["batches", "track"], "");
    assert_eq!(
        (nothing.code, nothing.out.as_str()),
        (0, "0 batches tracked, 0 known already\n")
    );
}

#[test]
fn many_lines_are_tracked_in_their_order() {
    use std::fmt::Write;
    let place = Place::new();
    let mut input = String::new();
    for number in 0..12_000 {
        writeln!(
            input,
            "{{\"ledger\":\"trace\",\"batch_id\":\"{number:0128x}\"}}"
        )
        .unwrap();
    }
    let ended = place.run(&["batches", "track"], &input);
    assert_eq!(
        ended.out, "12000 batches tracked, 0 known already\n",
        "{ended:?}"
    );
    let page = json(&place.done(&["batches", "list", "--limit", "1", "--output", "json"]));
    assert_eq!(page["items"][0]["batch_id"], format!("{:0128x}", 11_999));
    assert_eq!(page["items"][0]["seq"], 12_000);
}

#[test]
fn lists_are_filtered_and_paged() {
    let place = Place::new();
    let (a, b, c) = (id('a'), id('b'), id('c'));
    place.done(&["batches", "track", "--ledger", "trace", &a, &b]);
    place.done(&[
        "batches",
        "track",
        "--ledger",
        "supply-chain",
        "--service",
        SERVICE,
        &c,
    ]);
    sql(
        &place,
        "UPDATE batches SET status = 'invalid' WHERE batch_id LIKE 'b%'",
    );
    let ids = |args: &[&str]| -> Vec<String> {
        let args = [&["batches", "list", "--output", "json"][..], args].concat();
        let page = json(&place.done(&args));
        let items = page["items"].as_array().unwrap();
        items
            .iter()
            .map(|row| row["batch_id"].as_str().unwrap()[..1].to_owned())
            .collect()
    };
    assert_eq!(ids(&[]), ["c", "b", "a"]);
    assert_eq!(ids(&["--ledger", "trace"]), ["b", "a"]);
    assert_eq!(ids(&["--service", SERVICE]), ["c"]);
    assert_eq!(ids(&["--status", "invalid"]), ["b"]);
    assert_eq!(ids(&["--id", "aaa"]), ["a"]);

    let first = json(&place.done(&["batches", "list", "--limit", "2", "--output", "json"]));
    let next = first["next"].to_string();
    assert_eq!(ids(&["--cursor", &next]), ["a"]);

    let table = place.done(&["batches", "list"]);
    assert!(table.starts_with("ledger"), "{table}");
    assert_eq!(table.lines().count(), 4);
    let none = place.run(&["batches", "list", "--ledger", "tracee"], "");
    assert_eq!((none.code, none.out.as_str()), (0, ""));
    assert!(none.err.contains("no ledger \"tracee\""), "{}", none.err);
}

#[test]
fn a_batch_is_shown_by_the_beginning_of_its_id() {
    let place = Place::new();
    let (a, b) = (id('a'), format!("ab{}", "0".repeat(126)));
    place.done(&["batches", "track", "--ledger", "trace", &a, &b]);
    sql(
        &place,
        "UPDATE batches SET status = 'invalid', invalid_transactions = \
         '[{\"id\":\"t9\",\"message\":\"no such account\"}]' WHERE batch_id LIKE 'ab%'",
    );
    let shown = place.done(&["batches", "show", "--ledger", "trace", "ab"]);
    assert!(
        shown.contains(&b) && shown.contains("no such account"),
        "{shown}"
    );

    let ended = place.run(&["batches", "show", "--ledger", "trace", "a"], "");
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains(&a) && ended.err.contains(&b));
    let ended = place.run(&["batches", "show", "--ledger", "trace", "ff"], "");
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("no batch \"ff\""), "{}", ended.err);
}

#[test]
fn only_what_was_given_up_is_revived() {
    let place = Place::new();
    let (a, b, c) = (id('a'), id('b'), id('c'));
    place.done(&["batches", "track", "--ledger", "trace", &a, &b, &c]);
    sql(
        &place,
        "UPDATE batches SET status = 'lost', settled_at = submitted_at, polls = 9; \
         UPDATE batches SET status = 'committed' WHERE batch_id LIKE 'c%'",
    );
    let ended = place.run(&["batches", "revive", "--ledger", "trace", &a, &c], "");
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.out, "1 batch revived\n");
    assert!(ended.err.contains("is committed"), "{}", ended.err);

    let revived = place.done(&[
        "batches", "revive", "--ledger", "trace", "--status", "lost", "--all",
    ]);
    assert_eq!(revived, "1 batch revived\n");
    let shown = json(&place.done(&[
        "batches", "show", "--ledger", "trace", &b, "--output", "json",
    ]));
    assert_eq!(
        (&shown["status"], &shown["polls"]),
        (&"pending".into(), &0.into())
    );
    assert_eq!(shown["settled_at"], Value::Null);
}

#[test]
fn reviving_at_a_ledger_that_nobody_knows_names_those_there_are() {
    let place = Place::new();
    let a = id('a');
    for more in [&[a.as_str()][..], &["--status", "lost", "--all"]] {
        let args = [&["batches", "revive", "--ledger", "tarce"][..], more].concat();
        let ended = place.run(&args, "");
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{ended:?}");
        assert!(
            ended.err.contains("no ledger \"tarce\"") && ended.err.contains("supply-chain, trace"),
            "{}",
            ended.err
        );
    }
    // One that is gone from the configuration has its batches still.
    place.done(&["batches", "track", "--ledger", "trace", &a]);
    sql(&place, "UPDATE batches SET ledger = 'old', status = 'lost'");
    let ended = place.run(&["batches", "revive", "--ledger", "old", &a], "");
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "1 batch revived\n"),
        "{ended:?}"
    );
    assert!(ended.err.contains("are not polled"), "{}", ended.err);
}

#[test]
fn a_result_stands_alone() {
    // Warnings on the configuration are for `check` and `serve`.
    let place = Place::with(
        "[http]\ncontrol_token_file = \"missing.token\"\n\
         [[ledgers]]\nname = \"trace\"\nkind = \"sawtooth\"\nurl = \"http://127.0.0.1:8008\"\n",
    );
    assert!(place.run(&["check"], "").err.contains("missing.token"));
    let a = id('a');
    let ended = place.run(&["batches", "track", "--ledger", "trace", &a], "");
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
}

#[test]
fn a_database_out_of_reach_ends_with_1() {
    let place = Place::with("[database]\nurl = \"postgres://nobody@127.0.0.1:1/none\"\n");
    for args in [&["migrate"][..], &["batches", "list"]] {
        let ended = place.run(args, "");
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.err.contains("out of reach"), "{}", ended.err);
        let named = "highwater: postgres://nobody@127.0.0.1:1/none: ";
        assert!(ended.err.contains(named), "{}", ended.err);
    }
}
