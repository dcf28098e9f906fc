//! The sites of a job that are at hand: due, read, and waiting for their
//! host's turn. Pure.

use crate::store::DueSite;
use crate::time::Timestamp;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// For each visit that a host may have under way, so many of its sites may
/// wait at hand: one host with many sites leaves room for the others.
const WAITING_PER_VISIT: usize = 32;

/// Due sites, by host; within a host in the order they were read.
#[derive(Debug)]
pub(super) struct HostQueue {
    per_host: usize,
    /// Most sites of a host that wait, for each visit it may have under way.
    waiting_per_visit: usize,
    hosts: HashMap<Arc<str>, Host>,
    /// Hosts that have a site waiting and room for a visit, by their first
    /// site's due time.
    ready: BTreeSet<(Timestamp, i64, Arc<str>)>,
    /// Rows that wait.
    waiting: HashSet<i64>,
    /// Rows that are handed out, with their batch code where it is known.
    out: HashMap<i64, Option<u16>>,
    /// Visits on the network, over all hosts.
    busy: usize,
}

#[derive(Debug, Default)]
struct Host {
    busy: usize,
    waiting: VecDeque<Waiting>,
    /// Its place in `ready`, if it has one.
    place: Option<(Timestamp, i64)>,
}

/// A site that waits for its visit.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// The site.
    pub(super) site: DueSite,
    /// Number of the shard it was read for.
    pub(super) shard: usize,
}

/// Whether a site was taken into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It was.
    Taken,
    /// It is there already, or its visit is under way.
    Known,
    /// Its host has enough waiting: read it again later.
    Full,
}

impl HostQueue {
    /// An empty queue that has so many visits of a host out at once.
    pub(super) fn new(per_host: usize) -> Self {
        Self {
            per_host: per_host.max(1),
            waiting_per_visit: WAITING_PER_VISIT,
            hosts: HashMap::new(),
            ready: BTreeSet::new(),
            waiting: HashSet::new(),
            out: HashMap::new(),
            busy: 0,
        }
    }

    /// The same, with no bound on what waits of one host: for who reads no more
    /// than can wait.
    pub(super) fn unbounded(per_host: usize) -> Self {
        Self {
            waiting_per_visit: usize::MAX,
            ..Self::new(per_host)
        }
    }

    /// Has so many visits of a host out at once from now on.
    pub(super) fn configure(&mut self, per_host: usize) {
        self.per_host = per_host.max(1);
        let hosts: Vec<Arc<str>> = self.hosts.keys().cloned().collect();
        for host in hosts {
            self.settle(&host);
        }
    }

    /// How many sites wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many visits are handed out and not yet over.
    pub(super) fn out(&self) -> usize {
        self.out.len()
    }

    /// How many visits are on the network.
    pub(super) const fn busy(&self) -> usize {
        self.busy
    }

    /// Whether there is a site whose host has room.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether a site waits, or its visit is under way.
    pub(super) fn knows(&self, seq: i64) -> bool {
        self.waiting.contains(&seq) || self.out.contains_key(&seq)
    }

    /// Takes a site in.
    pub(super) fn push(&mut self, host: &Arc<str>, waiting: Waiting) -> Pushed {
        let seq = waiting.site.seq;
        if self.knows(seq) {
            return Pushed::Known;
        }
        let most = self.per_host.saturating_mul(self.waiting_per_visit);
        let of_host = self.hosts.entry(host.clone()).or_default();
        if of_host.waiting.len() >= most {
            return Pushed::Full;
        }
        of_host.waiting.push_back(waiting);
        self.waiting.insert(seq);
        self.settle(host);
        Pushed::Taken
    }

    /// Hands out the site that is due longest among those whose host has room.
    pub(super) fn pop(&mut self) -> Option<(Arc<str>, Waiting)> {
        let (_, _, host) = self.ready.pop_first()?;
        let of_host = self.hosts.get_mut(&host)?;
        of_host.place = None;
        let waiting = of_host.waiting.pop_front()?;
        of_host.busy += 1;
        self.busy += 1;
        self.waiting.remove(&waiting.site.seq);
        let code = u16::try_from(waiting.site.batch_code).ok();
        self.out.insert(waiting.site.seq, code);
        self.settle(&host);
        Some((host, waiting))
    }

    /// Takes note of a visit that somebody else handed out; `busy` while it is
    /// on the network.
    pub(super) fn adopt(&mut self, host: &Arc<str>, seq: i64, busy: bool) {
        self.out.insert(seq, None);
        if busy {
            self.hosts.entry(host.clone()).or_default().busy += 1;
            self.busy += 1;
        }
    }

    /// A visit of this host is off the network.
    pub(super) fn freed(&mut self, host: &Arc<str>) {
        if let Some(of_host) = self.hosts.get_mut(host) {
            if of_host.busy > 0 {
                of_host.busy -= 1;
                self.busy -= 1;
            }
            self.settle(host);
        }
    }

    /// A visit is over: its site may be taken in again. Answers its batch code,
    /// where it is known.
    pub(super) fn returned(&mut self, seq: i64) -> Option<u16> {
        self.out.remove(&seq).flatten()
    }

    /// Rows that are handed out.
    pub(super) fn rows_out(&self) -> impl Iterator<Item = i64> {
        self.out.keys().copied()
    }

    /// Lets go of a host's sites, which it wants left alone.
    pub(super) fn drain_host(&mut self, host: &Arc<str>) -> Vec<Waiting> {
        let Some(of_host) = self.hosts.get_mut(host) else {
            return Vec::new();
        };
        let drained: Vec<Waiting> = of_host.waiting.drain(..).collect();
        for waiting in &drained {
            self.waiting.remove(&waiting.site.seq);
        }
        self.settle(host);
        drained
    }

    /// Rows that wait and were read for this shard.
    pub(super) fn rows_waiting(&self, shard: usize) -> Vec<i64> {
        let waiting = self.hosts.values().flat_map(|host| &host.waiting);
        waiting
            .filter(|waiting| waiting.shard == shard)
            .map(|waiting| waiting.site.seq)
            .collect()
    }

    /// Lets go of all sites that were read for these shards.
    pub(super) fn drop_shards(&mut self, gone: impl Fn(usize) -> bool) {
        self.drop_where(|waiting| gone(waiting.shard));
    }

    /// Lets go of all sites of which this is so.
    pub(super) fn drop_where(&mut self, gone: impl Fn(&Waiting) -> bool) {
        let hosts: Vec<Arc<str>> = self.hosts.keys().cloned().collect();
        for host in hosts {
            if let Some(of_host) = self.hosts.get_mut(&host) {
                let waiting = &mut self.waiting;
                of_host.waiting.retain(|site| {
                    let gone = gone(site);
                    if gone {
                        waiting.remove(&site.site.seq);
                    }
                    !gone
                });
            }
            self.settle(&host);
        }
    }

    /// Puts a host where it belongs among the ready ones.
    fn settle(&mut self, host: &Arc<str>) {
        let Some(of_host) = self.hosts.get_mut(host) else {
            return;
        };
        let place = of_host
            .waiting
            .front()
            .filter(|_| of_host.busy < self.per_host)
            .map(|first| (first.site.next_due_at.unwrap_or_default(), first.site.seq));
        if of_host.place != place {
            if let Some((at, seq)) = of_host.place {
                self.ready.remove(&(at, seq, host.clone()));
            }
            if let Some((at, seq)) = place {
                self.ready.insert((at, seq, host.clone()));
            }
            of_host.place = place;
        }
        if of_host.busy == 0 && of_host.waiting.is_empty() {
            self.hosts.remove(host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(seq: i64, due: i64, shard: usize) -> Waiting {
        Waiting {
            site: DueSite {
                seq,
                site_id: format!("s{seq}"),
                url: String::new(),
                labels: "{}".into(),
                batch_code: 7,
                level: 0,
                count: 0,
                last_run_at: None,
                next_due_at: Some(Timestamp::from_millis(due)),
            },
            shard,
        }
    }

    fn pop(queue: &mut HostQueue) -> Option<i64> {
        queue.pop().map(|(_, waiting)| waiting.site.seq)
    }

    #[test]
    fn the_longest_due_comes_first_among_hosts_that_have_room() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut queue = HostQueue::new(1);
        for (host, seq, due) in [(&a, 1, 10), (&a, 2, 20), (&b, 3, 30), (&b, 4, 40)] {
            assert_eq!(queue.push(host, waiting(seq, due, 0)), Pushed::Taken);
            assert_eq!(queue.push(host, waiting(seq, due, 0)), Pushed::Known);
        }
        assert_eq!([pop(&mut queue), pop(&mut queue)], [Some(1), Some(3)]);
        assert_eq!((pop(&mut queue), queue.has_ready()), (None, false));
        queue.configure(2);
        assert_eq!(pop(&mut queue), Some(2));
        assert_eq!(queue.push(&a, waiting(1, 10, 0)), Pushed::Known);
        assert_eq!(queue.returned(1), Some(7));
        assert_eq!(queue.push(&a, waiting(1, 10, 0)), Pushed::Taken);
        queue.configure(1);
        queue.freed(&a);
        assert_eq!(pop(&mut queue), None, "one is under way still");
        queue.freed(&a);
        assert_eq!(pop(&mut queue), Some(1));
    }

    #[test]
    fn a_host_with_many_sites_leaves_room_and_nothing_stays_of_what_is_let_go() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut queue = HostQueue::new(1);
        let pushed = (0..100).filter(|seq| queue.push(&a, waiting(*seq, 0, 0)) == Pushed::Taken);
        assert_eq!(pushed.count(), WAITING_PER_VISIT);
        assert_eq!(queue.push(&a, waiting(99, 0, 0)), Pushed::Full);
        queue.push(&b, waiting(200, 0, 1));
        queue.adopt(&b, 300, true);
        assert_eq!(queue.push(&b, waiting(300, 0, 1)), Pushed::Known);
        assert_eq!(queue.drain_host(&a).len(), WAITING_PER_VISIT);
        queue.drop_shards(|shard| shard == 1);
        assert_eq!((queue.waiting(), queue.out()), (0, 1));
        queue.freed(&b);
        assert_eq!(queue.returned(300), None);
        assert!(queue.hosts.is_empty() && queue.ready.is_empty() && queue.out() == 0);
    }
}
