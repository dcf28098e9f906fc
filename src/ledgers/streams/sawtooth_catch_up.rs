//! Asking Sawtooth for blocks that were missed: back by `previous_block_id` to
//! what is known, then forth into the recorder.

use super::error::StreamError;
use super::hand_over::{self, AT_ONCE, BYTES_AT_ONCE};
use super::sawtooth::Following;
use super::sawtooth_block::{Block, Link, Message};
use super::sawtooth_event::heard;
use super::trail::{Step, Walk, short};
use crate::flows::events::{BlockRef, SourceState};
use crate::ledgers::LedgerError;
use tokio::time::{Instant, timeout_at};

/// Most blocks of a walk back. What is farther away is caught up with in
/// stretches, the oldest first, so that memory is bounded and each stretch is
/// remembered.
const STRETCH: usize = 500;
/// So many bytes of blocks that a walk passed are kept; others are asked again.
const KEPT_BYTES: usize = 8 << 20;
/// A chain that goes another way so often while it is walked is given up for now.
const FORKS: usize = 8;

/// Blocks of a walk, oldest first, those that were kept with their changes.
struct Stretch {
    path: Vec<(Link, Option<Block>)>,
    /// The known block that it leads back to.
    ancestor: Option<BlockRef>,
}

impl Following<'_> {
    /// Hands over all blocks from the newest known one up to `top`. Tells of a
    /// fork where the newest known one is no part of the chain any more.
    pub(super) async fn catch_up(&mut self, top: Block) -> Result<(), StreamError> {
        let stretch = i64::try_from(STRETCH).unwrap_or(i64::MAX);
        let goal = top.link.block.number;
        let mut forks = 0;
        loop {
            let base = self.trail.newest().map_or(self.floor - 1, |b| b.number);
            let missing = goal.saturating_sub(base);
            if missing > 1 {
                self.sink.tell(SourceState::CatchingUp {
                    missing: u64::try_from(missing - 1).unwrap_or(0),
                });
            }
            let last = missing <= stretch;
            let from = if last {
                top.clone()
            } else {
                let next = self.at_number(base + stretch).await?;
                self.deltas(&next.id).await?
            };
            match self.walk(from).await? {
                Some(found) => {
                    self.adopt(found, last).await?;
                    if last {
                        return Ok(());
                    }
                }
                None => {
                    // Farther than a stretch: the newest known block is none of theirs.
                    forks += 1;
                    if forks > FORKS {
                        return Err(StreamError::Malformed(format!(
                            "no way back from block {goal} to a known one was found in {FORKS} attempts"
                        )));
                    }
                    let ancestor = self.ancestor_below(i64::MAX).await?;
                    // What comes back of the blocks behind it is known by being
                    // recorded again.
                    self.go_back(ancestor, Vec::new()).await?;
                }
            }
        }
    }

    /// Walks back from a block to a known one, or to the first that is wanted;
    /// `None` where that is too far.
    async fn walk(&mut self, from: Block) -> Result<Option<Stretch>, StreamError> {
        let mut walk = Walk::new(self.floor, STRETCH);
        let mut kept: Vec<Option<Block>> = Vec::new();
        let mut bytes = 0;
        let mut block = from;
        let ancestor = loop {
            let step = walk.step(&self.trail, block.link.clone());
            let step = step.map_err(StreamError::Malformed)?;
            bytes += block.bytes;
            kept.push((bytes <= KEPT_BYTES).then_some(block));
            match step {
                Step::Ask(id) => block = self.deltas(&id).await?,
                Step::Arrived(ancestor) => break ancestor,
                Step::TooFar => return Ok(None),
            }
        };
        kept.reverse();
        let path = walk.into_path().into_iter().zip(kept).collect();
        Ok(Some(Stretch { path, ancestor }))
    }

    /// Hands over the blocks of a walk; `last` where it ends at the newest block.
    async fn adopt(&mut self, found: Stretch, last: bool) -> Result<(), StreamError> {
        let adopted = found.path.iter().map(|(link, _)| link.block.clone());
        let ancestor = match found.ancestor {
            Some(ancestor) => Some(ancestor),
            // The walk ended there; what is known before may be part of the chain.
            None => self.ancestor_below(self.floor).await?,
        };
        self.go_back(ancestor, adopted.collect()).await?;
        let mut ready = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        for (link, kept) in found.path {
            let block = match kept {
                Some(block) => block,
                None => self.deltas(&link.block.id).await?,
            };
            events += block.changes.len();
            bytes += block.bytes;
            ready.push(block);
            if events >= AT_ONCE || bytes >= BYTES_AT_ONCE {
                (events, bytes) = (0, 0);
                self.hand_over_some(std::mem::take(&mut ready), last)
                    .await?;
            }
        }
        self.hand_over_some(ready, last).await
    }

    /// Goes back to the newest known block that is part of the chain, and tells
    /// of the fork, if it is one.
    async fn go_back(
        &mut self,
        ancestor: Option<BlockRef>,
        adopted: Vec<BlockRef>,
    ) -> Result<(), StreamError> {
        let Some(mut fork) = self.trail.go_back(ancestor.as_ref()) else {
            return Ok(());
        };
        fork.adopted = adopted;
        let abandoned: Vec<String> = fork.abandoned.iter().map(|b| short(&b.id)).collect();
        tracing::warn!(
            ledger.name = self.stream.transport.ledger,
            block.ancestor = fork.ancestor.as_ref().map(|block| block.number),
            blocks.abandoned = abandoned.len(),
            blocks.abandoned_ids = abandoned.join(" "),
            "the ledger went another way: known blocks are no part of it any more"
        );
        hand_over::abandoned(self.sink, fork).await
    }

    /// Hands over blocks that follow the newest known one, in order, whose
    /// transactions the batches are to be told.
    pub(super) async fn hand_over(&mut self, blocks: Vec<Block>) -> Result<(), StreamError> {
        self.hand_over_some(blocks, true).await
    }

    async fn hand_over_some(&mut self, blocks: Vec<Block>, tell: bool) -> Result<(), StreamError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let wanted = blocks
            .iter()
            .filter(|block| block.link.block.number >= self.floor);
        let events: Vec<_> = wanted.flat_map(heard).collect();
        hand_over::record(self.sink, events).await?;
        for block in blocks {
            if tell {
                self.settled(&block.link.block);
            }
            self.trail.push(block.link.block);
        }
        hand_over::remember(self.sink, self.trail.document()).await?;
        self.socket.listen_again();
        Ok(())
    }

    /// The newest known block before `end` that is part of the chain, found by
    /// number.
    async fn ancestor_below(&mut self, end: i64) -> Result<Option<BlockRef>, StreamError> {
        let known = self.trail.newest_first().filter(|block| block.number < end);
        let known: Vec<BlockRef> = known.cloned().collect();
        for block in known {
            match self.listed_at(block.number).await {
                Ok(Some(there)) if there == block => return Ok(Some(block)),
                Ok(_) | Err(LedgerError::Rejected { .. } | LedgerError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            self.socket.listen_again();
        }
        Ok(None)
    }

    /// The block of a number.
    async fn at_number(&mut self, number: i64) -> Result<BlockRef, StreamError> {
        let there = self.listed_at(number).await?;
        self.socket.listen_again();
        there
            .filter(|there| there.number == number)
            .ok_or_else(|| StreamError::Malformed(format!("/blocks lists no block {number}")))
    }

    async fn listed_at(&self, number: i64) -> Result<Option<BlockRef>, LedgerError> {
        // Sixteen hex digits: any other form is refused.
        let route = format!("/blocks?start=0x{number:016x}&limit=1");
        self.stream.listed(&route).await
    }

    /// A block and its changes, asked for on the stream. Of blocks that come
    /// meanwhile the newest is kept.
    ///
    /// # Errors
    /// The ledger does not know it (it ends the connection then), or is silent.
    pub(super) async fn deltas(&mut self, block_id: &str) -> Result<Block, StreamError> {
        let question = self.stream.ask("get_block_deltas", Some(block_id));
        self.socket.send(question).await?;
        let until = Instant::now() + self.stream.patience;
        loop {
            let text = timeout_at(until, self.socket.next()).await;
            let text = text.map_err(|_| LedgerError::Timeout {
                after: self.stream.patience,
            })??;
            match self.read(&text)? {
                Message::Block(block) if block.link.block.id == block_id => return Ok(block),
                Message::Block(block) => self.came = Some(block),
                Message::Warning(warning) => return Err(StreamError::Ended(warning)),
                Message::Error(error) => return Err(StreamError::Malformed(error)),
            }
        }
    }
}
