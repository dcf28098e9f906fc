//! Intercom: the handle by which one service talks to another (LLR-IC-1 to
//! LLR-IC-4).
//!
//! Typed, one-directional, asked of the watchdog by name, and pointed at the
//! new mailbox when the service it leads to was restarted: senders wait,
//! bounded, and need not know.

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
}

impl<M: Message> Message for Envelope<M> {
    type Result = M::Result;
}

impl<M> Envelope<M> {
    fn new(message: M, stats: Arc<Stats>) -> Self {
        stats.sent();
        Self {
            message: Some(message),
            sent_at: Instant::now(),
            stats,
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
}

pub(super) type Line<M> = watch::Receiver<Option<Recipient<Envelope<M>>>>;

/// Handle for messages of type `M` to one service; cheap to clone.
pub struct Intercom<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    service: Arc<str>,
    line: Line<M>,
    stats: Arc<Stats>,
}

impl<M> Clone for Intercom<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            line: self.line.clone(),
            stats: self.stats.clone(),
        }
    }
}

impl<M> std::fmt::Debug for Intercom<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Intercom<{}>({})", short_name::<M>(), self.service)
    }
}

impl<M> Intercom<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    pub(super) fn new(service: Arc<str>, line: Line<M>, stats: Arc<Stats>) -> Self {
        Self {
            service,
            line,
            stats,
        }
    }

    /// Sends a message and waits for its answer, at most `timeout` in all;
    /// while the service is being restarted, waits for its new mailbox.
    ///
    /// # Errors
    /// See [`IntercomError`]; in no case is the message delivered twice.
    pub async fn send(&self, message: M, timeout: Duration) -> Result<M::Result, IntercomError> {
        let begun = Instant::now();
        let mut line = self.line.clone();
        let mut envelope = Some(Envelope::new(message, self.stats.clone()));
        let talk = async {
            loop {
                let request = {
                    let mailbox = line.borrow_and_update();
                    match mailbox.as_ref() {
                        Some(recipient) if recipient.connected() => {
                            envelope.take().map(|envelope| recipient.send(envelope))
                        }
                        _ => None,
                    }
                };
                if let Some(request) = request {
                    return request.await.map_err(|_closed| IntercomError::Ended {
                        service: self.service.clone(),
                        message: short_name::<M>(),
                    });
                }
                if line.changed().await.is_err() {
                    // The watchdog itself is gone: there will be no mailbox.
                    return Err(IntercomError::Ended {
                        service: self.service.clone(),
                        message: short_name::<M>(),
                    });
                }
            }
        };
        let result = match tokio::time::timeout(timeout, talk).await {
            Ok(result) => result,
            Err(_elapsed) => {
                let (service, message) = (self.service.clone(), short_name::<M>());
                let waited = begun.elapsed();
                Err(if envelope.is_some() {
                    IntercomError::Away {
                        service,
                        message,
                        waited,
                    }
                } else {
                    IntercomError::NoAnswer {
                        service,
                        message,
                        waited,
                    }
                })
            }
        };
        if matches!(
            result,
            Err(IntercomError::NoAnswer { .. } | IntercomError::Ended { .. })
        ) {
            self.stats.failed();
        }
        result
    }

    /// Puts a message into the mailbox and goes on; hands it back when the
    /// service is not running or its mailbox is full.
    ///
    /// # Errors
    /// The message, undelivered.
    pub fn post(&self, message: M) -> Result<(), M> {
        let mailbox = self.line.borrow();
        let Some(recipient) = mailbox.as_ref() else {
            self.stats.failed();
            return Err(message);
        };
        match recipient.try_send(Envelope::new(message, self.stats.clone())) {
            Ok(()) => Ok(()),
            Err(
                actix::prelude::SendError::Full(mut back)
                | actix::prelude::SendError::Closed(mut back),
            ) => {
                self.stats.lost();
                match back.message.take() {
                    Some(message) => Err(message),
                    None => Ok(()),
                }
            }
        }
    }
}

/// The last part of a type's path.
pub(super) fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}
