//! Which blocks of a chain are known, what comes next, and what is a fork:
//! pure.
//!
//! The trail holds the newest blocks that were handed over, and of older ones
//! fewer the older they are, so that it is bounded and a fork of any depth finds
//! a common block, maybe an earlier one than the newest.

use super::sawtooth_block::Link;
use crate::flows::events::{BlockRef, Fork};
use serde::{Deserialize, Serialize};

/// So many of the newest blocks are all held.
const DENSE: i64 = 32;
/// Most blocks held: their distances grow to some thousands of blocks.
const MOST: usize = 96;
/// Version of the document.
const VERSION: u32 = 1;

/// Known blocks, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trail {
    blocks: Vec<BlockRef>,
}

/// What a block is to a trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was handed over.
    Known,
    /// It follows the newest.
    Next,
    /// Neither: blocks were missed, or the chain went another way.
    Apart,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    /// Number and id, oldest first.
    blocks: Vec<(i64, String)>,
}

impl Trail {
    /// Reads what a source remembered. What cannot be read is as nothing known:
    /// more is handed over then, nothing less.
    pub(super) fn read(state: Option<&str>) -> Self {
        let document: Option<Document> = state.and_then(|state| serde_json::from_str(state).ok());
        let blocks = document
            .filter(|document| document.version == VERSION)
            .map(|document| document.blocks)
            .unwrap_or_default();
        let ordered = blocks.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let blocks = if ordered { blocks } else { Vec::new() };
        Self {
            blocks: blocks
                .into_iter()
                .map(|(number, id)| BlockRef { number, id })
                .collect(),
        }
    }

    /// The document that is remembered.
    pub(super) fn document(&self) -> String {
        let blocks: Vec<(i64, &str)> = self
            .blocks
            .iter()
            .map(|block| (block.number, block.id.as_str()))
            .collect();
        serde_json::json!({ "version": VERSION, "blocks": blocks }).to_string()
    }

    /// The newest known block.
    pub(super) fn newest(&self) -> Option<&BlockRef> {
        self.blocks.last()
    }

    /// All known blocks, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &BlockRef> {
        self.blocks.iter().rev()
    }

    /// A known block by its id.
    pub(super) fn find(&self, id: &str) -> Option<&BlockRef> {
        self.newest_first().find(|block| block.id == id)
    }

    /// What a block is to this trail.
    pub(super) fn standing(&self, link: &Link) -> Standing {
        if self.find(&link.block.id).is_some() {
            return Standing::Known;
        }
        match self.newest() {
            Some(newest)
                if newest.id == link.previous && newest.number + 1 == link.block.number =>
            {
                Standing::Next
            }
            _ => Standing::Apart,
        }
    }

    /// Takes a block in that follows the newest.
    pub(super) fn push(&mut self, block: BlockRef) {
        let newest = block.number;
        self.blocks.push(block);
        self.blocks.retain(|block| is_held(newest, block.number));
        let over = self.blocks.len().saturating_sub(MOST);
        self.blocks.drain(..over);
    }

    /// Goes back to a block that is part of the chain, or to none. Tells of the
    /// fork, if blocks are abandoned by it.
    pub(super) fn go_back(&mut self, ancestor: Option<&BlockRef>) -> Option<Fork> {
        let kept = ancestor.map_or(0, |ancestor| {
            let at = self.blocks.iter().position(|block| block == ancestor);
            at.map_or(0, |at| at + 1)
        });
        let abandoned = self.blocks.split_off(kept);
        (!abandoned.is_empty()).then(|| Fork {
            ancestor: self.newest().cloned(),
            abandoned,
            adopted: Vec::new(),
        })
    }
}

/// Whether a block is held: the older, the rounder its number must be. What is
/// dropped once would never be held later.
fn is_held(newest: i64, number: i64) -> bool {
    let depth = newest.saturating_sub(number);
    if depth < DENSE {
        return true;
    }
    let octave = (depth / DENSE).ilog2();
    number % (1_i64 << (octave + 2).min(62)) == 0
}

/// Where a walk back goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask for the block before.
    Ask(String),
    /// It arrived: at this known block; `None` where it came to the first block
    /// that is wanted without meeting one.
    Arrived(Option<BlockRef>),
    /// It is as long as it may be.
    TooFar,
}

/// A walk back from a block by `previous_block_id` to what is known.
#[derive(Debug)]
pub(super) struct Walk {
    /// First block that is wanted where nothing is known.
    floor: i64,
    /// Most blocks.
    most: usize,
    /// What it passed, newest first.
    path: Vec<Link>,
}

impl Walk {
    pub(super) const fn new(floor: i64, most: usize) -> Self {
        Self {
            floor,
            most,
            path: Vec::new(),
        }
    }

    /// Takes the next block in.
    ///
    /// # Errors
    /// It is not the block before: what was expected.
    pub(super) fn step(&mut self, trail: &Trail, link: Link) -> Result<Step, String> {
        if let Some(after) = self.path.last()
            && (after.previous != link.block.id || after.block.number - 1 != link.block.number)
        {
            return Err(format!(
                "block {} has number {}; expected {}, since block {} names it as the one before",
                short(&link.block.id),
                link.block.number,
                after.block.number - 1,
                short(&after.block.id),
            ));
        }
        let number = link.block.number;
        let before = link.previous.clone();
        self.path.push(link);
        if let Some(known) = trail.find(&before)
            && known.number + 1 == number
        {
            return Ok(Step::Arrived(Some(known.clone())));
        }
        if number <= self.floor.max(0) {
            return Ok(Step::Arrived(None));
        }
        if self.path.len() >= self.most {
            return Ok(Step::TooFar);
        }
        Ok(Step::Ask(before))
    }

    /// What it passed, oldest first.
    pub(super) fn into_path(self) -> Vec<Link> {
        let mut path = self.path;
        path.reverse();
        path
    }
}

/// A block id as shown.
pub(super) fn short(id: &str) -> String {
    let mut shown: String = id.chars().take(16).collect();
    if shown.len() < id.len() {
        shown.push('…');
    }
    shown
}
