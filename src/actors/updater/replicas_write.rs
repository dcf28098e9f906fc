//! How calls of the replica flow are written: all in one transaction, and what
//! the database refuses once more, each alone.

use super::lane::Call;
use super::{UpdaterParts, UpdaterSettings};
use crate::config::HistorySettings;
use crate::flows::replicas::{
    Applied, Content, ContentKind, DatasetName, PublishError, PublishRequest, Published,
    ReplicaChange,
};
use crate::messages::{Apply, ApplyError};
use crate::store::LeaseStake;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// A change of a replica, under the lease by which it is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaEdit {
    /// The replica.
    pub replica: DatasetName,
    /// The lease.
    pub stake: LeaseStake,
    /// What changes.
    pub change: ReplicaChange,
    /// History that is kept of it.
    pub history: HistorySettings,
}

/// Writes what is published, and what becomes of replicas: the store, as the
/// Updater sees it. Answers are in the order of what was asked.
pub trait ReplicaWriter: fmt::Debug + Send + Sync + 'static {
    /// Publishes all requests in one transaction, each with the history that is
    /// kept of its dataset.
    fn publish(
        &self,
        requests: Vec<(PublishRequest, HistorySettings)>,
    ) -> BoxFuture<'_, Vec<Result<Published, PublishError>>>;

    /// Applies all changes in one transaction, each under its lease, which
    /// `holder` holds.
    fn apply<'a>(
        &'a self,
        holder: &'a str,
        edits: Vec<ReplicaEdit>,
    ) -> BoxFuture<'a, Vec<Result<Applied, ApplyError>>>;

    /// What was written moved the head of this content.
    fn moved(&self, content: &Content);
}

/// Writes nothing: whoever calls is told that it is away. For a server without a
/// replica flow.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReplicas;

impl NoReplicas {
    const WHY: &'static str = "this server has no datasets and replicas";
}

impl ReplicaWriter for NoReplicas {
    fn publish(
        &self,
        requests: Vec<(PublishRequest, HistorySettings)>,
    ) -> BoxFuture<'_, Vec<Result<Published, PublishError>>> {
        let none = Err(PublishError::Away(Self::WHY.to_owned()));
        Box::pin(std::future::ready(vec![none; requests.len()]))
    }

    fn apply<'a>(
        &'a self,
        _: &'a str,
        edits: Vec<ReplicaEdit>,
    ) -> BoxFuture<'a, Vec<Result<Applied, ApplyError>>> {
        let none = Err(ApplyError::Away(Self::WHY.to_owned()));
        Box::pin(std::future::ready(vec![none; edits.len()]))
    }

    fn moved(&self, _: &Content) {}
}

/// A message that waits in a lane.
pub(super) struct Waiting<M>(pub(super) M);

pub(super) type PublishCall = Call<Waiting<PublishRequest>, Published, PublishError>;
pub(super) type ApplyCall = Call<Waiting<Apply>, Applied, ApplyError>;

/// What a group is written with.
pub(super) struct With {
    writer: Arc<dyn ReplicaWriter>,
    holder: String,
    kind: ContentKind,
    histories: BTreeMap<Content, HistorySettings>,
}

pub(super) fn publish_with(parts: &UpdaterParts, settings: &UpdaterSettings) -> With {
    With::of(parts, settings, ContentKind::Dataset)
}

pub(super) fn apply_with(parts: &UpdaterParts, settings: &UpdaterSettings) -> With {
    With::of(parts, settings, ContentKind::Replica)
}

impl With {
    fn of(parts: &UpdaterParts, settings: &UpdaterSettings, kind: ContentKind) -> Self {
        Self {
            writer: parts.replicas.clone(),
            holder: parts.writer.holder.clone(),
            kind,
            histories: settings.histories.clone(),
        }
    }

    fn content(&self, name: &DatasetName) -> Content {
        Content {
            kind: self.kind,
            name: name.clone(),
        }
    }

    /// History that is kept; of what was just removed from the configuration,
    /// as by default.
    fn history(&self, name: &DatasetName) -> HistorySettings {
        let kept = self.histories.get(&self.content(name));
        kept.cloned().unwrap_or_default()
    }

    /// Tells of the heads that moved, of each once.
    fn tell_moved<'n>(&self, names: impl Iterator<Item = &'n DatasetName>) {
        let names: BTreeSet<&DatasetName> = names.collect();
        for name in names {
            self.writer.moved(&self.content(name));
        }
    }
}

/// Publishes what all calls ask for, and answers them.
pub(super) async fn write_publishes(with: &With, calls: Vec<PublishCall>) {
    let begun = Instant::now();
    let mut requests = Vec::with_capacity(calls.len());
    let mut replies = Vec::with_capacity(calls.len());
    for Call { message, reply, .. } in calls {
        let Waiting(request) = message;
        let history = with.history(&request.dataset);
        requests.push((request, history));
        replies.push(reply);
    }
    let mut answers = with.writer.publish(requests.clone()).await;
    answers.resize(
        requests.len(),
        Err(PublishError::Away(UNANSWERED.to_owned())),
    );
    let refused =
        |answer: &Result<_, PublishError>| matches!(answer, Err(PublishError::Refused(_)));
    if requests.len() > 1 && answers.iter().any(refused) {
        tracing::error!("some of what is published was refused; published request by request");
        for (request, answer) in requests.iter().zip(&mut answers) {
            if refused(answer) {
                let alone = with.writer.publish(vec![request.clone()]).await;
                if let Some(alone) = alone.into_iter().next() {
                    *answer = alone;
                }
            }
        }
    }
    let done = || {
        let pairs = requests.iter().zip(&answers);
        pairs.filter_map(|((request, _), answer)| {
            let published = answer.as_ref().ok()?;
            (!published.repeated).then_some(request)
        })
    };
    with.tell_moved(done().map(|request| &request.dataset));
    for request in done() {
        let name = request.dataset.to_string();
        let count = request.modifications.len() as u64;
        metrics::counter!("highwater_dataset_modifications_total", "dataset" => name)
            .increment(count);
    }
    let rows = done().map(|request| request.modifications.len()).sum();
    let away = |answer: &Result<_, PublishError>| matches!(answer, Err(PublishError::Away(_)));
    count(
        begun,
        rows,
        answers.iter().filter(|answer| away(answer)).count(),
    );
    for (reply, answer) in replies.into_iter().zip(answers) {
        // Who does not wait any more asks again, by its Idempotency-Key.
        drop(reply.send(answer));
    }
}

/// Applies the changes of all calls, and answers them.
pub(super) async fn write_applies(with: &With, calls: Vec<ApplyCall>) {
    let begun = Instant::now();
    let mut edits = Vec::with_capacity(calls.len());
    let mut replies = Vec::with_capacity(calls.len());
    for Call { message, reply, .. } in calls {
        let Waiting(Apply {
            replica,
            stake,
            change,
        }) = message;
        let history = with.history(&replica);
        edits.push(ReplicaEdit {
            replica,
            stake,
            change,
            history,
        });
        replies.push(reply);
    }
    let mut answers = with.writer.apply(&with.holder, edits.clone()).await;
    answers.resize(edits.len(), Err(ApplyError::Away(UNANSWERED.to_owned())));
    let refused = |answer: &Result<_, ApplyError>| matches!(answer, Err(ApplyError::Refused(_)));
    if edits.len() > 1 && answers.iter().any(refused) {
        tracing::error!("some changes of replicas were refused; applied one by one");
        for (edit, answer) in edits.iter().zip(&mut answers) {
            if refused(answer) {
                let alone = with.writer.apply(&with.holder, vec![edit.clone()]).await;
                if let Some(alone) = alone.into_iter().next() {
                    *answer = alone;
                }
            }
        }
    }
    let served = |edit: &ReplicaEdit| {
        matches!(
            edit.change,
            ReplicaChange::Live { .. } | ReplicaChange::Follow { .. }
        )
    };
    let pairs = edits.iter().zip(&answers);
    let moved = pairs.filter(|(edit, answer)| answer.is_ok() && served(edit));
    with.tell_moved(moved.map(|(edit, _)| &edit.replica));
    let rows = answers.iter().flatten().map(|applied| applied.rows).sum();
    let away = |answer: &Result<_, ApplyError>| matches!(answer, Err(ApplyError::Away(_)));
    count(
        begun,
        rows,
        answers.iter().filter(|answer| away(answer)).count(),
    );
    for (reply, answer) in replies.into_iter().zip(answers) {
        // Who does not wait any more reads how the replica stands.
        drop(reply.send(answer));
    }
}

/// What a call is told that the writer forgot.
const UNANSWERED: &str = "it was not answered";

fn count(begun: Instant, rows: usize, away: usize) {
    if away > 0 {
        metrics::counter!("highwater_commit_failures_total").increment(1);
        tracing::warn!(
            commit.calls = away,
            "datasets and replicas could not be written; their callers are told to try again"
        );
    } else {
        metrics::histogram!("highwater_commit_seconds").record(begun.elapsed().as_secs_f64());
        metrics::counter!("highwater_commit_rows_total").increment(rows as u64);
    }
}

#[cfg(test)]
#[path = "replicas_tests.rs"]
mod tests;
