//! How calls of the event flow are written: all in one transaction, and where
//! the database refuses something, or somebody holds a lock, in smaller and
//! smaller parts.

use super::lane::Call;
use crate::flows::events::{Decision, EventChange, Recorded, SinkError, SubscriptionName};
use crate::messages::{Mark, Record};
use crate::store::{BatchWriter, MarkGroup, RecordGroup, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

pub(super) type RecordCall = Call<Record, Recorded>;
pub(super) type MarkCall = Call<Mark, ()>;

/// Records the events of all calls, and answers them.
pub(super) async fn write_records(store: &Store, calls: Vec<RecordCall>) {
    let begun = Instant::now();
    let mut groups = Vec::with_capacity(calls.len());
    let mut replies = Vec::with_capacity(calls.len());
    for Call { message, reply, .. } in calls {
        groups.push(RecordGroup {
            subscription: message.subscription,
            heard: message.heard,
            source_state: message.source_state,
        });
        replies.push(reply);
    }
    let groups: Arc<[RecordGroup]> = groups.into();
    let answers: Vec<Result<Recorded, SinkError>> = match store.record_shared(groups.clone()).await
    {
        Ok(recorded) => {
            let rows = recorded.iter().map(|of| of.new.len() + of.skipped).sum();
            count(begun, rows);
            recorded.into_iter().map(Ok).collect()
        }
        Err(error) if ends_all(&error, groups.len()) => {
            note(&error, groups.len());
            vec![Err(away(&error)); groups.len()]
        }
        Err(error) => {
            tracing::error!(error = %error, "events cannot be recorded together; recorded call by call");
            one_by_one(store, &groups, &error).await
        }
    };
    for (group, answer) in groups.iter().zip(&answers) {
        if let Ok(recorded) = answer {
            tell(&group.subscription, "recorded", recorded.new.len());
            tell(&group.subscription, "known", recorded.known);
            let skipped = Decision::Skipped.as_str();
            tell(&group.subscription, skipped, recorded.skipped);
        }
    }
    for (reply, answer) in replies.into_iter().zip(answers) {
        // Who does not wait any more hands its events over again.
        drop(reply.send(answer));
    }
}

/// Whether parts of a transaction would fail as all of it did: the database is
/// away, or there is one part, and somebody holds a lock on it.
const fn ends_all(error: &StoreError, parts: usize) -> bool {
    match error {
        StoreError::Unreachable(_) => true,
        error => parts == 1 && error.is_transient(),
    }
}

/// Why calls that are written one by one are not even tried.
#[derive(Default)]
struct Passing {
    /// The database is away: for all that are left.
    gone: Option<SinkError>,
    /// Somebody holds a lock on the rows of these subscriptions: each try would
    /// wait for it, and what comes later must not be recorded before.
    locked: BTreeMap<SubscriptionName, SinkError>,
}

impl Passing {
    fn of(&self, subscription: &SubscriptionName) -> Option<SinkError> {
        self.gone
            .as_ref()
            .or_else(|| self.locked.get(subscription))
            .cloned()
    }

    /// Takes note of why a call failed for now; answers what it is told.
    fn note(&mut self, subscription: &SubscriptionName, error: &StoreError) -> SinkError {
        let answer = away(error);
        match error {
            StoreError::Unreachable(_) => self.gone = Some(answer.clone()),
            StoreError::Locked(_) => {
                self.locked.insert(subscription.clone(), answer.clone());
            }
            _ => {}
        }
        answer
    }
}

/// Records call by call. A database that is away ends it for the rest, a lock
/// for the rest of that subscription.
async fn one_by_one(
    store: &Store,
    groups: &[RecordGroup],
    error: &StoreError,
) -> Vec<Result<Recorded, SinkError>> {
    let mut answers = Vec::with_capacity(groups.len());
    let mut passing = Passing::default();
    for group in groups {
        if let Some(answer) = passing.of(&group.subscription) {
            answers.push(Err(answer));
            continue;
        }
        // Alone it was refused already.
        let recorded = if groups.len() == 1 {
            Err(error.clone())
        } else {
            record_one(store, group.clone()).await
        };
        let answer = match recorded {
            Err(error) if !error.is_transient() => event_by_event(store, group, error).await,
            outcome => outcome.map_err(Failed::Passing),
        };
        answers.push(answer.map_err(|failed| match failed {
            Failed::Refused(why) => SinkError::Refused(why),
            Failed::Passing(error) => passing.note(&group.subscription, &error),
        }));
    }
    answers
}

/// Why a call was not recorded whole.
enum Failed {
    /// For now.
    Passing(StoreError),
    /// The database refuses an event: which, and why.
    Refused(String),
}

async fn record_one(store: &Store, group: RecordGroup) -> Result<Recorded, StoreError> {
    let mut recorded = store.record_events(vec![group]).await?;
    Ok(recorded.pop().unwrap_or_default())
}

/// Records all events of a call that can be. Where one is refused, the source is
/// to remember nothing: it has not been heard to that point.
async fn event_by_event(
    store: &Store,
    group: &RecordGroup,
    error: StoreError,
) -> Result<Recorded, Failed> {
    let part = |heard, source_state| RecordGroup {
        subscription: group.subscription.clone(),
        heard,
        source_state,
    };
    let mut whole = Recorded::default();
    let mut refused = None;
    for event in &group.heard {
        let recorded = if group.heard.len() == 1 && group.source_state.is_none() {
            Err(error.clone())
        } else {
            record_one(store, part(vec![event.clone()], None)).await
        };
        match recorded {
            Ok(recorded) => {
                whole.new.extend(recorded.new);
                whole.known += recorded.known;
                whole.skipped += recorded.skipped;
            }
            Err(error) if error.is_transient() => return Err(Failed::Passing(error)),
            Err(error) => {
                let (heard, _) = event;
                tracing::error!(
                    subscription.name = %group.subscription,
                    event.block = heard.block,
                    event.tx_id = %heard.tx_id,
                    error = %error,
                    "an event cannot be recorded"
                );
                let block = heard
                    .block
                    .map_or("none".to_owned(), |block| block.to_string());
                refused = Some(format!(
                    "transaction \"{}\" of block {block}: {error}",
                    heard.tx_id
                ));
            }
        }
    }
    if let Some(refused) = refused {
        return Err(Failed::Refused(refused));
    }
    if group.source_state.is_some() {
        let remember = part(Vec::new(), group.source_state.clone());
        match record_one(store, remember).await {
            Ok(_) => {}
            Err(error) if error.is_transient() => return Err(Failed::Passing(error)),
            Err(error) => return Err(Failed::Refused(error.to_string())),
        }
    }
    Ok(whole)
}

/// Writes the changes of all calls, and answers them.
pub(super) async fn write_marks(writer: &BatchWriter, calls: Vec<MarkCall>) {
    let begun = Instant::now();
    let mut groups = Vec::with_capacity(calls.len());
    let mut replies = Vec::with_capacity(calls.len());
    for Call { message, reply, .. } in calls {
        groups.push(MarkGroup {
            subscription: message.subscription,
            stake: message.stake,
            orders: message.orders,
            changes: message.changes.into(),
        });
        replies.push(reply);
    }
    let (store, holder) = (&writer.store, writer.holder.as_str());
    let tallies: Vec<Tally> = groups.iter().map(Tally::of).collect();
    let answers: Vec<Result<(), SinkError>> = match store.mark_events(holder, groups.clone()).await
    {
        Ok(written) => {
            count(begun, groups.iter().map(|group| group.changes.len()).sum());
            written.into_iter().map(held).collect()
        }
        Err(error) if ends_all(&error, groups.len()) => {
            note(&error, groups.len());
            vec![Err(away(&error)); groups.len()]
        }
        Err(error) => {
            tracing::error!(error = %error, "changes of events cannot be written together; written one by one");
            let mut answers = Vec::with_capacity(groups.len());
            let mut passing = Passing::default();
            for group in groups {
                let subscription = group.subscription.clone();
                if let Some(answer) = passing.of(&subscription) {
                    answers.push(Err(answer));
                    continue;
                }
                let written = store.mark_events(holder, vec![group]).await;
                answers.push(match written {
                    Ok(written) => held(written.first().copied().unwrap_or(false)),
                    Err(error) if error.is_transient() => Err(passing.note(&subscription, &error)),
                    Err(error) => Err(SinkError::Refused(error.to_string())),
                });
            }
            answers
        }
    };
    for (tally, answer) in tallies.iter().zip(&answers) {
        if answer.is_ok() {
            tally.tell();
        }
    }
    for (reply, answer) in replies.into_iter().zip(answers) {
        // Who does not wait any more marks them again.
        drop(reply.send(answer));
    }
}

/// How many events a call decides, by the word that counts them.
struct Tally {
    subscription: SubscriptionName,
    counts: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn of(group: &MarkGroup) -> Self {
        let mut counts = BTreeMap::new();
        for change in group.changes.iter() {
            let word = match change {
                EventChange::Decided { decision, .. } => decision.as_str(),
                EventChange::Processed { .. } => "processed",
                EventChange::Failed { .. } => "failed",
                EventChange::Late(_) | EventChange::Position(_) | EventChange::Halted { .. } => {
                    continue;
                }
            };
            *counts.entry(word).or_default() += 1;
        }
        Self {
            subscription: group.subscription.clone(),
            counts,
        }
    }

    fn tell(&self) {
        for (word, count) in &self.counts {
            tell(&self.subscription, word, *count);
        }
    }
}

/// Counts events of a subscription; subscriptions are configured, so few.
fn tell(subscription: &SubscriptionName, decision: &'static str, count: usize) {
    if count > 0 {
        let name = subscription.to_string();
        metrics::counter!("highwater_events_total", "subscription" => name, "decision" => decision)
            .increment(count as u64);
    }
}

const fn held(written: bool) -> Result<(), SinkError> {
    if written {
        Ok(())
    } else {
        Err(SinkError::Fenced)
    }
}

fn away(error: &StoreError) -> SinkError {
    match error {
        // The words before it are the sink's as well.
        StoreError::Unreachable(why) => SinkError::Away(why.clone()),
        error => SinkError::Away(error.to_string()),
    }
}

fn note(error: &StoreError, calls: usize) {
    metrics::counter!("highwater_commit_failures_total").increment(1);
    tracing::warn!(
        error = %error,
        commit.calls = calls,
        "events could not be written; their callers are told to try again"
    );
}

fn count(begun: Instant, rows: usize) {
    metrics::histogram!("highwater_commit_seconds").record(begun.elapsed().as_secs_f64());
    metrics::counter!("highwater_commit_rows_total").increment(rows as u64);
}
