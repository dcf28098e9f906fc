//! How often a wrong token is answered: so many at once and then slowly, for
//! each address and for all together. Beyond that the answer is 429.
//!
//! The right token is taken from anywhere at any time, however many wrong ones
//! came before it: behind a proxy all clients share one address, and whoever
//! sends rubbish must not be able to lock the operator out. So this bounds the
//! noise that guessing makes, in answers and in the audit; what makes guessing
//! hopeless is the length of the token.

use super::problem::Problem;
use actix_web::http::{StatusCode, header};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Wrong tokens of one address that are answered at once.
const BURST: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// After those, one is answered in this time.
const EVERY: Duration = Duration::from_secs(6);
/// The same for all addresses together.
const BURST_OF_ALL: NonZeroU32 = NonZeroU32::new(100).unwrap();
const EVERY_OF_ALL: Duration = Duration::from_millis(500);
/// Most addresses remembered; when there are more, only the limit of all holds.
const MOST_ADDRESSES: usize = 4096;

/// Time since some moment.
#[derive(Clone)]
struct Ticks(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        (self.0)().into()
    }
}

/// Wrong tokens seen lately.
pub(super) struct Guesses {
    clock: Ticks,
    by_address: RateLimiter<IpAddr, DashMapStateStore<IpAddr>, Ticks, NoOpMiddleware<Nanos>>,
    of_all: RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Nanos>>,
}

impl Guesses {
    /// None seen yet.
    pub(super) fn new() -> Self {
        let begun = Instant::now();
        Self::with_clock(move || begun.elapsed())
    }

    /// As [`Self::new`], with the time told by `clock`.
    pub(super) fn with_clock(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let clock = Ticks(Arc::new(clock));
        let quota = |every, burst| {
            Quota::with_period(every)
                .unwrap_or(Quota::per_second(burst))
                .allow_burst(burst)
        };
        Self {
            by_address: RateLimiter::new(
                quota(EVERY, BURST),
                DashMapStateStore::default(),
                clock.clone(),
            ),
            of_all: RateLimiter::new(
                quota(EVERY_OF_ALL, BURST_OF_ALL),
                InMemoryState::default(),
                clock.clone(),
            ),
            clock,
        }
    }

    /// Takes note of a wrong token.
    ///
    /// # Errors
    /// There are too many; how long to wait.
    pub(super) fn wrong(&self, address: IpAddr) -> Result<(), Duration> {
        if self.by_address.len() >= MOST_ADDRESSES {
            self.by_address.retain_recent();
        }
        let now = self.clock.now();
        if self.by_address.len() < MOST_ADDRESSES {
            self.by_address
                .check_key(&network(address))
                .map_err(|until| until.wait_time_from(now))?;
        }
        self.of_all
            .check()
            .map_err(|until| until.wait_time_from(now))
    }
}

/// What counts as one address: with IPv6 everyone has a whole /64.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// The address that a request comes from: the other end of the connection.
/// Headers of proxies are not looked at; anyone can send them.
pub(super) fn address(request: &actix_web::HttpRequest) -> IpAddr {
    request
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| {
            peer.ip().to_canonical()
        })
}

impl Problem {
    pub(super) fn too_many_wrong_tokens(wait: Duration) -> Box<Self> {
        let seconds = (wait.as_secs_f64().ceil() as u64).max(1);
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-wrong-tokens",
            "Too many wrong tokens",
            format!(
                "too many wrong tokens came from this address; wait {seconds} s before the next, \
                 or send the right one"
            ),
        )
        .with_header(header::RETRY_AFTER, seconds.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn at_rest() -> (Guesses, Arc<Mutex<Duration>>) {
        let now = Arc::new(Mutex::new(Duration::from_secs(1000)));
        let told = Arc::clone(&now);
        (Guesses::with_clock(move || *told.lock().unwrap()), now)
    }

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    #[test]
    fn ten_at_once_then_one_in_six_seconds() {
        let (guesses, now) = at_rest();
        for _ in 0..10 {
            guesses.wrong(v4(1)).unwrap();
        }
        let wait = guesses.wrong(v4(1)).unwrap_err();
        assert!(wait > Duration::from_secs(5) && wait <= EVERY, "{wait:?}");
        guesses.wrong(v4(2)).unwrap();
        *now.lock().unwrap() += EVERY;
        guesses.wrong(v4(1)).unwrap();
        guesses.wrong(v4(1)).unwrap_err();
        *now.lock().unwrap() += EVERY * 20;
        for _ in 0..10 {
            guesses.wrong(v4(1)).unwrap();
        }
        guesses.wrong(v4(1)).unwrap_err();
    }

    #[test]
    fn all_addresses_together_are_limited_and_few_are_remembered() {
        let (guesses, now) = at_rest();
        let answered = |from: u32, count: u32| {
            (from..from + count)
                .filter(|n| guesses.wrong(v4(*n)).is_ok())
                .count()
        };
        assert_eq!(answered(0, 10_000), 100);
        assert!(guesses.by_address.len() <= MOST_ADDRESSES);
        *now.lock().unwrap() += Duration::from_secs(1);
        assert_eq!(answered(20_000, 10), 2);
        // Those of before are forgotten, and the limit of each holds again.
        *now.lock().unwrap() += Duration::from_secs(3600);
        assert_eq!((0..20).filter(|_| guesses.wrong(v4(1)).is_ok()).count(), 10);
        assert!(guesses.by_address.len() <= 2);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let parse = |text: &str| network(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:0:0:2"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:10.0.0.1"), v4(1));
        assert_ne!(v4(1), network(v4(2)));
    }
}
