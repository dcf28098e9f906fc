//! How a page of a sweep is read from the database.

use super::traits::{BatchResult, PendingBatchStore};
use crate::store::{DueCursor, DueQuery, PendingBatch, Store};
use crate::time::Timestamp;
use std::time::Duration;

/// A page of due batches, and where the sweep stands after it.
#[derive(Clone, Debug)]
pub struct BatchesPage {
    /// Name of the ledger.
    pub ledger: String,
    /// The batches.
    pub rows: Vec<PendingBatch>,
    /// Where the next page begins.
    pub cursor: DueCursor,
    /// Whether the sweep has come to its end.
    pub done: bool,
    /// When the next batch becomes due, known at the end of a sweep.
    pub next_due: Option<Timestamp>,
}

/// Reads a page: first what is due at once, then what became due.
///
/// # Errors
/// The database is out of reach.
pub async fn load(store: &Store, query: DueQuery) -> BatchResult<BatchesPage> {
    let mut query = query;
    let wanted = query.limit;
    let before = match query.after {
        DueCursor::AtOnce(_) => query.then,
        timed @ DueCursor::Timed(..) => timed,
    };
    let mut rows = store.get_pending_batch_ids(&query).await?;
    let full = |rows: &Vec<PendingBatch>| i64::try_from(rows.len()).unwrap_or(i64::MAX) >= wanted;
    let mut done = false;
    if !full(&rows) {
        if matches!(query.after, DueCursor::AtOnce(_)) {
            query.after = query.then;
            query.limit = wanted - i64::try_from(rows.len()).unwrap_or(0);
            rows.extend(store.get_pending_batch_ids(&query).await?);
        }
        done = !full(&rows);
    }
    let mut cursor = behind(&rows).unwrap_or(query.after);
    if let (false, DueCursor::Timed(from, from_seq), DueCursor::Timed(at, seq)) =
        (done, before, cursor)
        && (at, seq) <= (from, from_seq)
    {
        cursor = step_on(store, &query, from).await?;
    }
    let next_due = if done {
        store.next_due(&query.ledger, query.now).await?
    } else {
        None
    };
    Ok(BatchesPage {
        ledger: query.ledger,
        rows,
        cursor,
        done,
        next_due,
    })
}

/// Where a sweep stands behind these rows. A time that is none (30 February)
/// is read as an earlier one ([`Timestamp::from_sql_text`]), so the last row
/// need not be the furthest.
fn behind(rows: &[PendingBatch]) -> Option<DueCursor> {
    let timed = rows
        .iter()
        .filter_map(|row| row.next_poll_at.map(|at| (at, row.seq)))
        .max();
    match timed {
        Some((at, seq)) => Some(DueCursor::Timed(at, seq)),
        None => rows.last().map(|row| DueCursor::AtOnce(row.seq)),
    }
}

/// Steps over rows that the database puts behind `from` and that read as
/// earlier: a sweep that followed them would read one page for ever. What
/// else is stepped over is read by the next sweep.
async fn step_on(store: &Store, query: &DueQuery, from: Timestamp) -> BatchResult<DueCursor> {
    let mut step = Duration::from_millis(1);
    loop {
        let at = from.plus(step);
        let next = DueQuery {
            after: DueCursor::Timed(at, i64::MIN),
            limit: 1,
            ..query.clone()
        };
        let rows = store.get_pending_batch_ids(&next).await?;
        if !rows.iter().any(|row| row.next_poll_at < Some(at)) {
            return Ok(next.after);
        }
        step = step.saturating_mul(8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DatabaseLocation, DatabaseSettings, Synchronous};
    use diesel::connection::SimpleConnection as _;
    use diesel::{Connection as _, SqliteConnection};

    /// Opens a SQLite file in which the rows of `sql` stand.
    async fn holding(folder: &tempfile::TempDir, sql: &str) -> Store {
        let path = folder.path().join("t.db");
        let store = Store::open(&DatabaseSettings {
            location: DatabaseLocation::Sqlite(path.clone()),
            schema: "highwater".into(),
            connections: 1,
            synchronous: Synchronous::Normal,
        })
        .await
        .unwrap();
        let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        conn.batch_execute(sql).unwrap();
        store
    }

    /// Ids in the order a sweep of two a page reads them.
    async fn sweep(store: &Store) -> Vec<String> {
        let mut query = DueQuery {
            ledger: "trace".into(),
            now: Timestamp::parse("2026-06-01 00:00:00").unwrap(),
            after: DueCursor::START,
            then: DueCursor::TIMED_START,
            limit: 2,
            without_services: Vec::new(),
        };
        let mut seen = Vec::new();
        for _ in 0..40 {
            let page = load(store, query.clone()).await.unwrap();
            seen.extend(page.rows.into_iter().map(|row| row.batch_id));
            if page.done {
                return seen;
            }
            query.after = page.cursor;
        }
        panic!("the sweep does not end: {seen:?}");
    }

    const INSERT: &str = "INSERT INTO batches (ledger, batch_id, next_poll_at) VALUES";

    #[tokio::test]
    async fn days_that_their_month_has_not_hold_no_sweep_up() {
        let folder = tempfile::tempdir().unwrap();
        let sql = format!(
            "{INSERT} ('trace', 'at-once', NULL), ('trace', 'a', '2026-02-30 10:00:00.000'), \
             ('trace', 'b', '2026-02-30 10:00:00.000'), ('trace', 'c', '2026-02-30 11:00:00.000'), \
             ('trace', 'd', '2026-02-31 10:00:00.000'), ('trace', 'before', '2026-02-10 00:00:00.000'), \
             ('trace', 'behind', '2026-05-01 00:00:00.000')"
        );
        let mut seen = sweep(&holding(&folder, &sql).await).await;
        assert_eq!(seen[..2], ["at-once", "before"]);
        seen.sort();
        seen.dedup();
        // c and d may be stepped over, to be read when a and b are rewritten.
        for id in ["a", "b", "behind"] {
            assert!(seen.iter().any(|seen| seen == id), "{id} of {seen:?}");
        }
    }

    #[tokio::test]
    async fn times_that_read_as_1970_hold_no_sweep_up() {
        let folder = tempfile::tempdir().unwrap();
        // A table without the checks: what an application made of it.
        let sql = format!(
            "PRAGMA ignore_check_constraints = ON; \
             {INSERT} ('trace', 'a', '2026-02-01 10:00:00.1239'), \
             ('trace', 'b', '2026-02-01 10:00:00.1239'), ('trace', 'c', '2026-02-01 10:00:00.1239'), \
             ('trace', 'd', '2026-03-99 10:00:00.000'), ('trace', 'e', '2026-03-99 10:00:00.000'), \
             ('trace', 'f', '2026-03-99 10:00:00.000'), ('trace', 'g', '2026-05-01 00:00:00.000')"
        );
        let seen = sweep(&holding(&folder, &sql).await).await;
        assert!(seen.iter().any(|id| id == "g"), "{seen:?}");
    }

    #[tokio::test]
    async fn the_table_takes_due_times_to_the_millisecond_only() {
        let folder = tempfile::tempdir().unwrap();
        let sql = format!("{INSERT} ('trace', 'a', strftime('%Y-%m-%d %H:%M:%f', 'now'))");
        drop(holding(&folder, &sql).await);
        let path = folder.path().join("t.db");
        let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        for odd in [
            "2026-02-01 10:00:00",
            "2026-02-01 10:00:00.1239",
            "2026-02-01 10:00:00.12",
            "2026-13-01 10:00:00.000",
            "2026-01-39 10:00:00.000",
            "2026-01-00 10:00:00.000",
            "2026-01-01 29:00:00.000",
            "1969-12-31 23:59:59.000",
        ] {
            conn.batch_execute(&format!("{INSERT} ('trace', '{odd}', '{odd}')"))
                .unwrap_err();
        }
    }
}
