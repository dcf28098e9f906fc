//! Intercom: the handle by which one service talks to another (LLR-IC-1 to
//! LLR-IC-4).
//!
//! Typed, one-directional, asked of the watchdog by name, and pointed at the
//! new mailbox when the service it leads to was restarted: senders wait,
//! bounded, and need not know.

use super::exit::Fence;
use super::stats::Stats;
use actix::{Message, Recipient};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What travels in a mailbox: a message and when it was sent.
///
/// A handler begins with `let message = envelope.open();`, which is what the
/// propagation statistics and the watchdog's sign of progress are taken from.
#[derive(Debug)]
pub struct Envelope<M> {
    message: Option<M>,
    sent_at: Instant,
    stats: Arc<Stats>,
    /// Whether the sender waits for the answer, and counts its failure.
    awaited: bool,
}

impl<M: Message> Message for Envelope<M> {
    type Result = M::Result;
}

impl<M> Envelope<M> {
    fn new(message: M, stats: Arc<Stats>, awaited: bool) -> Self {
        stats.sent();
        Self {
            message: Some(message),
            sent_at: Instant::now(),
            stats,
            awaited,
        }
    }

    /// Takes the message out, as handled now.
    ///
    /// # Panics
    /// Never: an envelope is opened once, since opening consumes it.
    #[expect(
        clippy::expect_used,
        reason = "the message is taken here only, and this consumes self"
    )]
    pub fn open(mut self) -> M {
        self.stats.handled(self.sent_at.elapsed());
        self.message.take().expect("an envelope is opened once")
    }
}

impl<M> Drop for Envelope<M> {
    fn drop(&mut self) {
        if self.message.is_some() {
            self.stats.lost();
            if !self.awaited {
                self.stats.failed();
            }
        }
    }
}

/// Why a message did not get through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntercomError {
    /// The service was not running, and did not come back in time.
    #[error("service {service} is not running; {message} was not delivered within {waited:?}")]
    Away {
        /// Name of the service.
        service: Arc<str>,
        /// Type of the message.
        message: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// The service took the message and did not answer in time.
    #[error("service {service} did not answer {message} within {waited:?}")]
    NoAnswer {
        /// Name of the service.
        service: Arc<str>,
        /// Type of the message.
        message: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// The service ended with the message unanswered; it may have been handled.
    #[error("service {service} ended before it answered {message}")]
    Ended {
        /// Name of the service.
        service: Arc<str>,
        /// Type of the message.
        message: &'static str,
    },
    /// The sender itself was given up by the watchdog; nothing was sent.
    #[error("{sender} was given up by its watchdog; its {message} was not sent")]
    GivenUp {
        /// Name of the service that the message comes from.
        sender: Arc<str>,
        /// Type of the message.
        message: &'static str,
    },
}

pub(super) type Line<M> = watch::Receiver<Option<Recipient<Envelope<M>>>>;
type Request<M> = actix::dev::RecipientRequest<Envelope<M>>;

/// Handle for messages of type `M` from one service to another; cheap to clone.
pub struct Intercom<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    from: Arc<str>,
    service: Arc<str>,
    line: Line<M>,
    stats: Arc<Stats>,
    fence: Fence,
}

impl<M> Clone for Intercom<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn clone(&self) -> Self {
        self.stats.open();
        Self {
            from: self.from.clone(),
            service: self.service.clone(),
            line: self.line.clone(),
            stats: self.stats.clone(),
            fence: self.fence.clone(),
        }
    }
}

impl<M> Drop for Intercom<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn drop(&mut self) {
        self.stats.close();
    }
}

impl<M> std::fmt::Debug for Intercom<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Intercom<{}>({} → {})",
            short_name::<M>(),
            self.from,
            self.service
        )
    }
}

impl<M> Intercom<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    pub(super) fn new(
        from: Arc<str>,
        service: Arc<str>,
        line: Line<M>,
        stats: Arc<Stats>,
        fence: Fence,
    ) -> Self {
        stats.open();
        Self {
            from,
            service,
            line,
            stats,
            fence,
        }
    }

    /// Sends a message and waits for its answer, at most `timeout` in all;
    /// while the service is being restarted, waits for its new mailbox.
    ///
    /// # Errors
    /// See [`IntercomError`]; in no case is the message delivered twice.
    pub async fn send(&self, message: M, timeout: Duration) -> Result<M::Result, IntercomError> {
        self.check_fence().inspect_err(|_| self.stats.failed())?;
        let begun = Instant::now();
        let envelope = Envelope::new(message, self.stats.clone(), true);
        let request = match self.put(envelope) {
            Ok(request) => request,
            Err(envelope) => {
                let put = self.put_when_back(envelope);
                let put = tokio::time::timeout(timeout, put).await;
                let put = put.unwrap_or_else(|_elapsed| {
                    Err(IntercomError::Away {
                        service: self.service.clone(),
                        message: short_name::<M>(),
                        waited: begun.elapsed(),
                    })
                });
                put.inspect_err(|_| self.stats.failed())?
            }
        };
        let waiting = self.stats.line.wait();
        let left = timeout.saturating_sub(begun.elapsed());
        let error = match tokio::time::timeout(left, request).await {
            Ok(Ok(answer)) => {
                waiting.answered();
                return Ok(answer);
            }
            Ok(Err(_closed)) => self.ended(),
            Err(_elapsed) => IntercomError::NoAnswer {
                service: self.service.clone(),
                message: short_name::<M>(),
                waited: begun.elapsed(),
            },
        };
        self.stats.failed();
        Err(error)
    }

    /// Puts an envelope into the mailbox, if there is one.
    fn put(&self, envelope: Envelope<M>) -> Result<Request<M>, Envelope<M>> {
        match self.line.borrow().as_ref() {
            Some(recipient) if recipient.connected() => Ok(recipient.send(envelope)),
            _ => Err(envelope),
        }
    }

    /// The same as soon as there is a mailbox.
    async fn put_when_back(&self, mut envelope: Envelope<M>) -> Result<Request<M>, IntercomError> {
        let mut line = self.line.clone();
        line.mark_changed();
        loop {
            // An error says that the service is unregistered, or the watchdog
            // gone: there will be no mailbox.
            line.changed().await.map_err(|_gone| self.ended())?;
            line.borrow_and_update();
            self.check_fence()?;
            envelope = match self.put(envelope) {
                Ok(request) => return Ok(request),
                Err(back) => back,
            };
        }
    }

    /// Puts a message into the mailbox and goes on; hands it back when the
    /// service is not running, its mailbox is full, or the sender was given up.
    ///
    /// # Errors
    /// The message, undelivered.
    pub fn post(&self, message: M) -> Result<(), M> {
        let mailbox = self.line.borrow();
        let Some(recipient) = mailbox.as_ref().filter(|_| !self.fence.is_up()) else {
            self.stats.failed();
            return Err(message);
        };
        match recipient.try_send(Envelope::new(message, self.stats.clone(), false)) {
            Ok(()) => Ok(()),
            Err(
                actix::prelude::SendError::Full(mut back)
                | actix::prelude::SendError::Closed(mut back),
            ) => {
                self.stats.lost();
                self.stats.failed();
                match back.message.take() {
                    Some(message) => Err(message),
                    None => Ok(()),
                }
            }
        }
    }

    fn check_fence(&self) -> Result<(), IntercomError> {
        if self.fence.is_up() {
            return Err(IntercomError::GivenUp {
                sender: self.from.clone(),
                message: short_name::<M>(),
            });
        }
        Ok(())
    }

    fn ended(&self) -> IntercomError {
        IntercomError::Ended {
            service: self.service.clone(),
            message: short_name::<M>(),
        }
    }
}

/// The last part of a type's path.
pub(super) fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}
