//! What the tests of the whole server share: databases of their own, the real
//! program as a process, and waiting for what is to come true.

mod database;
mod server;

pub(crate) use database::Database;
pub(crate) use server::{Installation, ServerProcess, Tracker};

use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long what must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition is true; answers how long that took.
pub(crate) async fn eventually(
    within: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> Duration {
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        if condition().await {
            return begun.elapsed();
        }
        assert!(
            begun.elapsed() < within,
            "not within {within:?}: {what} (see the servers' logs below)"
        );
        // Looking must not take the time of what is looked at.
        let pause = Duration::from_millis(10).max(5 * asked.elapsed());
        tokio::time::sleep(pause).await;
    }
}

/// Batch id number `n`: 128 hex digits that look as random as real ones.
pub(crate) fn batch_id(n: usize) -> String {
    let mut state = n as u64;
    let mut digits = String::with_capacity(128);
    for _ in 0..8 {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state = mixed ^ (mixed >> 31);
        digits.push_str(&format!("{state:016x}"));
    }
    digits
}

/// Splinter service number `n`.
pub(crate) fn service_id(n: usize) -> String {
    format!("hwcir-{:05}::s{:03}", n / 1000, n % 1000)
}

/// Body of `POST /v1/batches` for these (ledger, service id, batch id).
pub(crate) fn tracking(batches: impl IntoIterator<Item = (String, String, String)>) -> Value {
    let batches: Vec<Value> = batches
        .into_iter()
        .map(|(ledger, service_id, batch_id)| {
            json!({ "ledger": ledger, "service_id": service_id, "batch_id": batch_id })
        })
        .collect();
    json!({ "batches": batches })
}

/// Makes a test of each function, on each database.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::support::Database;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$name(&Database::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                super::$name(&Database::postgres()).await;
            }
        }
    )+};
}
pub(crate) use on_both_databases;
