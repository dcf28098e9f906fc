//! What the watchdog tells a running service, at no cost while it says nothing.
//!
//! actix polls everything that an actor has spawned at each of its turns, for
//! each message. A channel would register its waker every time; here a flag is
//! looked at.

use futures_util::task::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::mpsc;

/// What the watchdog tells a running service.
#[derive(Debug)]
pub(super) enum Command {
    /// End.
    Stop,
    /// End at once: it was given up.
    Terminate,
    /// Show that it takes in what it is told.
    Probe(u64),
    /// Misbehave, inside the actor: for tests of supervision.
    Fault(Fault),
}

/// A way to misbehave, for tests of supervision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Panics with this message.
    Panic(String),
    /// Blocks its thread for so long.
    Block(Duration),
    /// Waits for something that never comes, and takes nothing in meanwhile.
    Hang,
}

#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

/// The watchdog's end.
#[derive(Debug)]
pub(super) struct Commander {
    queue: mpsc::UnboundedSender<Command>,
    bell: Arc<Bell>,
}

/// The service's end.
#[derive(Debug)]
pub(super) struct Commands {
    queue: mpsc::UnboundedReceiver<Command>,
    bell: Arc<Bell>,
    /// Whom the bell wakes.
    woken: Option<Waker>,
}

/// A line from the watchdog to one generation of a service.
pub(super) fn commands() -> (Commander, Commands) {
    let (sender, queue) = mpsc::unbounded_channel();
    let bell = Arc::<Bell>::default();
    let commander = Commander {
        queue: sender,
        bell: bell.clone(),
    };
    let commands = Commands {
        queue,
        bell,
        woken: None,
    };
    (commander, commands)
}

impl Commander {
    /// Tells the service; answers whether it still listens.
    pub(super) fn tell(&self, command: Command) -> bool {
        let listens = self.queue.send(command).is_ok();
        self.bell.rung.store(true, Ordering::Release);
        self.bell.waker.wake();
        listens
    }
}

impl Commands {
    /// The next command, if there is one.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Command> {
        let known = self.woken.as_ref();
        if !known.is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.bell.waker.register(cx.waker());
            self.woken = Some(cx.waker().clone());
        }
        // After the waker is there, so that no ring is missed.
        if !self.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Ringing used it up; it is back before the queue is looked at.
        self.bell.waker.register(cx.waker());
        self.bell.rung.store(false, Ordering::Release);
        match self.queue.try_recv() {
            Ok(command) => {
                // There may be more.
                self.bell.rung.store(true, Ordering::Release);
                Poll::Ready(command)
            }
            Err(_) => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker;

    #[test]
    fn commands_come_in_order_and_each_once() {
        let (commander, mut commands) = commands();
        let waker = noop_waker();
        let cx = Context::from_waker(&waker);
        assert!(commands.poll(&cx).is_pending());
        assert!(commander.tell(Command::Probe(1)));
        assert!(commander.tell(Command::Stop));
        assert!(matches!(commands.poll(&cx), Poll::Ready(Command::Probe(1))));
        assert!(matches!(commands.poll(&cx), Poll::Ready(Command::Stop)));
        assert!(commands.poll(&cx).is_pending());
        drop(commands);
        assert!(!commander.tell(Command::Stop), "nobody listens any more");
    }

    #[tokio::test]
    async fn who_waits_is_woken_each_time() {
        let (commander, mut commands) = commands();
        let listening = tokio::spawn(async move {
            for expected in 0..100 {
                let command = std::future::poll_fn(|cx| commands.poll(cx)).await;
                assert!(matches!(command, Command::Probe(probe) if probe == expected));
            }
        });
        for probe in 0..100 {
            commander.tell(Command::Probe(probe));
            tokio::task::yield_now().await;
        }
        listening.await.unwrap();
    }
}
