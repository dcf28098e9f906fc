//! Who may take the next slot: weighted max-min fairness with minimums and
//! priorities. Plain arithmetic, no clock and no lock.
//!
//! An owner that wants a slot and has fewer than its minimum goes first. Above
//! the minimums the higher priority goes first and, within a priority, whoever
//! has fewest slots for its weight. What an owner does not want is therefore
//! lent to those that do; a lent slot is never taken away, and goes where this
//! order says as soon as it is given back.

use std::cmp::Ordering;

/// What an owner may count on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Slots above the minimum are shared out in proportion to it; at least 1.
    pub weight: u32,
    /// Slots that the owner gets whatever others want. Where the minimums of
    /// all come to more than there is, each gets its part of what there is.
    pub minimum: usize,
    /// Above the minimums, higher ones are served before lower ones.
    pub priority: u8,
}

impl Default for Share {
    /// No minimum, weight 1, lowest priority.
    fn default() -> Self {
        Self {
            weight: 1,
            minimum: 0,
            priority: 0,
        }
    }
}

/// Places after the point of [`Account::pass`]: weights go up to 1000 or so.
const PASS: u64 = 1 << 20;

/// One owner's account.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    share: Share,
    used: usize,
    /// Slots asked for and not yet taken.
    wanted: usize,
    /// Of these, free slots that are set aside for it.
    reserved: usize,
    /// Slots taken so far for its weight: who waited longer comes first where
    /// owners have as many slots (stride scheduling).
    pass: u64,
}

impl Account {
    fn held(&self) -> usize {
        self.used + self.reserved
    }

    fn weight(&self) -> u64 {
        u64::from(self.share.weight.max(1))
    }

    /// The pass as it will be once the reserved slots are taken.
    fn next_pass(&self) -> u64 {
        self.pass + self.reserved as u64 * self.stride()
    }

    fn stride(&self) -> u64 {
        PASS / self.weight()
    }

    /// `Less` when this owner's turn comes before the other's.
    fn turn(&self, other: &Self) -> Ordering {
        let (own, others) = (self.held(), other.held());
        let below = |account: &Self| account.held() < account.share.minimum;
        // a/b < c/d as a·d < c·b
        let ratio = |by: u64, others_by: u64| {
            (own as u64 * others_by)
                .cmp(&(others as u64 * by))
                .then(self.next_pass().cmp(&other.next_pass()))
        };
        match (below(self), below(other)) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (true, true) => ratio(self.share.minimum as u64, other.share.minimum as u64),
            (false, false) => (other.share.priority)
                .cmp(&self.share.priority)
                .then(ratio(self.weight(), other.weight())),
        }
    }
}

/// The accounts of all owners of one resource. Owners are known by index.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    capacity: usize,
    accounts: Vec<Account>,
    /// The pass of whoever was served last: an owner that wakes up begins
    /// there, so that time asleep is no claim.
    clock: u64,
}

impl Shares {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            accounts: Vec::new(),
            clock: 0,
        }
    }

    /// Adds an owner; answers its index.
    pub(super) fn add(&mut self, share: Share) -> usize {
        self.accounts.push(Account {
            share,
            ..Account::default()
        });
        self.accounts.len() - 1
    }

    pub(super) const fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    pub(super) fn set_share(&mut self, owner: usize, share: Share) {
        self.accounts[owner].share = share;
    }

    pub(super) fn share(&self, owner: usize) -> Share {
        self.accounts[owner].share
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn used(&self, owner: usize) -> usize {
        self.accounts[owner].used
    }

    /// Free slots that are set aside for an owner by the last [`Self::assign`].
    pub(super) fn reserved(&self, owner: usize) -> usize {
        self.accounts[owner].reserved
    }

    /// Sets how many slots an owner asks for beside those it has.
    pub(super) fn want(&mut self, owner: usize, count: usize) {
        let clock = self.clock;
        let account = &mut self.accounts[owner];
        if account.wanted == 0 && count > 0 {
            account.pass = account.pass.max(clock);
        }
        account.wanted = count;
        account.reserved = account.reserved.min(count);
    }

    /// Sets every free slot aside for whoever's turn it is, as long as anybody
    /// wants one.
    pub(super) fn assign(&mut self) {
        for account in &mut self.accounts {
            account.reserved = 0;
        }
        let used: usize = self.accounts.iter().map(|account| account.used).sum();
        for _ in used..self.capacity {
            let wanting = self.accounts.iter_mut();
            let next = wanting
                .filter(|account| account.reserved < account.wanted)
                .min_by(|one, other| one.turn(other));
            match next {
                Some(account) => account.reserved += 1,
                None => return,
            }
        }
    }

    /// Takes one of the slots set aside for an owner; whether there was one.
    pub(super) fn take(&mut self, owner: usize) -> bool {
        let account = &mut self.accounts[owner];
        if account.reserved == 0 {
            return false;
        }
        account.reserved -= 1;
        account.wanted -= 1;
        account.used += 1;
        self.clock = account.pass;
        account.pass += account.stride();
        true
    }

    /// Gives a slot back. One that was taken for nothing does not count
    /// against its owner.
    pub(super) fn give_back(&mut self, owner: usize, unused: bool) {
        let account = &mut self.accounts[owner];
        account.used = account.used.saturating_sub(1);
        if unused {
            account.pass = account.pass.saturating_sub(account.stride());
        }
    }

    /// What each owner may count on: its slots when all of them want as many
    /// as there are.
    pub(super) fn entitlements(&self) -> Vec<usize> {
        let mut all = self.clone();
        for account in &mut all.accounts {
            *account = Account {
                share: account.share,
                wanted: self.capacity,
                ..Account::default()
            };
        }
        all.assign();
        all.accounts
            .iter()
            .map(|account| account.reserved)
            .collect()
    }
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
