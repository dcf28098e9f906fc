//! Datasets and replicas from a shell: what is published, how copies stand, and
//! orders to them, without a server at the replica.

use crate::command_line::{Ended, program};
use crate::replicas_support::{Node, another, numbered, publish};
use crate::support::{Database, Installation, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(
    values_are_published_and_shown_and_recorded,
    what_makes_no_sense_is_refused_with_words,
    what_is_not_configured_any_more_is_dropped,
    a_replica_is_copied_and_put_right_without_a_server,
);

const SECTIONS: &str = "\n[[datasets]]\nname = \"prices\"\n[[datasets]]\nname = \"table\"\n\
    source = \"batches\"\n[[replicas]]\nname = \"copy\"\nupstream = \"http://127.0.0.1:9\"\n";

fn run(place: &Installation, args: &[&str]) -> Ended {
    let mut command = program(place.path());
    Ended::from(command.args(args).output().unwrap())
}

/// Runs what is to succeed; answers its JSON.
fn done(place: &Installation, args: &[&str]) -> Value {
    let ended = run(place, &[args, &["-o", "json"]].concat());
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
    serde_json::from_str(&ended.out).unwrap()
}

async fn values_are_published_and_shown_and_recorded(database: &Database) {
    let place = Installation::new(database, "datasets", SECTIONS);
    let listed = done(&place, &["datasets", "list"]);
    assert_eq!(listed["items"][0]["name"], "prices");
    assert_eq!(listed["items"][0]["head"], Value::Null);
    assert_eq!(listed["items"][1]["source"], "batches");

    let big = "12345678901234567890.10";
    let put = [
        "datasets",
        "put",
        "prices",
        "eur/usd",
        big,
        "a",
        "{\"b\":[1]}",
    ];
    let first = done(&place, &put);
    assert_eq!(first["head"], 1);
    let shown = run(&place, &["datasets", "show", "prices", "--key", "eur/usd"]);
    assert_eq!(shown.out.trim(), big, "numbers keep their digits");
    let text = [
        "datasets",
        "put",
        "prices",
        "name",
        "He said \"no\"",
        "--text",
    ];
    assert_eq!(run(&place, &text).code, 0);
    let shown = run(&place, &["datasets", "show", "prices", "--key", "name"]);
    assert_eq!(shown.out.trim(), r#""He said \"no\"""#);
    let gone = [
        "datasets",
        "delete",
        "prices",
        "a",
        "never",
        "--if-head",
        "2",
    ];
    assert_eq!(done(&place, &gone)["head"], 3);
    let late = run(&place, &gone);
    assert_eq!(late.code, 1);
    assert!(
        late.err.contains("the head of \"prices\" is 3"),
        "{}",
        late.err
    );
    let report = done(&place, &["datasets", "show", "prices"]);
    assert_eq!((&report["head"], &report["len"]), (&json!(3), &json!(2)));
    assert_eq!(report["history_changes"], 5);

    let why = ["--reason", "a backup was restored"];
    let epoch = done(
        &place,
        &[&["datasets", "new-epoch", "prices"][..], &why].concat(),
    );
    assert_ne!(epoch["epoch"], report["epoch"]);
    let after = done(&place, &["datasets", "show", "prices"]);
    assert_eq!(after["epoch"], epoch["epoch"]);
    assert_eq!(after["oldest_head"], after["head"]);

    let audit = done(&place, &["audit"]);
    let told: Vec<(&str, &str)> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap();
            (text("action"), text("outcome"))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("datasets.new-epoch", "done"),
            ("datasets.delete", "refused"),
            ("datasets.delete", "done"),
            ("datasets.put", "done"),
            ("datasets.put", "done"),
        ]
    );
}

async fn what_is_not_configured_any_more_is_dropped(database: &Database) {
    let place = Installation::new(database, "datasets", SECTIONS);
    done(&place, &["datasets", "put", "prices", "a", "1"]);
    let drop = ["datasets", "drop", "prices", "--reason", "moved away"];
    for order in [&drop[..], &["replicas", "drop", "copy"]] {
        let refused = run(&place, order);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.err.contains("take it out first"), "{}", refused.err);
    }
    place.reconfigure(database, "datasets", "");
    assert_eq!(done(&place, &drop)["dropped"], "prices");
    assert_eq!(done(&place, &["datasets", "list"])["items"], json!([]));
    for (order, words) in [
        (&drop[..], "no dataset \"prices\""),
        (&["replicas", "drop", "copy"], "no replica \"copy\""),
    ] {
        let unknown = run(&place, order);
        assert_eq!(unknown.code, 2, "{unknown:?}");
        assert!(unknown.err.contains(words), "{}", unknown.err);
    }
    let audit = done(&place, &["audit"]);
    let last = &audit["items"][0];
    assert_eq!(
        (
            &last["action"],
            &last["outcome"],
            &last["details"]["reason"]
        ),
        (
            &json!("datasets.drop"),
            &json!("done"),
            &json!("moved away")
        )
    );
    let actions: Vec<&Value> = audit["items"].as_array().unwrap().iter().collect();
    assert_eq!(actions.len(), 4, "{actions:?}");
}

async fn what_makes_no_sense_is_refused_with_words(database: &Database) {
    let place = Installation::new(database, "datasets", SECTIONS);
    for (args, code, words) in [
        (
            &["datasets", "put", "prices", "a", "text"][..],
            2,
            "give --text",
        ),
        (
            &["datasets", "put", "prices", "a", "1", "b"],
            2,
            "\"b\" has no value",
        ),
        (&["datasets", "put", "prices", "", "1"], 2, "a key is empty"),
        (
            &["datasets", "put", "other", "a", "1"],
            2,
            "known: prices, table",
        ),
        (
            &["datasets", "put", "table", "a", "1"],
            1,
            "what the table batches holds",
        ),
        (&["datasets", "put", "a b", "a", "1"], 2, "is no name"),
        (&["datasets", "show", "other"], 2, "known: prices"),
        (
            &["datasets", "show", "prices", "--key", "a"],
            1,
            "has no key \"a\"",
        ),
        (
            &["datasets", "new-epoch", "prices"],
            1,
            "nothing was published",
        ),
        (
            &["datasets", "new-epoch", "prices", "--reason", " "],
            2,
            "say why",
        ),
        (&["replicas", "show", "other"], 2, "known: copy"),
        (&["replicas", "verify", "copy"], 1, "has no copy yet"),
        (&["replicas", "verify", "other"], 2, "known: copy"),
        (
            &["replicas", "show", "copy", "--watch", "--within", "300ms"],
            1,
            "not whole after 300ms",
        ),
        (&["replicas", "bootstrap", "copy"], 1, "no upstream answers"),
    ] {
        let ended = run(&place, args);
        assert_eq!(ended.code, code, "{args:?}: {ended:?}");
        assert!(ended.err.contains(words), "{args:?}: {}", ended.err);
    }
    let listed = done(&place, &["replicas", "list"]);
    assert_eq!(listed["items"][0]["state"], "waiting");
}

async fn a_replica_is_copied_and_put_right_without_a_server(database: &Database) {
    let sections = "[[datasets]]\nname = \"prices\"\n";
    let publisher = Node::new(database, "publisher", sections);
    let server = publisher.serve().await;
    publish(&server, "prices", numbered(0..2500, "first")).await;

    let kept = another(database);
    let sections = format!(
        "\n[[replicas]]\nname = \"copy\"\nupstream = \"{}\"\ndataset = \"prices\"\nchunk = 300\n",
        publisher.url()
    );
    let place = Installation::new(&kept, "follower", &sections);
    let copied = done(&place, &["replicas", "bootstrap", "copy"]);
    assert_eq!((&copied["len"], &copied["head"]), (&json!(2500), &json!(1)));
    assert_eq!(
        (&copied["done"], &copied["server"]),
        (&json!(true), &Value::Null)
    );
    let whole = run(&place, &["replicas", "show", "copy", "--watch"]);
    assert_eq!(whole.code, 0, "{whole:?}");
    assert!(whole.out.contains("1 ordered"), "{}", whole.out);
    let equal = run(&place, &["replicas", "verify", "copy"]);
    assert_eq!(equal.out.trim(), "copy equals its upstream", "{equal:?}");

    // Somebody wrote to the tables.
    for sql in [
        "DELETE FROM dataset_entries WHERE key = 'k00700'",
        "UPDATE dataset_entries SET value = '\"wrong\"' WHERE key = 'k02100'",
    ] {
        kept.run(sql).await.unwrap();
    }
    // And the publisher went on.
    publish(&server, "prices", numbered(10..20, "second")).await;
    let repaired = done(
        &place,
        &["replicas", "verify", "copy", "--reason", "a test"],
    );
    assert!(repaired["differences"].as_u64().unwrap() >= 1, "{repaired}");
    assert_eq!(repaired["len"], 2500, "{repaired}");
    let again = done(&place, &["replicas", "verify", "copy"]);
    assert_eq!(again["differences"], 0);
    let report = done(&place, &["replicas", "show", "copy"]);
    assert_eq!(
        (&report["head"], &report["state"]),
        (&json!(2), &json!("waiting"))
    );
    assert!(report["repairs"].as_u64().unwrap() >= 1, "{report}");
    let audit = done(&place, &["audit", "--action", "replicas.verify"]);
    assert_eq!(audit["items"][1]["details"]["reason"], "a test");
}
