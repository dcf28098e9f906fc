//! Events in a block: one for each change of state.

use super::sawtooth_block::{Block, Change};
use crate::flows::events::Heard;
use std::collections::HashMap;

/// Name of these events.
const NAME: &str = "sawtooth/state-delta";

/// The events of a block, in its order.
///
/// Sawtooth does not say which transaction made a change: they are events of
/// the block, known by block id and address (a number behind it where a block
/// changes an address again). So a block of the same number on another fork has
/// other events, and what is asked for with other prefixes is known again.
pub(super) fn heard(block: &Block) -> Vec<Heard> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    block
        .changes
        .iter()
        .map(|change| {
            let before = times.entry(&change.address).or_default();
            let id = &block.link.block.id;
            let event_id = match *before {
                0 => format!("{id}:{}", change.address),
                again => format!("{id}:{}:{again}", change.address),
            };
            *before += 1;
            Heard {
                block: Some(block.link.block.number),
                tx_id: String::new(),
                event_id,
                event_name: NAME.to_owned(),
                payload: payload(block, change),
                key: Some(change.address.clone()),
                rank: 0,
                occurred_at: None,
            }
        })
        .collect()
}

/// The change as it came, with the block it came in.
fn payload(block: &Block, change: &Change) -> String {
    let link = &block.link;
    format!(
        "{{\"block_id\":{},\"block_num\":\"{}\",\"previous_block_id\":{},\"state_change\":{}}}",
        serde_json::Value::from(link.block.id.as_str()),
        link.block.number,
        serde_json::Value::from(link.previous.as_str()),
        change.json
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledgers::streams::sawtooth_block::{Message, read};

    fn block(id: &str) -> Block {
        let change = r#"{"address":"1cf1","value":"MTA=","type":"SET"}"#;
        let text = format!(
            r#"{{"block_id":"{id}","block_num":"10","previous_block_id":"b9","state_changes":[
                {change},{{"address":"1cf2","value":"","type":"DELETE"}},{change}]}}"#
        );
        match read(&text).unwrap() {
            Message::Block(block) => block,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_change_is_an_event_of_the_block() {
        let events = heard(&block("b10"));
        let ids: Vec<&str> = events.iter().map(|event| event.event_id.as_str()).collect();
        assert_eq!(ids, ["b10:1cf1", "b10:1cf2", "b10:1cf1:1"]);
        assert!(
            events
                .iter()
                .all(|event| event.block == Some(10) && event.tx_id.is_empty())
        );
        let payload: serde_json::Value = serde_json::from_str(&events[1].payload).unwrap();
        assert_eq!(payload["block_num"], "10");
        assert_eq!(payload["state_change"]["type"], "DELETE");
    }

    #[test]
    fn the_same_block_twice_has_the_same_events_and_another_fork_has_others() {
        assert_eq!(heard(&block("b10")), heard(&block("b10")));
        let others = heard(&block("c10"));
        let known = heard(&block("b10"));
        let new = |event: &&Heard| !known.iter().any(|known| known.event_id == event.event_id);
        assert_eq!(others.iter().filter(new).count(), others.len());
    }
}
