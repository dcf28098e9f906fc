//! A sweep: one pass through the due batches of a ledger, page by page.

use super::load::BatchesPage;
use crate::store::DueCursor;
use crate::time::Timestamp;
use std::collections::HashSet;
use std::time::Duration;

/// A wake-up gathers what comes within this time.
const WAKE_GAP: Duration = Duration::from_millis(5);

/// Where a ledger's sweep stands. It passes first what is due at once, then
/// the rest by due time; a wake-up in the second part looks at the first part
/// again and then goes on where it was.
#[derive(Debug)]
pub(super) struct Sweep {
    /// It has begun and not come to its end.
    pub(super) under_way: bool,
    /// When it began: services that were backed off then were left out.
    pub(super) began_at: Timestamp,
    /// A page is being read.
    pub(super) loading: bool,
    pub(super) cursor: DueCursor,
    /// Where the second part goes on.
    pub(super) then: DueCursor,
    /// Not continued before then.
    pub(super) at: Timestamp,
    /// Rows queued since it began.
    pub(super) fresh: usize,
    /// Rows may have been passed over since their service's queue was full:
    /// swept again once such a queue is half empty.
    pub(super) passed_over: bool,
    /// The last sweep found something: the next one follows when the queues
    /// are empty, but not before then.
    pub(super) follow_up: Option<Timestamp>,
    /// Earliest time at which something polled meanwhile is due again.
    pub(super) soonest_due: Option<Timestamp>,
    /// Returned while a page was being read: the page may not know.
    pub(super) returned: HashSet<i64>,
    /// Something became due at once behind the sweep's back.
    again: bool,
    /// The page that is being read is not to be used.
    discard: bool,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            under_way: false,
            began_at: Timestamp::default(),
            loading: false,
            cursor: DueCursor::START,
            then: DueCursor::TIMED_START,
            at: Timestamp::default(),
            fresh: 0,
            passed_over: false,
            follow_up: None,
            soonest_due: None,
            returned: HashSet::new(),
            again: false,
            discard: false,
        }
    }
}

impl Sweep {
    /// A page is about to be read.
    pub(super) fn load(&mut self, now: Timestamp) {
        if !self.under_way {
            self.under_way = true;
            self.began_at = now;
            self.fresh = 0;
            self.follow_up = None;
            self.soonest_due = None;
        }
        self.loading = true;
        self.returned.clear();
    }

    /// Something became due at once.
    pub(super) fn wake(&mut self, now: Timestamp) {
        self.at = self.at.min(now.plus(WAKE_GAP));
        self.again = self.loading || self.under_way;
        if !self.loading {
            self.look_again();
        }
    }

    /// In the second part, goes back to the first; within the first, what came
    /// behind its back is found when the sweep has ended.
    fn look_again(&mut self) {
        if self.again && matches!(self.cursor, DueCursor::Timed(..)) {
            self.then = self.cursor;
            self.cursor = DueCursor::START;
            self.again = false;
        }
    }

    /// Begins afresh, at that time; a page under way is not used.
    pub(super) fn restart(&mut self, at: Timestamp) {
        self.discard = self.loading;
        self.under_way = false;
        self.cursor = DueCursor::START;
        self.then = DueCursor::TIMED_START;
        self.again = false;
        self.at = at;
    }

    /// A page has come; answers whether it is to be used.
    pub(super) fn arrived(&mut self) -> bool {
        self.loading = false;
        !std::mem::take(&mut self.discard)
    }

    /// A page was used: goes on behind it, or ends. Answers whether the sweep
    /// has ended with nothing more to look at now.
    pub(super) fn go_on(&mut self, page: &BatchesPage, now: Timestamp) -> bool {
        self.returned.clear();
        if !page.done {
            self.cursor = page.cursor;
            self.at = now;
            self.look_again();
            return false;
        }
        let again = self.again;
        let discard = self.discard;
        self.restart(now.plus(WAKE_GAP));
        self.discard = discard;
        !again
    }
}
