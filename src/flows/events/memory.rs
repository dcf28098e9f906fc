//! The open events of a subscription that are in memory, in order. Bounded; the
//! rest is in the database.

use super::model::{Decision, OpenEvent, Place};
use crate::time::Timestamp;
use std::collections::VecDeque;

/// Most events in memory.
pub(super) const MOST_OPEN: usize = 4096;
/// Most that their payloads take, in bytes.
pub(super) const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Most bytes of payloads that a page carries, but for one event that is larger.
pub const PAGE_BYTES: usize = MOST_BYTES / 2;
/// Most events of a page.
const PAGE: usize = 1024;
/// Fewest events of a page, however large they are.
const SMALLEST_PAGE: usize = 16;

/// Where an event in memory stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not looked up, and not in the window.
    New,
    /// In the window: looked up so often, and again then.
    Waiting { looks: u32, until: Timestamp },
    /// Being looked up.
    Asked { looks: u32 },
    /// To be handled, and not before then.
    Relevant { not_before: Timestamp },
    /// With its handler.
    Handling,
    /// Its handler was done with it then; not durable yet.
    Handled { at: Timestamp },
    /// Decided so then; not durable yet.
    Irrelevant { at: Timestamp },
    /// Done with, durably.
    Done,
}

/// An event in memory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: OpenEvent,
    pub(super) state: State,
    /// The database says that it is relevant.
    pub(super) noted: bool,
    /// It came after its place was passed.
    pub(super) late: bool,
    /// A change of it is being written.
    pub(super) writing: bool,
}

impl Entry {
    /// Takes an event in; where everything is `relevant`, it is decided.
    pub(super) fn new(event: OpenEvent, late: bool, all_relevant: bool) -> Self {
        let noted = event.decision == Decision::Relevant;
        let state = if noted || all_relevant {
            State::Relevant {
                not_before: Timestamp::default(),
            }
        } else {
            State::New
        };
        Self {
            event,
            state,
            noted,
            late,
            writing: false,
        }
    }

    pub(super) const fn place(&self) -> Place {
        self.event.place
    }
}

/// Up to where all open events that are recorded are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// Nothing was read yet.
    Nothing,
    /// Up to this place.
    UpTo(Place),
    /// All of them.
    All,
}

impl Reach {
    pub(super) fn covers(self, place: Place) -> bool {
        match self {
            Self::Nothing => false,
            Self::UpTo(last) => place <= last,
            Self::All => true,
        }
    }
}

/// Events in memory.
#[derive(Debug)]
pub(super) struct Memory {
    entries: VecDeque<Entry>,
    bytes: usize,
    pub(super) reach: Reach,
    most: usize,
}

impl Memory {
    /// Room for `most` events.
    pub(super) const fn new(most: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            reach: Reach::Nothing,
            most,
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
        self.reach = Reach::Nothing;
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Entry> {
        self.entries.get_mut(index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.event.payload.len();
        Some(entry)
    }

    pub(super) fn index_of(&self, place: Place) -> Option<usize> {
        self.entries.binary_search_by_key(&place, Entry::place).ok()
    }

    pub(super) fn find(&mut self, place: Place) -> Option<&mut Entry> {
        let index = self.index_of(place)?;
        self.entries.get_mut(index)
    }

    /// Index of the first event behind a place.
    pub(super) fn behind(&self, place: Option<Place>) -> usize {
        place.map_or(0, |place| {
            self.entries.partition_point(|entry| entry.place() <= place)
        })
    }

    /// Puts an event where it belongs; `None` where it is there already.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<usize> {
        let bytes = entry.event.payload.len();
        let last = self.entries.back().map(Entry::place);
        let index = if last.is_none_or(|last| last < entry.place()) {
            self.entries.push_back(entry);
            self.entries.len() - 1
        } else {
            let searched = self
                .entries
                .binary_search_by_key(&entry.place(), Entry::place);
            let Err(index) = searched else {
                return None;
            };
            self.entries.insert(index, entry);
            index
        };
        self.bytes += bytes;
        Some(index)
    }

    /// Lets the last ones go while there are too many; whether any went.
    pub(super) fn trim(&mut self) -> bool {
        let mut any = false;
        while self.entries.len() > self.most || (self.bytes > MOST_BYTES && self.entries.len() > 1)
        {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= entry.event.payload.len();
                any = true;
            }
        }
        if any {
            self.reach = self
                .entries
                .back()
                .map_or(Reach::Nothing, |last| Reach::UpTo(last.place()));
        }
        any
    }

    /// Whether a page more is to be read.
    pub(super) fn wants_more(&self) -> bool {
        self.reach != Reach::All
            && self.entries.len() <= self.most / 2
            && self.bytes <= MOST_BYTES / 2
    }

    /// Events of the next page: fewer where they are large.
    pub(super) fn page(&self) -> usize {
        let average = self.bytes / self.entries.len().max(1);
        let fits = PAGE_BYTES / average.max(1);
        fits.clamp(SMALLEST_PAGE, PAGE).min(self.most)
    }
}
