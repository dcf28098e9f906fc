//! What a running consumer tells, and what it can be told.

use super::options::ConsumerKnobs;
use super::server::ConsumerShared;
use crate::sim::peer::Peer;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;

/// A running simulated consumer; stops when dropped.
pub struct ConsumerHandle {
    peer: Peer,
    shared: Arc<ConsumerShared>,
}

/// A call that carried a CloudEvent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Received {
    /// In the order of arrival, from 0.
    pub number: u64,
    /// Path of the call: by it callers can be told apart.
    pub path: String,
    /// `id` of the event.
    pub id: String,
    /// `source`
    pub source: String,
    /// `type`
    pub event_type: String,
    /// `subject`
    pub subject: Option<String>,
    /// `data`, where it is kept.
    pub data: Option<Value>,
    /// Whether the call had a `webhook-signature`; it is not checked.
    pub signed: bool,
    /// When it came.
    pub at: Timestamp,
    /// How it was answered; `None` where it was not, or not yet.
    pub status: Option<u16>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerStats {
    /// Calls that carried a CloudEvent.
    pub calls: u64,
    /// Calls answered 2xx.
    pub taken: u64,
    /// Calls answered otherwise.
    pub failed: u64,
    /// Calls that carried something else; answered 400.
    pub malformed: u64,
}

impl ConsumerHandle {
    pub(super) fn new(peer: Peer, shared: Arc<ConsumerShared>) -> Self {
        Self { peer, shared }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.peer.addr()
    }

    /// Where events are posted: a handler's `url`.
    pub fn url(&self) -> String {
        format!("http://{}/process", self.addr())
    }

    /// How it answers.
    pub fn knobs(&self) -> ConsumerKnobs {
        self.shared.knobs.borrow().clone()
    }

    /// Changes how it answers, from the next call on.
    pub fn set(&self, change: impl FnOnce(&mut ConsumerKnobs)) {
        self.shared.knobs.send_modify(change);
    }

    /// The next calls fail, so many.
    pub fn fail_next(&self, calls: u32) {
        self.shared.state().fail_next = calls;
    }

    /// The newest calls (`keep`), in order of arrival.
    pub fn received(&self) -> Vec<Received> {
        self.shared.state().received.iter().cloned().collect()
    }

    /// Ids of the events that were taken (answered 2xx), in order of arrival.
    pub fn taken(&self) -> Vec<String> {
        let state = self.shared.state();
        let taken = state.received.iter().filter(|call| {
            call.status
                .is_some_and(|status| (200..300).contains(&status))
        });
        taken.map(|call| call.id.clone()).collect()
    }

    /// What was counted.
    pub fn stats(&self) -> ConsumerStats {
        self.shared.state().stats
    }

    /// Stops at once: what is under way is dropped, the port is free on return.
    pub fn stop(self) {
        drop(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{ConsumerOptions, ConsumerSim};
    use serde_json::json;
    use std::time::Duration;

    async fn post(url: &str, id: &str) -> reqwest::Result<u16> {
        let event = json!({
            "specversion": "1.0", "id": id, "source": "urn:test", "type": "T", "data": { "n": id },
        });
        let client = reqwest::Client::builder().no_proxy().build()?;
        let call = client.post(url).timeout(Duration::from_millis(500));
        Ok(call.json(&event).send().await?.status().as_u16())
    }

    #[tokio::test]
    async fn a_consumer_remembers_order_and_answers_as_it_is_told() {
        let consumer = ConsumerSim::start(ConsumerOptions {
            keep: 4,
            keep_data: true,
            ..ConsumerOptions::default()
        })
        .unwrap();
        let url = consumer.url();
        assert_eq!(post(&url, "a").await.unwrap(), 204);
        consumer.fail_next(1);
        assert_eq!(post(&url, "b").await.unwrap(), 500);
        assert_eq!(post(&url, "b").await.unwrap(), 204);
        consumer.set(|knobs| {
            knobs.fail_on = Some("\"c\"".to_owned());
            knobs.fail_status = 422;
        });
        assert_eq!(post(&url, "c").await.unwrap(), 422);
        assert_eq!(consumer.taken(), ["a", "b"]);
        consumer.set(|knobs| {
            knobs.fail_on = None;
            knobs.hang = 1.0;
        });
        assert!(post(&url, "d").await.unwrap_err().is_timeout());

        let received = consumer.received();
        let seen: Vec<_> = received
            .iter()
            .map(|call| (call.id.as_str(), call.status))
            .collect();
        let expected = [
            ("b", Some(500)),
            ("b", Some(204)),
            ("c", Some(422)),
            ("d", None),
        ];
        assert_eq!(seen, expected);
        assert_eq!(received[0].data, Some(json!({ "n": "b" })));
        let stats = consumer.stats();
        assert_eq!((stats.calls, stats.taken, stats.failed), (5, 2, 2));
    }

    #[tokio::test]
    async fn what_is_no_cloud_event_is_refused_and_counted() {
        let consumer = ConsumerSim::start(ConsumerOptions::default()).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for body in [
            "{}",
            "[",
            r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#,
        ] {
            let answer = client.post(consumer.url()).body(body).send().await.unwrap();
            assert_eq!(answer.status(), 400);
        }
        assert_eq!(consumer.stats().malformed, 3);
        let told = client
            .get(format!("http://{}/sim/received", consumer.addr()))
            .send();
        let told: Value = told.await.unwrap().json().await.unwrap();
        assert_eq!(told["items"], json!([]));
        let knobs = client
            .post(format!("http://{}/sim/knobs", consumer.addr()))
            .body(r#"{"latency":"20ms","fail":1}"#)
            .send();
        assert_eq!(knobs.await.unwrap().status(), 200);
        assert_eq!(consumer.knobs().latency, Duration::from_millis(20));
        assert_eq!(post(&consumer.url(), "x").await.unwrap(), 500);
    }
}
