//! Runs a subscription's source, and takes in what it hears.

use crate::config::SubscriptionSettings;
use crate::flows::events::{
    Checkpoint, EventRows, Fork, Heard, Recorded, RefusedBlock, Sink, SinkError, Source, SourceEnd,
    SourceState, SourceView, SubscriptionName,
};
use crate::messages::{EventsNews, Record};
use crate::time::Timestamp;
use crate::watchdog::Intercom;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// First pause after a source failed, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Pause after the other side refused for good.
const REFUSED: Duration = Duration::from_secs(300);
/// Longest pause that the other side may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
/// A source that ran for so long was well before it failed.
const WELL: Duration = Duration::from_secs(60);
/// A source that is renewed sooner, again and again, is in a loop.
const SOON: Duration = Duration::from_millis(100);
/// Time limit of reading a checkpoint.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// Time limit of recording.
const RECORD_LIMIT: Duration = Duration::from_secs(30);
/// Most characters of an error that are kept.
const LONGEST_ERROR: usize = 2000;

/// What was heard of a subscription, by whatever way; shared between its
/// Subscriber and its source.
#[derive(Debug)]
pub(super) struct Hearing {
    begun: Instant,
    /// Milliseconds from `begun` to when something was heard last.
    last: AtomicU64,
    /// Highest block of which an event is known; below zero: none.
    highest: AtomicI64,
    /// Arrival of the newest event, as the rows showed it last.
    arrival: AtomicI64,
    /// Rows of abandoned blocks were marked: what is open has to be read anew.
    forked: AtomicBool,
    source: Mutex<Shown>,
    refused: Mutex<Option<Refused>>,
}

/// What the hook refused: the lowest block, and when the first and the last were.
#[derive(Clone, Copy, Debug)]
struct Refused {
    block: i64,
    first: Instant,
    last: Instant,
}

/// How the source stands.
#[derive(Clone, Debug, Default)]
struct Shown {
    state: Option<SourceState>,
    failures: u32,
    last_error: Option<(Timestamp, String)>,
}

impl Default for Hearing {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
            highest: AtomicI64::new(-1),
            arrival: AtomicI64::new(0),
            forked: AtomicBool::new(false),
            source: Mutex::default(),
            refused: Mutex::default(),
        }
    }
}

impl Hearing {
    /// Something was heard.
    pub(super) fn now(&self) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(millis, Ordering::Relaxed);
    }

    pub(super) fn block(&self, block: Option<i64>) {
        self.highest
            .fetch_max(block.unwrap_or(-1), Ordering::Relaxed);
    }

    /// The hook refused events, of this block and later ones, perhaps.
    pub(super) fn refused(&self, block: i64) {
        let now = Instant::now();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let before = refused.unwrap_or(Refused {
            block,
            first: now,
            last: now,
        });
        *refused = Some(Refused {
            block: before.block.min(block),
            last: now,
            ..before
        });
    }

    /// What was refused, and has not come again since.
    fn refused_block(&self) -> Option<RefusedBlock> {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.map(|refused| RefusedBlock {
            block: refused.block,
            first: refused.first.elapsed(),
            last: refused.last.elapsed(),
        })
    }

    /// What was refused until then has come again.
    fn passed(&self, until: Instant) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = refused.filter(|refused| refused.last > until);
    }

    /// What the rows show. Where an event is newer than at the last look, somebody
    /// heard something: the hook of another server, perhaps.
    pub(super) fn rows(&self, shown: &Checkpoint) {
        self.block(shown.highest_block);
        let before = self
            .arrival
            .fetch_max(shown.last_arrival, Ordering::Relaxed);
        if shown.last_arrival > before {
            self.now();
        }
    }

    /// Whether a fork was noted since this was last asked.
    pub(super) fn forked(&self) -> bool {
        self.forked.swap(false, Ordering::AcqRel)
    }

    /// How the source at `place` stands.
    pub(super) fn view(&self, place: String) -> SourceView {
        let shown = self.shown(|shown| shown.clone());
        SourceView {
            place,
            state: shown.state,
            failures: shown.failures,
            last_error: shown.last_error,
        }
    }

    /// The source tells how it stands. One that is live fails no more; what went
    /// wrong last stays to be read. How long is paused after its next failure is
    /// another matter (`WELL`).
    fn told(&self, state: SourceState) {
        self.shown(|shown| {
            if matches!(state, SourceState::Live { .. }) {
                shown.failures = 0;
            }
            shown.state = Some(state);
        });
    }

    fn shown<T>(&self, change: impl FnOnce(&mut Shown) -> T) -> T {
        change(&mut self.source.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes in what a source hears.
pub(super) struct SubscriberSink {
    pub(super) settings: SubscriptionSettings,
    pub(super) recorder: Intercom<Record>,
    /// To the subscription's own Subscriber.
    pub(super) news: Intercom<EventsNews>,
    /// Where events of abandoned blocks are marked.
    pub(super) rows: Arc<dyn EventRows>,
    pub(super) hearing: Arc<Hearing>,
}

impl SubscriberSink {
    async fn send(&self, record: Record) -> Result<Recorded, SinkError> {
        let answer = self.recorder.send(record, RECORD_LIMIT).await;
        answer.unwrap_or_else(|error| Err(SinkError::Away(error.to_string())))
    }
}

impl Sink for SubscriberSink {
    fn record(&self, heard: Vec<Heard>) -> BoxFuture<'_, Result<Recorded, SinkError>> {
        Box::pin(async move {
            self.hearing.now();
            let highest = heard.iter().filter_map(|heard| heard.block).max();
            let skipped = |heard: &Heard| heard.block.is_some_and(|b| self.settings.skips(b));
            let heard = heard.into_iter().map(|heard| {
                let skipped = skipped(&heard);
                (heard, skipped)
            });
            let recorded = self
                .send(Record {
                    subscription: self.settings.name.clone(),
                    heard: heard.collect(),
                    source_state: None,
                })
                .await?;
            self.hearing.block(highest);
            let news = EventsNews {
                subscription: self.settings.name.clone(),
                recorded: recorded.new.clone(),
            };
            // What is not taken is found by the next look.
            drop(self.news.post(news));
            Ok(recorded)
        })
    }

    fn remember(&self, state: String) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let record = Record {
                subscription: self.settings.name.clone(),
                heard: Vec::new(),
                source_state: Some(state),
            };
            self.send(record).await.map(drop)
        })
    }

    fn abandoned(&self, fork: Fork) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let name = &self.settings.name;
            let marking = self.rows.abandon(name, &fork, Timestamp::now());
            match timeout(RECORD_LIMIT, marking).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.is_transient() => {
                    return Err(SinkError::Away(error.to_string()));
                }
                Ok(Err(error)) => return Err(SinkError::Refused(error.to_string())),
                Err(_) => {
                    let why = format!("no answer within {RECORD_LIMIT:?}");
                    return Err(SinkError::Away(why));
                }
            }
            tracing::warn!(subscription.name = %name, blocks.abandoned = fork.abandoned.len(), "events of blocks that the ledger abandoned are not handed over any more");
            self.hearing.forked.store(true, Ordering::Release);
            let news = EventsNews {
                subscription: name.clone(),
                recorded: Vec::new(),
            };
            // What is not taken is seen at the next turn.
            drop(self.news.post(news));
            Ok(())
        })
    }

    fn tell(&self, state: SourceState) {
        self.hearing.told(state);
    }

    fn silent_for(&self) -> Duration {
        let last = Duration::from_millis(self.hearing.last.load(Ordering::Relaxed));
        self.hearing.begun.elapsed().saturating_sub(last)
    }

    fn highest_block(&self) -> Option<i64> {
        let highest = self.hearing.highest.load(Ordering::Relaxed);
        (highest >= 0).then_some(highest)
    }

    fn refused(&self) -> Option<RefusedBlock> {
        self.hearing.refused_block()
    }

    fn passed(&self, until: Instant) {
        self.hearing.passed(until);
    }
}

/// Runs a source for ever; to be dropped.
pub(super) async fn keep(source: Arc<dyn Source>, sink: SubscriberSink, rows: Arc<dyn EventRows>) {
    let name = sink.settings.name.clone();
    let mut failures = 0_u32;
    loop {
        sink.hearing.shown(|shown| shown.state = None);
        let begun = Instant::now();
        let end = match checkpoint(&*rows, &name).await {
            Ok(checkpoint) => {
                sink.hearing.block(checkpoint.highest_block);
                let run = AssertUnwindSafe(source.run(checkpoint, &sink));
                run.catch_unwind()
                    .await
                    .unwrap_or_else(|_| SourceEnd::Failed {
                        why: "a defect: the source panicked; the log says where".to_owned(),
                        retry_after: None,
                    })
            }
            Err(why) => SourceEnd::Failed {
                why,
                retry_after: None,
            },
        };
        let ran = begun.elapsed();
        if ran >= WELL {
            failures = 0;
        }
        let (pause, why) = match end {
            SourceEnd::Renew if ran >= SOON => {
                failures = 0;
                continue;
            }
            SourceEnd::Renew => (SOON, None),
            SourceEnd::Failed { why, retry_after } => {
                let pause = after(failures, rand::random());
                failures = failures.saturating_add(1);
                let asked = retry_after.unwrap_or_default().min(LONGEST_ASKED);
                (pause.max(asked), Some(why))
            }
            SourceEnd::Refused(why) => {
                failures = failures.saturating_add(1);
                (REFUSED, Some(why))
            }
        };
        if let Some(why) = why {
            let why = bounded(&why);
            tracing::warn!(subscription.name = %name, source.place = %source.place(), error = %why, source.failures = failures, source.retry_after_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX), "a source of events ended; run again later");
            sink.hearing.shown(|shown| {
                *shown = Shown {
                    state: None,
                    failures,
                    last_error: Some((Timestamp::now(), why)),
                };
            });
        }
        sleep(pause).await;
    }
}

/// The pause after so many failures before this one; chance shortens it by up
/// to a quarter, so that servers do not come all at once.
fn after(failures: u32, chance: f64) -> Duration {
    let (least, most) = RETRY;
    let pause = least.saturating_mul(1 << failures.min(16)).min(most);
    pause.mul_f64(1.0 - chance / 4.0)
}

async fn checkpoint(rows: &dyn EventRows, name: &SubscriptionName) -> Result<Checkpoint, String> {
    match timeout(READ_LIMIT, rows.checkpoint(name.as_str())).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the database did not answer within {READ_LIMIT:?}")),
    }
}

/// An error as it is kept and shown.
pub(super) fn bounded(error: &str) -> String {
    match error.char_indices().nth(LONGEST_ERROR) {
        Some((end, _)) => format!("{}…", &error[..end]),
        None => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_live_again_is_not_told_as_failing() {
        let hearing = Hearing::default();
        hearing.shown(|shown| {
            shown.failures = 3;
            shown.last_error = Some((Timestamp::now(), "answered 503".to_owned()));
        });
        let failures = || hearing.view("a gateway".to_owned()).failures;
        hearing.told(SourceState::Connecting);
        assert_eq!(failures(), 3);
        hearing.told(SourceState::Live {
            from: Some(7),
            to: None,
        });
        assert_eq!(failures(), 0);
        assert!(hearing.view("a gateway".to_owned()).last_error.is_some());
    }

    #[test]
    fn the_lowest_refused_block_is_kept_until_all_was_passed() {
        let hearing = Hearing::default();
        assert_eq!(hearing.refused_block(), None);
        for block in [7, 5, 9] {
            hearing.refused(block);
        }
        let before = Instant::now();
        let block = || hearing.refused_block().map(|refused| refused.block);
        assert_eq!(block(), Some(5));
        while Instant::now() == before {}
        hearing.refused(8);
        hearing.passed(before);
        assert_eq!(block(), Some(5), "something was refused since");
        hearing.passed(Instant::now());
        assert_eq!(block(), None);
    }

    #[test]
    fn what_another_server_records_is_no_silence() {
        let millis = |hearing: &Hearing| hearing.last.load(Ordering::Relaxed);
        let begun = Instant::now().checked_sub(Duration::from_secs(9));
        let hearing = Hearing {
            begun: begun.unwrap_or_else(Instant::now),
            ..Hearing::default()
        };
        let shown = |last_arrival| Checkpoint {
            last_arrival,
            highest_block: Some(4),
            ..Checkpoint::default()
        };
        hearing.rows(&shown(7));
        let first = millis(&hearing);
        assert!(first >= 9000);
        hearing.last.store(0, Ordering::Relaxed);
        hearing.rows(&shown(7));
        assert_eq!(millis(&hearing), 0, "nothing is newer");
        hearing.rows(&shown(8));
        assert!(millis(&hearing) >= first);
        assert_eq!(hearing.highest.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn pauses_of_a_failing_source_grow_and_end_at_a_minute() {
        let pauses: Vec<u64> = (0..8).map(|n| after(n, 0.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(after(0, 1.0), Duration::from_millis(750));
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        assert_eq!(bounded("short"), "short");
        assert_eq!(
            bounded(&"é".repeat(3000)).chars().count(),
            LONGEST_ERROR + 1
        );
    }
}
