//! The application of the demo: submits batches to a ledger, and then tells
//! Highwater of them over HTTP, as a real one would.

use super::stage::{SUPPLY_CHAIN, Stage, TRACE};
use crate::flows::batches::BatchKey;
use crate::store::{NewBatch, Tracked};
use rand::Rng;
use serde_json::json;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Batches in one call.
const CALL: usize = 1000;
/// What waits to be sent at most, should the server not take it.
const BACKLOG: usize = 100_000;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Submits and tracks.
pub(super) struct Feed<'a> {
    stage: &'a Stage,
    client: reqwest::Client,
    url: String,
    waiting: VecDeque<NewBatch>,
    submitted: usize,
}

impl<'a> Feed<'a> {
    /// Feeds the server that listens there.
    pub(super) fn new(stage: &'a Stage, server: SocketAddr) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            stage,
            client,
            url: format!("http://{server}/v1/batches"),
            waiting: VecDeque::new(),
            submitted: 0,
        })
    }

    /// Submits so many batches to the ledgers, in turn.
    pub(super) fn submit(&mut self, batches: usize) {
        for _ in 0..batches {
            let batch_id = random_id();
            let (ledger, service_id) = if self.submitted.is_multiple_of(2) {
                self.stage.trace.submit("", &batch_id);
                (TRACE, "")
            } else {
                let services = &self.stage.services;
                let service = services
                    .get(self.submitted / 2 % services.len().max(1))
                    .map_or("", String::as_str);
                self.stage.supply_chain.submit(service, &batch_id);
                (SUPPLY_CHAIN, service)
            };
            self.submitted += 1;
            if self.waiting.len() < BACKLOG {
                self.waiting.push_back(NewBatch {
                    key: BatchKey {
                        ledger: ledger.to_owned(),
                        service_id: service_id.to_owned(),
                        batch_id,
                    },
                    transaction_ids: Vec::new(),
                });
            }
        }
    }

    /// Sends what waits; what is not taken waits for the next time. Tracking
    /// the same batch twice does no harm, so nothing is lost by trying again.
    ///
    /// # Errors
    /// Why the server did not take a call.
    pub(super) async fn send(&mut self) -> Result<(), String> {
        while !self.waiting.is_empty() {
            let call: Vec<&NewBatch> = self.waiting.iter().take(CALL).collect();
            let answer = self
                .client
                .post(&self.url)
                .json(&json!({ "batches": call }))
                .send()
                .await
                .map_err(|error| error.to_string())?;
            let status = answer.status();
            if !status.is_success() {
                let problem = answer.text().await.unwrap_or_default();
                return Err(format!("{status}: {problem}"));
            }
            let tracked: Tracked = answer.json().await.map_err(|error| error.to_string())?;
            let taken = (tracked.accepted + tracked.known).min(self.waiting.len());
            if taken == 0 {
                return Err("the server took none of the batches".to_owned());
            }
            self.waiting.drain(..taken);
        }
        Ok(())
    }
}

/// An id as a ledger makes them: 128 lower case hex digits.
fn random_id() -> String {
    let mut rng = rand::rng();
    (0..8)
        .map(|_| format!("{:016x}", rng.random::<u64>()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledgers::LedgerKind;

    #[test]
    fn ids_look_like_a_ledgers() {
        let id = random_id();
        assert_ne!(id, random_id());
        LedgerKind::Sawtooth.check_batch_id(&id).unwrap();
    }
}
