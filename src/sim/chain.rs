//! What a simulated ledger streams: the events of Splinter's services, and the
//! blocks of Sawtooth's chain. Pure.

use super::hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::HashMap;

/// What stands for the block before the first one.
const BEFORE_GENESIS: &str = "0000000000000000";

/// All that was committed.
pub(super) struct Chain {
    /// Splinter: per service the events in the order of their commits.
    services: HashMap<String, Vec<ServiceEvent>>,
    /// Sawtooth: every block there ever was.
    blocks: HashMap<String, ChainBlock>,
    /// Ids of those that count, by number.
    chain: Vec<String>,
    /// Blocks that subscribers are told of, in order.
    outbox: Vec<String>,
    made: u64,
    seed: u64,
}

#[derive(Clone)]
pub(super) struct ServiceEvent {
    pub(super) tx_id: String,
    /// The message.
    pub(super) text: String,
}

/// A block of Sawtooth's.
struct ChainBlock {
    number: usize,
    previous: String,
    tx_ids: Vec<String>,
}

impl Chain {
    /// A ledger that nothing was committed to, but the first block.
    pub(super) fn new(seed: u64) -> Self {
        let mut chain = Self {
            services: HashMap::new(),
            blocks: HashMap::new(),
            chain: Vec::new(),
            outbox: Vec::new(),
            made: 0,
            seed,
        };
        chain.add_block(Vec::new());
        chain
    }

    /// Commits transactions to a Splinter service.
    pub(super) fn commit(&mut self, service_id: &str, tx_ids: &[&str]) {
        let events = self.services.entry(service_id.to_owned()).or_default();
        for tx_id in tx_ids {
            let value: Vec<u8> = tx_id.bytes().take(16).collect();
            let change = json!({ "Set": { "key": address("00ec01", tx_id), "value": value } });
            let text = json!({ "id": tx_id, "state_changes": [change] }).to_string();
            events.push(ServiceEvent {
                tx_id: (*tx_id).to_owned(),
                text,
            });
        }
    }

    /// How many events a service has.
    pub(super) fn events(&self, service_id: &str) -> usize {
        self.services.get(service_id).map_or(0, Vec::len)
    }

    /// The events of a service behind a place.
    pub(super) fn events_behind(&self, service_id: &str, place: usize) -> Vec<ServiceEvent> {
        let events = self.services.get(service_id);
        events.map_or(Vec::new(), |events| {
            events[place.min(events.len())..].to_vec()
        })
    }

    /// What a node sends of the first `count` events when it is subscribed to:
    /// those whose id, as text, is greater than the last one seen, and so on
    /// with the last one that it sent, until there are none (recordings
    /// `ws_subscribe_resume_*`).
    pub(super) fn history(
        &self,
        service_id: &str,
        count: usize,
        last_seen: Option<&str>,
    ) -> Vec<ServiceEvent> {
        let Some(events) = self.services.get(service_id) else {
            return Vec::new();
        };
        let mut sent: Vec<ServiceEvent> = Vec::new();
        let mut last = last_seen.map(str::to_owned);
        loop {
            let behind =
                |event: &&ServiceEvent| last.as_ref().is_none_or(|last| event.tx_id > *last);
            let page: Vec<ServiceEvent> =
                events.iter().take(count).filter(behind).cloned().collect();
            let Some(newest) = page.last() else {
                return sent;
            };
            last = Some(newest.tx_id.clone());
            sent.extend(page);
        }
    }

    /// Adds a block with these transactions; answers its id.
    pub(super) fn add_block(&mut self, tx_ids: Vec<String>) -> String {
        self.made += 1;
        let mut id = String::with_capacity(128);
        hash::write_id(&mut id, hash::mix(self.made ^ (self.seed << 32)));
        let previous = self.chain.last().cloned();
        let block = ChainBlock {
            number: self.chain.len(),
            previous: previous.unwrap_or_else(|| BEFORE_GENESIS.to_owned()),
            tx_ids,
        };
        self.blocks.insert(id.clone(), block);
        self.chain.push(id.clone());
        id
    }

    /// Gives up the newest `depth` blocks.
    pub(super) fn cut(&mut self, depth: usize) {
        let left = self.chain.len().saturating_sub(depth);
        self.chain.truncate(left);
    }

    /// Tells subscribers of the newest block.
    pub(super) fn announce(&mut self) {
        self.outbox.extend(self.chain.last().cloned());
    }

    /// How many blocks subscribers were told of.
    pub(super) fn announced(&self) -> usize {
        self.outbox.len()
    }

    /// Blocks that subscribers are told of behind a place.
    pub(super) fn announced_behind(&self, place: usize) -> Vec<String> {
        self.outbox[place.min(self.outbox.len())..].to_vec()
    }

    /// Ids of the blocks that count, by number.
    pub(super) fn ids(&self) -> &[String] {
        &self.chain
    }

    /// The message of a block, with the changes at addresses that begin as given;
    /// `None` where it is not known. `after` is the number of the block sent
    /// before, for the fork flag that compares numbers as text.
    pub(super) fn message(
        &self,
        id: &str,
        prefixes: &[String],
        after: Option<usize>,
    ) -> Option<Value> {
        let block = self.blocks.get(id)?;
        let wanted = |address: &String| {
            prefixes.is_empty() || prefixes.iter().any(|prefix| address.starts_with(prefix))
        };
        let changes: Vec<Value> = block
            .tx_ids
            .iter()
            .map(|tx_id| {
                (
                    address("1cf126", tx_id),
                    STANDARD.encode(tx_id.get(..16).unwrap_or(tx_id)),
                )
            })
            .filter(|(address, _)| wanted(address))
            .map(|(address, value)| json!({ "address": address, "value": value, "type": "SET" }))
            .collect();
        let mut message = json!({
            "block_id": id,
            "block_num": block.number.to_string(),
            "previous_block_id": block.previous,
            "state_changes": changes,
        });
        if after.is_some_and(|after| after.to_string() >= block.number.to_string()) {
            message["fork_detected"] = true.into();
        }
        Some(message)
    }

    /// The number of a block.
    pub(super) fn number(&self, id: &str) -> Option<usize> {
        self.blocks.get(id).map(|block| block.number)
    }

    /// A block that counts, as `/blocks` has it.
    pub(super) fn listed(&self, id: &str) -> Option<Value> {
        let block = self.blocks.get(id)?;
        self.chain.get(block.number).filter(|there| *there == id)?;
        let mut batch_id = String::new();
        hash::write_id(&mut batch_id, hash::draw(hash::key(id), 7));
        Some(json!({
            "batches": [{
                "header": { "signer_public_key": "02", "transaction_ids": block.tx_ids },
                "header_signature": batch_id,
                "trace": false,
                "transactions": [],
            }],
            "header": {
                "batch_ids": [batch_id],
                "block_num": block.number.to_string(),
                "consensus": "",
                "previous_block_id": block.previous,
            },
            "header_signature": id,
        }))
    }
}

/// Where a transaction changes the state: 70 hex digits.
fn address(namespace: &str, tx_id: &str) -> String {
    let mut digits = String::with_capacity(128);
    hash::write_id(&mut digits, hash::draw(hash::key(tx_id), 11));
    format!("{namespace}{}", &digits[..64])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(events: &[ServiceEvent]) -> Vec<&str> {
        events.iter().map(|event| event.tx_id.as_str()).collect()
    }

    #[test]
    fn a_node_resumes_by_text_and_so_repeats_and_loses_events() {
        let mut chain = Chain::new(0);
        chain.commit("c::s", &["m", "x", "b", "t"]);
        let sent = |last| ids_of(&chain, last);
        fn ids_of(chain: &Chain, last: Option<&str>) -> Vec<String> {
            let history = chain.history("c::s", 4, last);
            ids(&history).into_iter().map(str::to_owned).collect()
        }
        assert_eq!(sent(None), ["m", "x", "b", "t", "x"]);
        assert_eq!(sent(Some("x")), [""; 0], "b and t are lost");
        assert_eq!(sent(Some("t")), ["x"], "x is sent again");
    }

    #[test]
    fn a_node_sends_what_the_recorded_one_sent() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/splinter");
        let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
        let order: Value = serde_json::from_str(&read("ws_commit_order.json")).unwrap();
        let order = order["commit_order"].as_array().unwrap();
        let order: Vec<&str> = order.iter().filter_map(Value::as_str).collect();
        let mut chain = Chain::new(0);
        chain.commit("c::s", &order);
        for name in ["no_last_seen", "resume_mid", "resume_last", "unknown_event"] {
            let text = read(&format!("ws_subscribe_{name}.jsonl"));
            let lines: Vec<Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            let path = lines[0]["request"]["path"].as_str().unwrap();
            let last = path.split_once("last_seen_event=").map(|(_, id)| id);
            let recorded: Vec<String> = lines
                .iter()
                .filter(|line| line["frame"] == "text")
                .map(|line| {
                    let event: Value =
                        serde_json::from_str(line["data"].as_str().unwrap()).unwrap();
                    event["id"].as_str().unwrap().to_owned()
                })
                .collect();
            let sent = chain.history("c::s", order.len(), last);
            assert_eq!(ids(&sent), recorded, "{name}");
        }
    }

    #[test]
    fn a_fork_is_another_block_of_the_same_number() {
        let mut chain = Chain::new(0);
        let first = chain.add_block(vec!["a".to_owned()]);
        chain.cut(1);
        let other = chain.add_block(vec!["a".to_owned()]);
        assert_ne!(first, other);
        assert_eq!(chain.number(&first), chain.number(&other));
        assert!(chain.listed(&first).is_none() && chain.listed(&other).is_some());
        assert!(
            chain.message(&first, &[], None).is_some(),
            "its deltas are known still"
        );
    }

    #[test]
    fn a_fork_flag_compares_numbers_as_text() {
        let mut chain = Chain::new(0);
        for _ in 0..10 {
            chain.add_block(Vec::new());
        }
        let flag = |number: usize| {
            let id = &chain.ids()[number];
            let message = chain.message(id, &[], Some(number - 1)).unwrap();
            message.get("fork_detected").is_some()
        };
        assert!(!flag(9) && flag(10));
    }
}
