//! The database's own bulk tool, and the comparison of both contents by SQL.

use super::frame::Place;
use super::session::Session;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long the database itself takes to copy the entries of the one dataset
/// there is, as they rest, into an empty table like theirs with its index: on
/// PostgreSQL `COPY … TO STDOUT` into `COPY … FROM STDIN`, each by a psql; on
/// SQLite `INSERT … SELECT` from the attached file into another.
pub(crate) fn bulk(runtime: &Runtime, from: &Place, to: &Place) -> Duration {
    to.clear(runtime);
    let took = runtime.block_on(async {
        match from.url.strip_prefix("sqlite://") {
            Some(path) => sqlite(path, to).await,
            None => postgres(from, to).await,
        }
    });
    to.clear(runtime);
    took
}

async fn sqlite(path: &str, to: &Place) -> Duration {
    let mut session = Session::open(to).await;
    session
        .batch(&format!(
            "CREATE TABLE dataset_entries (generation BIGINT NOT NULL, key TEXT NOT NULL, \
             value TEXT NOT NULL, PRIMARY KEY (generation, key)) WITHOUT ROWID; \
             ATTACH '{path}' AS publisher"
        ))
        .await;
    let begun = Instant::now();
    session
        .batch(
            "BEGIN IMMEDIATE; INSERT INTO dataset_entries SELECT generation, key, value \
             FROM publisher.dataset_entries; COMMIT",
        )
        .await;
    begun.elapsed()
}

async fn postgres(from: &Place, to: &Place) -> Duration {
    let mut session = Session::open(to).await;
    let (from, to, url) = (from.schema, to.schema, &to.url);
    session
        .batch(&format!(
            "CREATE SCHEMA {to}; \
             CREATE TABLE {to}.dataset_entries (LIKE {from}.dataset_entries INCLUDING ALL)"
        ))
        .await;
    let pipe = format!(
        "set -o pipefail; psql -q '{url}' -c 'COPY {from}.dataset_entries TO STDOUT' \
         | psql -q '{url}' -c 'COPY {to}.dataset_entries FROM STDIN'"
    );
    let begun = Instant::now();
    let status = Command::new("bash").args(["-c", &pipe]).status().unwrap();
    assert!(status.success(), "{pipe}");
    begun.elapsed()
}

/// What the publisher holds, in entries and in bytes of keys and values.
///
/// # Panics
/// The follower does not hold the same.
pub(crate) fn compare(runtime: &Runtime, publisher: &Place, follower: &Place) -> (i64, i64) {
    runtime.block_on(async {
        let mut session = Session::open(publisher).await;
        let (dataset, replica) = match follower.url.strip_prefix("sqlite://") {
            Some(path) => {
                session.batch(&format!("ATTACH '{path}' AS follower")).await;
                ("main", "follower")
            }
            None => (publisher.schema, follower.schema),
        };
        let dataset = format!("SELECT key, value FROM {dataset}.published_entries");
        let replica = format!("SELECT key, value FROM {replica}.replica_entries");
        let ways = [
            ("are missing", &dataset, &replica),
            ("are too many", &replica, &dataset),
        ];
        for (what, these, those) in ways {
            let query =
                format!("SELECT count(*) AS n FROM (SELECT * FROM ({these}) a EXCEPT {those}) d");
            let n = session.number(&query).await;
            assert_eq!(n, 0, "{n} entries of the replica {what}, or differ");
        }
        let counted = format!("SELECT count(*) AS n FROM ({dataset}) d");
        let size = format!(
            "SELECT CAST(sum(octet_length(key) + octet_length(value)) AS BIGINT) AS n \
             FROM ({dataset}) d"
        );
        (session.number(&counted).await, session.number(&size).await)
    })
}
