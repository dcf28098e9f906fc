//! `[resources]`: how many slots there are, and what each owner may count on.

use super::forms::count;
use super::section::Section;
use super::settings::{BatchesSettings, DatabaseSettings};
use super::site_settings::SitesSettings;

/// Names of those who take slots.
pub mod owners {
    /// Fetch slots: the batch flow.
    pub const BATCHES: &str = "batches";
    /// Fetch slots: the site flow.
    pub const SITES: &str = "sites";
    /// Database slots: leases and their heartbeat.
    pub const LEASES: &str = "leases";
    /// Database slots: the results of flows.
    pub const UPDATER: &str = "updater";
    /// Database slots: what is due.
    pub const SCHEDULER: &str = "scheduler";
    /// Database slots: pages and API.
    pub const HTTP: &str = "http";
    /// Database slots: pruning, saved states, probes.
    pub const UPKEEP: &str = "upkeep";
}

/// Owners of fetch slots and their defaults: weight, minimum, priority.
const FETCH: [(&str, [i64; 3]); 2] = [(owners::BATCHES, [1, 8, 0]), (owners::SITES, [1, 8, 0])];

/// Owners of database slots and their defaults. Leases before all: a server
/// that cannot renew them has nothing to write. Then the flows, then people.
const DATABASE: [(&str, [i64; 3]); 5] = [
    (owners::LEASES, [1, 1, 2]),
    (owners::UPDATER, [4, 2, 1]),
    (owners::SCHEDULER, [2, 1, 1]),
    (owners::HTTP, [2, 2, 0]),
    (owners::UPKEEP, [1, 1, 0]),
];

/// Fetch slots where nobody asks for more.
const FETCH_SLOTS: usize = 256;

/// Most slots of a resource.
const MOST_SLOTS: u64 = 16_384;

/// `[resources]`: what is shared by owners that must not starve one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcesSettings {
    /// Pieces of work on the network at once, over all flows. Default 256, or
    /// `batches.max_in_flight` and `sites.max_in_flight` together where that is more.
    pub fetch_slots: usize,
    /// Shares of the fetch slots, by flow.
    pub fetch: Vec<OwnerShare>,
    /// Shares of the database's connections, by who uses them.
    pub database: Vec<OwnerShare>,
}

/// What an owner of slots may count on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerShare {
    /// Name of the owner.
    pub owner: &'static str,
    /// Slots above the minimums are shared out in proportion to it.
    pub weight: u32,
    /// Slots it gets whatever others want. Never 0, so that none starves.
    pub minimum: usize,
    /// Above the minimums, higher ones are served before lower ones.
    pub priority: u8,
}

/// Reads the section. The number of database slots, and by default that of
/// fetch slots, is said elsewhere.
pub(super) fn resources(
    s: &mut Section<'_, '_>,
    batches: Option<&BatchesSettings>,
    sites: Option<&SitesSettings>,
    database: Option<&DatabaseSettings>,
) -> Option<ResourcesSettings> {
    let asked = batches.map_or(0, |batches| batches.max_in_flight)
        + sites.map_or(0, |sites| sites.max_in_flight);
    let usual = i64::try_from(FETCH_SLOTS.max(asked)).unwrap_or(i64::MAX);
    let fetch_slots = s.get("fetch_slots", usual, count(1..=MOST_SLOTS, ""));
    let fetch = shares(s, "fetch", &FETCH, "resources.fetch_slots", fetch_slots);
    let connections = database.map(|database| database.connections);
    let database = shares(
        s,
        "database",
        &DATABASE,
        "database.connections",
        connections,
    );
    Some(ResourcesSettings {
        fetch_slots: fetch_slots?,
        fetch: fetch?,
        database: database?,
    })
}

fn shares(
    s: &mut Section<'_, '_>,
    key: &'static str,
    owners: &[(&'static str, [i64; 3])],
    of: &str,
    slots: Option<usize>,
) -> Option<Vec<OwnerShare>> {
    let first = owners.first().map_or("", |(owner, _)| owner);
    let example = format!("{{ {first} = {{ minimum = 2 }} }}");
    s.group(key, &example, |s| {
        // All are read, so that all mistakes are told.
        let read: Vec<Option<OwnerShare>> = owners
            .iter()
            .map(|(owner, defaults)| share(s, owner, *defaults))
            .collect();
        let mut shares: Vec<OwnerShare> = read.into_iter().collect::<Option<_>>()?;
        if let Some(slots) = slots {
            fit_minimums(s, &mut shares, of, slots);
        }
        Some(shares)
    })
}

fn share(
    s: &mut Section<'_, '_>,
    owner: &'static str,
    [weight, minimum, priority]: [i64; 3],
) -> Option<OwnerShare> {
    let example = format!("{{ weight = {weight}, minimum = {minimum}, priority = {priority} }}");
    s.group(owner, &example, |s| {
        let weight = s.get("weight", weight, count(1..=1000, ""));
        let why = "without a minimum it could starve";
        let minimum = s.get("minimum", minimum, count(1..=MOST_SLOTS, why));
        let priority = s.get("priority", priority, count(0..=100, ""));
        Some(OwnerShare {
            owner,
            weight: weight?,
            minimum: minimum?,
            priority: priority?,
        })
    })
}

/// Minimums that somebody wrote have to fit, and those at their default make
/// room for them, down to 1. The defaults alone may be more than there is (one
/// connection, say): then each owner gets its part.
fn fit_minimums(s: &mut Section<'_, '_>, shares: &mut [OwnerShare], of: &str, slots: usize) {
    let sum: usize = shares.iter().map(|share| share.minimum).sum();
    if sum <= slots {
        return;
    }
    let keys: Vec<String> = shares
        .iter()
        .map(|share| format!("{}.minimum", share.owner))
        .collect();
    let written: Vec<&str> = keys
        .iter()
        .map(String::as_str)
        .filter(|key| s.is_written(key))
        .collect();
    if written.is_empty() {
        return;
    }
    let is_written = |share: &OwnerShare| {
        let key = format!("{}.minimum", share.owner);
        written.contains(&key.as_str())
    };
    let mut over = sum - slots;
    for share in shares.iter_mut().rev() {
        if !is_written(share) {
            let less = over.min(share.minimum.saturating_sub(1));
            share.minimum -= less;
            over -= less;
        }
    }
    if over == 0 {
        return;
    }
    let sum = slots + over;
    let minimums: Vec<String> = shares
        .iter()
        .map(|share| format!("{} {}", share.owner, share.minimum))
        .collect();
    let message = format!(
        "the minimums ({}) are {sum} together, more than the {slots} of {of}; expected smaller minimums or a larger {of}",
        minimums.join(", ")
    );
    s.fault(&written, message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, Settings, dump, parse};
    use std::path::Path;

    fn read(text: &str) -> Result<Settings, String> {
        let environment = [(
            "HIGHWATER_RESOURCES__DATABASE__HTTP__WEIGHT".to_owned(),
            "7".to_owned(),
        )];
        let options = LoadOptions::default();
        parse(text, "t.toml", Path::new("/base"), environment, options)
            .map(|loaded| {
                assert!(dump(&loaded).contains("database.http.weight = 7"));
                loaded.settings
            })
            .map_err(|errors| errors.to_string())
    }

    fn of(shares: &[OwnerShare], owner: &str) -> OwnerShare {
        *shares.iter().find(|share| share.owner == owner).unwrap()
    }

    #[test]
    fn shares_come_from_file_environment_and_defaults() {
        let settings = read(
            "[resources]\nfetch_slots = 20\nfetch = { batches = { minimum = 3 } }\n\
             [resources.database]\nupdater.priority = 9\n",
        );
        let resources = settings.unwrap().resources;
        assert_eq!(resources.fetch_slots, 20);
        assert_eq!(of(&resources.fetch, "batches").minimum, 3);
        let updater = of(&resources.database, "updater");
        assert_eq!(
            (updater.weight, updater.minimum, updater.priority),
            (4, 2, 9)
        );
        assert_eq!(of(&resources.database, "http").weight, 7);
    }

    #[test]
    fn fetch_slots_are_never_the_first_limit_unless_written() {
        let slots = |text: &str| read(text).unwrap().resources.fetch_slots;
        assert_eq!(slots(""), 256);
        assert_eq!(slots("batches.max_in_flight = 1000"), 1064);
        assert_eq!(slots("sites.max_in_flight = 4096"), 4160);
        assert_eq!(
            slots("batches.max_in_flight = 1000\nresources.fetch_slots = 10"),
            10
        );
    }

    #[test]
    fn unknown_owners_are_refused_with_those_there_are() {
        let told = read("[resources]\ndatabase = { pruner = { weight = 1 } }").unwrap_err();
        insta::assert_snapshot!(told, @"t.toml:2:14: resources.database.pruner: unknown key; known here are leases, updater, scheduler, http, upkeep");
    }

    #[test]
    fn written_minimums_must_fit_and_defaults_make_do() {
        let told = read(
            "[database]\nconnections = 4\n[resources]\ndatabase.http.minimum = 3\nfetch_slots = 2",
        )
        .unwrap_err();
        insta::assert_snapshot!(told, @"t.toml:4:25: resources.database.http.minimum: the minimums (leases 1, updater 1, scheduler 1, http 3, upkeep 1) are 7 together, more than the 4 of database.connections; expected smaller minimums or a larger database.connections");
        let made = read("[resources]\nfetch_slots = 5\nfetch.batches.minimum = 3").unwrap();
        assert_eq!(of(&made.resources.fetch, "batches").minimum, 3);
        assert_eq!(of(&made.resources.fetch, "sites").minimum, 2);
        assert!(read("[database]\nconnections = 1\n[resources]\nfetch_slots = 1").is_ok());
        let told = read("[resources]\nfetch = { batches = { minimum = 0, weight = 0 } }");
        insta::assert_snapshot!(told.unwrap_err(), @"
        t.toml:2:33: resources.fetch.batches.minimum: 0 is out of range; expected 1 to 16384 (without a minimum it could starve)
        t.toml:2:45: resources.fetch.batches.weight: 0 is out of range; expected 1 to 1000
        ");
    }
}
