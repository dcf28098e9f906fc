//! What systemd is told (`sd_notify`): ready, reloading, stopping, how long the
//! drain may still take, and that the server gets on with its work. Without
//! `NOTIFY_SOCKET` nothing is told, and all of this does nothing.
//!
//! The messages are those of the crate `sd-notify`; they are sent from here,
//! over sockets kept for the life of the process, since the crate asks the
//! environment each time and knows no abstract sockets (`@…`). The sockets
//! are not inherited. The variable would be, by a child: the server starts none
//! (a test looks), and the unit has `NotifyAccess=main`.

use sd_notify::NotifyState;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

/// How long systemd may take to take a message: longer, and it is not told.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a longer drain is asked for.
const EXTEND_EVERY: Duration = Duration::from_secs(1);
/// Most characters of a status.
const STATUS_CHARS: usize = 300;

/// Two sockets, connected to systemd's.
#[derive(Debug)]
struct Link {
    /// Waits a while where systemd is busy.
    patient: UnixDatagram,
    /// Waits for nothing: for what is said again soon.
    prompt: UnixDatagram,
}

/// Tells systemd how the server is; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Notifier {
    link: Option<Arc<Link>>,
    /// A ping is expected within this time; `None` where none is.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub(super) fn from_environment() -> Self {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|it| !it.is_empty()) else {
            return Self::default();
        };
        match connect(&address) {
            Ok(link) => Self {
                link: Some(Arc::new(link)),
                watchdog: sd_notify::watchdog_enabled().filter(|within| !within.is_zero()),
            },
            Err(error) => {
                let address = address.to_string_lossy();
                tracing::warn!(notify.socket = %address, error = %error, "systemd is not told anything: NOTIFY_SOCKET cannot be used");
                Self::default()
            }
        }
    }

    /// The server is not ready yet, and this is what it does.
    pub(super) fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&one_line(status))]);
    }

    /// The server does its work; also ends a reload.
    pub(super) fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// A reload begins; [`Self::ready`] ends it, however it went.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            // Without the time, systemd would take the reload for failed.
            Err(error) => tracing::warn!(error = %error, "systemd is not told of the reload"),
        }
    }

    /// The drain begins.
    pub(super) fn stopping(&self, status: &str) {
        self.send(&[
            NotifyState::Stopping,
            NotifyState::Status(&one_line(status)),
        ]);
    }

    /// Asks each second for the time that the drain may still take, of `bound`
    /// in all; after that systemd may do what it does to one that hangs. Never
    /// ends: it is run beside the drain.
    pub(super) async fn draining(&self, bound: Duration) -> Infallible {
        let deadline = Instant::now() + bound;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.link.is_none() {
                std::future::pending::<()>().await;
            }
            let left = u32::try_from(left.as_micros()).unwrap_or(u32::MAX);
            self.repeat(NotifyState::ExtendTimeoutUsec(left));
            sleep(EXTEND_EVERY).await;
        }
    }

    /// Gives systemd its sign of life, twice in the time it asks for, as long
    /// as the server is `healthy`. Never ends; run it where a blocked thread
    /// should be noticed.
    pub(super) async fn keep_alive(&self, healthy: impl Fn() -> bool) -> Infallible {
        let Some(within) = self.watchdog else {
            return std::future::pending().await;
        };
        // The watchdog has not looked yet, and systemd counts from "ready".
        let mut ticks = interval_at(Instant::now() + within / 2, within / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut well = true;
        loop {
            ticks.tick().await;
            let healthy = healthy();
            if healthy {
                self.repeat(NotifyState::Watchdog);
            }
            if healthy != well {
                well = healthy;
                if healthy {
                    tracing::info!("systemd's watchdog is fed again");
                } else {
                    tracing::error!(
                        watchdog.within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
                        "systemd's watchdog is not fed: a service that is needed makes no progress"
                    );
                }
            }
        }
    }

    /// Sends one message.
    fn send(&self, states: &[NotifyState<'_>]) {
        if let Some(link) = &self.link {
            let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
            send(&link.patient, &lines.join("\n"));
        }
    }

    /// Sends what is sent again before long: it may be lost where systemd is busy.
    fn repeat(&self, state: NotifyState<'_>) {
        if let Some(link) = &self.link {
            send(&link.prompt, &state.to_string());
        }
    }
}

fn send(socket: &UnixDatagram, message: &str) {
    if let Err(error) = socket.send(message.as_bytes()) {
        tracing::warn!(notify.message = %message, error = %error, "systemd was not told");
    }
}

/// Sockets connected to that address: a path, or `@` and an abstract name.
fn connect(address: &OsStr) -> io::Result<Link> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => abstract_address(name)?,
        None if Path::new(address).is_absolute() => SocketAddr::from_pathname(address)?,
        None => {
            let expected = "expected an absolute path, or @ and a name";
            return Err(io::Error::new(io::ErrorKind::Unsupported, expected));
        }
    };
    let connected = || {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        Ok::<_, io::Error>(socket)
    };
    let (patient, prompt) = (connected()?, connected()?);
    patient.set_write_timeout(Some(PATIENCE))?;
    prompt.set_nonblocking(true)?;
    Ok(Link { patient, prompt })
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    let none = "only Linux has abstract sockets";
    Err(io::Error::new(io::ErrorKind::Unsupported, none))
}

/// A line break would begin another variable.
fn one_line(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(clean).take(STATUS_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A notifier, and systemd's end of its socket.
    fn pair(watchdog: Option<Duration>) -> (Notifier, UnixDatagram) {
        let (patient, theirs) = UnixDatagram::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let prompt = patient.try_clone().unwrap();
        let notifier = Notifier {
            link: Some(Arc::new(Link { patient, prompt })),
            watchdog,
        };
        (notifier, theirs)
    }

    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut messages = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count) = socket.recv(&mut buffer) {
            messages.push(String::from_utf8(buffer[..count].to_vec()).unwrap());
        }
        messages
    }

    #[test]
    fn a_status_stays_in_its_line() {
        let (notifier, systemd) = pair(None);
        notifier.ready("the reload changed nothing: a.toml:1\nMAINPID=1");
        notifier.stopping("SIGTERM");
        let told = received(&systemd);
        assert_eq!(
            told,
            [
                "READY=1\nSTATUS=the reload changed nothing: a.toml:1 MAINPID=1",
                "STOPPING=1\nSTATUS=SIGTERM"
            ]
        );
    }

    #[test]
    fn a_reload_tells_the_monotonic_time_in_the_same_message() {
        let (notifier, systemd) = pair(None);
        notifier.reloading();
        let told = received(&systemd).remove(0);
        let time = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn addresses_that_cannot_be_used_are_refused() {
        for wrong in ["vsock:2:1234", "relative/path", "/there/is/nothing/here"] {
            assert!(connect(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_twice_in_its_time_while_all_is_well() {
        let (notifier, systemd) = pair(Some(Duration::from_secs(10)));
        // Not asked at the start, when nobody has looked yet.
        let well = Cell::new(false);
        let kept = notifier.keep_alive(|| well.get());
        tokio::pin!(kept);
        let run = Duration::from_millis(4_500);
        assert!(tokio::time::timeout(run, &mut kept).await.is_err());
        assert!(received(&systemd).is_empty());
        well.set(true);
        let run = Duration::from_millis(10_500);
        assert!(tokio::time::timeout(run, &mut kept).await.is_err());
        assert_eq!(received(&systemd), ["WATCHDOG=1"; 3]);
        well.set(false);
        assert!(tokio::time::timeout(run, &mut kept).await.is_err());
        assert!(received(&systemd).is_empty());
        well.set(true);
        assert!(tokio::time::timeout(run, &mut kept).await.is_err());
        assert_eq!(received(&systemd), ["WATCHDOG=1"; 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_asks_for_what_is_left_of_its_time_and_no_more() {
        let (notifier, systemd) = pair(None);
        let drain = notifier.draining(Duration::from_millis(2500));
        let run = Duration::from_secs(60);
        assert!(tokio::time::timeout(run, drain).await.is_err());
        let told = received(&systemd);
        let asked = |usec: &str| format!("EXTEND_TIMEOUT_USEC={usec}");
        assert_eq!(told, [asked("2500000"), asked("1500000"), asked("500000")]);
    }
}
