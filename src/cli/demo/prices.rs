//! The prices of the demo: a dataset that an application publishes, and a
//! replica that follows it over HTTP, as one of another node would. Its operator
//! stops the replica's Follower for longer than history reaches: the replica is
//! stale then, and copies anew by itself.

use super::events::send;
use super::market::Market;
use super::stage::Stage;
use super::story::Recurring;
use crate::cli::failure::Failure;
use crate::flows::replicas::{
    BootstrapReason, Digests, Head, Modification, PublishRequest, RangeDigest,
};
use crate::store::{ReplicaSummary, Store, StoreError};
use secrecy::ExposeSecret as _;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use url::Url;

/// The dataset.
pub(super) const PRICES: &str = "prices";
/// The replica that follows it.
pub(super) const COPY: &str = "prices_copy";

/// When the replica's Follower is stopped, and more is traded than history keeps.
const STOPPED: Recurring = Recurring {
    first: 52,
    lasts: 20,
    every: 150,
};
/// Changes in a call, of which there are some four a second …
const CHANGES: usize = 3;
/// … and while the Follower is stopped: beyond history in that time.
const BRISK: usize = 80;
/// Prices in a call at the beginning.
const CALL: usize = 5000;
/// How long is waited at the end for the copy to be level, …
const LAST_WAIT: Duration = Duration::from_secs(60);
/// … and how often that is looked at.
const LOOK: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes the prices of the beginning, before there is a server, as
/// `highwater datasets put` does: what follows finds something to copy.
///
/// # Errors
/// The database cannot be written.
pub(super) async fn publish_first(stage: &Stage) -> Result<Market, Failure> {
    let (market, prices) = Market::open();
    let datasets = &stage.config.settings.datasets;
    let dataset = datasets.iter().find(|of| of.name.as_str() == PRICES);
    let dataset = dataset.ok_or_else(|| Failure::Failed(format!("no dataset {PRICES}")))?;
    let store = Store::open(&stage.config.settings.database).await?;
    for modifications in prices.chunks(CALL) {
        let request = PublishRequest {
            dataset: dataset.name.clone(),
            modifications: modifications.to_vec(),
            if_head: None,
            idempotency: None,
        };
        let history = BTreeMap::from([(dataset.name.clone(), dataset.history.clone())]);
        for outcome in store.publish(vec![request], history).await? {
            outcome.map_err(|error| Failure::Failed(format!("{PRICES}: {error}")))?;
        }
    }
    store.close();
    Ok(market)
}

/// What happens to the prices and their copy.
pub(super) struct PricesStory<'a> {
    stage: &'a Stage,
    client: reqwest::Client,
    server: SocketAddr,
    market: Market,
    /// What the server has not taken yet.
    waiting: Vec<Modification>,
    stopped: bool,
    told: Phase,
}

/// How the copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Nothing,
    Copying,
    Live,
    Stale,
}

impl Phase {
    fn of(replica: &ReplicaSummary) -> Self {
        let standing = &replica.standing;
        if standing.stale.is_some() {
            Self::Stale
        } else if standing.live.is_some() {
            Self::Live
        } else if standing.bootstrap.is_some() {
            Self::Copying
        } else {
            Self::Nothing
        }
    }
}

impl<'a> PricesStory<'a> {
    /// Of the server that listens there.
    pub(super) fn new(
        stage: &'a Stage,
        server: SocketAddr,
        market: Market,
    ) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            stage,
            client,
            server,
            market,
            waiting: Vec::new(),
            stopped: false,
            told: Phase::Nothing,
        })
    }

    /// The application: publishes what was traded. What the server does not take
    /// is sent again; the same prices twice do no harm.
    ///
    /// # Errors
    /// Why the server does not take it.
    pub(super) async fn trade(&mut self) -> Result<(), String> {
        if self.waiting.is_empty() {
            let changes = if self.stopped { BRISK } else { CHANGES };
            self.waiting = self.market.trade(changes);
        }
        let path = format!("/v1/datasets/{PRICES}/entries");
        let call = self.client.post(format!("http://{}{path}", self.server));
        send(call.json(&self.waiting)).await?;
        self.waiting.clear();
        Ok(())
    }

    /// What is to be told after `elapsed`, if anything; and has it happen. What
    /// the server did about it is told when it stands in the database.
    ///
    /// # Errors
    /// The database is out of reach.
    pub(super) async fn go_on(
        &mut self,
        elapsed: Duration,
        store: &Store,
    ) -> Result<Vec<String>, StoreError> {
        let mut news = Vec::new();
        let stop = STOPPED.is_on(elapsed);
        if stop != self.stopped {
            news.push(match self.order(stop).await {
                Ok(()) if stop => format!(
                    "the operator stops follower:{COPY}, while more is traded than the history of {PRICES} keeps"
                ),
                Ok(()) => format!("the operator starts follower:{COPY} again"),
                Err(problem) => format!("the operator is not heard: {problem}"),
            });
        }
        let Some(replica) = copy(store).await? else {
            return Ok(news);
        };
        let phase = Phase::of(&replica);
        if phase != self.told {
            news.push(told(phase, &replica));
            self.told = phase;
        }
        Ok(news)
    }

    /// Has the Follower stop, or go on.
    async fn order(&mut self, stop: bool) -> Result<(), String> {
        let order = if stop { "stop" } else { "start" };
        let path = format!("/v1/control/services/follower:{COPY}/{order}");
        let mut call = self.client.post(format!("http://{}{path}", self.server));
        if let Some(token) = &self.stage.config.settings.http.control_token {
            call = call.bearer_auth(token.expose_secret());
        }
        send(call).await?;
        self.stopped = stop;
        Ok(())
    }

    /// At the end: lets the copy become level, and says whether it equals what
    /// is published, by the digests of both.
    pub(super) async fn compare(&mut self, store: &Store) -> String {
        if self.stopped
            && let Err(problem) = self.order(false).await
        {
            return format!("{COPY} is not followed: {problem}");
        }
        let began = Instant::now();
        loop {
            let equal = self.is_equal().await;
            if let Ok(Some((head, len))) = equal {
                return format!("{COPY} equals {PRICES}: {len} prices at head {head}");
            }
            if began.elapsed() >= LAST_WAIT {
                let stands = match (equal, count(store).await) {
                    (Err(problem), _) => problem,
                    (_, Ok(Some(line))) => line,
                    _ => "the database is out of reach".to_owned(),
                };
                return format!("{COPY} does not equal {PRICES} yet: {stands}");
            }
            sleep(LOOK).await;
        }
    }

    /// Head and entries of both, where they are the same.
    async fn is_equal(&self) -> Result<Option<(Head, u64)>, String> {
        let published = self.digests(&format!("datasets/{PRICES}")).await?;
        let copied = self.digests(&format!("replicas/{COPY}")).await?;
        let (head, ranges) = &published;
        let len = ranges.iter().map(|range| range.len).sum();
        Ok((published == copied).then_some((*head, len)))
    }

    /// The lowest head of the answers, and the digests of all entries.
    async fn digests(&self, content: &str) -> Result<(Head, Vec<RangeDigest>), String> {
        let (mut ranges, mut lowest) = (Vec::new(), Head::MAX);
        let mut after = String::new();
        loop {
            let url = format!("http://{}/v1/{content}/digests", self.server);
            let url = Url::parse_with_params(&url, [("after", &after)]);
            let url = url.map_err(|error| error.to_string())?;
            let answer = self.client.get(url).send().await;
            let answer = answer.and_then(reqwest::Response::error_for_status);
            let answer = answer.map_err(|error| error.to_string())?;
            let digests: Digests = answer.json().await.map_err(|error| error.to_string())?;
            lowest = lowest.min(digests.head);
            ranges.extend(digests.ranges);
            match digests.next {
                Some(next) => after = next,
                None => return Ok((lowest, ranges)),
            }
        }
    }
}

/// What is told of a copy that stands otherwise than before.
fn told(phase: Phase, replica: &ReplicaSummary) -> String {
    let standing = &replica.standing;
    match (phase, &standing.live, &standing.stale) {
        (Phase::Live, Some((_, _, head, len)), _) => {
            let again = standing.bootstraps.get(&BootstrapReason::StaleHead);
            let word = again.map_or("whole", |_| "copied anew");
            format!("{COPY} is {word}: {len} prices at head {head}, from where it follows")
        }
        (Phase::Stale, _, Some((_, why))) => {
            format!("{COPY} is stale ({why}): it stays readable while it is copied anew")
        }
        _ => {
            let len = standing.bootstrap.as_ref().map_or(0, |begun| begun.len);
            format!("{COPY} begins to copy {len} prices, which change meanwhile")
        }
    }
}

/// The row of the copy; `None` before there is one.
async fn copy(store: &Store) -> Result<Option<ReplicaSummary>, StoreError> {
    let all = store.replica_summaries().await?;
    Ok(all.into_iter().find(|of| of.name == COPY))
}

/// How prices and copy stand, in a few words; `None` before there is a copy.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn count(store: &Store) -> Result<Option<String>, StoreError> {
    let Some(replica) = copy(store).await? else {
        return Ok(None);
    };
    let datasets = store.dataset_summaries().await?;
    let published = datasets.iter().find(|of| of.name == PRICES);
    let published = published.map_or(0, |of| of.head);
    let copied = match (&replica.standing.live, &replica.standing.bootstrap) {
        (_, Some(begun)) => {
            let fetched: u64 = begun.ranges.iter().map(|range| range.len).sum();
            format!("{fetched} of {} copied", begun.len)
        }
        (Some((_, _, head, _)), None) => format!("copy at {head}"),
        (None, None) => "no copy yet".to_owned(),
    };
    Ok(Some(format!("prices: head {published}, {copied}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_follower_comes_back_to_a_history_that_is_too_short() {
        let calls = STOPPED.lasts * 4;
        let settings = crate::config::HistorySettings::default();
        let stage = include_str!("../../../config/demo.toml");
        let document: toml_edit::DocumentMut = stage.parse().unwrap();
        let kept = document["datasets"][0]["history"]["changes"].as_integer();
        let kept = u64::try_from(kept.unwrap()).unwrap();
        assert!(kept < settings.changes);
        // Half of the calls would do; and a bootstrap of a minute is no trouble.
        assert!(calls * BRISK as u64 > 2 * kept);
        assert!(60 * 4 * (CHANGES as u64) < kept);
    }
}
