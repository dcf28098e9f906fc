//! Hyperledger Sawtooth's REST API.
//!
//! Facts (limits, what is refused, how idle connections end) were seen on the
//! REST API of release 1.2.6; the exchanges are in
//! `tests/recordings/sawtooth`.

use super::answer::{Distinct, Entry, reports, transaction_at_fault};
use super::transport::{Habits, Transport, encoded, encoded_len, wait_seconds};
use super::{ConnectError, Ledger, LedgerError, LedgerKind};
use crate::config::LedgerSettings;
use crate::flows::batches::{BatchResult, BatchStatusStore, InvalidTransaction, StatusReport};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

/// Most ids asked by GET; more go by POST.
const MAX_GET_IDS: usize = 15;
/// Longest target the REST API reads: 63 ids pass, 64 do not.
const MAX_TARGET: usize = 8_190;
/// Largest body the REST API reads: 80,043 ids pass, 80,044 do not.
const MAX_BODY: usize = 10_485_760;
/// The REST API closes idle connections after 75 s.
const KEEP_IDLE: Duration = Duration::from_secs(60);
/// Where statuses are asked.
const ROUTE: &str = "/batch_statuses";

/// A ledger that speaks Sawtooth's REST API.
pub struct SawtoothLedger {
    transport: Transport,
    ids_per_request: usize,
    wait: Option<u64>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Vec<BatchEntry<'a>>,
}

#[derive(Deserialize)]
struct BatchEntry<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    invalid_transactions: Distinct<TransactionEntry<'a>>,
}

#[derive(Deserialize, PartialEq)]
struct TransactionEntry<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    #[serde(borrow, default)]
    extended_data: Cow<'a, str>,
}

impl Entry for BatchEntry<'_> {
    fn batch_id(&self) -> &str {
        &self.id
    }

    fn word(&self) -> &str {
        &self.status
    }

    fn at_fault(&self) -> Vec<InvalidTransaction> {
        let entries = self.invalid_transactions.0.iter();
        entries
            .map(|entry| transaction_at_fault(&entry.id, &entry.message, &entry.extended_data))
            .collect()
    }
}

impl SawtoothLedger {
    /// Builds the client; sends nothing.
    ///
    /// # Errors
    /// Says which setting cannot be used.
    pub fn new(settings: &LedgerSettings) -> Result<Self, ConnectError> {
        Ok(Self {
            transport: Transport::new(settings, habits())?,
            ids_per_request: settings.ids_per_request.max(1),
            wait: wait_seconds(settings.wait),
        })
    }

    async fn ask(
        &self,
        service_id: &str,
        batch_ids: &[&str],
    ) -> Result<Vec<StatusReport>, LedgerError> {
        if batch_ids.is_empty() {
            return Ok(Vec::new());
        }
        LedgerKind::Sawtooth
            .check_service_id(service_id)
            .map_err(|problem| LedgerError::NotFound {
                detail: format!("{problem}; not asked"),
            })?;
        let (route, body) = match self.get_route(batch_ids) {
            Some(route) => (route, None),
            None => {
                let ids =
                    serde_json::to_vec(batch_ids).map_err(|error| LedgerError::Malformed {
                        detail: format!("the ids cannot be written as JSON: {error}"),
                    })?;
                (
                    self.with_wait(ROUTE.to_owned(), '?'),
                    Some(Bytes::from(ids)),
                )
            }
        };
        let body = self.transport.fetch(&route, body).await?;
        let answer: Answer<'_> = serde_json::from_slice(&body)
            .map_err(|error| self.transport.not_understood(&error, &body))?;
        reports(LedgerKind::Sawtooth, &self.transport.ledger, &answer.data)
    }

    /// The route of a GET, where the ids are few and fit in one. An id with a
    /// comma would be taken for two there.
    fn get_route(&self, batch_ids: &[&str]) -> Option<String> {
        if batch_ids.len() > MAX_GET_IDS || batch_ids.iter().any(|id| id.contains(',')) {
            return None;
        }
        let ids: usize = batch_ids.iter().map(|id| encoded_len(id) + 1).sum();
        if self.transport.path_len() + ROUTE.len() + "?id=&wait=".len() + 20 + ids > MAX_TARGET {
            return None;
        }
        let mut route = String::with_capacity(ROUTE.len() + 40 + ids);
        route.push_str(ROUTE);
        for (at, id) in batch_ids.iter().enumerate() {
            // Writing to a String does not fail.
            let separator = if at == 0 { "?id=" } else { "," };
            write!(route, "{separator}{}", encoded(id)).ok()?;
        }
        Some(self.with_wait(route, '&'))
    }

    fn with_wait(&self, mut route: String, separator: char) -> String {
        if let Some(seconds) = self.wait {
            route.push(separator);
            route.push_str(&format!("wait={seconds}"));
        }
        route
    }
}

impl BatchStatusStore<StatusReport> for SawtoothLedger {
    fn get_batch_statuses<'a>(
        &'a self,
        service_id: &'a str,
        batch_ids: &'a [&'a str],
    ) -> BoxFuture<'a, BatchResult<Vec<StatusReport>>> {
        Box::pin(async move { Ok(self.ask(service_id, batch_ids).await?) })
    }
}

impl Ledger for SawtoothLedger {
    fn kind(&self) -> LedgerKind {
        LedgerKind::Sawtooth
    }

    fn fits(&self, _service_id: &str, batch_ids: &[&str]) -> usize {
        // "[]", and for each id its quotes and a comma.
        let mut body = 2;
        let within = batch_ids
            .iter()
            .take(self.ids_per_request)
            .take_while(|id| {
                body += json_len(id) + 1;
                body <= MAX_BODY
            })
            .count();
        within.max(batch_ids.len().min(1))
    }
}

/// What is Sawtooth's own about HTTP.
pub(super) fn habits() -> Habits {
    Habits {
        keep_idle: KEEP_IDLE,
        token_prefix: "",
        headers: HeaderMap::new(),
    }
}

/// The most bytes an id takes in JSON, quotes included.
fn json_len(id: &str) -> usize {
    let plain = id
        .bytes()
        .all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    2 + if plain { id.len() } else { 6 * id.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_len_is_never_less_than_the_real_length() {
        for id in ["", "abc", "a\"b", "\\\n\u{1}", "é"] {
            assert!(
                json_len(id) >= serde_json::to_vec(id).unwrap().len(),
                "{id}"
            );
        }
        assert_eq!(json_len("abc"), 5);
    }

    #[test]
    fn an_answer_is_read_without_copying_its_texts() {
        let answer: Answer<'_> = serde_json::from_str(
            r#"{"data":[{"id":"a","invalid_transactions":[{"id":"t"}],"status":"INVALID"}]}"#,
        )
        .unwrap();
        let entry = &answer.data[0];
        assert!(matches!(entry.id, Cow::Borrowed("a")));
        assert!(matches!(
            entry.invalid_transactions.0[0].id,
            Cow::Borrowed("t")
        ));
    }
}
