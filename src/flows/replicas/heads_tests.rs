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
    (fake.clone(), Heads::new(fake, Handle::current()))
}

/// Waits for head 1 of epoch `e` to move.
fn waits(heads: &Heads, wait: Duration) -> tokio::task::JoinHandle<Result<Info, WatchError>> {
    let heads = heads.clone();
    tokio::spawn(async move {
        let settings = ReplicationSettings::default();
        let epoch = Epoch::told("e");
        heads
            .wait(&prices(), Some(&epoch), 1, wait, &settings)
            .await
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
    sleep(LONG).await;
    assert_eq!(fake.looks(), looks);
}

#[tokio::test(start_paused = true)]
async fn too_many_are_turned_away_and_what_is_gone_is_told() {
    let (fake, heads) = heads();
    let few = ReplicationSettings {
        max_watchers: 1,
        ..ReplicationSettings::default()
    };
    let follower = waits(&heads, LONG);
    until_there_are(&heads, 1).await;
    let turned_away = heads.wait(&prices(), None, 1, LONG, &few).await;
    assert!(matches!(turned_away, Err(WatchError::Full(1))));
    fake.set(Err(FetchError::Missing));
    let told = follower.await.unwrap();
    assert!(matches!(told, Err(WatchError::Fetch(FetchError::Missing))));
    let given_up = waits(&heads, LONG);
    fake.set(Ok(info("e", 1)));
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    assert_eq!(heads.followers(), 0);
}
