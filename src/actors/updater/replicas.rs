//! What is published, and changes of replicas, on their way into the database.
//!
//! Requests for all datasets gather and are committed together, changes of
//! replicas in transactions of their own; each caller is answered when its
//! request is durable, or why it is not.

use super::lane::{CallLane, LaneError, commit_calls};
use super::replicas_write::{
    ApplyCall, PublishCall, Waiting, apply_with, publish_with, write_applies, write_publishes,
};
use super::{Slot, Updater};
use crate::flows::replicas::{
    Applied, Entry, Modification, PublishError, PublishRequest, Published, ReplicaChange,
};
use crate::messages::{Apply, ApplyError, Publish};
use crate::watchdog::Envelope;
use actix::fut::wrap_future;
use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture};

/// Modifications that are written at a time, unless one call has more.
const COMMIT_ROWS: usize = 10_000;

/// Both kinds.
#[derive(Default)]
pub(super) struct ReplicaLanes {
    pub(super) publishes: CallLane<Waiting<PublishRequest>, Published, PublishError>,
    pub(super) applies: CallLane<Waiting<Apply>, Applied, ApplyError>,
}

impl ReplicaLanes {
    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.applies.is_empty()
    }
}

impl LaneError for PublishError {
    fn away(why: String) -> Self {
        Self::Away(why)
    }
}

impl LaneError for ApplyError {
    fn away(why: String) -> Self {
        Self::Away(why)
    }

    fn busy(why: String) -> Self {
        Self::Busy(why)
    }
}

impl Updater {
    commit_calls!(
        commit_publishes,
        replicas.publishes,
        write_publishes,
        PublishCall,
        |updater| COMMIT_ROWS,
        publish_with(&updater.parts, &updater.settings)
    );
    commit_calls!(
        commit_applies,
        replicas.applies,
        write_applies,
        ApplyCall,
        |updater| COMMIT_ROWS,
        apply_with(&updater.parts, &updater.settings)
    );

    /// Commits at once when enough waits, or a little later.
    fn commit_replicas_soon(&mut self, slot: Slot, ctx: &mut Context<Self>) {
        let is_full = self.is_full_of_calls();
        let ReplicaLanes { publishes, applies } = &mut self.replicas;
        let (rows, timer, committing) = match slot {
            Slot::Applies => (applies.waiting_rows, &mut applies.timer, applies.committing),
            _ => (
                publishes.waiting_rows,
                &mut publishes.timer,
                publishes.committing,
            ),
        };
        if rows >= COMMIT_ROWS {
            self.commit_slot(slot, ctx);
        } else if timer.is_none() && !committing && !is_full {
            let after = self.settings.replication.commit_interval;
            *timer = Some(ctx.run_later(after, move |updater, ctx| {
                match slot {
                    Slot::Applies => updater.replicas.applies.timer = None,
                    _ => updater.replicas.publishes.timer = None,
                }
                updater.commit_slot(slot, ctx);
            }));
        }
    }
}

/// Rows and bytes of modifications.
fn size_of_all(modifications: &[Modification]) -> (usize, usize) {
    let bytes = modifications.iter().map(Modification::bytes).sum();
    (modifications.len(), bytes)
}

/// Rows and bytes of a change.
fn size_of_change(change: &ReplicaChange) -> (usize, usize) {
    match change {
        ReplicaChange::Chunk { diff, entries, .. } => {
            let (rows, bytes) = size_of_all(&diff.modifications);
            let more: usize = entries.iter().map(Entry::bytes).sum();
            (rows + entries.len(), bytes + more)
        }
        ReplicaChange::Forward { diff, .. } | ReplicaChange::Follow { diff, .. } => {
            size_of_all(&diff.modifications)
        }
        ReplicaChange::Repair { modifications, .. } => size_of_all(modifications),
        ReplicaChange::Begin { ranges, .. } => (ranges.len(), 0),
        ReplicaChange::Live { .. }
        | ReplicaChange::Heard { .. }
        | ReplicaChange::Audited { .. } => (1, 0),
    }
}

impl Handler<Envelope<Publish>> for Updater {
    type Result = ResponseFuture<Result<Published, PublishError>>;

    fn handle(&mut self, envelope: Envelope<Publish>, ctx: &mut Self::Context) -> Self::Result {
        let Publish(request) = envelope.open();
        let (rows, bytes) = size_of_all(&request.modifications);
        let lane = &mut self.replicas.publishes;
        let answer = lane.push(Waiting(request), rows.max(1), bytes);
        self.commit_replicas_soon(Slot::Publishes, ctx);
        answer
    }
}

impl Handler<Envelope<Apply>> for Updater {
    type Result = ResponseFuture<Result<Applied, ApplyError>>;

    fn handle(&mut self, envelope: Envelope<Apply>, ctx: &mut Self::Context) -> Self::Result {
        let apply = envelope.open();
        let (rows, bytes) = size_of_change(&apply.change);
        let lane = &mut self.replicas.applies;
        let answer = lane.push(Waiting(apply), rows.max(1), bytes);
        self.commit_replicas_soon(Slot::Applies, ctx);
        answer
    }
}
