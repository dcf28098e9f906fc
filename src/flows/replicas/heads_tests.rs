use super::super::model::{ContentKind, DatasetName, Digests, Fetched, Fetching};
use super::*;
use futures_util::future::BoxFuture;

/// A content whose head is set by the test; counts how often it is looked at.
struct Fake {
    state: Mutex<(Result<Info, FetchError>, usize)>,
}

fn info(epoch: &str, head: Head) -> Info {
    Info {
        epoch: Epoch::told(epoch),
        head,
        len: 0,
        oldest_head: 0,
        splits: None,
        state: None,
    }
}

impl Contents for Fake {
    fn info<'a>(
        &'a self,
        _: &'a Content,
        _: Option<usize>,
    ) -> BoxFuture<'a, Result<Info, FetchError>> {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        Box::pin(std::future::ready(state.0.clone()))
    }

    fn fetch<'a>(
        &'a self,
        _: &'a Content,
        _: &'a Fetching,
    ) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        Box::pin(std::future::ready(Err(FetchError::Missing)))
    }

    fn digests<'a>(
        &'a self,
        _: &'a Content,
        _: &'a str,
        _: Option<&'a str>,
        _: u64,
        _: usize,
        _: Option<(&'a Epoch, Head)>,
    ) -> BoxFuture<'a, Result<Digests, FetchError>> {
        Box::pin(std::future::ready(Err(FetchError::Missing)))
    }

    fn entry<'a>(
        &'a self,
        _: &'a Content,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, FetchError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

impl Fake {
    fn set(&self, state: Result<Info, FetchError>) {
        self.state.lock().unwrap().0 = state;
    }

    fn looks(&self) -> usize {
        self.state.lock().unwrap().1
    }
}

fn prices() -> Content {
    Content {
        kind: ContentKind::Dataset,
        name: DatasetName::parse("prices").unwrap(),
    }
}

fn heads() -> (Arc<Fake>, Heads) {
    let fake = Arc::new(Fake {
        state: Mutex::new((Ok(info("e", 1)), 0)),
    });
    let (_, heads) = with_settings(&fake);
    (fake, heads)
}

/// Settings that can be changed, and what goes by them.
fn with_settings(fake: &Arc<Fake>) -> (watch::Sender<Arc<Settings>>, Heads) {
    let (sender, settings) = watch::channel(Arc::new(settings(1000, Duration::from_secs(1))));
    let heads = Heads::new(fake.clone(), settings, Handle::current());
    (sender, heads)
}

fn settings(max_watchers: usize, sweep_interval: Duration) -> Settings {
    let text = format!(
        "[replication]\nmax_watchers = {max_watchers}\nsweep_interval = \"{}s\"\n",
        sweep_interval.as_secs()
    );
    let base = std::path::Path::new("/base");
    let options = crate::config::LoadOptions::default();
    let loaded = crate::config::parse(&text, "t.toml", base, [], options).unwrap();
    loaded.settings
}

/// Waits for head 1 of epoch `e` to move.
fn waits(heads: &Heads, wait: Duration) -> tokio::task::JoinHandle<Result<Info, WatchError>> {
    let heads = heads.clone();
    tokio::spawn(async move {
        let epoch = Epoch::told("e");
        heads.wait(&prices(), Some(&epoch), 1, wait).await
    })
}

/// Waits until so many wait.
async fn until_there_are(heads: &Heads, followers: usize) {
    while heads.followers() != followers {
        tokio::task::yield_now().await;
    }
    // And until they have looked for themselves.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

const LONG: Duration = Duration::from_secs(1000);

#[tokio::test(start_paused = true)]
async fn a_head_that_moved_already_is_answered_at_once_and_so_is_another_epoch() {
    let (fake, heads) = heads();
    fake.set(Ok(info("e", 2)));
    assert_eq!(waits(&heads, LONG).await.unwrap().unwrap().head, 2);
    fake.set(Ok(info("f", 1)));
    let told = waits(&heads, LONG).await.unwrap().unwrap();
    assert_eq!(told.epoch, Epoch::told("f"));
    assert_eq!(heads.followers(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_this_server_wakes_all_at_once_by_one_look() {
    let (fake, heads) = heads();
    let begun = Instant::now();
    let followers: Vec<_> = (0..50).map(|_| waits(&heads, LONG)).collect();
    until_there_are(&heads, 50).await;
    let before = fake.looks();
    assert_eq!(before, 50, "each looked once for itself");
    fake.set(Ok(info("e", 2)));
    heads.moved(&prices());
    for follower in followers {
        assert_eq!(follower.await.unwrap().unwrap().head, 2);
    }
    assert_eq!(fake.looks(), before + 1);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(heads.followers(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_another_server_wrote_is_found_by_a_shared_look() {
    let (fake, heads) = heads();
    let begun = Instant::now();
    let followers: Vec<_> = (0..50).map(|_| waits(&heads, LONG)).collect();
    until_there_are(&heads, 50).await;
    fake.set(Ok(info("e", 2)));
    for follower in followers {
        assert_eq!(follower.await.unwrap().unwrap().head, 2);
    }
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert_eq!(fake.looks(), 51);
}

#[tokio::test(start_paused = true)]
async fn nothing_moved_is_answered_in_time_also_while_the_database_is_away() {
    let (fake, heads) = heads();
    let begun = Instant::now();
    let follower = waits(&heads, Duration::from_secs(30));
    until_there_are(&heads, 1).await;
    let away = crate::store::StoreError::Unreachable("away".to_owned());
    fake.set(Err(FetchError::Store(away)));
    assert_eq!(follower.await.unwrap().unwrap().head, 1);
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
    // Nobody waits any more, so nobody looks.
    let looks = fake.looks();
    tokio::time::sleep(LONG).await;
    assert_eq!(fake.looks(), looks);
}

#[tokio::test(start_paused = true)]
async fn too_many_are_turned_away_and_what_is_gone_is_told() {
    let (fake, _) = heads();
    let (sender, heads) = with_settings(&fake);
    let few = Arc::new(settings(1, Duration::from_secs(1)));
    let follower = waits(&heads, LONG);
    until_there_are(&heads, 1).await;
    sender.send_replace(few);
    let turned_away = heads.wait(&prices(), None, 1, LONG).await;
    assert!(matches!(turned_away, Err(WatchError::Full(1))));
    // What moved already is answered, however many wait.
    let moved = heads.wait(&prices(), None, 0, LONG).await;
    assert_eq!(moved.unwrap().head, 1);
    assert_eq!(heads.followers(), 1);
    fake.set(Err(FetchError::Missing));
    let told = follower.await.unwrap();
    assert!(matches!(told, Err(WatchError::Fetch(FetchError::Missing))));
    let given_up = waits(&heads, LONG);
    fake.set(Ok(info("e", 1)));
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    assert_eq!(heads.followers(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_interval_reaches_those_who_wait_already() {
    let (fake, _) = heads();
    let (sender, heads) = with_settings(&fake);
    sender.send_replace(Arc::new(settings(1000, LONG)));
    let begun = Instant::now();
    let follower = waits(&heads, LONG * 2);
    until_there_are(&heads, 1).await;
    fake.set(Ok(info("e", 2)));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(heads.followers(), 1, "nobody looked yet");
    sender.send_replace(Arc::new(settings(1000, Duration::from_secs(20))));
    assert_eq!(follower.await.unwrap().unwrap().head, 2);
    assert_eq!(begun.elapsed(), Duration::from_secs(20));
}
