//! The events of the demo: a gateway that crashes now and then, an application
//! that makes its transactions known, a consumer that fails now and then, and an
//! operator who brings what halted going again.

use super::stage::Stage;
use super::story::Recurring;
use crate::sim::{ConsumerOptions, GatewayKnobs, GatewayOptions, Outage, SimEvent, SimKnown};
use crate::store::{Store, StoreError, SubscriptionSummary};
use secrecy::ExposeSecret as _;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The subscription whose application makes known what matters.
pub(super) const CLAIMS: &str = "claims";
/// The subscription that halts now and then.
pub(super) const PAYMENTS: &str = "payments";
/// What claims are called at the gateway.
const CLAIM: &str = "CLAIM_STATUS_CHANGE";

/// What the gateway and the consumer remember, for nobody but whoever asks them.
const KEEP: usize = 1000;
/// When the consumer of payments fails.
const CONSUMER_FAILS: Recurring = Recurring {
    first: 30,
    lasts: 20,
    every: 150,
};
/// When the gateway is away; it crashes at the beginning.
const GATEWAY_AWAY: Recurring = Recurring {
    first: 80,
    lasts: 25,
    every: 150,
};
/// How long the operator takes to look, once nothing fails any more.
const OPERATOR: Duration = Duration::from_secs(6);
/// Every so many blocks the application notes its claims only when it was told
/// of them …
const TARDY: i64 = 4;
/// … and so many blocks more.
const TARDY_BY: i64 = 1;
/// Blocks that are noted at most in one call, and so after a pause.
const BLOCKS_AT_ONCE: i64 = 100;
const TIMEOUT: Duration = Duration::from_secs(5);

/// The gateway of the demo: some two events a second.
pub(super) fn gateway() -> GatewayOptions {
    GatewayOptions {
        blocks: 12,
        events: (1..=4).into(),
        empty: 0.1,
        event_names: [CLAIM, "PAYMENT", "SHIPMENT_MOVED"]
            .map(str::to_owned)
            .to_vec(),
        relevant: 0.6,
        keep: KEEP,
        knobs: GatewayKnobs {
            duplicates: 0.05,
            reorder: 0.2,
            late: 0.01,
            ..GatewayKnobs::default()
        },
        ..GatewayOptions::default()
    }
}

/// The consumer of the demo.
pub(super) fn consumer() -> ConsumerOptions {
    let mut options = ConsumerOptions {
        keep: KEEP,
        ..ConsumerOptions::default()
    };
    options.knobs.latency = Duration::from_millis(15);
    options.knobs.fail_status = 503;
    options
}

/// What happens to the subscriptions.
pub(super) struct EventsStory<'a> {
    stage: &'a Stage,
    client: reqwest::Client,
    server: SocketAddr,
    /// Blocks below this one are noted, but for those noted later …
    noted: i64,
    /// … which are noted below this one.
    noted_tardily: i64,
    consumer_fails: bool,
    gateway_away: bool,
    /// What is halted: since when that was seen, and whether the consumer failed
    /// meanwhile.
    halted: BTreeMap<String, (Duration, bool)>,
}

impl<'a> EventsStory<'a> {
    /// Of the server that listens there.
    pub(super) fn new(stage: &'a Stage, server: SocketAddr) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            stage,
            client,
            server,
            noted: 0,
            noted_tardily: 0,
            consumer_fails: false,
            gateway_away: false,
            halted: BTreeMap::new(),
        })
    }

    /// The application: makes known what it takes part in, mostly before the
    /// ledger tells of it. What the server does not take is noted the next time.
    ///
    /// # Errors
    /// Why the server does not take it.
    pub(super) async fn note(&mut self) -> Result<(), String> {
        let gateway = &self.stage.gateway;
        // The block to come is known already to whoever submits to it.
        let next = (gateway.blocks() + 1).min(self.noted + BLOCKS_AT_ONCE);
        let tardily = (gateway.blocks() - TARDY_BY).clamp(0, self.noted_tardily + BLOCKS_AT_ONCE);
        let mut events = gateway.events(self.noted..=next - 1);
        events.retain(|event| !is_tardy(event.block));
        let mut late = gateway.events(self.noted_tardily..=tardily - 1);
        late.retain(|event| is_tardy(event.block));
        events.append(&mut late);
        let (tx_ids, keys) = known_claims(events);
        if !tx_ids.is_empty() || !keys.is_empty() {
            let body = json!({ "tx_ids": tx_ids, "keys": keys });
            let call = self.client.post(format!("http://{}/v1/known", self.server));
            send(call.json(&body)).await?;
        }
        (self.noted, self.noted_tardily) = (next, tardily);
        Ok(())
    }

    /// What is to be told after `elapsed`, if anything; and has it happen.
    ///
    /// # Errors
    /// The database is out of reach.
    pub(super) async fn go_on(
        &mut self,
        elapsed: Duration,
        store: &Store,
    ) -> Result<Vec<String>, StoreError> {
        let mut news = Vec::new();
        let fails = CONSUMER_FAILS.is_on(elapsed);
        if fails != self.consumer_fails {
            self.consumer_fails = fails;
            let fail_on = fails.then(|| format!("\"/highwater/{PAYMENTS}\""));
            self.stage.consumer.set(|knobs| knobs.fail_on = fail_on);
            news.push(if fails {
                format!(
                    "the consumer of {PAYMENTS} begins to fail: after three tries the \
                     subscription will halt; the others go on"
                )
            } else {
                format!("the consumer of {PAYMENTS} works again, which the operator will hear of")
            });
        }
        let away = GATEWAY_AWAY.is_on(elapsed);
        if away != self.gateway_away {
            self.gateway_away = away;
            news.push(self.set_away(away));
        }
        for summary in store.subscriptions_summary().await? {
            news.extend(self.look_at(&summary, elapsed).await);
        }
        Ok(news)
    }

    fn set_away(&self, away: bool) -> String {
        let gateway = &self.stage.gateway;
        if away {
            gateway.set(|knobs| knobs.outage = Outage::Unavailable);
            gateway.crash();
            "the gateway crashes and forgets who subscribed: watch the subscriptions' sources"
        } else {
            gateway.set(|knobs| knobs.outage = Outage::None);
            "the gateway is back: each subscription goes on where it was, once it is asked again"
        }
        .to_owned()
    }

    /// The operator: sees what is halted, and has it tried anew.
    async fn look_at(
        &mut self,
        subscription: &SubscriptionSummary,
        elapsed: Duration,
    ) -> Option<String> {
        let name = &subscription.name;
        let Some((arrival, ..)) = &subscription.checkpoint.halted else {
            self.halted.remove(name);
            return None;
        };
        let fails = self.consumer_fails;
        let seen = self.halted.get_mut(name);
        let Some((since, blamed)) = seen else {
            self.halted.insert(name.clone(), (elapsed, fails));
            return Some(format!(
                "{name} is halted on event {arrival}: what comes is recorded, and waits for the operator"
            ));
        };
        if fails {
            (*since, *blamed) = (elapsed, true);
            return None;
        }
        if elapsed.saturating_sub(*since) < OPERATOR {
            return None;
        }
        let reason = if *blamed {
            "the consumer answers again"
        } else {
            "late, but it still counts"
        };
        // Asked again later, should it not be taken.
        *since = elapsed;
        let ordered = self.retry(name, reason).await;
        Some(match ordered {
            Ok(()) => format!("the operator retries {name}: \"{reason}\""),
            Err(problem) => format!("the operator cannot retry {name}: {problem}"),
        })
    }

    async fn retry(&self, name: &str, reason: &str) -> Result<(), String> {
        let url = format!("http://{}/v1/subscriptions/{name}/retry", self.server);
        let mut call = self.client.post(url).json(&json!({ "reason": reason }));
        if let Some(token) = &self.stage.config.settings.http.control_token {
            call = call.bearer_auth(token.expose_secret());
        }
        send(call).await
    }
}

/// How all events stand, in a few words; `None` before the first is recorded.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn count(store: &Store) -> Result<Option<String>, StoreError> {
    let all = store.subscriptions_summary().await?;
    let of = |word: &str| -> i64 { all.iter().filter_map(|one| one.counts.get(word)).sum() };
    let open: i64 = all.iter().map(|one| one.open).sum();
    let (processed, irrelevant) = (of("processed"), of("irrelevant"));
    let any = processed + irrelevant + open > 0;
    Ok(any.then(|| format!("events: {processed} processed, {irrelevant} irrelevant, {open} open")))
}

/// Sends a call; the answer is of no interest, unless it is a refusal.
///
/// # Errors
/// The refusal, or why there is no answer.
pub(super) async fn send(call: reqwest::RequestBuilder) -> Result<(), String> {
    let answer = call.send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let problem = answer.text().await.unwrap_or_default();
    Err(format!("{status}: {problem}"))
}

/// Whether the claims of a block are noted only after it was told.
fn is_tardy(block: i64) -> bool {
    block % TARDY == TARDY - 1
}

/// Transaction ids and keys by which the claims among the events are known.
fn known_claims(events: Vec<SimEvent>) -> (Vec<String>, Vec<String>) {
    let (mut tx_ids, mut keys) = (Vec::new(), Vec::new());
    for event in events.into_iter().filter(|of| of.event_name == CLAIM) {
        match event.known {
            SimKnown::Not => {}
            SimKnown::Transaction => tx_ids.push(event.tx_id),
            SimKnown::Key => keys.push(event.key),
        }
    }
    (tx_ids, keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::GatewaySim;

    #[test]
    fn every_kind_of_event_comes_and_some_claims_are_nobodys() {
        let options = GatewayOptions {
            block_every: Duration::ZERO,
            ..gateway()
        };
        let running = GatewaySim::start(options.clone()).unwrap();
        let events = running.events(0..=199);
        for name in &options.event_names {
            let count = events.iter().filter(|of| of.event_name == *name).count();
            assert!(count > 80, "{name}: {count}");
        }
        let claims = events.iter().filter(|of| of.event_name == CLAIM).count();
        let (tx_ids, keys) = known_claims(events);
        let known = tx_ids.len() + keys.len();
        assert!(!keys.is_empty() && known > claims / 3 && known < claims);
    }

    #[test]
    fn the_consumer_is_mended_before_the_gateway_crashes() {
        let on = |what: &Recurring, second| what.is_on(Duration::from_secs(second));
        for second in 0..1000 {
            assert!(!(on(&CONSUMER_FAILS, second) && on(&GATEWAY_AWAY, second)));
        }
        assert!(on(&CONSUMER_FAILS, 30) && on(&GATEWAY_AWAY, 80));
    }
}
