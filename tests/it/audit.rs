//! The audit: what was recorded is listed newest first, page by page, and
//! goes when it is old; reviving from a shell is recorded.

use crate::command_line::Place;
use crate::support::{Database, on_both_databases};
use highwater::config::{self, LoadOptions};
use highwater::store::{AuditFilter, AuditOutcome, NewAudit, Store};
use highwater::time::Timestamp;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

on_both_databases!(what_is_recorded_is_listed_and_pruned);

async fn open(database: &Database) -> Store {
    let text = database.section("auditor");
    let base = Path::new("/");
    let loaded = config::parse(&text, "t.toml", base, [], LoadOptions::default()).unwrap();
    Store::open(&loaded.settings.database).await.unwrap()
}

fn row(n: usize) -> NewAudit {
    NewAudit {
        who: format!("who{}", n % 2),
        action: if n < 3 { "services.restart" } else { "reload" }.to_owned(),
        target: format!("target{n}"),
        details: (n != 4).then(|| json!({ "n": n })),
        outcome: [
            AuditOutcome::Done,
            AuditOutcome::Refused,
            AuditOutcome::Failed,
        ][n % 3],
        problem: (!n.is_multiple_of(3)).then(|| "so\0so".to_owned()),
    }
}

async fn what_is_recorded_is_listed_and_pruned(database: &Database) {
    let store = open(database).await;
    let begun = Timestamp::now();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(store.record_audit(row(n)).await.unwrap());
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");

    let all = AuditFilter::default();
    let first = store.list_audit(&all, 2, None).await.unwrap();
    let second = store.list_audit(&all, 2, first.next).await.unwrap();
    let third = store.list_audit(&all, 2, second.next).await.unwrap();
    assert_eq!(third.next, None);
    let rows = [first.rows, second.rows, third.rows].concat();
    let listed: Vec<i64> = rows.iter().map(|row| row.id).collect();
    ids.reverse();
    assert_eq!(listed, ids, "newest first, each once");
    let newest = serde_json::to_value(&rows[0]).unwrap();
    assert_eq!(newest["details"], Value::Null);
    assert_eq!(newest["outcome"], "refused");
    assert_eq!(newest["problem"], "so\u{fffd}so");
    assert_eq!(serde_json::to_value(&rows[1]).unwrap()["details"]["n"], 3);
    // The database's clock is this machine's here.
    assert!(
        rows[0].at >= begun.minus(Duration::from_secs(1)),
        "{rows:?}"
    );

    let counted = async |filter: AuditFilter| {
        let page = store.list_audit(&filter, 100, None).await.unwrap();
        page.rows.len()
    };
    let restarts = AuditFilter {
        action: Some("services.restart".to_owned()),
        ..AuditFilter::default()
    };
    assert_eq!(counted(restarts.clone()).await, 3);
    let by_one = AuditFilter {
        who: Some("who1".to_owned()),
        ..restarts.clone()
    };
    assert_eq!(counted(by_one).await, 1);
    let of_two = AuditFilter {
        target: Some("target2".to_owned()),
        ..restarts
    };
    assert_eq!(counted(of_two).await, 1);

    // Nothing is old yet; then three are, and go two at a time, oldest first.
    let month = begun.minus(Duration::from_secs(30 * 86_400));
    assert_eq!(store.prune_audit(month, 2).await.unwrap(), 0);
    database
        .run("UPDATE audit SET at = '2026-01-01 00:00:00' WHERE target < 'target3'")
        .await
        .unwrap();
    let before = Timestamp::parse("2026-02-01 00:00:00").unwrap();
    for pruned in [2, 1, 0] {
        assert_eq!(store.prune_audit(before, 2).await.unwrap(), pruned);
    }
    assert_eq!(counted(AuditFilter::default()).await, 2);
    // Texts that are too long are cut, not refused.
    let long = NewAudit {
        who: "w".repeat(100_000),
        problem: Some("p".repeat(100_000)),
        details: Some(json!({ "ids": vec!["i"; 100_000] })),
        ..row(0)
    };
    store.record_audit(long).await.unwrap();
    let page = store
        .list_audit(&AuditFilter::default(), 1, None)
        .await
        .unwrap();
    let shown = serde_json::to_string(&page.rows[0]).unwrap();
    assert!(shown.len() < 20_000, "{}", shown.len());
}

#[test]
fn reviving_from_a_shell_is_recorded() {
    let place = Place::new();
    let id = "a".repeat(128);
    place.done(&["batches", "track", "--ledger", "trace", &id]);
    let none = place.done(&["audit", "--output", "json"]);
    assert_eq!(none.trim(), r#"{"items":[],"next":null}"#);
    let pending = place.run(&["batches", "revive", "--ledger", "trace", &id], "");
    assert_eq!(pending.code, 1, "{pending:?}");
    place.done(&[
        "batches", "revive", "--ledger", "trace", "--status", "lost", "--all",
    ]);

    let listed = place.done(&["audit", "--output", "json", "--action", "batches.revive"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let (done, refused) = (&listed["items"][0], &listed["items"][1]);
    assert_eq!(
        (&done["outcome"], &done["target"]),
        (&"done".into(), &"trace".into())
    );
    assert_eq!(
        (&done["details"]["status"], &done["details"]["revived"]),
        (&"lost".into(), &0.into())
    );
    assert_eq!(refused["outcome"], "refused");
    assert!(
        refused["problem"].as_str().unwrap().contains("is pending"),
        "{refused}"
    );
    let who = done["who"].as_str().unwrap();
    assert!(
        who.starts_with("command line (") && who.ends_with(')'),
        "{who}"
    );
    let table = place.done(&["audit", "--limit", "1"]);
    assert!(
        table.contains("batches.revive") && !table.contains("refused"),
        "{table}"
    );
    let wrong = place.run(&["audit", "--limit", "0"], "");
    assert_eq!(wrong.code, 2);
}
