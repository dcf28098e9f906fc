//! The bare insert into `events` and the bare update of the same rows, with the
//! store's durability: a bulk statement each, one transaction after the other.

use super::frame::Place;
use super::session::Session;
use super::{Event, GROUP};
use highwater::store::Store;
use highwater::time::Timestamp;
use std::time::Instant;
use tokio::runtime::Runtime;

/// An event as the insert reads it.
#[derive(serde::Serialize)]
struct NewRow<'a> {
    subscription: &'a str,
    block: i64,
    tx_id: &'a str,
    event_id: &'a str,
    arrival: i64,
    event_name: &'a str,
    payload: &'a str,
    received_at: &'a str,
    decision: &'static str,
    rank: i64,
    event_key: &'a str,
    late: bool,
}

/// What becomes of an event, as the update reads it.
#[derive(serde::Serialize)]
struct Mark<'a> {
    subscription: &'a str,
    arrival: i64,
    becomes: &'static str,
    done_at: &'a str,
    tries: u32,
}

/// Rows per second of the insert alone, and of the update alone. The events are
/// made before the clock starts, the JSON of the statements while it runs.
pub(crate) fn rates(runtime: &Runtime, place: &Place, events: &[Event]) -> (f64, f64) {
    runtime.block_on(async {
        // Brings the schema up to date.
        Store::open(&place.database()).await.unwrap().close();
        let mut session = Session::open(place).await;
        let (insert, update) = if session.is_sqlite() {
            (SQLITE_INSERT, SQLITE_UPDATE)
        } else {
            (POSTGRES_INSERT, POSTGRES_UPDATE)
        };
        let now = Timestamp::now().to_sql_text();
        let inserting = Instant::now();
        for group in events.chunks(GROUP) {
            let rows: Vec<NewRow<'_>> = group.iter().map(|event| new_row(event, &now)).collect();
            let rows = serde_json::to_string(&rows).unwrap();
            assert_eq!(session.apply(insert, rows).await, group.len());
        }
        let inserting = inserting.elapsed();
        let updating = Instant::now();
        for group in events.chunks(GROUP) {
            let rows: Vec<Mark<'_>> = group.iter().map(|event| mark(event, &now)).collect();
            let rows = serde_json::to_string(&rows).unwrap();
            assert_eq!(session.apply(update, rows).await, group.len());
        }
        let rate = |took: std::time::Duration| events.len() as f64 / took.as_secs_f64();
        (rate(inserting), rate(updating.elapsed()))
    })
}

fn new_row<'a>(event: &'a Event, now: &'a str) -> NewRow<'a> {
    NewRow {
        subscription: &event.subscription,
        block: event.block,
        tx_id: &event.tx_id,
        // As long as a hash is.
        event_id: &event.tx_id[..32],
        arrival: event.arrival,
        event_name: &event.subscription,
        payload: &event.text,
        received_at: now,
        decision: "pending",
        rank: 0,
        event_key: &event.key,
        late: false,
    }
}

fn mark<'a>(event: &'a Event, now: &'a str) -> Mark<'a> {
    Mark {
        subscription: &event.subscription,
        arrival: event.arrival,
        becomes: "relevant",
        done_at: now,
        tries: 0,
    }
}

macro_rules! insert_statement {
    ($source:literal) => {
        concat!(
            "INSERT INTO events (subscription, block, tx_id, event_id, arrival, event_name, \
             payload, received_at, decision, rank, event_key, late) \
             SELECT u.subscription, u.block, u.tx_id, u.event_id, u.arrival, u.event_name, \
             u.payload, u.received_at, u.decision, u.rank, u.event_key, u.late FROM ",
            $source
        )
    };
}

const SQLITE_INSERT: &str = insert_statement!(
    "(SELECT value ->> 'subscription' AS subscription, value ->> 'block' AS block, \
      value ->> 'tx_id' AS tx_id, value ->> 'event_id' AS event_id, \
      value ->> 'arrival' AS arrival, value ->> 'event_name' AS event_name, \
      value ->> 'payload' AS payload, value ->> 'received_at' AS received_at, \
      value ->> 'decision' AS decision, value ->> 'rank' AS rank, \
      value ->> 'event_key' AS event_key, value ->> 'late' AS late \
      FROM json_each($1)) AS u"
);

const POSTGRES_INSERT: &str = insert_statement!(
    "json_to_recordset($1::json) AS u (subscription text, block bigint, tx_id text, \
      event_id text, arrival bigint, event_name text, payload text, \
      received_at timestamp(3), decision text, rank bigint, event_key text, late boolean)"
);

macro_rules! update_statement {
    ($source:literal) => {
        concat!(
            "UPDATE events SET decision = u.becomes, decided_at = u.done_at, \
             processed_at = u.done_at, attempts = u.tries FROM ",
            $source,
            " WHERE events.subscription = u.subscription AND events.arrival = u.arrival"
        )
    };
}

const SQLITE_UPDATE: &str = update_statement!(
    "(SELECT value ->> 'subscription' AS subscription, value ->> 'arrival' AS arrival, \
      value ->> 'becomes' AS becomes, value ->> 'done_at' AS done_at, \
      value ->> 'tries' AS tries FROM json_each($1)) AS u"
);

const POSTGRES_UPDATE: &str = update_statement!(
    "json_to_recordset($1::json) AS u (subscription text, arrival bigint, becomes text, \
      done_at timestamp(3), tries integer)"
);
