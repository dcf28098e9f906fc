//! Intercom: the handle by which one service talks to another (LLR-IC-1 to
//! LLR-IC-4).
//!
//! Typed, one-directional, asked of the watchdog by name, and pointed at the
//! new mailbox when the service it leads to was restarted: senders wait,
//! bounded, and need not know.

use super::exit::Fence;
use super::stats::Stats;
use actix::{MailboxError, Message, Recipient};
use arc_swap::ArcSwapOption;
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
    fn new(message: M, stats: Arc<Stats>, sent_at: Instant, awaited: bool) -> Self {
        stats.sent();
        Self {
            message: Some(message),
            sent_at,
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

type Mailbox<M> = Arc<ArcSwapOption<Recipient<Envelope<M>>>>;

/// The mailbox that a handle leads to now, and news of each next one.
pub(super) struct Line<M: Message + Send + 'static>
where
    M::Result: Send,
{
    /// Looked at for every message, and cheaper to look at than the news.
    mailbox: Mailbox<M>,
    news: watch::Receiver<()>,
}

impl<M: Message + Send + 'static> Clone for Line<M>
where
    M::Result: Send,
{
    fn clone(&self) -> Self {
        Self {
            mailbox: self.mailbox.clone(),
            news: self.news.clone(),
        }
    }
}

/// The watchdog's end of a line.
pub(super) struct LineEnd<M: Message + Send + 'static>
where
    M::Result: Send,
{
    mailbox: Mailbox<M>,
    news: watch::Sender<()>,
}

impl<M: Message + Send + 'static> LineEnd<M>
where
    M::Result: Send,
{
    /// Points the line at a mailbox, or at none.
    pub(super) fn set(&self, recipient: Option<Recipient<Envelope<M>>>) {
        self.mailbox.store(recipient.map(Arc::new));
        self.news.send_replace(());
    }
}

/// A line that leads nowhere yet.
pub(super) fn line<M: Message + Send + 'static>() -> (LineEnd<M>, Line<M>)
where
    M::Result: Send,
{
    let mailbox = Mailbox::<M>::default();
    let (sender, news) = watch::channel(());
    let end = LineEnd {
        mailbox: mailbox.clone(),
        news: sender,
    };
    (end, Line { mailbox, news })
}

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
        let envelope = Envelope::new(message, self.stats.clone(), begun, true);
        let (request, left) = match self.put(envelope) {
            // Looking at the clock costs as much as the rest of this.
            Ok(request) => (request, timeout),
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
                let request = put.inspect_err(|_| self.stats.failed())?;
                (request, timeout.saturating_sub(begun.elapsed()))
            }
        };
        let mut waiting = self.stats.line.wait();
        let error = match request.timeout(left).await {
            Ok(answer) => {
                if let Some(waiting) = &mut waiting {
                    waiting.answered();
                }
                return Ok(answer);
            }
            Err(MailboxError::Closed) => self.ended(),
            Err(MailboxError::Timeout) => IntercomError::NoAnswer {
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
        match self.line.mailbox.load().as_ref() {
            Some(recipient) if recipient.connected() => Ok(recipient.send(envelope)),
            _ => Err(envelope),
        }
    }

    /// The same as soon as there is a mailbox.
    async fn put_when_back(&self, mut envelope: Envelope<M>) -> Result<Request<M>, IntercomError> {
        let mut news = self.line.news.clone();
        news.mark_changed();
        loop {
            // An error says that the service is unregistered, or the watchdog
            // gone: there will be no mailbox.
            news.changed().await.map_err(|_gone| self.ended())?;
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
        let mailbox = self.line.mailbox.load();
        let Some(recipient) = mailbox.as_ref().filter(|_| !self.fence.is_up()) else {
            self.stats.failed();
            return Err(message);
        };
        let envelope = Envelope::new(message, self.stats.clone(), Instant::now(), false);
        match recipient.try_send(envelope) {
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
