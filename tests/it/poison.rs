//! One batch that cannot be written holds up no other.

use crate::support::{Database, Installation, PATIENCE, batch_id, eventually, on_both_databases};
use highwater::ledgers::LedgerKind;
use highwater::sim::{LedgerSim, SimHandle, SimOptions};
use highwater::time::Timestamp;
use std::time::Duration;

on_both_databases!(
    a_row_that_the_database_refuses_holds_up_no_other,
    a_row_that_an_application_locks_holds_up_no_other
);

const BATCHES: usize = 200;

fn sawtooth(options: SimOptions) -> SimHandle {
    LedgerSim::start(SimOptions {
        auto_submit: true,
        remember: Some(0),
        ..options
    })
    .unwrap()
}

fn sections(sim: &SimHandle, more: &str) -> String {
    format!(
        "[batches]\npoll_interval = \"200ms\"\nbackoff = {{ min = \"100ms\", max = \"500ms\" }}\n\n\
         [[ledgers]]\nname = \"trace\"\nkind = \"sawtooth\"\nurl = \"{}\"\n{more}\n",
        sim.url()
    )
}

async fn insert(database: &Database, numbers: std::ops::Range<usize>, due: Timestamp) {
    let due = due.to_sql_text();
    let rows: Vec<String> = numbers
        .map(|n| format!("('trace', '{}', '{due}')", batch_id(n)))
        .collect();
    let insert = format!(
        "INSERT INTO batches (ledger, batch_id, next_poll_at) VALUES {}",
        rows.join(", ")
    );
    database.run(&insert).await.unwrap();
}

async fn a_row_that_the_database_refuses_holds_up_no_other(database: &Database) {
    let sim = sawtooth(SimOptions::of(LedgerKind::Sawtooth));
    let place = Installation::new(database, "server", &sections(&sim, ""));
    let server = place.serve().await;
    let poison = batch_id(7);
    let trigger = if database.is_sqlite() {
        format!(
            "CREATE TRIGGER poison BEFORE UPDATE ON batches WHEN OLD.batch_id = '{poison}' \
             BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
    } else {
        format!(
            "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'not this one'; END $$; \
             CREATE TRIGGER poison BEFORE UPDATE ON batches FOR EACH ROW \
             WHEN (OLD.batch_id = '{poison}') EXECUTE FUNCTION poison()"
        )
    };
    database.run(&trigger).await.unwrap();
    insert(database, 0..BATCHES, Timestamp::now()).await;
    eventually(PATIENCE, "all others are committed", async || {
        database.count("status = 'committed'").await == BATCHES as i64 - 1
    })
    .await;
    eventually(PATIENCE, "it is said why", async || {
        server
            .get("/v1/ledgers")
            .await
            .to_string()
            .contains("not this one")
    })
    .await;
    let drop_it = if database.is_sqlite() {
        "DROP TRIGGER poison"
    } else {
        "DROP TRIGGER poison ON batches; DROP FUNCTION poison()"
    };
    database.run(drop_it).await.unwrap();
    eventually(
        PATIENCE,
        "it is committed once it can be written",
        async || database.count("status = 'committed'").await == BATCHES as i64,
    )
    .await;
}

/// On SQLite nobody can lock a row: there the test is that a writer of another
/// process in between is survived.
async fn a_row_that_an_application_locks_holds_up_no_other(database: &Database) {
    let sim = sawtooth(SimOptions::of(LedgerKind::Sawtooth));
    let place = Installation::new(database, "server", &sections(&sim, "ids_per_request = 50"));
    let _server = place.serve().await;
    let begin = if database.is_sqlite() {
        "BEGIN IMMEDIATE"
    } else {
        "BEGIN"
    };
    // Due only once one of them is locked.
    let due = Timestamp::now().plus(Duration::from_millis(1500));
    insert(database, 0..BATCHES, due).await;
    let lock = format!(
        "UPDATE batches SET last_error = 'mine' WHERE batch_id = '{}'",
        batch_id(BATCHES - 1)
    );
    let locked = database.hold(&[begin, &lock]).await;
    if !database.is_sqlite() {
        eventually(
            PATIENCE,
            "those that are not locked are committed",
            async || database.count("status = 'committed'").await >= BATCHES as i64 - 50,
        )
        .await;
    }
    locked.release("ROLLBACK").await;
    eventually(PATIENCE, "all are committed", async || {
        database.count("status = 'committed'").await == BATCHES as i64
    })
    .await;
}
