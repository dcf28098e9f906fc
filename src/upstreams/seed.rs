//! The seed's own wire: `GET /info` → `[head, size]`; `GET /fetch` with the body
//! `[begin, end, head]`.
//!
//! Its sample tells its diffs newest group first, repeats keys in them and lets
//! its head stand still; other servers may do it the other way round. So where the
//! modifications of a key do not agree, the key is looked up by its index: what one
//! answer holds is of one snapshot.

use super::client::Client;
use crate::flows::replicas::{
    Chunk, Digests, Entry, Epoch, Fetched, Fetching, Head, Info, LEN_UNKNOWN, Modification, Next,
    Upstream, UpstreamError, check_key,
};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use url::Url;

/// The wire knows no epochs.
const EPOCH: &str = "seed";
/// Entries of a window in which a key is looked for; the sample answers 20 at
/// most, so that fewer than asked for are the end.
const WINDOW: u64 = 8;
/// Requests that one answer may cost.
const REQUESTS: usize = 200;
/// Keys that are remembered as looked up.
const REMEMBERED: usize = 10_000;

/// A publisher that speaks the seed's wire.
pub(super) struct SeedUpstream {
    client: Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// A refusal told that history does not reach below.
    oldest: Head,
    /// What became of a key by these modifications.
    known: BTreeMap<String, (Vec<Option<String>>, Option<String>)>,
}

#[derive(Deserialize)]
enum Wire {
    Update((String, String)),
    Delete(String),
}

impl Wire {
    fn parts(self) -> (String, Option<String>) {
        match self {
            Self::Update((key, value)) => (key, Some(value)),
            Self::Delete(key) => (key, None),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    head: Head,
    entries: Vec<Wire>,
    diff: Vec<Wire>,
    #[serde(default)]
    db_len: Option<u64>,
}

/// An answer in order.
struct Read {
    begin: u64,
    asked: u64,
    head: Head,
    entries: Vec<(String, String)>,
    /// Of each key what became of it, in the order of the answer.
    diff: BTreeMap<String, Vec<Option<String>>>,
    len: Option<u64>,
}

impl Read {
    /// It is the end of the table.
    fn is_end(&self) -> bool {
        let count = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        let next = self.begin.saturating_add(count);
        match self.len {
            Some(len) => next >= len,
            None => self.entries.is_empty() || (self.asked <= WINDOW && count < self.asked),
        }
    }

    /// What a key is, where this part of the table shows it: `Err` says whether
    /// it lies before.
    fn value_of(&self, key: &str) -> Result<Option<String>, bool> {
        let (first, last) = (self.entries.first(), self.entries.last());
        if self.begin > 0 && first.is_none_or(|(first, _)| key < first.as_str()) {
            return Err(true);
        }
        if !self.is_end() && last.is_none_or(|(last, _)| key > last.as_str()) {
            return Err(false);
        }
        let found = self.entries.iter().find(|(other, _)| other == key);
        Ok(found.map(|(_, value)| value.clone()))
    }
}

impl SeedUpstream {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, route: &str) -> Url {
        let mut url = self.client.base().clone();
        let path = format!("{}/{route}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url
    }

    async fn stands(&self) -> Result<Info, UpstreamError> {
        let (head, len): (Head, u64) = self
            .client
            .get(self.url("info"), None, Duration::ZERO)
            .await?;
        Ok(Info {
            epoch: Epoch::told(EPOCH),
            head,
            len,
            oldest_head: self.state().oldest.min(head.saturating_add(1)),
            splits: None,
            state: None,
        })
    }

    async fn read(&self, begin: u64, end: u64, since: Head) -> Result<Read, UpstreamError> {
        let body = format!("[{begin},{end},{since}]");
        let got = self
            .client
            .get(self.url("fetch"), Some(body), Duration::ZERO)
            .await;
        let answer: Answer = match got {
            Err(UpstreamError::Stale(_)) => {
                self.state().oldest = since.saturating_add(1);
                return Err(UpstreamError::Stale(Some(self.stands().await?)));
            }
            got => got?,
        };
        if answer.head < since {
            return Err(UpstreamError::Stale(Some(self.stands().await?)));
        }
        let mut entries = Vec::with_capacity(answer.entries.len());
        for (key, value) in answer.entries.into_iter().map(Wire::parts) {
            let value = value.ok_or_else(|| {
                let words = format!("answered a deletion of {key:?} among its entries");
                self.client.failed(&words, None)
            })?;
            entries.push((key, value));
        }
        let mut diff: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
        for (key, value) in answer.diff.into_iter().map(Wire::parts) {
            diff.entry(key).or_default().push(value);
        }
        let keys = entries.iter().map(|(key, _)| key).chain(diff.keys());
        for key in keys {
            check_key(key).map_err(|problem| self.client.failed(&problem.to_string(), None))?;
        }
        Ok(Read {
            begin,
            asked: end.saturating_sub(begin),
            head: answer.head,
            entries,
            diff,
            len: answer.db_len,
        })
    }

    /// Keys of a diff whose modifications do not agree, and that were not looked
    /// up since the last of them. What the answer itself shows is noted.
    fn unknown(&self, read: &Read) -> Option<String> {
        let mut state = self.state();
        if state.known.len() > REMEMBERED {
            state.known.clear();
        }
        let mut unknown = None;
        for (key, outcomes) in &read.diff {
            let agree = outcomes.windows(2).all(|pair| pair[0] == pair[1]);
            let looked_up = state.known.get(key).is_some_and(|(of, _)| of == outcomes);
            if agree || looked_up {
                continue;
            }
            match read.value_of(key) {
                Ok(value) => {
                    state.known.insert(key.clone(), (outcomes.clone(), value));
                }
                Err(_) => unknown = unknown.or_else(|| Some(key.clone())),
            }
        }
        unknown
    }

    /// Looks for a key by halves; notes it, and what else comes to light.
    async fn look_up(
        &self,
        key: &str,
        since: Head,
        requests: &mut usize,
    ) -> Result<(), UpstreamError> {
        let (mut low, mut high) = (0, self.stands().await?.len);
        while *requests > 0 {
            *requests -= 1;
            // Entries come and go meanwhile: where the halves meet, around there.
            let begin = if low < high {
                low + (high - low) / 2
            } else {
                low.saturating_sub(WINDOW / 2)
            };
            let read = self
                .read(begin, begin.saturating_add(WINDOW), since)
                .await?;
            self.unknown(&read);
            match read.value_of(key) {
                Ok(_) => return Ok(()),
                Err(true) => {
                    high = begin;
                    low = low.min(begin.saturating_sub(WINDOW));
                }
                Err(false) => {
                    low = begin.saturating_add(WINDOW / 2);
                    high = high.max(low);
                }
            }
        }
        Ok(())
    }

    async fn fetch_whole(&self, fetching: Fetching) -> Result<Fetched, UpstreamError> {
        let Chunk::Index { begin, end } = fetching.chunk else {
            let words = "the seed's wire has chunks by index alone".to_owned();
            return Err(self.client.failed(&words, None));
        };
        let since = fetching.since.map_or(0, |since| since.head);
        let mut requests = REQUESTS;
        while requests > 0 {
            requests -= 1;
            let read = self.read(begin, end.max(begin), since).await?;
            match self.unknown(&read) {
                None => return Ok(self.whole(read)),
                Some(key) => self.look_up(&key, since, &mut requests).await?,
            }
        }
        let words =
            format!("the order of its modifications was not found out within {REQUESTS} requests");
        Err(self.client.failed(&words, None))
    }

    fn whole(&self, read: Read) -> Fetched {
        let ended = read.is_end();
        let count = u64::try_from(read.entries.len()).unwrap_or(u64::MAX);
        let state = self.state();
        let diff = read.diff.into_iter().map(|(key, outcomes)| {
            let known = state.known.get(&key).filter(|(of, _)| *of == outcomes);
            let value = match known {
                Some((_, value)) => value.clone(),
                None => outcomes.into_iter().next_back().flatten(),
            };
            match value {
                Some(value) => Modification::Update(entry(key, &value)),
                None => Modification::Delete(key),
            }
        });
        let diff = diff.collect();
        let entries = read.entries.into_iter();
        Fetched {
            epoch: Epoch::told(EPOCH),
            head: read.head,
            latest: read.head,
            entries: entries.map(|(key, value)| entry(key, &value)).collect(),
            diff,
            len: read.len.unwrap_or(LEN_UNKNOWN),
            next: (!ended).then_some(Next::Index(read.begin.saturating_add(count))),
        }
    }
}

/// Values are texts on this wire.
fn entry(key: String, value: &str) -> Entry {
    let value = serde_json::Value::from(value).to_string();
    Entry { key, value }
}

impl Upstream for SeedUpstream {
    fn info(&self, _: Option<usize>) -> BoxFuture<'_, Result<Info, UpstreamError>> {
        Box::pin(self.stands())
    }

    fn fetch(&self, fetching: Fetching) -> BoxFuture<'_, Result<Fetched, UpstreamError>> {
        Box::pin(self.fetch_whole(fetching))
    }

    fn watch(
        &self,
        _: Epoch,
        _: Head,
        _: Duration,
    ) -> Option<BoxFuture<'_, Result<Info, UpstreamError>>> {
        None
    }

    fn digests(
        &self,
        _: String,
        _: Option<String>,
        _: u64,
        _: usize,
        _: (Epoch, Head),
    ) -> Option<BoxFuture<'_, Result<Digests, UpstreamError>>> {
        None
    }

    fn by_index(&self) -> bool {
        true
    }

    fn place(&self) -> String {
        self.client.place()
    }
}
