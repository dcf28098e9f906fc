//! Which services of a ledger are listened to: those with outstanding batches,
//! and for a while those that had some. Pure; the clock is passed in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Most services of a ledger that are listened to at once.
const MOST: usize = 64;
/// A service without outstanding batches is listened to for so long: each new
/// connection begins at the service's first event.
const LINGER: Duration = Duration::from_secs(600);

/// The services of a ledger that are listened to.
#[derive(Debug, Default)]
pub struct Listened {
    /// When a service was last seen with outstanding batches.
    services: BTreeMap<String, Instant>,
}

impl Listened {
    /// So many services with outstanding batches are looked at, at most.
    pub const LOOKED_AT: usize = 4 * MOST;

    /// Takes note of which services have outstanding batches. Where there are
    /// too many, those stay that have been listened to; one that has none any
    /// more makes room.
    pub fn follow(&mut self, outstanding: &[String], now: Instant) {
        for service in outstanding {
            if let Some(seen) = self.services.get_mut(service) {
                *seen = now;
            }
        }
        self.services
            .retain(|_, seen| now.saturating_duration_since(*seen) < LINGER);
        for service in outstanding {
            if self.services.contains_key(service) {
                continue;
            }
            if self.services.len() >= MOST && !self.make_room(now) {
                return;
            }
            self.services.insert(service.clone(), now);
        }
    }

    /// Lets go of who has had nothing outstanding for longest.
    fn make_room(&mut self, now: Instant) -> bool {
        let idle = self.services.iter().filter(|(_, seen)| **seen < now);
        let longest = idle.min_by_key(|(_, seen)| **seen);
        let Some(service) = longest.map(|(service, _)| service.clone()) else {
            return false;
        };
        self.services.remove(&service).is_some()
    }

    /// Whether a service is listened to.
    pub fn contains(&self, service: &str) -> bool {
        self.services.contains_key(service)
    }

    /// The services that are listened to, by their ids.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|n| format!("c::{n:03}")).collect()
    }

    #[test]
    fn a_service_is_listened_to_until_long_after_its_last_batch() {
        let mut listened = Listened::default();
        let begun = Instant::now();
        listened.follow(&services(0..2), begun);
        listened.follow(&services(1..2), begun + LINGER / 2);
        assert_eq!(listened.services().count(), 2);
        listened.follow(&[], begun + LINGER);
        assert_eq!(listened.services().collect::<Vec<_>>(), ["c::001"]);
        listened.follow(&[], begun + LINGER * 2);
        assert_eq!(listened.services().count(), 0);
    }

    #[test]
    fn more_services_than_allowed_wait_until_one_has_nothing_outstanding() {
        let mut listened = Listened::default();
        let begun = Instant::now();
        listened.follow(&services(10..200), begun);
        assert_eq!(listened.services().count(), MOST);
        listened.follow(&services(0..200), begun + LINGER / 8);
        assert!(!listened.contains("c::000"), "who is listened to stays");
        listened.follow(&services(0..MOST), begun + LINGER / 4);
        let expected = services(0..MOST);
        assert!(listened.services().eq(expected.iter().map(String::as_str)));
    }
}
