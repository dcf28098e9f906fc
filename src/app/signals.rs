//! What a running server is told: by signals, by its [`StopHandle`] and by control.

use super::AppError;
use super::live::Live;
use super::notify::Notifier;
use crate::watchdog::{Order, OrderError, Orders, Reloaded, Reply};
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// Stops a server from inside the process, as SIGTERM would.
#[derive(Clone, Debug, Default)]
pub struct StopHandle {
    bell: Arc<Notify>,
}

impl StopHandle {
    /// Begins the drain; a second call cuts it short.
    pub fn stop(&self) {
        self.bell.notify_one();
    }
}

/// What it is told from outside.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    stop: StopHandle,
}

enum Told {
    Stop(&'static str),
    Reload,
}

impl Signals {
    pub(super) fn watch(stop: StopHandle) -> Result<Self, AppError> {
        let watch = |kind| signal(kind).map_err(AppError::Runtime);
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            hangup: watch(SignalKind::hangup())?,
            stop,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            () = self.stop.bell.notified() => Told::Stop("stop"),
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}

/// Waits until told to stop, passing over reloads.
pub(super) async fn told_to_stop(signals: &mut Signals) {
    while !matches!(signals.next().await, Told::Stop(_)) {}
}

/// Does what signals and control say, until told to stop: by which, and who
/// is to hear that the drain begins.
pub(super) async fn obey(
    signals: &mut Signals,
    orders: &mut Orders,
    live: &mut Live,
    systemd: &SystemdReload<'_>,
) -> (&'static str, Option<Reply<()>>) {
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop(word) => return (word, None),
                // The log and the report say what became of it.
                Told::Reload => drop(systemd.reload(live, false).await),
            },
            Some(order) = orders.next() => match order {
                Order::Reload { reset, reply } => drop(reply.send(systemd.reload(live, reset).await)),
                order => if let Some(asked) = live.carry_out(order).await {
                    return ("control", Some(asked));
                }
            }
        }
    }
}

/// Tells systemd of a reload while it is carried out.
pub(super) struct SystemdReload<'a> {
    pub(super) notifier: &'a Notifier,
    pub(super) serving: &'a str,
}

impl SystemdReload<'_> {
    async fn reload(&self, live: &mut Live, reset: bool) -> Result<Reloaded, OrderError> {
        self.notifier.reloading();
        let result = live.reload(reset).await;
        match &result {
            Ok(_) => self.notifier.ready(self.serving),
            Err(problem) => self.notifier.ready(&format!(
                "{}; the last reload changed nothing: {problem}",
                self.serving
            )),
        }
        result
    }
}

/// Waits until told to stop once more; whatever else is asked is refused.
pub(super) async fn told_to_stop_again(signals: &mut Signals, orders: &mut Orders) {
    loop {
        tokio::select! {
            told = signals.next() => if matches!(told, Told::Stop(_)) {
                return;
            },
            Some(order) = orders.next() => order.refuse(OrderError::ShuttingDown),
        }
    }
}
