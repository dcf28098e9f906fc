//! Sharing work between the servers of one database: which leases a server
//! holds, takes and gives back. Pure; the database's clock decides who is
//! alive.

use crate::flows::sites::{JobKey, Shard};
use crate::store::{LeaseRow, LeaseStake, range_lease};
use std::collections::BTreeMap;

/// Begins the name of the lease by which a server shows that it lives.
pub const SERVER_PREFIX: &str = "server:";

/// Name of the lease of a ledger's batches.
pub fn batches_lease(ledger: &str) -> String {
    format!("batches:{ledger}")
}

/// Name of the lease of a job's shard: `sites:APP/JOB:LO-HI`. Leases of one job
/// whose ranges overlap exclude one another.
pub fn sites_lease(job: &JobKey, shard: Shard) -> String {
    range_lease(&job.to_string(), &shard.codes())
}

/// Name of the lease of a subscription.
pub fn events_lease(subscription: &str) -> String {
    format!("events:{subscription}")
}

/// Name of the lease of a replica.
pub fn replicas_lease(replica: &str) -> String {
    format!("replicas:{replica}")
}

/// What a server knows of the leases on its work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Leases held by this server.
    pub held: BTreeMap<String, LeaseStake>,
    /// Leases held by others: name and holder.
    pub others: BTreeMap<String, String>,
}

/// What a server does about the leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeasePlan {
    /// Hold these: prolong those already held, take the others.
    pub hold: Vec<String>,
    /// Give these back.
    pub release: Vec<String>,
}

/// Decides which of the `wanted` leases `holder` holds.
///
/// Every live server gets an equal share (one more for the first few, in the
/// order of their names), so that all of them come to the same result from
/// the same table. A server above its share gives back, one below takes what
/// is free; what it has within its share it keeps. With `alone`, no other
/// server can be alive and all leases are wanted.
pub fn share_out(holder: &str, wanted: &[String], rows: &[LeaseRow], alone: bool) -> LeasePlan {
    let me = format!("{SERVER_PREFIX}{holder}");
    let mut servers: Vec<&str> = rows
        .iter()
        .filter(|row| {
            row.name.starts_with(SERVER_PREFIX) && row.remaining_ms > 0 && !row.holder.is_empty()
        })
        .map(|row| row.name.as_str())
        .filter(|name| !alone && *name != me)
        .collect();
    servers.push(&me);
    servers.sort_unstable();
    let place = servers.iter().position(|name| *name == me).unwrap_or(0);
    let share = wanted.len() / servers.len() + usize::from(place < wanted.len() % servers.len());

    let row_of = |name: &str| rows.iter().find(|row| row.name == name);
    let mine = |name: &str| row_of(name).is_some_and(|row| row.holder == holder);
    let free = |name: &str| {
        alone || row_of(name).is_none_or(|row| row.holder.is_empty() || row.remaining_ms <= 0)
    };
    let mut kept: Vec<String> = wanted.iter().filter(|name| mine(name)).cloned().collect();
    let mut release: Vec<String> = kept.split_off(share.min(kept.len()));
    // Each server looks at the free ones from another place, so that they do
    // not all reach for the same.
    let start = if wanted.is_empty() {
        0
    } else {
        place * wanted.len() / servers.len()
    };
    let (before, from) = wanted.split_at(start);
    for name in from.iter().chain(before) {
        if kept.len() >= share {
            break;
        }
        if free(name) && !mine(name) {
            kept.push(name.clone());
        }
    }
    // What is no longer wanted (a ledger removed from the configuration) goes back too.
    let unwanted = rows.iter().filter(|row| {
        row.holder == holder && !row.name.starts_with(SERVER_PREFIX) && !wanted.contains(&row.name)
    });
    release.extend(unwanted.map(|row| row.name.clone()));
    let mut hold = vec![me];
    hold.extend(kept);
    LeasePlan { hold, release }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(name: &str, holder: &str, remaining_ms: i64) -> LeaseRow {
        LeaseRow {
            name: name.into(),
            holder: holder.into(),
            epoch: 1,
            remaining_ms,
            acquired_at: None,
        }
    }

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| batches_lease(&format!("l{i}"))).collect()
    }

    #[test]
    fn a_lone_server_takes_everything_and_shares_when_another_appears() {
        let wanted = names(10);
        let plan = share_out("a", &wanted, &[], false);
        assert_eq!(plan.hold.len(), 11);
        let mut rows: Vec<LeaseRow> = wanted.iter().map(|name| row(name, "a", 5000)).collect();
        rows.push(row("server:a", "a", 5000));
        rows.push(row("server:b", "b", 5000));
        let plan = share_out("a", &wanted, &rows, false);
        assert_eq!((plan.hold.len(), plan.release.len()), (6, 5));
        let other = share_out("b", &wanted, &rows, false);
        assert_eq!(other.hold, ["server:b"], "nothing is free yet");
    }

    #[test]
    fn an_expired_lease_is_taken_over_and_an_unwanted_one_given_back() {
        let wanted = names(2);
        let rows = [
            row(&wanted[0], "dead", -1),
            row(&wanted[1], "a", 100),
            row("batches:gone", "a", 100),
        ];
        let plan = share_out("a", &wanted, &rows, false);
        assert!(plan.hold.contains(&wanted[0]) && plan.hold.contains(&wanted[1]));
        assert_eq!(plan.release, ["batches:gone"]);
    }

    #[test]
    fn alone_takes_even_what_has_not_expired() {
        let wanted = names(1);
        let rows = [
            row(&wanted[0], "killed", 9000),
            row("server:killed", "killed", 9000),
        ];
        assert!(
            share_out("a", &wanted, &rows, true)
                .hold
                .contains(&wanted[0])
        );
        assert!(
            !share_out("a", &wanted, &rows, false)
                .hold
                .contains(&wanted[0])
        );
    }

    proptest! {
        /// Servers that take turns in any order come to even shares of everything.
        #[test]
        fn shares_become_even(leases in 0_usize..25, servers in 1_usize..6, turns in proptest::collection::vec(0_usize..6, 0..20)) {
            let wanted = names(leases);
            let ids: Vec<String> = (0..servers).map(|i| format!("s{i}")).collect();
            let mut table: Vec<LeaseRow> = ids.iter().map(|id| row(&format!("server:{id}"), id, 1000)).collect();
            let rounds = turns.into_iter().map(|turn| turn % servers).chain((0..3 * servers).map(|i| i % servers));
            for turn in rounds {
                let plan = share_out(&ids[turn], &wanted, &table, false);
                for name in plan.release {
                    if let Some(row) = table.iter_mut().find(|row| row.name == name) {
                        row.holder.clear();
                    }
                }
                for name in plan.hold {
                    match table.iter_mut().find(|row| row.name == name) {
                        Some(row) => {
                            prop_assert!(row.holder.is_empty() || row.holder == ids[turn]);
                            row.holder.clone_from(&ids[turn]);
                        }
                        None => table.push(row(&name, &ids[turn], 1000)),
                    }
                }
            }
            for id in &ids {
                let held = table.iter().filter(|row| row.name.starts_with("batches:") && &row.holder == id).count();
                prop_assert!(held == leases / servers || held == leases.div_ceil(servers));
            }
        }
    }
}
