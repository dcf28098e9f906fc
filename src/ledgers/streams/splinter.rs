//! The stream of a scabbard service, `/scabbard/CIRCUIT/SERVICE/ws/subscribe`.
//!
//! Without `last_seen_event` a node sends all events in the order of their
//! commits, then some of them again, then what is new. With it, it compares
//! transaction ids as text: of 6 later events none came, and old ones did
//! (`ws_subscribe_resume_*`). So it is never given: each connection begins at the
//! first event, nothing is lost, and what is known is recognised here or by the
//! recorder. An event says nothing of failures, nor does the stream of what a
//! node forgot: after each gap everything outstanding is to be polled.

use super::StreamLimits;
use super::error::StreamError;
use super::hand_over::{self, AT_ONCE, BYTES_AT_ONCE};
use super::news::LedgerNews;
use super::socket::Socket;
use super::splinter_event::{Told, read};
use crate::config::{LedgerSettings, LedgerSource};
use crate::flows::events::{Checkpoint, Sink, Source, SourceEnd, SourceState};
use crate::ledgers::transport::{Transport, encoded};
use crate::ledgers::{ConnectError, LedgerError, LedgerKind, splinter};
use futures_util::future::BoxFuture;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Transactions that are recognised without asking the recorder.
const REMEMBERED: usize = 100_000;

/// Events of a scabbard service.
pub struct SplinterStream {
    transport: Transport,
    service: String,
    prefixes: Vec<String>,
    news: Option<Arc<dyn LedgerNews>>,
    limits: StreamLimits,
    /// What was recorded by this process; outlives a connection.
    recorded: Mutex<RecordedIds>,
}

impl SplinterStream {
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
            transport: Transport::new(ledger, splinter::habits())?,
            service: source.service.clone(),
            prefixes: source.address_prefixes.clone(),
            news,
            limits,
            recorded: Mutex::new(RecordedIds::new(REMEMBERED)),
        })
    }

    async fn stream(&self, sink: &dyn Sink) -> Result<(), StreamError> {
        sink.tell(SourceState::Connecting);
        let route = route(&self.service)?;
        let mut socket = Socket::connect(&self.transport, &route, self.limits).await?;
        if let Some(news) = &self.news {
            news.gap(&self.transport.ledger, &self.service);
        }
        sink.tell(SourceState::Live {
            from: None,
            to: None,
        });
        loop {
            let first = socket.next().await?;
            let mut bytes = first.len();
            let mut told = vec![self.read(first)?];
            // What has come meanwhile goes along. An end is seen by the next look.
            while told.len() < AT_ONCE && bytes < BYTES_AT_ONCE {
                match socket.ready() {
                    Ok(Some(text)) => {
                        bytes += text.len();
                        told.push(self.read(text)?);
                    }
                    Ok(None) => break,
                    Err(end) => {
                        self.take(sink, told).await?;
                        return Err(end);
                    }
                }
            }
            self.take(sink, told).await?;
            socket.listen_again();
        }
    }

    fn read(&self, text: String) -> Result<Told, StreamError> {
        read(text, &self.prefixes)
            .map_err(|problem| StreamError::Malformed(self.transport.clean(&problem)))
    }

    /// Records what is new, then tells the batches of it.
    async fn take(&self, sink: &dyn Sink, told: Vec<Told>) -> Result<(), StreamError> {
        let mut tx_ids = Vec::with_capacity(told.len());
        let mut heard = Vec::with_capacity(told.len());
        {
            let recorded = self.recorded();
            for Told {
                tx_id,
                heard: event,
            } in told
            {
                if !recorded.holds(&tx_id) && !tx_ids.contains(&tx_id) {
                    tx_ids.push(tx_id);
                    heard.extend(event);
                }
            }
        }
        if tx_ids.is_empty() {
            return Ok(());
        }
        hand_over::record(sink, heard).await?;
        {
            let mut recorded = self.recorded();
            for tx_id in &tx_ids {
                recorded.add(tx_id);
            }
        }
        if let Some(news) = &self.news {
            let ledger = &self.transport.ledger;
            news.transactions_committed(ledger, &self.service, tx_ids);
            news.poll_service_now(ledger, &self.service);
        }
        Ok(())
    }

    fn recorded(&self) -> MutexGuard<'_, RecordedIds> {
        let locked = self.recorded.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for SplinterStream {
    fn run<'a>(&'a self, _: Checkpoint, sink: &'a dyn Sink) -> BoxFuture<'a, SourceEnd> {
        Box::pin(async move {
            match self.stream(sink).await {
                Ok(()) => SourceEnd::Renew,
                Err(error) => error.into(),
            }
        })
    }

    fn place(&self) -> String {
        format!("{} {}", self.transport.place(), self.service)
    }
}

/// The route of a service's stream.
fn route(service_id: &str) -> Result<String, LedgerError> {
    LedgerKind::Splinter
        .check_service_id(service_id)
        .map_err(|problem| LedgerError::NotFound {
            detail: format!("{problem}; not asked"),
        })?;
    let (circuit, service) = service_id.split_once("::").unwrap_or((service_id, ""));
    Ok(format!(
        "/scabbard/{}/{}/ws/subscribe",
        encoded(circuit),
        encoded(service)
    ))
}

/// The newest transactions that were recorded, in 16 bytes each. Their hashes
/// are keyed, so that nobody can make two ids that are taken for one.
struct RecordedIds {
    most: usize,
    keys: [RandomState; 2],
    known: HashSet<u128>,
    in_order: VecDeque<u128>,
}

impl RecordedIds {
    fn new(most: usize) -> Self {
        Self {
            most,
            keys: [RandomState::new(), RandomState::new()],
            known: HashSet::new(),
            in_order: VecDeque::new(),
        }
    }

    fn hash(&self, tx_id: &str) -> u128 {
        let [one, other] = &self.keys;
        (u128::from(one.hash_one(tx_id)) << 64) | u128::from(other.hash_one(tx_id))
    }

    fn holds(&self, tx_id: &str) -> bool {
        self.known.contains(&self.hash(tx_id))
    }

    fn add(&mut self, tx_id: &str) {
        let hash = self.hash(tx_id);
        if self.known.insert(hash) {
            self.in_order.push_back(hash);
        }
        while self.in_order.len() > self.most {
            if let Some(oldest) = self.in_order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_transactions_are_known_again() {
        let mut recorded = RecordedIds::new(2);
        for id in ["a", "b", "b", "c"] {
            recorded.add(id);
        }
        assert!(!recorded.holds("a"));
        assert!(recorded.holds("b") && recorded.holds("c"));
        assert_eq!(recorded.known.len(), 2);
    }

    #[test]
    fn a_service_of_the_wrong_shape_is_not_asked() {
        assert_eq!(
            route("1mtlg-MEz1L::a000").unwrap(),
            "/scabbard/1mtlg-MEz1L/a000/ws/subscribe"
        );
        assert!(matches!(route("../x"), Err(LedgerError::NotFound { .. })));
    }
}
