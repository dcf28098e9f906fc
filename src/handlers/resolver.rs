//! The names of sites' hosts, looked up.
//!
//! Looking up blocks a thread for as long as the name servers please, which may
//! be much longer than a visit waits for it. SQLite needs such threads too, and
//! so the lookups that run at once are bounded, those that nobody waits for any
//! more among them.

use super::inward::points_inward;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use tokio::sync::Semaphore;

/// Most names looked up at once. Each keeps a thread that blocks, until it ends.
pub const MOST_LOOKUPS: usize = 64;

static LOOKUPS: Semaphore = Semaphore::const_new(MOST_LOOKUPS);

/// A name whose addresses all point inward.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves to addresses that point inward only, e.g. {example}")]
pub(super) struct InwardOnly {
    name: String,
    example: IpAddr,
}

/// Resolves names as the machine does, at most [`MOST_LOOKUPS`] at once.
pub(super) struct Resolver {
    /// Leaves out what points inward, so that what was checked is what is
    /// connected to.
    pub(super) outward_only: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let outward_only = self.outward_only;
        Box::pin(async move {
            let wanted = name.as_str().to_owned();
            // The port is set where the connection is made.
            let found = bounded(&LOOKUPS, move || (wanted.as_str(), 0).to_socket_addrs()).await??;
            if !outward_only {
                return Ok(Box::new(found) as Addrs);
            }
            let found: Vec<SocketAddr> = found.collect();
            let first = found.first().map(SocketAddr::ip);
            let outward: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| !points_inward(address.ip()))
                .collect();
            match first {
                Some(example) if outward.is_empty() => Err(InwardOnly {
                    name: name.as_str().chars().take(260).collect(),
                    example,
                }
                .into()),
                _ => Ok(Box::new(outward.into_iter()) as Addrs),
            }
        })
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs what blocks under a permit that comes back when it ends, not when
/// nobody waits for it any more.
async fn bounded<T: Send + 'static>(
    permits: &'static Semaphore,
    blocks: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let permit = permits.acquire().await?;
    let run = tokio::task::spawn_blocking(move || {
        let ended = blocks();
        drop(permit);
        ended
    });
    Ok(run.await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_lookup_nobody_waits_for_keeps_its_permit_until_it_ends() {
        static ONE: Semaphore = Semaphore::const_new(1);
        let (end, ended) = mpsc::channel::<()>();
        let mut first = Box::pin(bounded(&ONE, move || ended.recv()));
        assert!((&mut first).now_or_never().is_none());
        drop(first);
        assert_eq!(ONE.available_permits(), 0);
        drop(end);
        bounded(&ONE, || ()).await.unwrap();
    }
}
