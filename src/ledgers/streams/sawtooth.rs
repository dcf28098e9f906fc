//! Sawtooth's stream, `/subscriptions`.
//!
//! Right after `subscribe` the newest block is sent, known or not, then each
//! block as it comes. What was missed is never sent: neither what came while we
//! were away, nor what came while the validator was away from its REST API. So
//! each block is held against the trail of known ones ([`Trail`]); where it does
//! not follow, the blocks between are asked for (`sawtooth_catch_up`). And since
//! a gap is only seen by the next block, `/blocks` is asked for the newest one at
//! the start, now and then, and as soon as the validator is back.
//!
//! The trail is the source's state. It is remembered after the events of its
//! blocks are durable: at worst they are handed over again.

use super::StreamLimits;
use super::error::StreamError;
use super::news::LedgerNews;
use super::sawtooth_block::{Block, Message, first_listed, read, transactions};
use super::socket::Socket;
use super::trail::{Standing, Trail};
use crate::config::{LedgerSettings, LedgerSource};
use crate::flows::events::{BlockRef, Checkpoint, Sink, Source, SourceEnd, SourceState};
use crate::ledgers::transport::{Transport, encoded};
use crate::ledgers::{ConnectError, LedgerError, sawtooth};
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Blocks whose transactions are still to be asked for; of more, the oldest are
/// left to polling.
const LOOKUPS: usize = 1_000;

/// State deltas of a Sawtooth ledger.
pub struct SawtoothStream {
    pub(super) transport: Transport,
    pub(super) prefixes: Vec<String>,
    news: Option<Arc<dyn LedgerNews>>,
    limits: StreamLimits,
    /// Time limit of an answer on the stream.
    pub(super) patience: Duration,
    start_block: i64,
    /// Where nothing is known: begins with what is new.
    from_newest: bool,
}

/// A connection, and how far it has come.
pub(super) struct Following<'a> {
    pub(super) stream: &'a SawtoothStream,
    pub(super) sink: &'a dyn Sink,
    pub(super) socket: Socket,
    pub(super) trail: Trail,
    /// First block that is wanted.
    pub(super) floor: i64,
    /// A block that came while another was asked for; the newest of them is
    /// enough, since what is between is asked for.
    pub(super) came: Option<Block>,
    /// Blocks whose transactions the batches wait for.
    pub(super) lookups: VecDeque<String>,
    /// The validator is away, as far as is known.
    away: bool,
}

type Lookup<'a> = BoxFuture<'a, Result<Vec<String>, LedgerError>>;

/// What a connection waits for.
enum Event {
    Message(String),
    HeadDue,
    Transactions(Result<Vec<String>, LedgerError>),
}

impl SawtoothStream {
    /// Builds the stream; sends nothing.
    ///
    /// # Errors
    /// Says which setting cannot be used.
    pub fn new(
        ledger: &LedgerSettings,
        source: &LedgerSource,
        news: Option<Arc<dyn LedgerNews>>,
        limits: StreamLimits,
    ) -> Result<Self, ConnectError> {
        Ok(Self {
            transport: Transport::new(ledger, sawtooth::habits())?,
            prefixes: source.address_prefixes.clone(),
            news,
            limits,
            patience: ledger.timeout,
            start_block: source.start_block.max(0),
            from_newest: false,
        })
    }

    /// The same, beginning with the newest block where nothing is known.
    pub(super) fn beginning_at_newest(self) -> Self {
        Self {
            from_newest: true,
            ..self
        }
    }

    async fn follow(&self, checkpoint: &Checkpoint, sink: &dyn Sink) -> Result<(), StreamError> {
        sink.tell(SourceState::Connecting);
        let trail = Trail::read(checkpoint.source_state.as_deref());
        let floor = match trail.newest_first().last() {
            Some(oldest) if self.from_newest => oldest.number,
            Some(_) => self.start_block,
            None => checkpoint.resume_from(self.start_block),
        };
        let mut socket = Socket::connect(&self.transport, "/subscriptions", self.limits).await?;
        socket.send(self.ask("subscribe", None)).await?;
        let mut following = Following {
            stream: self,
            sink,
            socket,
            trail,
            floor,
            came: None,
            lookups: VecDeque::new(),
            away: true,
        };
        following.run().await
    }

    /// A message to the ledger.
    pub(super) fn ask(&self, action: &str, block_id: Option<&str>) -> String {
        let mut message = serde_json::Map::new();
        message.insert("action".to_owned(), action.into());
        if let Some(block_id) = block_id {
            message.insert("block_id".to_owned(), block_id.into());
        }
        // An empty list would mean all, as no list does.
        if !self.prefixes.is_empty() {
            message.insert("address_prefixes".to_owned(), self.prefixes.clone().into());
        }
        serde_json::Value::from(message).to_string()
    }

    /// The newest block of the ledger.
    async fn head(&self) -> Result<Option<BlockRef>, LedgerError> {
        self.listed("/blocks?limit=1").await
    }

    /// The block that `/blocks` lists first.
    pub(super) async fn listed(&self, route: &str) -> Result<Option<BlockRef>, LedgerError> {
        let body = self.transport.fetch(route, None).await?;
        first_listed(&body).map_err(|error| self.transport.not_understood(&error, &body))
    }

    fn transactions<'a>(&'a self, block_id: String) -> Lookup<'a> {
        Box::pin(async move {
            let route = format!("/blocks/{}", encoded(&block_id));
            let body = self.transport.fetch(&route, None).await?;
            transactions(&body).map_err(|error| self.transport.not_understood(&error, &body))
        })
    }
}

impl Following<'_> {
    async fn run(&mut self) -> Result<(), StreamError> {
        let stream = self.stream;
        let mut head_at = Instant::now() + self.stream.limits.head_retry;
        let mut lookup: Option<Lookup<'_>> = None;
        loop {
            if let Some(block) = self.came.take() {
                self.block(block).await?;
                continue;
            }
            if lookup.is_none() {
                let next = self.lookups.pop_front();
                lookup = next.map(|id| stream.transactions(id));
            }
            match self.next(head_at, &mut lookup).await? {
                Event::Message(text) => match self.read(&text)? {
                    Message::Block(block) => self.block(block).await?,
                    Message::Warning(warning) => {
                        self.validator_away(&warning);
                        head_at = Instant::now() + self.stream.limits.head_retry;
                    }
                    Message::Error(error) => return Err(StreamError::Malformed(error)),
                },
                Event::HeadDue => {
                    self.check_head().await?;
                    let limits = &self.stream.limits;
                    let pause = if self.away {
                        limits.head_retry
                    } else {
                        limits.head_check
                    };
                    head_at = Instant::now() + pause;
                }
                Event::Transactions(found) => {
                    lookup = None;
                    self.tell_transactions(found);
                }
            }
        }
    }

    async fn next(
        &mut self,
        head_at: Instant,
        lookup: &mut Option<Lookup<'_>>,
    ) -> Result<Event, StreamError> {
        let found = async {
            match lookup {
                Some(lookup) => lookup.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            text = self.socket.next() => Ok(Event::Message(text?)),
            () = sleep_until(head_at) => Ok(Event::HeadDue),
            found = found => Ok(Event::Transactions(found)),
        }
    }

    pub(super) fn read(&self, text: &str) -> Result<Message, StreamError> {
        read(text).map_err(|problem| StreamError::Malformed(self.stream.transport.clean(&problem)))
    }

    /// Takes a block in, and what was missed before it.
    async fn block(&mut self, block: Block) -> Result<(), StreamError> {
        if self.stream.from_newest && self.trail.newest().is_none() {
            self.floor = self.floor.max(block.link.block.number);
        }
        let standing = self.trail.standing(&block.link);
        match standing {
            Standing::Known => {}
            Standing::Next => self.hand_over(vec![block]).await?,
            Standing::Apart => self.catch_up(block).await?,
        }
        self.socket.listen_again();
        self.is_level(standing == Standing::Apart);
        Ok(())
    }

    /// All blocks up to the newest one are handed over.
    fn is_level(&mut self, caught_up: bool) {
        if !self.away && !caught_up {
            return;
        }
        if std::mem::take(&mut self.away)
            && let Some(news) = &self.stream.news
        {
            news.gap(&self.stream.transport.ledger, "");
        }
        self.sink.tell(SourceState::Live {
            from: Some(self.floor),
            to: None,
        });
    }

    fn validator_away(&mut self, warning: &str) {
        tracing::warn!(
            ledger.name = self.stream.transport.ledger,
            error = self.stream.transport.clean(warning),
            "the ledger's stream says that something is wrong behind it; asked for its newest block until it answers"
        );
        self.away = true;
        self.sink.tell(SourceState::Connecting);
    }

    /// Asks for the newest block, and for what leads to it where it is not known.
    async fn check_head(&mut self) -> Result<(), StreamError> {
        let head = match self.stream.head().await {
            Ok(head) => head,
            Err(error @ LedgerError::Unauthorized { .. }) => return Err(error.into()),
            Err(error) => {
                tracing::debug!(
                    ledger.name = self.stream.transport.ledger,
                    error = %error,
                    "the ledger was asked for its newest block in vain"
                );
                return Ok(());
            }
        };
        self.socket.listen_again();
        let Some(head) = head else { return Ok(()) };
        if self.trail.newest() == Some(&head) {
            self.is_level(false);
            return Ok(());
        }
        let block = self.deltas(&head.id).await?;
        self.block(block).await
    }

    /// Takes note that a block is handed over: its transactions are committed.
    pub(super) fn settled(&mut self, block: &BlockRef) {
        let Some(news) = &self.stream.news else {
            return;
        };
        news.poll_service_now(&self.stream.transport.ledger, "");
        self.lookups.push_back(block.id.clone());
        while self.lookups.len() > LOOKUPS {
            self.lookups.pop_front();
        }
    }

    fn tell_transactions(&self, found: Result<Vec<String>, LedgerError>) {
        let ledger = &self.stream.transport.ledger;
        match (found, &self.stream.news) {
            (Ok(tx_ids), Some(news)) => news.transactions_committed(ledger, "", tx_ids),
            (Ok(_), None) => {}
            // Polling finds them too, only later.
            (Err(error), _) => tracing::debug!(
                ledger.name = ledger,
                error = %error,
                "the transactions of a block are not known; its batches are left to polling"
            ),
        }
    }
}

impl Source for SawtoothStream {
    fn run<'a>(&'a self, checkpoint: Checkpoint, sink: &'a dyn Sink) -> BoxFuture<'a, SourceEnd> {
        Box::pin(async move {
            match self.follow(&checkpoint, sink).await {
                Ok(()) => SourceEnd::Renew,
                Err(error) => error.into(),
            }
        })
    }

    fn place(&self) -> String {
        self.transport.place()
    }
}
