//! What pruning leaves.

use super::*;
use crate::config::{DatabaseLocation, DatabaseSettings, Synchronous};
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};

#[tokio::test]
async fn pruning_leaves_no_transactions_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let store = Store::open(&DatabaseSettings {
        location: DatabaseLocation::Sqlite(path.clone()),
        schema: "highwater".into(),
        connections: 1,
        synchronous: Synchronous::Normal,
    })
    .await
    .unwrap();
    let batches = (0..25)
        .map(|n| NewBatch {
            key: BatchKey {
                ledger: "trace".into(),
                service_id: String::new(),
                batch_id: format!("b{n:02}"),
            },
            transaction_ids: vec![format!("t{n:02}"), "shared".into()],
        })
        .collect();
    store.track_batches(batches).await.unwrap();
    let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    // Settled long ago, settled lately, and deleted by an application.
    conn.batch_execute(
        "UPDATE batches SET status = 'committed', settled_at = '2026-01-01 00:00:00' \
         WHERE batch_id < 'b05'; \
         UPDATE batches SET status = 'committed', settled_at = '2026-03-01 00:00:00' \
         WHERE batch_id = 'b05'; \
         DELETE FROM batches WHERE batch_id IN ('b06', 'b24')",
    )
    .unwrap();
    let mut rows = |sql: &str| {
        let query = diesel::sql_query(sql);
        let count: Count = diesel::RunQueryDsl::get_result(query, &mut conn).unwrap();
        count.count
    };
    let before = Timestamp::parse("2026-02-01 00:00:00").unwrap();
    // Three batches a time, so thirty transactions are looked at: the
    // second stretch holds the last orphans.
    for pruned in [3, 2, 0, 0] {
        assert_eq!(store.prune_batches(before, 3).await.unwrap(), pruned);
    }
    assert_eq!(rows("SELECT count(*) AS count FROM batches"), 18);
    let orphans = "SELECT count(*) AS count FROM batch_transactions t WHERE NOT EXISTS \
         (SELECT 1 FROM batches b WHERE b.batch_id = t.batch_id)";
    assert_eq!(rows(orphans), 0);
    assert_eq!(rows("SELECT count(*) AS count FROM batch_transactions"), 36);
}
