//! Datasets in memory, for tests: the contract of [`Contents`] and of publishing
//! in a few lines.

use super::datasets::{Datasets, Publisher};
use crate::config::Settings;
use crate::flows::replicas::{
    Chunk, Content, ContentKind, Contents, Digests, Entry, Epoch, FetchError, Fetched, Fetching,
    Head, Heads, Info, Modification, Next, PublishError, PublishRequest, Published, RangeDigest,
    compact,
};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::runtime::Handle;
use tokio::sync::watch;

#[derive(Default)]
pub(super) struct One {
    pub(super) head: Head,
    pub(super) oldest_head: Head,
    pub(super) entries: BTreeMap<String, String>,
    pub(super) history: Vec<(Head, Vec<Modification>)>,
    /// Entries of a chunk, whatever is asked for; 0: as asked.
    pub(super) cut_at: usize,
}

/// Contents that were published; one that never was is missing.
#[derive(Default)]
pub(super) struct FakeContents {
    pub(super) by_content: Mutex<BTreeMap<Content, One>>,
    /// Heads that a diff has at most.
    pub(super) heads_a_page: Mutex<Option<usize>>,
    pub(super) requests: Mutex<Vec<PublishRequest>>,
    pub(super) trouble: Mutex<Option<PublishError>>,
    repeated: Mutex<BTreeMap<String, (String, Published)>>,
}

fn epoch() -> Epoch {
    Epoch::told("e1")
}

fn info_of(one: &One) -> Info {
    Info {
        epoch: epoch(),
        head: one.head,
        len: one.entries.len() as u64,
        oldest_head: one.oldest_head,
        splits: None,
        state: None,
    }
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<'static, T> {
    Box::pin(std::future::ready(value))
}

impl FakeContents {
    pub(super) fn write(&self, content: &Content, modifications: &[Modification]) -> Head {
        let mut all = self.by_content.lock().unwrap();
        let one = all.entry(content.clone()).or_default();
        one.head += 1;
        for modification in modifications {
            match modification {
                Modification::Update(Entry { key, value }) => {
                    one.entries.insert(key.clone(), value.clone());
                }
                Modification::Delete(key) => {
                    one.entries.remove(key);
                }
            }
        }
        one.history.push((one.head, modifications.to_vec()));
        one.head
    }

    fn publish(&self, request: PublishRequest) -> Result<Published, PublishError> {
        self.requests.lock().unwrap().push(request.clone());
        if let Some(trouble) = self.trouble.lock().unwrap().clone() {
            return Err(trouble);
        }
        let content = Content {
            kind: ContentKind::Dataset,
            name: request.dataset,
        };
        let mut repeated = self.repeated.lock().unwrap();
        if let Some((key, fingerprint)) = &request.idempotency
            && let Some((before, published)) = repeated.get(key)
        {
            return if before == fingerprint {
                Ok(published.clone())
            } else {
                Err(PublishError::KeyReused)
            };
        }
        let all = self.by_content.lock().unwrap();
        let head = all.get(&content).map_or(0, |one| one.head);
        drop(all);
        if request.if_head.is_some_and(|wanted| wanted != head) {
            return Err(PublishError::HeadMoved(head));
        }
        let published = Published {
            epoch: epoch(),
            head: self.write(&content, &request.modifications),
            repeated: false,
        };
        if let Some((key, fingerprint)) = request.idempotency {
            repeated.insert(key, (fingerprint, published.clone()));
        }
        Ok(published)
    }

    /// What HTTP is handed.
    pub(super) fn datasets(self: &Arc<Self>, settings: watch::Receiver<Arc<Settings>>) -> Datasets {
        let heads = Heads::new(self.clone(), settings, Handle::current());
        let publish: Publisher = {
            let (fake, heads) = (self.clone(), heads.clone());
            Arc::new(move |request: PublishRequest| {
                let content = Content {
                    kind: ContentKind::Dataset,
                    name: request.dataset.clone(),
                };
                let published = fake.publish(request);
                heads.moved(&content);
                ready(published)
            })
        };
        Datasets {
            contents: self.clone(),
            heads,
            publish,
        }
    }
}

impl Contents for FakeContents {
    fn info<'a>(
        &'a self,
        content: &'a Content,
        splits: Option<usize>,
    ) -> BoxFuture<'a, Result<Info, FetchError>> {
        let all = self.by_content.lock().unwrap();
        let found = all.get(content).ok_or(FetchError::Missing);
        ready(found.map(|one| {
            let splits = splits.map(|splits| one.entries.keys().take(splits).cloned().collect());
            Info {
                splits,
                ..info_of(one)
            }
        }))
    }

    fn fetch<'a>(
        &'a self,
        content: &'a Content,
        fetching: &'a Fetching,
    ) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        let all = self.by_content.lock().unwrap();
        let Some(one) = all.get(content) else {
            return ready(Err(FetchError::Missing));
        };
        let (mut head, mut diff) = (one.head, Vec::new());
        if let Some(since) = &fetching.since {
            let other = since.epoch.as_ref().is_some_and(|told| *told != epoch());
            if other || since.head < one.oldest_head || since.head > one.head {
                return ready(Err(FetchError::Stale(info_of(one))));
            }
            let newer = one.history.iter().filter(|(head, _)| *head > since.head);
            let most = self.heads_a_page.lock().unwrap().unwrap_or(usize::MAX);
            head = since.head;
            for (reached, modifications) in newer.take(most) {
                head = *reached;
                diff.extend(modifications.iter().cloned());
            }
        }
        let all_of = one.entries.iter().map(|(key, value)| Entry {
            key: key.clone(),
            value: value.clone(),
        });
        let cut = |limit: usize| match one.cut_at {
            0 => limit,
            most => limit.min(most),
        };
        let (entries, next): (Vec<Entry>, Option<Next>) = if head < one.head {
            (Vec::new(), None)
        } else {
            match &fetching.chunk {
                Chunk::Index { begin, end } => {
                    let limit = cut((end - begin) as usize);
                    let entries: Vec<_> = all_of.skip(*begin as usize).take(limit).collect();
                    let next = begin + entries.len() as u64;
                    let more = next < one.entries.len() as u64;
                    (entries, more.then_some(Next::Index(next)))
                }
                Chunk::Key {
                    after,
                    until,
                    limit,
                } => {
                    let fits = |entry: &Entry| {
                        entry.key > *after && until.as_ref().is_none_or(|until| entry.key <= *until)
                    };
                    let limit = usize::try_from(*limit).unwrap();
                    let mut entries: Vec<_> = all_of.filter(fits).take(limit + 1).collect();
                    let more = entries.len() > limit;
                    entries.truncate(limit);
                    let last = entries.last().map(|entry| entry.key.clone());
                    (entries, last.filter(|_| more).map(Next::Key))
                }
            }
        };
        ready(Ok(Fetched {
            epoch: epoch(),
            head,
            latest: one.head,
            entries,
            diff: compact(diff),
            len: one.entries.len() as u64,
            next,
        }))
    }

    fn digests<'a>(
        &'a self,
        content: &'a Content,
        after: &'a str,
        until: Option<&'a str>,
        limit: u64,
        _: usize,
        _: Option<(&'a Epoch, Head)>,
    ) -> BoxFuture<'a, Result<Digests, FetchError>> {
        let all = self.by_content.lock().unwrap();
        let found = all.get(content).ok_or(FetchError::Missing);
        ready(found.map(|one| Digests {
            epoch: epoch(),
            head: one.head,
            ranges: vec![RangeDigest {
                after: after.to_owned(),
                until: until.map(str::to_owned),
                len: limit.min(one.entries.len() as u64),
                digest: "00".to_owned(),
            }],
            diff: Vec::new(),
            next: None,
        }))
    }

    fn entry<'a>(
        &'a self,
        content: &'a Content,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, FetchError>> {
        let all = self.by_content.lock().unwrap();
        let found = all.get(content).ok_or(FetchError::Missing);
        ready(found.map(|one| one.entries.get(key).cloned()))
    }
}
