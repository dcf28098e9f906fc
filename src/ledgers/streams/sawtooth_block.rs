//! Sawtooth's messages and answers about blocks.

use crate::flows::events::BlockRef;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;

/// Characters of a message that are shown where it makes no sense.
const SHOWN: usize = 100;

/// A block's place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The block.
    pub(super) block: BlockRef,
    /// Id of the block before it; zeros for the first one.
    pub(super) previous: String,
}

/// A block and what it changed.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) link: Link,
    /// Changes at addresses that are asked for, as they came.
    pub(super) changes: Vec<Change>,
    /// Length of the message.
    pub(super) bytes: usize,
}

/// One change of state.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Where.
    pub(super) address: String,
    /// The JSON object.
    pub(super) json: Value,
}

/// A message of the stream.
#[derive(Debug)]
pub(super) enum Message {
    /// A block.
    Block(Block),
    /// The validator is away, or is asked for something it lacks.
    Warning(String),
    /// What we sent is refused.
    Error(String),
}

#[derive(Deserialize)]
struct Raw {
    block_id: Option<String>,
    #[serde(default, deserialize_with = "number")]
    block_num: Option<i64>,
    previous_block_id: Option<String>,
    // `fork_detected` is not read: it is there without a fork at 9 to 10 and the
    // like, since the numbers are compared as text.
    #[serde(default)]
    state_changes: Vec<Value>,
    warning: Option<String>,
    error: Option<String>,
}

/// Reads a message.
///
/// # Errors
/// It is none: what was expected, and how it begins.
pub(super) fn read(text: &str) -> Result<Message, String> {
    let wrong = |problem: &dyn std::fmt::Display| {
        let begin: String = text.chars().take(SHOWN).collect();
        format!("{problem}; it begins: {begin}")
    };
    let raw: Raw = serde_json::from_str(text).map_err(|error| wrong(&error))?;
    if let Some(warning) = raw.warning {
        return Ok(Message::Warning(warning));
    }
    if let Some(error) = raw.error {
        return Ok(Message::Error(error));
    }
    let (Some(id), Some(number), Some(previous)) =
        (raw.block_id, raw.block_num, raw.previous_block_id)
    else {
        return Err(wrong(
            &"expected \"block_id\", \"block_num\" and \"previous_block_id\"",
        ));
    };
    if id.is_empty() || id.len() > 256 || number < 0 {
        return Err(wrong(
            &"expected a \"block_id\" of 1 to 256 characters and a \"block_num\" from 0 up",
        ));
    }
    let change = |json: Value| match json.get("address").and_then(Value::as_str) {
        Some(address) => Ok(Change {
            address: address.to_owned(),
            json,
        }),
        None => Err(wrong(
            &"expected an \"address\" in each of \"state_changes\"",
        )),
    };
    let changes: Result<Vec<Change>, String> = raw.state_changes.into_iter().map(change).collect();
    Ok(Message::Block(Block {
        link: Link {
            block: BlockRef { number, id },
            previous,
        },
        changes: changes?,
        bytes: text.len(),
    }))
}

/// Answer of `/blocks`, one entry asked for.
#[derive(Deserialize)]
struct Blocks<'a> {
    #[serde(borrow)]
    data: Vec<Listed<'a>>,
}

/// Answer of `/blocks/ID`.
#[derive(Deserialize)]
struct OneBlock<'a> {
    #[serde(borrow)]
    data: Listed<'a>,
}

#[derive(Deserialize)]
struct Listed<'a> {
    header: BlockHeader,
    #[serde(borrow)]
    header_signature: Cow<'a, str>,
    #[serde(borrow, default)]
    batches: Vec<Batch<'a>>,
}

#[derive(Deserialize)]
struct BlockHeader {
    #[serde(default, deserialize_with = "number")]
    block_num: Option<i64>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    header: BatchHeader<'a>,
}

#[derive(Deserialize)]
struct BatchHeader<'a> {
    #[serde(borrow, default)]
    transaction_ids: Vec<Cow<'a, str>>,
}

/// Reads which block `/blocks` lists first; `None` where it lists none.
///
/// # Errors
/// The answer is not what the protocol says.
pub(super) fn first_listed(body: &[u8]) -> Result<Option<BlockRef>, serde_json::Error> {
    let blocks: Blocks<'_> = serde_json::from_slice(body)?;
    Ok(blocks.data.into_iter().next().and_then(|listed| {
        Some(BlockRef {
            number: listed.header.block_num?,
            id: listed.header_signature.into_owned(),
        })
    }))
}

/// Reads the transactions of the block of `/blocks/ID`.
///
/// # Errors
/// The answer is not what the protocol says.
pub(super) fn transactions(body: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    let block: OneBlock<'_> = serde_json::from_slice(body)?;
    let batches = block.data.batches.into_iter();
    Ok(batches
        .flat_map(|batch| batch.header.transaction_ids)
        .map(Cow::into_owned)
        .collect())
}

/// A number, which Sawtooth writes as text.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number<'a> {
        Text(#[serde(borrow)] Cow<'a, str>),
        Number(i64),
    }
    match Number::deserialize(from)? {
        Number::Number(number) => Ok(Some(number)),
        Number::Text(text) => text.parse().map(Some).map_err(|_| {
            let shown: String = text.chars().take(SHOWN).collect();
            serde::de::Error::custom(format!("\"{shown}\" is no block number"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_and_a_fork_flag_is_not_believed() {
        let text = r#"{"block_id":"b10","block_num":"10","previous_block_id":"b9","fork_detected":true,
            "state_changes":[{"address":"1cf1","value":"MTA=","type":"SET"}]}"#;
        let Message::Block(block) = read(text).unwrap() else {
            panic!("no block");
        };
        assert_eq!(
            (block.link.block.number, block.link.previous.as_str()),
            (10, "b9")
        );
        assert_eq!(block.changes[0].address, "1cf1");
    }

    #[test]
    fn warnings_and_errors_are_told_apart() {
        let warning = read(r#"{"warning": "Validator unavailable"}"#).unwrap();
        assert!(matches!(warning, Message::Warning(text) if text == "Validator unavailable"));
        let error = read(r#"{"error": "Must specify a block id"}"#).unwrap();
        assert!(matches!(error, Message::Error(_)));
    }

    #[test]
    fn rubbish_is_named() {
        for text in [
            "hello",
            "{}",
            r#"{"block_id":"b","block_num":"x","previous_block_id":"a"}"#,
            r#"{"block_id":"b","block_num":"-1","previous_block_id":"a"}"#,
            r#"{"block_id":"b","block_num":"1","previous_block_id":"a","state_changes":[{}]}"#,
        ] {
            assert!(read(text).unwrap_err().contains(text), "{text}");
        }
    }

    #[test]
    fn lists_of_blocks_are_read() {
        let body =
            br#"{"data":[{"header":{"block_num":"7"},"header_signature":"b7","batches":[]}]}"#;
        let first = first_listed(body).unwrap().unwrap();
        assert_eq!((first.number, first.id.as_str()), (7, "b7"));
        assert_eq!(first_listed(br#"{"data":[]}"#).unwrap(), None);
        let body = br#"{"data":{"header":{"block_num":"7"},"header_signature":"b7","batches":[
            {"header":{"transaction_ids":["t1","t2"]}},{"header":{"transaction_ids":["t3"]}}]}}"#;
        assert_eq!(transactions(body).unwrap(), ["t1", "t2", "t3"]);
    }
}
