//! Splinter's scabbard routes.
//!
//! Facts (limits, what is refused, how idle connections end) were seen on
//! `splinterd` 0.6.14; the exchanges are in `tests/recordings/splinter`.

use super::answer::{Distinct, Entry, MAX_EXTENDED_BYTES, reports, transaction_at_fault};
use super::transport::{Habits, MAX_URL, Transport, encoded, encoded_len, wait_seconds};
use super::{ConnectError, Ledger, LedgerError, LedgerKind};
use crate::config::LedgerSettings;
use crate::flows::batches::{BatchResult, BatchStatusStore, InvalidTransaction, StatusReport};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use std::borrow::Cow;
use std::time::Duration;

/// A node closes idle connections after 5 s.
const KEEP_IDLE: Duration = Duration::from_secs(4);
/// Version of the REST protocol that this client speaks.
const PROTOCOL: (HeaderName, HeaderValue) = (
    HeaderName::from_static("splinterprotocolversion"),
    HeaderValue::from_static("1"),
);

/// A ledger that speaks Splinter's scabbard routes.
pub struct SplinterLedger {
    transport: Transport,
    ids_per_request: usize,
    /// `&wait=SECONDS`, or nothing. Only where the configuration asks for it: a
    /// wait holds one of the node's few REST workers, even after we hang up.
    wait: String,
}

#[derive(Deserialize)]
struct BatchEntry<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    status: StatusEntry<'a>,
}

#[derive(Deserialize)]
struct StatusEntry<'a> {
    #[serde(borrow, rename = "statusType")]
    word: Cow<'a, str>,
    /// The batch's transactions; of an invalid batch, each with why.
    #[serde(borrow, default, rename = "message")]
    transactions: Distinct<TransactionEntry<'a>>,
}

#[derive(Deserialize, PartialEq)]
struct TransactionEntry<'a> {
    #[serde(borrow)]
    transaction_id: Cow<'a, str>,
    #[serde(borrow, default)]
    error_message: Cow<'a, str>,
    #[serde(default)]
    error_data: Vec<u8>,
}

impl Entry for BatchEntry<'_> {
    fn batch_id(&self) -> &str {
        &self.id
    }

    fn word(&self) -> &str {
        &self.status.word
    }

    fn at_fault(&self) -> Vec<InvalidTransaction> {
        let entries = self.status.transactions.0.iter();
        entries
            .map(|entry| {
                let data = &entry.error_data[..entry.error_data.len().min(MAX_EXTENDED_BYTES)];
                transaction_at_fault(
                    &entry.transaction_id,
                    &entry.error_message,
                    &STANDARD.encode(data),
                )
            })
            .collect()
    }
}

impl SplinterLedger {
    /// Builds the client; sends nothing.
    ///
    /// # Errors
    /// Says which setting cannot be used.
    pub fn new(settings: &LedgerSettings) -> Result<Self, ConnectError> {
        Ok(Self {
            transport: Transport::new(settings, habits())?,
            ids_per_request: settings.ids_per_request.max(1),
            wait: wait_seconds(settings.wait)
                .map(|seconds| format!("&wait={seconds}"))
                .unwrap_or_default(),
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
        LedgerKind::Splinter
            .check_service_id(service_id)
            .map_err(|problem| LedgerError::NotFound {
                detail: format!("{problem}; not asked"),
            })?;
        let mut route = route(service_id);
        route.reserve(batch_ids.iter().map(|id| id.len() + 1).sum());
        for (at, id) in batch_ids.iter().enumerate() {
            if at > 0 {
                route.push(',');
            }
            route.push_str(&encoded(id).to_string());
        }
        route.push_str(&self.wait);
        let body = self.transport.fetch(&route, None).await?;
        let entries: Vec<BatchEntry<'_>> = serde_json::from_slice(&body)
            .map_err(|error| self.transport.not_understood(&error, &body))?;
        reports(LedgerKind::Splinter, &self.transport.ledger, &entries)
    }
}

/// What is Splinter's own about HTTP.
pub(super) fn habits() -> Habits {
    Habits {
        keep_idle: KEEP_IDLE,
        token_prefix: "Cylinder:",
        headers: HeaderMap::from_iter([PROTOCOL]),
    }
}

/// The route of a service, up to where the ids go.
fn route(service_id: &str) -> String {
    let (circuit, service) = service_id.split_once("::").unwrap_or((service_id, ""));
    format!(
        "/scabbard/{}/{}/batch_statuses?ids=",
        encoded(circuit),
        encoded(service)
    )
}

impl BatchStatusStore<StatusReport> for SplinterLedger {
    fn get_batch_statuses<'a>(
        &'a self,
        service_id: &'a str,
        batch_ids: &'a [&'a str],
    ) -> BoxFuture<'a, BatchResult<Vec<StatusReport>>> {
        Box::pin(async move { Ok(self.ask(service_id, batch_ids).await?) })
    }
}

impl Ledger for SplinterLedger {
    fn kind(&self) -> LedgerKind {
        LedgerKind::Splinter
    }

    fn fits(&self, service_id: &str, batch_ids: &[&str]) -> usize {
        // The limit on the whole address is the stricter one: the node's own is
        // on the target alone, which lacks scheme, host and port.
        let mut length = self.transport.base_len() + route(service_id).len() + self.wait.len();
        let within = batch_ids
            .iter()
            .take(self.ids_per_request)
            .enumerate()
            .take_while(|(at, id)| {
                length += encoded_len(id) + usize::from(*at > 0);
                length <= MAX_URL
            })
            .count();
        within.max(batch_ids.len().min(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::batches::LedgerStatus;

    #[test]
    fn error_data_is_kept_as_base64() {
        let entries: Vec<BatchEntry<'_>> = serde_json::from_str(
            r#"[{"id":"a","status":{"statusType":"Invalid","message":[
                {"transaction_id":"t","error_message":"no","error_data":[123,125]},
                {"transaction_id":"t","error_message":"no","error_data":[123,125]}
            ]},"timestamp":{"secs_since_epoch":1,"nanos_since_epoch":2}}]"#,
        )
        .unwrap();
        let reports = reports(LedgerKind::Splinter, "supply-chain", &entries).unwrap();
        let expected = InvalidTransaction {
            id: "t".to_owned(),
            message: "no".to_owned(),
            extended_data: "e30=".to_owned(),
        };
        assert_eq!(reports[0].status, LedgerStatus::Invalid(vec![expected]));
    }
}
