//! Which blocks are asked of a gateway, and when they are asked for again.
//! Pure; the clock is passed in.
//!
//! A gateway sends the events of the blocks from `startblock` to `endblock`
//! and then nothing more, and it forgets its subscriptions when it crashes
//! (seed `ordered-block-events.md`). Neither is told. So a subscription is
//! renewed when events come from near the end of its window, and when nothing
//! was heard for `silence`. Each one begins at the second-highest known block
//! (or `start_block`), inside of what was asked for before: what lies between
//! two windows is nothing.
//!
//! A window counts from the highest known block on, so that a sparse stretch
//! behind it does not use it up. Nobody tells that a window was passed without
//! an event. When silence ends one in which no higher block was heard of, the
//! next one is twice as wide; so a stretch without events that is `2^n` windows
//! long is passed after `n` times `silence`, during which later events are not
//! heard. With no `window` there is no such wait.
//!
//! A gateway may give up on events that the hook refused while the database was
//! away, and go on with later ones; renewals from the second-highest block would
//! leave those out for good. So the hook tells the lowest block that it refused
//! ([`RefusedBlock`]). Once the refusals have ended for a while the subscription
//! is renewed, and each new one begins there until a window that did is done
//! with and nothing was refused in it.
//!
//! The old subscription is not ended: no call does that. Both send for a while,
//! and what comes twice is known again.

use super::model::Checkpoint;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Highest block that is asked for: gateways read numbers as JavaScript does,
/// exactly up to here.
const MOST_BLOCK: i64 = (1 << 53) - 1;
/// The part of a window that is left when it is renewed is one in so many.
const LEFT: i64 = 8;
/// While events come, what was heard is looked at so often.
const SOONEST_LOOK: Duration = Duration::from_millis(20);
/// And in quiet times so often.
const LATEST_LOOK: Duration = Duration::from_millis(500);
/// How long nothing has to be refused before what was is asked for again. What
/// is refused for long is asked for less and less often: after a quarter of that.
const CALM: Duration = Duration::from_secs(5);

/// What a subscription's configuration says of its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSettings {
    /// `start_block`
    pub start_block: i64,
    /// `window`: blocks asked for at a time; `None` for no end.
    pub window: Option<i64>,
    /// `silence`
    pub silence: Duration,
}

/// What was heard so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeardSoFar {
    /// Highest block of which an event is known.
    pub highest_block: Option<i64>,
    /// How long nothing was heard, known or new.
    pub silent_for: Duration,
    /// What the hook refused.
    pub refused: Option<RefusedBlock>,
}

/// Events that the hook of this server refused and nobody may send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedBlock {
    /// The lowest block of theirs.
    pub block: i64,
    /// How long ago the first was refused.
    pub first: Duration,
    /// How long ago the last was refused.
    pub last: Duration,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowStep {
    /// Ask for these blocks, then tell [`Window::subscribed`].
    Subscribe {
        /// `startblock`
        from: i64,
        /// `endblock`, where there is one.
        to: Option<i64>,
    },
    /// Look again then.
    Wait {
        /// When.
        until: Instant,
    },
    /// This window is done with: remember, and begin again with a
    /// [`Window::new`] of what is known by then.
    Renew {
        /// Why.
        why: RenewReason,
        /// What the next window is to know ([`Checkpoint::source_state`]).
        remember: Option<String>,
    },
}

/// Why a subscription is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewReason {
    /// Events come from near its end.
    NearlyFull,
    /// Nothing was heard for `silence`.
    Silence,
    /// The hook refused events that may be lost.
    Refused,
}

impl RenewReason {
    /// The word in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NearlyFull => "nearly_full",
            Self::Silence => "silence",
            Self::Refused => "refused",
        }
    }
}

/// One subscription at a gateway, from asking for it to renewing it.
#[derive(Clone, Debug)]
pub struct Window {
    settings: WindowSettings,
    from: i64,
    /// Highest known block when it was made.
    above: Option<i64>,
    /// Its last block and how many are new in it, where it has an end.
    end: Option<End>,
    /// When it was asked for: what was refused since then came of it, perhaps.
    asked_at: Option<Instant>,
    subscribed_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    to: i64,
    width: i64,
}

/// The document that outlives a window: how wide the next one is while no
/// block above this one is known.
#[derive(Serialize, Deserialize)]
struct Widened {
    width: i64,
    above: Option<i64>,
}

impl Window {
    /// The window that is to be asked for when this much is known, and nothing was
    /// refused.
    pub fn new(settings: WindowSettings, checkpoint: &Checkpoint) -> Self {
        Self::with_refused(settings, checkpoint, None)
    }

    /// The same where events from the block `refused` on may be lost.
    pub fn with_refused(
        settings: WindowSettings,
        checkpoint: &Checkpoint,
        refused: Option<i64>,
    ) -> Self {
        let start = settings.start_block;
        let resume = checkpoint.resume_from(start);
        let from = refused.map_or(resume, |block| resume.min(block.max(start)));
        let above = checkpoint.highest_block;
        let end = settings.window.map(|window| {
            let width = widened(checkpoint).unwrap_or(window).max(window).max(1);
            let exact = from.saturating_add(width - 1);
            let to = match above {
                // Where less than half of it would be new, a window counts from the
                // highest block: at least one that is not known, also where it is 1.
                Some(highest) if exact.saturating_sub(highest) < (width / 2).max(1) => {
                    exact.max(highest.saturating_add((width - 1).max(1)))
                }
                _ => exact,
            };
            End {
                to: to.min(MOST_BLOCK).max(from),
                width,
            }
        });
        Self {
            settings,
            from,
            above,
            end,
            asked_at: None,
            subscribed_at: None,
        }
    }

    /// First and last block that it asks for.
    pub fn blocks(&self) -> (i64, Option<i64>) {
        (self.from, self.end.map(|end| end.to))
    }

    /// What is to be done now.
    pub fn next(&self, now: Instant, heard: &HeardSoFar) -> WindowStep {
        let Some(subscribed_at) = self.subscribed_at else {
            let (from, to) = self.blocks();
            return WindowStep::Subscribe { from, to };
        };
        if self.nearly_full(heard) {
            return WindowStep::Renew {
                why: RenewReason::NearlyFull,
                remember: None,
            };
        }
        let calm_in = self.calm_in(now, heard);
        if calm_in == Some(Duration::ZERO) {
            return WindowStep::Renew {
                why: RenewReason::Refused,
                remember: None,
            };
        }
        // What was not heard before it was asked for is no silence.
        let asked_for = now.saturating_duration_since(subscribed_at);
        let silent_for = heard.silent_for.min(asked_for);
        let Some(left) = self.settings.silence.checked_sub(silent_for) else {
            return self.silent(heard);
        };
        if left.is_zero() {
            return self.silent(heard);
        }
        let look = match self.end {
            Some(_) => (heard.silent_for / 4).clamp(SOONEST_LOOK, LATEST_LOOK),
            // What is refused is to be seen.
            None => CALM,
        };
        let look = calm_in.map_or(look, |calm_in| calm_in.min(look));
        WindowStep::Wait {
            until: now + left.min(look),
        }
    }

    /// The gateway is being asked for it.
    pub fn asked(&mut self, now: Instant) {
        self.asked_at = Some(now);
    }

    /// The gateway has taken the subscription.
    pub fn subscribed(&mut self, now: Instant) {
        self.asked_at.get_or_insert(now);
        self.subscribed_at = Some(now);
    }

    /// Whether what was refused before the window was asked for (answered: when)
    /// has come again by now, as it is renewed for this reason. One in which
    /// nothing was heard proves nothing: the gateway may have crashed.
    pub fn passed(&self, now: Instant, heard: &HeardSoFar, why: RenewReason) -> Option<Instant> {
        let asked_at = self.asked_at?;
        let done = match why {
            RenewReason::NearlyFull => true,
            RenewReason::Silence => heard.silent_for < now.saturating_duration_since(asked_at),
            RenewReason::Refused => false,
        };
        (done && self.lost(now, heard).is_none()).then_some(asked_at)
    }

    /// What was refused and does not come with this window.
    fn lost(&self, now: Instant, heard: &HeardSoFar) -> Option<RefusedBlock> {
        let refused = heard.refused?;
        let asked_for = now.saturating_duration_since(self.asked_at?);
        let before = refused.block.max(self.settings.start_block) < self.from;
        (before || refused.last < asked_for).then_some(refused)
    }

    /// How long it is until what is lost is asked for again.
    fn calm_in(&self, now: Instant, heard: &HeardSoFar) -> Option<Duration> {
        let lost = self.lost(now, heard)?;
        let calm = (lost.first / 4).clamp(CALM, self.settings.silence.max(CALM));
        Some(calm.saturating_sub(lost.last))
    }

    fn nearly_full(&self, heard: &HeardSoFar) -> bool {
        self.end.is_some_and(|end| {
            // Without a higher block the next window would be this one.
            heard.highest_block > self.above
                && heard.highest_block >= Some(end.to - end.width / LEFT)
        })
    }

    fn silent(&self, heard: &HeardSoFar) -> WindowStep {
        let nothing_new = heard.highest_block <= self.above;
        let end = self.end.filter(|_| nothing_new);
        let remember = end.and_then(|end| {
            let widened = Widened {
                width: end.width.saturating_mul(2).min(MOST_BLOCK),
                above: self.above,
            };
            serde_json::to_string(&widened).ok()
        });
        WindowStep::Renew {
            why: RenewReason::Silence,
            remember,
        }
    }
}

/// How wide a window is that follows silent ones. What cannot be read, or
/// belongs to what was known before, says nothing.
fn widened(checkpoint: &Checkpoint) -> Option<i64> {
    let state = checkpoint.source_state.as_deref()?;
    let widened: Widened = serde_json::from_str(state).ok()?;
    (widened.above == checkpoint.highest_block).then_some(widened.width.min(MOST_BLOCK))
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
