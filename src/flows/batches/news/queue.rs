//! What is to be done about news, and when: pure, with the clock passed in.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

/// A service is polled for news at most so often.
const BETWEEN_POLLS: Duration = Duration::from_secs(1);
/// Pause before something is tried again that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause before a row is tried again that somebody was writing.
const LOCKED_PAUSE: Duration = Duration::from_millis(100);
/// Transactions that go to the database at a time.
const AT_ONCE: usize = 1_000;
/// Transactions of a service that wait to be told to the database.
const MOST_TOLD: usize = 100_000;
/// Transactions of a service whose batches wait for others.
const MOST_WAITING: usize = 10_000;

/// A service of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServiceKey {
    pub(super) ledger: String,
    pub(super) service_id: String,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Settle by these transactions.
    Settle(ServiceKey, Vec<String>),
    /// Make what is outstanding due.
    Poll(ServiceKey),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To be done now.
    Order(Order),
    /// Nothing before this time.
    At(Instant),
    /// Nothing until there are news.
    Nothing,
}

/// News by service. Services are those of the configuration, so they are few.
#[derive(Debug, Default)]
pub(super) struct NewsQueue {
    services: BTreeMap<ServiceKey, News>,
}

#[derive(Debug, Default)]
struct News {
    poll: bool,
    polled_at: Option<Instant>,
    /// Told, not yet to the database; oldest first.
    told: Vec<String>,
    /// Told to the database; others of their batches are not.
    waiting: Vec<String>,
    /// Not to be settled before.
    retry_at: Option<Instant>,
    /// What waits is to be tried again without news.
    again: bool,
}

impl ServiceKey {
    pub(super) fn of(ledger: &str, service_id: &str) -> Self {
        Self {
            ledger: ledger.to_owned(),
            service_id: service_id.to_owned(),
        }
    }
}

impl NewsQueue {
    /// Takes note that a service is to be polled.
    pub(super) fn poll(&mut self, service: ServiceKey) {
        self.services.entry(service).or_default().poll = true;
    }

    /// Takes note of transactions. Answers how many find no room.
    pub(super) fn committed(&mut self, service: ServiceKey, tx_ids: Vec<String>) -> usize {
        let news = self.services.entry(service).or_default();
        let room = MOST_TOLD.saturating_sub(news.told.len());
        let left_out = tx_ids.len().saturating_sub(room);
        news.told.extend(tx_ids.into_iter().take(room));
        news.poll |= left_out > 0;
        left_out
    }

    /// What is to be done. What it answers counts as begun. A service's
    /// transactions go before its poll, so that nothing is asked for in vain.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let mut earliest: Option<Instant> = None;
        for (service, news) in &mut self.services {
            match news.next(now) {
                Some(Due::Settle(tx_ids)) => {
                    return Next::Order(Order::Settle(service.clone(), tx_ids));
                }
                Some(Due::Poll) => return Next::Order(Order::Poll(service.clone())),
                Some(Due::At(time)) => {
                    earliest = Some(earliest.map_or(time, |other| other.min(time)));
                }
                None => {}
            }
        }
        earliest.map_or(Next::Nothing, Next::At)
    }

    /// Takes note of what the database made of transactions.
    pub(super) fn settled(
        &mut self,
        service: &ServiceKey,
        waiting: Vec<String>,
        locked: bool,
        now: Instant,
    ) {
        if let Some(news) = self.services.get_mut(service) {
            news.keep(waiting);
            news.again |= locked;
            news.retry_at = locked.then(|| now + LOCKED_PAUSE);
        }
    }

    /// Takes note that the database was away.
    pub(super) fn failed(&mut self, service: &ServiceKey, tx_ids: Vec<String>, now: Instant) {
        if let Some(news) = self.services.get_mut(service) {
            news.keep(tx_ids);
            news.again = true;
            news.retry_at = Some(now + PAUSE);
        }
    }
}

/// What a service wants.
enum Due {
    Settle(Vec<String>),
    Poll,
    At(Instant),
}

impl News {
    fn next(&mut self, now: Instant) -> Option<Due> {
        let mut earliest: Option<Instant> = None;
        if !self.told.is_empty() || self.again {
            match self.retry_at.filter(|at| *at > now) {
                Some(at) => earliest = Some(at),
                None => return Some(Due::Settle(self.take())),
            }
        }
        if self.poll {
            match self.polled_at.map(|at| at + BETWEEN_POLLS) {
                Some(at) if at > now => {
                    earliest = Some(earliest.map_or(at, |other| other.min(at)));
                }
                _ => {
                    self.poll = false;
                    self.polled_at = Some(now);
                    return Some(Due::Poll);
                }
            }
        }
        earliest.map(Due::At)
    }

    /// The next transactions, together with those that wait for others.
    fn take(&mut self) -> Vec<String> {
        self.again = false;
        self.retry_at = None;
        let mut tx_ids = std::mem::take(&mut self.waiting);
        let count = self.told.len().min(AT_ONCE);
        tx_ids.extend(self.told.drain(..count));
        let mut known = HashSet::new();
        tx_ids.retain(|id| known.insert(id.clone()));
        tx_ids
    }

    /// Keeps what waits, the newest of it.
    fn keep(&mut self, mut tx_ids: Vec<String>) {
        let over = (self.waiting.len() + tx_ids.len()).saturating_sub(MOST_WAITING);
        tx_ids.drain(..over.min(tx_ids.len()));
        self.waiting.extend(tx_ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> ServiceKey {
        ServiceKey::of("trace", "c::a")
    }

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_service_is_polled_at_once_and_then_once_a_second_and_not_forgotten() {
        let start = Instant::now();
        let mut queue = NewsQueue::default();
        queue.poll(service());
        queue.poll(service());
        assert_eq!(queue.next(start), Next::Order(Order::Poll(service())));
        assert_eq!(queue.next(start), Next::Nothing);
        // What comes within the second is polled for at its end.
        queue.poll(service());
        let end = start + BETWEEN_POLLS;
        assert_eq!(queue.next(start + PAUSE / 2), Next::At(end));
        queue.poll(ServiceKey::of("trace", "c::b"));
        let other = Order::Poll(ServiceKey::of("trace", "c::b"));
        assert_eq!(queue.next(start + PAUSE / 2), Next::Order(other));
        assert_eq!(queue.next(end), Next::Order(Order::Poll(service())));
        assert_eq!(queue.next(end), Next::Nothing);
    }

    #[test]
    fn transactions_go_first_and_wait_for_the_others_of_their_batch() {
        let now = Instant::now();
        let mut queue = NewsQueue::default();
        queue.poll(service());
        assert_eq!(queue.committed(service(), ids(&["a", "a"])), 0);
        let order = Order::Settle(service(), ids(&["a"]));
        assert_eq!(queue.next(now), Next::Order(order));
        queue.settled(&service(), ids(&["a"]), false, now);
        assert_eq!(queue.next(now), Next::Order(Order::Poll(service())));
        assert_eq!(queue.next(now), Next::Nothing, "half told: nothing to do");
        queue.committed(service(), ids(&["b"]));
        let order = Order::Settle(service(), ids(&["a", "b"]));
        assert_eq!(queue.next(now), Next::Order(order));
    }

    #[test]
    fn what_failed_or_was_locked_is_tried_again_after_a_pause() {
        let now = Instant::now();
        let mut queue = NewsQueue::default();
        queue.committed(service(), ids(&["a"]));
        queue.next(now);
        queue.failed(&service(), ids(&["a"]), now);
        assert_eq!(queue.next(now), Next::At(now + PAUSE));
        let again = Order::Settle(service(), ids(&["a"]));
        assert_eq!(queue.next(now + PAUSE), Next::Order(again.clone()));
        queue.settled(&service(), ids(&["a"]), true, now);
        assert_eq!(queue.next(now), Next::At(now + LOCKED_PAUSE));
        assert_eq!(queue.next(now + LOCKED_PAUSE), Next::Order(again));
    }

    #[test]
    fn what_finds_no_room_is_polled_for() {
        let now = Instant::now();
        let mut queue = NewsQueue::default();
        let many: Vec<String> = (0..MOST_TOLD + 5).map(|n| n.to_string()).collect();
        assert_eq!(queue.committed(service(), many), 5);
        let mut settled = 0;
        loop {
            match queue.next(now) {
                Next::Order(Order::Settle(_, tx_ids)) => {
                    assert!(tx_ids.len() <= AT_ONCE);
                    settled += tx_ids.len();
                    queue.settled(&service(), Vec::new(), false, now);
                }
                Next::Order(Order::Poll(_)) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(settled, MOST_TOLD);
    }
}
