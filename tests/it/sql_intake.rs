//! The table as a contract: what applications insert by SQL is settled, what
//! makes no sense holds up nobody.

use crate::support::{Database, Installation, PATIENCE, batch_id, eventually, on_both_databases};
use highwater::ledgers::LedgerKind;
use highwater::sim::{LedgerSim, SimOptions};

const SERVICE: &str = "btXBt-Rb4VS::a000";

on_both_databases!(
    rows_inserted_by_sql_are_settled,
    wrong_values_are_refused_by_the_table
);

async fn rows_inserted_by_sql_are_settled(database: &Database) {
    let ledger = |kind| {
        let options = SimOptions {
            auto_submit: true,
            remember: Some(0),
            ..SimOptions::of(kind)
        };
        LedgerSim::start(options).unwrap()
    };
    let (splinter, sawtooth) = (ledger(LedgerKind::Splinter), ledger(LedgerKind::Sawtooth));
    let sections = format!(
        "[batches]\npoll_interval = \"200ms\"\n\n\
         [[ledgers]]\nname = \"supply-chain\"\nkind = \"splinter\"\nurl = \"{}\"\n\n\
         [[ledgers]]\nname = \"trace\"\nkind = \"sawtooth\"\nurl = \"{}\"\n",
        splinter.url(),
        sawtooth.url()
    );
    let place = Installation::new(database, "server", &sections);
    let server = place.serve().await;

    // Wrong ones first, so that they would be in the way.
    let mut rows = vec![
        format!("('trace', '', '{}')", batch_id(0).to_uppercase()),
        "('trace', '', 'x'' OR 1=1 --')".to_owned(),
        "('trace', '', '')".to_owned(),
        format!("('trace', 'not-for-sawtooth', '{}')", batch_id(0)),
        format!("('supply-chain', '{SERVICE}', 'ab,cd')"),
        format!("('supply-chain', 'no service', '{}')", batch_id(0)),
    ];
    let wrong = rows.len() as i64;
    for n in 1..=150 {
        rows.push(format!("('trace', '', '{}')", batch_id(n)));
        rows.push(format!("('supply-chain', '{SERVICE}', '{}')", batch_id(n)));
    }
    let right = rows.len() as i64 - wrong;
    rows.push(format!("('nobody-knows', '', '{}')", batch_id(1)));
    let insert = format!(
        "INSERT INTO batches (ledger, service_id, batch_id) VALUES {}",
        rows.join(", ")
    );
    database.run(&insert).await.unwrap();

    eventually(PATIENCE, "the right ones are committed", async || {
        database.count("status = 'committed'").await == right
    })
    .await;
    eventually(PATIENCE, "the wrong ones are refused", async || {
        database
            .count("status = 'refused' AND last_error IS NOT NULL")
            .await
            == wrong
    })
    .await;
    let refused = "SELECT ledger || ' ' || last_error AS value FROM batches \
                   WHERE status = 'refused' AND batch_id = 'ab,cd'";
    let why = database.texts(refused).await;
    assert!(why[0].contains("128 lower case hex digits"), "{why:?}");
    assert_eq!(
        database.count("status = 'refused' AND polls > 0").await,
        0,
        "nobody was asked"
    );

    // A ledger that is not configured: the row waits, and is shown.
    assert_eq!(
        database
            .count("ledger = 'nobody-knows' AND status = 'pending'")
            .await,
        1
    );
    eventually(PATIENCE, "the unknown ledger is listed", async || {
        let list = server.get("/v1/ledgers").await;
        list["items"].as_array().unwrap().iter().any(|item| {
            item["name"] == "nobody-knows"
                && item["state"] == "not_configured"
                && item["outstanding"] == 1
        })
    })
    .await;
    assert!(server.page("/").await.contains("nobody-knows"));
    let ready = server.get("/readyz").await;
    assert!(
        ready["warnings"].to_string().contains("nobody-knows"),
        "{ready}"
    );

    // Numbered in the order of insertion, also by SQL.
    let order = "SELECT CAST(count(*) AS BIGINT) AS value FROM batches a JOIN batches b \
                 ON a.ledger = 'trace' AND b.ledger = 'trace' AND a.seq < b.seq \
                 WHERE a.batch_id = '";
    let sql = format!(
        "{order}{}' AND b.batch_id = '{}'",
        batch_id(1),
        batch_id(150)
    );
    assert_eq!(database.number(&sql).await, 1);
    assert_eq!(
        splinter.stats().asked_after_final + sawtooth.stats().asked_after_final,
        0
    );
    server.terminate().await;
}

async fn wrong_values_are_refused_by_the_table(database: &Database) {
    let place = Installation::new(database, "server", "");
    let server = place.serve().await;
    let long = "x".repeat(2_000);
    let with = |columns: &str, values: &str| {
        format!("INSERT INTO batches (ledger, batch_id{columns}) VALUES ('l', 'b'{values})")
    };
    let wrong = [
        "INSERT INTO batches (ledger, batch_id) VALUES ('', 'b')".to_owned(),
        "INSERT INTO batches (batch_id) VALUES ('b')".to_owned(),
        "INSERT INTO batches (ledger) VALUES ('l')".to_owned(),
        format!("INSERT INTO batches (ledger, batch_id) VALUES ('l', '{long}')"),
        format!("INSERT INTO batches (ledger, batch_id) VALUES ('{long}', 'b')"),
        with(", service_id", &format!(", '{long}'")),
        with(", service_id", ", NULL"),
        with(", status", ", 'done'"),
        with(", status", ", 'Committed'"),
        with(", submitted_at", ", 'yesterday, or so'"),
        with(", next_poll_at", ", '12 o''clock'"),
        with(", settled_at", ", 'never'"),
        with(", polls", ", 'many'"),
        with(", unknowns", ", NULL"),
    ];
    for sql in wrong {
        let shown: String = sql.chars().take(120).collect();
        assert!(database.run(&sql).await.is_err(), "it was taken: {shown}");
    }
    database.run(&with("", "")).await.unwrap();
    assert!(
        database.run(&with("", "")).await.is_err(),
        "the key is unique"
    );
    assert_eq!(
        database
            .count("status = 'pending' AND service_id = '' AND polls = 0")
            .await,
        1
    );
    server.terminate().await;
}
