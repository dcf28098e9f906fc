//! Who waits for the head of a content to move, and what wakes them.
//!
//! For a content that somebody waits for there is one task, which looks how it
//! stands: at once when this server's own commit rings, and else each
//! `sweep_interval` of the settings in force, which finds what other servers wrote.
//! All who wait share its looks, so that a thousand followers cost as many queries
//! as one. It ends with the last of them. Whoever comes looks for himself first, and
//! is one of those who wait only if nothing moved: that they are many keeps nobody
//! from what is there.

use super::model::{Content, Epoch, Head, Info};
use super::traits::{Contents, FetchError};
use crate::config::Settings;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

/// What a look found; `None` before the first.
type Look = Option<Result<Info, FetchError>>;

/// Who waits for heads to move; cheap to clone.
#[derive(Clone)]
pub struct Heads {
    contents: Arc<dyn Contents>,
    /// Settings in force.
    settings: watch::Receiver<Arc<Settings>>,
    /// Looks are taken there, where the store's connections live.
    runtime: Handle,
    waiting: Arc<Mutex<Waiting>>,
}

impl std::fmt::Debug for Heads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let followers = self.followers();
        f.debug_struct("Heads")
            .field("followers", &followers)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Waiting {
    by_content: BTreeMap<Content, Watched>,
    total: usize,
}

/// A content that somebody waits for.
struct Watched {
    followers: usize,
    bell: Arc<Notify>,
    looks: watch::Receiver<Look>,
}

/// Why nothing was waited for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WatchError {
    /// So many wait already.
    #[error("{0} followers wait already")]
    Full(usize),
    /// It could not be read how the content stands.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl Heads {
    /// Nobody waits. Looks are taken on `runtime`, as often as the settings in force
    /// say.
    pub fn new(
        contents: Arc<dyn Contents>,
        settings: watch::Receiver<Arc<Settings>>,
        runtime: Handle,
    ) -> Self {
        Self {
            contents,
            settings,
            runtime,
            waiting: Arc::default(),
        }
    }

    /// The head of this content moved by a commit of this server.
    pub fn moved(&self, content: &Content) {
        if let Some(watched) = self.waiting().by_content.get(content) {
            watched.bell.notify_one();
        }
    }

    /// How many wait.
    pub fn followers(&self) -> usize {
        self.waiting().total
    }

    /// Waits until the head of `content` is no longer `head`, or its epoch
    /// another than `epoch`, for `wait` at most; answers how it stands then. What
    /// moved already is answered at once, however many wait.
    ///
    /// # Errors
    /// It did not move, and too many wait already; or it cannot be read how it stands. A database that
    /// goes away while somebody waits is waited for.
    pub async fn wait(
        &self,
        content: &Content,
        epoch: Option<&Epoch>,
        head: Head,
        wait: Duration,
    ) -> Result<Info, WatchError> {
        let until = Instant::now() + wait;
        let moved =
            |info: &Info| info.head != head || epoch.is_some_and(|epoch| *epoch != info.epoch);
        // Before the first look, so that no commit in between goes unheard.
        let mut follower = self.follow(content);
        let mut info = self.look(content).await?;
        if !moved(&info) && !wait.is_zero() {
            follower.wait_in_line(self.settings.borrow().replication.max_watchers)?;
        }
        while !moved(&info) {
            let Ok(told) = timeout_at(until, follower.looks.changed()).await else {
                return Ok(info);
            };
            let look = follower.looks.borrow_and_update().clone();
            match (told, look) {
                (Ok(()), Some(Ok(seen))) => info = seen,
                (Ok(()), Some(Err(error @ (FetchError::Missing | FetchError::Stale(_))))) => {
                    return Err(error.into());
                }
                (Ok(()), Some(Err(FetchError::Store(_))) | None) => {}
                // The looks ended, which only the end of the process does.
                (Err(_), _) => return Ok(info),
            }
        }
        Ok(info)
    }

    async fn look(&self, content: &Content) -> Result<Info, FetchError> {
        let (contents, content) = (self.contents.clone(), content.clone());
        let look = self
            .runtime
            .spawn(async move { contents.info(&content, None).await });
        look.await.unwrap_or_else(|error| {
            let error = crate::store::StoreError::Internal(error.to_string());
            Err(FetchError::Store(error))
        })
    }

    /// Hears of all looks from now on; is not one of those who wait yet.
    fn follow(&self, content: &Content) -> Follower {
        let mut waiting = self.waiting();
        let watched = waiting.by_content.entry(content.clone());
        let watched = watched.or_insert_with(|| self.begin(content));
        watched.followers += 1;
        let mut looks = watched.looks.clone();
        // What was found before this one came is older than its own look.
        looks.mark_unchanged();
        Follower {
            heads: self.clone(),
            content: content.clone(),
            looks,
            waits: false,
        }
    }

    /// Begins the looks at a content.
    fn begin(&self, content: &Content) -> Watched {
        let bell = Arc::new(Notify::new());
        let (sender, looks) = watch::channel(None);
        let (contents, content, ring) = (self.contents.clone(), content.clone(), bell.clone());
        let mut settings = self.settings.clone();
        self.runtime.spawn(async move {
            let mut looked = Instant::now();
            loop {
                let every = settings.borrow_and_update().replication.sweep_interval;
                // Settings that never change again leave the rest as it is.
                let changed = async {
                    if settings.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    () = ring.notified() => {}
                    () = sleep_until(looked + every) => {}
                    // Another interval, from the last look on.
                    () = changed => continue,
                    // The last of those who waited is gone.
                    () = sender.closed() => return,
                }
                looked = Instant::now();
                let look = contents.info(&content, None).await;
                if let Err(FetchError::Store(error)) = &look {
                    tracing::debug!(
                        dataset.name = %content.name,
                        error = %error,
                        "it could not be looked whether the head moved"
                    );
                }
                sender.send_replace(Some(look));
            }
        });
        Watched {
            followers: 0,
            bell,
            looks,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits.
struct Follower {
    heads: Heads,
    content: Content,
    looks: watch::Receiver<Look>,
    /// It is one of those who wait.
    waits: bool,
}

impl Follower {
    /// From now on it is one of those who wait.
    ///
    /// # Errors
    /// So many, `most`, do already.
    fn wait_in_line(&mut self, most: usize) -> Result<(), WatchError> {
        let mut waiting = self.heads.waiting();
        if waiting.total >= most {
            return Err(WatchError::Full(waiting.total));
        }
        waiting.total += 1;
        self.waits = true;
        Ok(())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut waiting = self.heads.waiting();
        waiting.total = waiting.total.saturating_sub(usize::from(self.waits));
        if let Some(watched) = waiting.by_content.get_mut(&self.content) {
            watched.followers = watched.followers.saturating_sub(1);
            if watched.followers == 0 {
                waiting.by_content.remove(&self.content);
            }
        }
    }
}

#[cfg(test)]
#[path = "heads_tests.rs"]
mod tests;
