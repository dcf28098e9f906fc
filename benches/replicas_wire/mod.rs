//! A wire that counts: whatever goes through is passed on as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Bytes that one read takes at most.
const PIECE: usize = 64 * 1024;

/// Stands between the follower and the publisher.
pub(crate) struct Wire {
    address: String,
    counted: Arc<Counted>,
}

/// Bytes of both directions, without what TCP and IP add.
#[derive(Default)]
struct Counted {
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Wire {
    /// Passes connections on to `HOST:PORT`.
    pub(crate) fn to(runtime: &Runtime, target: &str) -> Self {
        let (target, counted) = (target.to_owned(), Arc::<Counted>::default());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = counted.clone();
        runtime.spawn(async move {
            loop {
                let (follower, _) = listener.accept().await.unwrap();
                let publisher = TcpStream::connect(&target).await;
                if let Ok(publisher) = publisher {
                    join(follower, publisher, &shared);
                }
            }
        });
        Self { address, counted }
    }

    /// Where the follower finds the publisher.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes that went to the publisher, and that came from it.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let read = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (read(&self.counted.asked), read(&self.counted.answered))
    }
}

fn join(follower: TcpStream, publisher: TcpStream, counted: &Arc<Counted>) {
    for stream in [&follower, &publisher] {
        stream.set_nodelay(true).unwrap();
    }
    let (from_follower, to_follower) = follower.into_split();
    let (from_publisher, to_publisher) = publisher.into_split();
    let (asks, answers) = (counted.clone(), counted.clone());
    tokio::spawn(pass(from_follower, to_publisher, move |bytes| {
        asks.asked.fetch_add(bytes, Ordering::Relaxed);
    }));
    tokio::spawn(pass(from_publisher, to_follower, move |bytes| {
        answers.answered.fetch_add(bytes, Ordering::Relaxed);
    }));
}

/// Until either end closes; then the other is told.
async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    count: impl Fn(u64) + Send,
) {
    let mut piece = vec![0; PIECE];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        count(read as u64);
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
    drop(to.shutdown().await);
}
