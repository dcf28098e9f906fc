//! The resource manager: slots of something that several owners want, handed
//! out by weight, minimum and priority. It knows neither what a slot is for
//! nor who the owners are.
//!
//! Who is next is decided in `shares`; this file keeps the queues. A [`Slot`]
//! is given back when it is dropped, wherever that happens. Owners that can
//! wait call [`Owner::acquire`]; those that decide in turns of their own hold a
//! [`Demand`], try, and are rung when there is something for them.

mod shares;
mod status;

pub use shares::Share;
pub use status::{OwnerStatus, ResourceStatus};

use super::stats::lock;
use shares::Shares;
use status::Counts;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// A number of slots, shared by owners; cheap to clone.
#[derive(Clone, Debug)]
pub struct Resource {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: &'static str,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shares: Shares,
    queues: Vec<Queue>,
    next_id: u64,
}

/// Who of one owner waits; first come, first served.
#[derive(Debug)]
struct Queue {
    owner: &'static str,
    waiters: VecDeque<Waiter>,
    demands: Vec<Standing>,
    counts: Counts,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    since: Instant,
    slot: oneshot::Sender<Slot>,
}

/// A demand that stands until it is met or withdrawn.
#[derive(Debug)]
struct Standing {
    id: u64,
    wanted: usize,
    since: Instant,
    bell: Arc<Notify>,
}

/// Slots that came free for those who wait; handed over once the lock is free.
type HandOvers = Vec<(oneshot::Sender<Slot>, Slot)>;

impl Queue {
    fn wanted(&self) -> usize {
        let standing: usize = self.demands.iter().map(|demand| demand.wanted).sum();
        self.waiters.len() + standing
    }
}

impl Resource {
    /// A resource of so many slots, without owners yet.
    pub fn new(name: &'static str, capacity: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                name,
                state: Mutex::new(State {
                    shares: Shares::new(capacity),
                    queues: Vec::new(),
                    next_id: 0,
                }),
            }),
        }
    }

    /// Changes how many slots there are, and what these owners may count on;
    /// others keep their shares. Slots in use stay so: with fewer slots than
    /// are in use nothing is handed out until enough came back.
    pub fn configure(&self, capacity: usize, shares: &[(&'static str, Share)]) {
        let mut state = lock(&self.shared.state);
        state.shares.set_capacity(capacity);
        for (owner, share) in shares {
            let index = state.index(owner);
            state.shares.set_share(index, *share);
        }
        self.shared.dispatch(state);
    }

    /// The handle of an owner. One that was never configured has no minimum,
    /// weight 1 and the lowest priority. Owners are never forgotten, so their
    /// names are of a bounded set.
    pub fn owner(&self, name: &'static str) -> Owner {
        Owner {
            index: lock(&self.shared.state).index(name),
            shared: self.shared.clone(),
        }
    }

    /// How many slots there are.
    pub fn capacity(&self) -> usize {
        lock(&self.shared.state).shares.capacity()
    }

    /// Who has and who waits for how much, now.
    pub fn status(&self) -> ResourceStatus {
        let state = lock(&self.shared.state);
        let shares = &state.shares;
        let entitled = shares.entitlements();
        let owners = state.queues.iter().enumerate().zip(entitled);
        ResourceStatus::new(
            self.shared.name,
            shares.capacity(),
            owners
                .map(|((index, queue), entitlement)| {
                    let (share, used) = (shares.share(index), shares.used(index));
                    queue
                        .counts
                        .status(queue.owner, share, used, queue.wanted(), entitlement)
                })
                .collect(),
        )
    }
}

impl State {
    fn index(&mut self, owner: &'static str) -> usize {
        let known = self.queues.iter().position(|queue| queue.owner == owner);
        known.unwrap_or_else(|| {
            self.queues.push(Queue {
                owner,
                waiters: VecDeque::new(),
                demands: Vec::new(),
                counts: Counts::default(),
            });
            self.shares.add(Share::default())
        })
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Tells the shares how much an owner wants.
    fn note_wanted(&mut self, owner: usize) {
        self.shares.want(owner, self.queues[owner].wanted());
    }

    /// Takes a slot for an owner if it is its turn, ahead of what its own
    /// demands were rung for.
    fn try_take(&mut self, owner: usize) -> bool {
        self.shares.want(owner, self.queues[owner].wanted() + 1);
        self.shares.assign();
        let taken = self.shares.take(owner);
        if taken {
            self.queues[owner].counts.taken += 1;
        } else {
            self.note_wanted(owner);
        }
        taken
    }
}

impl Shared {
    /// Hands free slots to those who wait, in their order, and rings those
    /// whose demand stands.
    fn dispatch(self: &Arc<Self>, mut guard: std::sync::MutexGuard<'_, State>) {
        let state = &mut *guard;
        let mut hand_overs = HandOvers::new();
        state.shares.assign();
        for (index, queue) in state.queues.iter_mut().enumerate() {
            while state.shares.reserved(index) > 0
                && let Some(waiter) = queue.waiters.pop_front()
            {
                state.shares.take(index);
                queue.counts.taken += 1;
                queue.counts.waited(waiter.since.elapsed());
                hand_overs.push((waiter.slot, self.slot(index)));
            }
            if state.shares.reserved(index) > 0 {
                let standing = queue.demands.iter().filter(|demand| demand.wanted > 0);
                standing.for_each(|demand| demand.bell.notify_one());
            }
        }
        drop(guard);
        for (waiter, slot) in hand_overs {
            // Who gave up meanwhile leaves the slot to the next: it is dropped.
            drop(waiter.send(slot));
        }
    }

    fn slot(self: &Arc<Self>, owner: usize) -> Slot {
        Slot {
            shared: self.clone(),
            owner,
            unused: false,
        }
    }
}

/// One owner's access to a resource; cheap to clone.
#[derive(Clone, Debug)]
pub struct Owner {
    shared: Arc<Shared>,
    index: usize,
}

impl Owner {
    /// Takes a slot if there is one and nobody goes before.
    pub fn try_take(&self) -> Option<Slot> {
        let taken = lock(&self.shared.state).try_take(self.index);
        taken.then(|| self.shared.slot(self.index))
    }

    /// Waits for a slot: first come, first served among those of this owner.
    /// Cancel safe: who stops waiting loses its place and holds nothing.
    pub async fn acquire(&self) -> Slot {
        loop {
            let (sender, slot) = oneshot::channel();
            let waiting = {
                let mut state = lock(&self.shared.state);
                if state.try_take(self.index) {
                    return self.shared.slot(self.index);
                }
                let id = state.new_id();
                state.queues[self.index].waiters.push_back(Waiter {
                    id,
                    since: Instant::now(),
                    slot: sender,
                });
                state.note_wanted(self.index);
                Waiting {
                    owner: self,
                    id,
                    slot,
                    served: false,
                }
            };
            // None never comes: a waiter only leaves its queue with a slot.
            if let Some(slot) = waiting.slot().await {
                return slot;
            }
        }
    }

    /// A demand of this owner's, of nothing yet.
    pub fn demand(&self) -> Demand {
        let bell = Arc::new(Notify::new());
        let mut state = lock(&self.shared.state);
        let id = state.new_id();
        state.queues[self.index].demands.push(Standing {
            id,
            wanted: 0,
            since: Instant::now(),
            bell: bell.clone(),
        });
        Demand {
            owner: self.clone(),
            id,
            bell,
        }
    }

    /// The same for an owner with one that demands, built again by its watchdog:
    /// what its former self demanded, which may be blocked, is void.
    pub fn only_demand(&self) -> Demand {
        let mut state = lock(&self.shared.state);
        state.queues[self.index].demands.clear();
        state.note_wanted(self.index);
        self.shared.dispatch(state);
        self.demand()
    }
}

/// A place in the queue; left when dropped.
struct Waiting<'a> {
    owner: &'a Owner,
    id: u64,
    slot: oneshot::Receiver<Slot>,
    served: bool,
}

impl Waiting<'_> {
    async fn slot(mut self) -> Option<Slot> {
        let slot = (&mut self.slot).await.ok();
        self.served = slot.is_some();
        slot
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.served {
            return;
        }
        // A slot that was sent meanwhile is dropped with the receiver.
        let mut state = lock(&self.owner.shared.state);
        let queue = &mut state.queues[self.owner.index];
        if let Some(place) = queue.waiters.iter().position(|waiter| waiter.id == self.id) {
            queue.waiters.remove(place);
            state.note_wanted(self.owner.index);
            self.owner.shared.dispatch(state);
        }
    }
}

/// What an owner that takes slots in turns of its own wants: it stands, and
/// keeps its place, until it is met or withdrawn. Dropped, it is withdrawn.
#[derive(Debug)]
pub struct Demand {
    owner: Owner,
    id: u64,
    bell: Arc<Notify>,
}

impl Demand {
    /// Takes a slot if it is this owner's turn; one less is wanted then.
    pub fn try_take(&self) -> Option<Slot> {
        let mut state = lock(&self.owner.shared.state);
        let index = self.owner.index;
        if !state.try_take(index) {
            return None;
        }
        let queue = &mut state.queues[index];
        if let Some(own) = queue.demands.iter_mut().find(|own| own.id == self.id)
            && own.wanted > 0
        {
            own.wanted -= 1;
            let since = std::mem::replace(&mut own.since, Instant::now());
            queue.counts.waited(since.elapsed());
        }
        state.note_wanted(index);
        drop(state);
        Some(self.owner.shared.slot(index))
    }

    /// Sets how many slots are wanted. What is free for this owner stays free
    /// for it until it takes it or wants less, so whoever wants nothing any
    /// more says so at once.
    pub fn want(&self, count: usize) {
        let mut state = lock(&self.owner.shared.state);
        let queue = &mut state.queues[self.owner.index];
        let Some(own) = queue.demands.iter_mut().find(|own| own.id == self.id) else {
            return;
        };
        if own.wanted == count {
            return;
        }
        if own.wanted == 0 {
            own.since = Instant::now();
        }
        own.wanted = count;
        state.note_wanted(self.owner.index);
        self.owner.shared.dispatch(state);
    }

    /// The bell that rings when a slot is free for this demand.
    pub fn bell(&self) -> Arc<Notify> {
        self.bell.clone()
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        let mut state = lock(&self.owner.shared.state);
        let queue = &mut state.queues[self.owner.index];
        queue.demands.retain(|own| own.id != self.id);
        state.note_wanted(self.owner.index);
        self.owner.shared.dispatch(state);
    }
}

/// One slot, in use; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
    owner: usize,
    unused: bool,
}

impl Slot {
    /// Gives back a slot that there turned out to be no use for; it is not
    /// counted as taken.
    pub fn return_unused(mut self) {
        self.unused = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        if self.unused {
            let counts = &mut state.queues[self.owner].counts;
            counts.taken = counts.taken.saturating_sub(1);
        }
        state.shares.give_back(self.owner, self.unused);
        self.shared.dispatch(state);
    }
}

#[cfg(test)]
mod tests;
