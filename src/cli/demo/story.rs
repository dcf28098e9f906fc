//! What happens in the demo and when, and what the terminal tells of it.

use super::events::{self, EventsStory};
use super::feed::Feed;
use super::market::Market;
use super::prices::{self, PricesStory};
use super::sites::{self, SitesStory};
use super::stage::{Stage, TRACE};
use crate::app::Ready;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::sim::Behaviour;
use crate::store::Store;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How long a server that takes no batches may be about to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How often batches are submitted.
const FEED: Duration = Duration::from_millis(250);
/// How often a line is told.
const TELL: Duration = Duration::from_secs(4);
/// How often the stories of the sites, of the events and of the prices are looked
/// after.
const LOOK: Duration = Duration::from_secs(1);
/// The burst at the start, in seconds of the usual rate.
const BURST: usize = 30;
/// When the Sawtooth ledger is down.
const OUTAGE: Recurring = Recurring {
    first: 20,
    lasts: 20,
    every: 120,
};

/// Something that happens now and then, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recurring {
    /// It begins after so long, …
    pub(super) first: u64,
    /// … lasts so long, …
    pub(super) lasts: u64,
    /// … and begins again so long after it began.
    pub(super) every: u64,
}

impl Recurring {
    /// Whether it goes on at this time.
    pub(super) fn is_on(self, elapsed: Duration) -> bool {
        elapsed
            .as_secs()
            .checked_sub(self.first)
            .is_some_and(|since| since % self.every < self.lasts)
    }
}

/// The demo's course.
pub(super) struct Story<'a> {
    stage: &'a Stage,
    rate: usize,
    duration: Option<Duration>,
}

impl<'a> Story<'a> {
    /// A story at so many batches per second, for so long or until stopped.
    pub(super) fn new(stage: &'a Stage, rate: u32, duration: Option<Duration>) -> Self {
        Self {
            stage,
            rate: usize::try_from(rate).unwrap_or(1),
            duration,
        }
    }

    /// Waits for the server, and then tells until the server has ended
    /// (`ended` is closed). Ends the server itself when its time is up or
    /// something breaks. Blocks: a thread of its own.
    ///
    /// # Errors
    /// What broke.
    pub(super) fn tell(
        &self,
        market: Market,
        ready: oneshot::Receiver<Ready>,
        ended: watch::Receiver<()>,
    ) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            // Without a server there is no story: the server's error is told.
            let Ok(ready) = ready.await else {
                return Ok(());
            };
            let told = self.go_on(market, &ready, ended).await;
            ready.stop.stop();
            told
        })
    }

    async fn go_on(
        &self,
        market: Market,
        ready: &Ready,
        mut ended: watch::Receiver<()>,
    ) -> Result<(), Failure> {
        let mut feed = Feed::new(self.stage, ready.http_addr).map_err(Failure::Failed)?;
        let store = Store::open_as_is(&self.stage.config.settings.database)?;
        self.introduce(ready)?;
        let began = Instant::now();
        let teller = Teller::new(began);
        let burst = self.rate * BURST;
        feed.submit(burst);
        teller.say(format_args!(
            "{burst} batches at once, then {} a second",
            self.rate
        ))?;
        let sites = &self.stage.sites;
        let mut sites_story = match sites::import(sites, &store).await {
            Ok(added) => {
                teller.say(format_args!(
                    "{added} sites are put into the database, some of which fail; each is visited \
                     every 15 seconds while it is well"
                ))?;
                SitesStory::new(sites)
            }
            Err(error) => {
                teller.say(format_args!(
                    "the database does not take the sites: {error}"
                ))?;
                None
            }
        };
        let mut events_story =
            EventsStory::new(self.stage, ready.http_addr).map_err(Failure::Failed)?;
        let mut prices_story =
            PricesStory::new(self.stage, ready.http_addr, market).map_err(Failure::Failed)?;
        let (mut feeding, mut telling) = (interval(FEED), interval(TELL));
        let mut looking = interval(LOOK);
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        feeding.set_missed_tick_behavior(MissedTickBehavior::Delay);
        telling.set_missed_tick_behavior(MissedTickBehavior::Delay);
        telling.reset();
        let mut fed = 0;
        let mut outage = false;
        let mut refused: Option<String> = None;
        loop {
            tokio::select! {
                // The sender is dropped when the server has ended.
                _ = ended.changed() => break,
                () = until(began, self.duration) => {
                    teller.tell_counts(&store).await?;
                    teller.say(format_args!("time is up"))?;
                    tokio::select! {
                        _ = ended.changed() => {},
                        words = prices_story.compare(&store) => {
                            teller.say(format_args!("{words}"))?;
                        }
                    }
                    break;
                }
                _ = telling.tick() => teller.tell_counts(&store).await?,
                _ = looking.tick() => {
                    // A database that is away is told with the counts.
                    if let Some(story) = &mut sites_story
                        && let Ok(Some(news)) = story.go_on(began.elapsed(), &store).await
                    {
                        teller.say(format_args!("{news}"))?;
                    }
                    let mut news = events_story.go_on(began.elapsed(), &store).await.unwrap_or_default();
                    news.extend(prices_story.go_on(began.elapsed(), &store).await.unwrap_or_default());
                    for news in news {
                        teller.say(format_args!("{news}"))?;
                    }
                },
                _ = feeding.tick() => {
                    let due = self.due(began.elapsed());
                    feed.submit(due.saturating_sub(fed));
                    fed = due;
                    let mut trouble = feed.send().await;
                    if trouble.is_ok() {
                        trouble = events_story.note().await;
                    }
                    if trouble.is_ok() {
                        trouble = prices_story.trade().await;
                    }
                    let trouble = trouble.err();
                    // A server that is being stopped takes no more: no news.
                    if trouble.is_some()
                        && tokio::time::timeout(LAST_WORDS, ended.changed()).await.is_ok()
                    {
                        break;
                    }
                    if let Some(trouble) = &trouble && refused.is_none() {
                        teller.say(format_args!("the server takes nothing: {trouble}"))?;
                    } else if trouble.is_none() && refused.is_some() {
                        teller.say(format_args!("the server takes what it is told again"))?;
                    }
                    refused = trouble;
                    let now_out = OUTAGE.is_on(began.elapsed());
                    if now_out != outage {
                        outage = now_out;
                        self.set_outage(outage);
                        teller.tell_outage(outage)?;
                    }
                }
            }
        }
        store.close();
        teller.say(format_args!("stopped"))?;
        Ok(())
    }

    /// Batches that should have been submitted after the burst by now.
    fn due(&self, elapsed: Duration) -> usize {
        let millis = usize::try_from(elapsed.as_millis()).unwrap_or(usize::MAX);
        self.rate.saturating_mul(millis) / 1000
    }

    fn set_outage(&self, out: bool) {
        let behaviour = Behaviour {
            validator_gone: out,
            ..self.stage.trace.behaviour()
        };
        self.stage.trace.set_behaviour(&behaviour);
    }

    fn introduce(&self, ready: &Ready) -> Result<(), Failure> {
        let server = format!("http://{}", ready.http_addr);
        let config = quoted(&self.stage.file());
        output::print(format_args!(
            "\n    Status page:    {server}/\n    \
             Sites:          {server}/sites\n    \
             Jobs:           {server}/jobs\n    \
             Subscriptions:  {server}/subscriptions\n    \
             Replicas:       {server}/replicas\n\n\
             Ledgers: {} (Sawtooth) and {} (Splinter, {} services). In another terminal:\n\n    \
             highwater sites list --state given_up --config {config}\n    \
             highwater events status --config {config}\n    \
             highwater replicas show {} --config {config}\n    \
             highwater ctl services --server {server} --token-file {}\n\n\
             Ctrl-C ends the demo.\n",
            TRACE,
            super::stage::SUPPLY_CHAIN,
            self.stage.services.len(),
            prices::COPY,
            quoted(&self.stage.token_file()),
        ))
    }
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if path.chars().all(plain) {
        path
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

async fn until(began: Instant, duration: Option<Duration>) {
    match duration.and_then(|duration| began.checked_add(duration)) {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Prints lines with the time since the start before them.
struct Teller {
    began: Instant,
}

impl Teller {
    fn new(began: Instant) -> Self {
        Self { began }
    }

    fn say(&self, text: std::fmt::Arguments<'_>) -> Result<(), Failure> {
        let seconds = self.began.elapsed().as_secs();
        output::print(format_args!(
            "{:>3}:{:02}  {text}",
            seconds / 60,
            seconds % 60
        ))
    }

    async fn tell_counts(&self, store: &Store) -> Result<(), Failure> {
        let ledgers = match store.summarize_ledgers(&[], Timestamp::now()).await {
            Ok(ledgers) => ledgers,
            Err(error) => return self.say(format_args!("cannot look: {error}")),
        };
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for (status, count) in ledgers.iter().flat_map(|ledger| &ledger.counts) {
            *counts.entry(status).or_default() += count;
        }
        let mut line = format!("batches: {}", sentence(&counts));
        if let Ok(Some(sites)) = sites::count(store).await {
            line.push_str("; ");
            line.push_str(&sites);
        }
        if let Ok(Some(events)) = events::count(store).await {
            line.push_str("; ");
            line.push_str(&events);
        }
        if let Ok(Some(prices)) = prices::count(store).await {
            line.push_str("; ");
            line.push_str(&prices);
        }
        self.say(format_args!("{line}"))
    }

    fn tell_outage(&self, out: bool) -> Result<(), Failure> {
        if out {
            self.say(format_args!(
                "{TRACE} stops answering: watch its breaker open; the other ledger goes on"
            ))
        } else {
            self.say(format_args!(
                "{TRACE} is back: its batches settle as soon as it is asked again"
            ))
        }
    }
}

/// The counts in a line; what did not happen is left out.
fn sentence(counts: &BTreeMap<&str, i64>) -> String {
    let of = |status: &str| counts.get(status).copied().unwrap_or(0);
    let tracked: i64 = counts.values().sum();
    let outstanding = of("pending") + of("valid");
    let mut line = format!(
        "tracked {tracked}, outstanding {outstanding}, settled {}",
        tracked - outstanding
    );
    let also: Vec<String> = ["invalid", "lost", "refused"]
        .into_iter()
        .filter(|status| of(status) > 0)
        .map(|status| format!("{} {status}", of(status)))
        .collect();
    if !also.is_empty() {
        line.push_str(&format!(" ({})", also.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_fails_for_a_while_and_again() {
        let out: Vec<u64> = (0..300)
            .filter(|second| OUTAGE.is_on(Duration::from_secs(*second)))
            .collect();
        assert_eq!(out.len(), 60);
        assert_eq!((out[0], out[19], out[20]), (20, 39, 140));
    }

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        assert_eq!(quoted(Path::new("/tmp/a-1/b.toml")), "/tmp/a-1/b.toml");
        assert_eq!(quoted(Path::new("/it's here")), r"'/it'\''s here'");
    }

    #[test]
    fn counts_make_a_line() {
        let counts = BTreeMap::from([("committed", 7), ("invalid", 1), ("pending", 2)]);
        assert_eq!(
            sentence(&counts),
            "tracked 10, outstanding 2, settled 8 (1 invalid)"
        );
        assert_eq!(
            sentence(&BTreeMap::from([("committed", 1)])),
            "tracked 1, outstanding 0, settled 1"
        );
    }
}
