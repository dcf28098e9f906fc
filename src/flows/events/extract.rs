//! From what a hook was sent to events, or to what is wrong with it.

use super::json::{canonical, elements, member};
use super::model::Heard;
use crate::config::{EventsSettings, Fields, Order, SourceSettings, SubscriptionSettings};
use crate::time::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Longest transaction id, in characters; the table `known_transactions` has it too.
pub const LONGEST_TX_ID: usize = 256;
/// Longest key, in characters; the table `known_keys` has it too.
pub const LONGEST_KEY: usize = 1024;
/// Longest name of an event, in characters.
const LONGEST_NAME: usize = 256;
/// Characters shown of a value.
const SHOWN: usize = 80;
/// Bytes kept of an event's hash.
const HASH_BYTES: usize = 16;
/// Numbers from here on are milliseconds, and not seconds: of the year 5138 or
/// of 1973.
const MILLIS_FROM: f64 = 1e11;
/// The last millisecond that a time can be told of: of the year 9999.
const LAST_MILLIS: f64 = 253_402_300_799_999.0;

/// How events are found in what a hook was sent.
#[derive(Clone, Copy, Debug)]
pub struct Extraction<'s> {
    /// Where the parts of an event stand.
    pub fields: &'s Fields,
    /// Name of events that have none of their own.
    pub event_name: &'s str,
    /// Whether order within a block is by ordinal.
    pub by_ordinal: bool,
    /// Most events of a call.
    pub max_events: usize,
    /// Largest event, in bytes as it came.
    pub max_event_bytes: usize,
}

/// Why what a hook was sent is not taken; nothing of it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtractProblem {
    /// It cannot be read.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// It carries too many events.
    #[error(
        "the body carries {found} events; send at most {most} a call (events.max_events_per_call)"
    )]
    TooMany {
        /// How many.
        found: usize,
        /// How many may be.
        most: usize,
    },
    /// An event is too large.
    #[error("event {index} has {bytes} bytes; expected at most {most} (events.max_event_bytes)")]
    TooLarge {
        /// Its place in the call, from 0.
        index: usize,
        /// Its size.
        bytes: usize,
        /// Largest size.
        most: usize,
    },
    /// A part of an event is missing or makes no sense.
    #[error("{field}: {message}")]
    Field {
        /// Event and part: `[3]/blockNumber`, or `/blockNumber` where one event
        /// was sent.
        field: String,
        /// The value and what is expected.
        message: String,
    },
}

/// What is wrong with one part of an event.
struct Wrong<'f> {
    pointer: &'f str,
    message: String,
}

type Part<'f, T> = Result<T, Wrong<'f>>;

impl<'s> Extraction<'s> {
    /// As a subscription has it.
    pub fn of(subscription: &'s SubscriptionSettings, events: &EventsSettings) -> Self {
        Self {
            fields: &subscription.fields,
            event_name: match &subscription.source {
                SourceSettings::Gateway(gateway) => &gateway.event_name,
                _ => subscription.name.as_str(),
            },
            by_ordinal: matches!(subscription.order, Order::Ordinal { .. }),
            max_events: events.max_events_per_call,
            max_event_bytes: events.max_event_bytes,
        }
    }

    /// Finds the events of a body: one, or a list of them; each as it is, or as
    /// the `data` of a CloudEvent in structured mode.
    ///
    /// # Errors
    /// What is wrong, with event, field, value and what is expected. Nothing of
    /// the body is an event then.
    pub fn extract(&self, body: &[u8]) -> Result<Vec<Heard>, ExtractProblem> {
        let text = std::str::from_utf8(body)
            .map_err(|error| ExtractProblem::NotJson(format!("it is not UTF-8: {error}")))?;
        let read: Value = serde_json::from_str(text)
            .map_err(|error| ExtractProblem::NotJson(error.to_string()))?;
        let Value::Array(values) = &read else {
            return Ok(vec![self.event(&read, text.trim(), 0, false)?]);
        };
        if values.len() > self.max_events {
            return Err(ExtractProblem::TooMany {
                found: values.len(),
                most: self.max_events,
            });
        }
        let texts = elements(text).unwrap_or_default();
        let events = values.iter().zip(texts).enumerate();
        let heard: Vec<Heard> = events
            .map(|(index, (value, text))| self.event(value, text, index, true))
            .collect::<Result<_, _>>()?;
        if heard.len() == values.len() {
            return Ok(heard);
        }
        // Never: both readers see the same list.
        Err(ExtractProblem::NotJson(
            "its list cannot be taken apart".to_owned(),
        ))
    }

    fn event(
        &self,
        value: &Value,
        text: &str,
        index: usize,
        listed: bool,
    ) -> Result<Heard, ExtractProblem> {
        let at = |pointer: &str| {
            if listed {
                format!("[{index}]{pointer}")
            } else {
                pointer.to_owned()
            }
        };
        let (value, text, base) = match cloud_event(value) {
            Some(data) => (data, member(text, "data").unwrap_or("null"), "/data"),
            None => (value, text, ""),
        };
        if text.len() > self.max_event_bytes {
            return Err(ExtractProblem::TooLarge {
                index,
                bytes: text.len(),
                most: self.max_event_bytes,
            });
        }
        if !value.is_object() {
            return Err(ExtractProblem::Field {
                field: at(base),
                message: format!("{} is not an event; expected an object", shown(value)),
            });
        }
        self.heard(value, text)
            .map_err(|wrong| ExtractProblem::Field {
                field: at(&format!("{base}{}", wrong.pointer)),
                message: wrong.message,
            })
    }

    fn heard(&self, event: &Value, text: &str) -> Part<'s, Heard> {
        let fields = self.fields;
        let block = whole(event, &fields.block, "the block")?.ok_or_else(|| Wrong {
            pointer: &fields.block,
            message: "missing; expected the block: a number from 0, or a text that is one"
                .to_owned(),
        })?;
        let tx_id = words(event, &fields.tx_id, "a transaction id", LONGEST_TX_ID)?;
        let key = match &fields.key {
            Some(pointer) => words(event, pointer, "a key", LONGEST_KEY)?,
            None => None,
        };
        let name = match &fields.event_name {
            Some(pointer) => words(event, pointer, "a name", LONGEST_NAME)?,
            None => None,
        };
        let occurred_at = match &fields.timestamp {
            Some(pointer) => time(event, pointer)?,
            None => None,
        };
        let ordinal = match &fields.ordinal {
            Some(pointer) => Some(whole(event, pointer, "the ordinal")?.ok_or_else(|| Wrong {
                pointer,
                message: "missing; expected the ordinal, which tells events of a transaction apart: a number from 0, or a text that is one".to_owned(),
            })?),
            None => None,
        };
        Ok(Heard {
            block: Some(block),
            tx_id: tx_id.unwrap_or_default(),
            event_id: ordinal.map_or_else(|| hash(text), |ordinal| ordinal.to_string()),
            event_name: name.unwrap_or_else(|| self.event_name.to_owned()),
            payload: text.to_owned(),
            key,
            rank: ordinal.filter(|_| self.by_ordinal).unwrap_or_default(),
            occurred_at,
        })
    }
}

/// The `data` of a CloudEvent in structured mode (CloudEvents 1.0, JSON format).
fn cloud_event(value: &Value) -> Option<&Value> {
    let text = |name: &str| value.get(name).is_some_and(Value::is_string);
    let enveloped = ["specversion", "id", "source", "type"]
        .into_iter()
        .all(text);
    value.get("data").filter(|_| enveloped)
}

/// What tells an event from others, where it has no ordinal: the same for the
/// same event, in whatever order its members came.
fn hash(text: &str) -> String {
    let digest = Sha256::digest(canonical(text).as_bytes());
    let mut hex = String::with_capacity(2 * HASH_BYTES);
    for byte in digest.iter().take(HASH_BYTES) {
        // Writing to a string cannot fail.
        write!(hex, "{byte:02x}").unwrap_or_default();
    }
    hex
}

/// What stands somewhere; nothing, where that is missing or null.
fn part<'v>(event: &'v Value, pointer: &str) -> Option<&'v Value> {
    event.pointer(pointer).filter(|value| !value.is_null())
}

/// A number from 0, or a text that is one.
fn whole<'f>(event: &Value, pointer: &'f str, what: &str) -> Part<'f, Option<i64>> {
    let Some(value) = part(event, pointer) else {
        return Ok(None);
    };
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            let digits = text.trim();
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse().ok().filter(|_| plain)
        }
        _ => None,
    };
    match number.filter(|number| *number >= 0) {
        Some(number) => Ok(Some(number)),
        None => Err(Wrong {
            pointer,
            message: format!(
                "{} is not {what}; expected a whole number from 0 to {}, or a text that is one",
                shown(value),
                i64::MAX
            ),
        }),
    }
}

/// A text, or a number taken as one; nothing, where it is empty.
fn words<'f>(
    event: &Value,
    pointer: &'f str,
    what: &str,
    longest: usize,
) -> Part<'f, Option<String>> {
    let Some(value) = part(event, pointer) else {
        return Ok(None);
    };
    let wrong = |expected: String| Wrong {
        pointer,
        message: format!("{} is not {what}; expected {expected}", shown(value)),
    };
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => return Err(wrong("a text".to_owned())),
    };
    if text.chars().count() > longest || text.contains('\0') {
        return Err(wrong(format!(
            "a text of at most {longest} characters, without NUL"
        )));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A time: RFC 3339, or seconds or milliseconds since 1970.
fn time<'f>(event: &Value, pointer: &'f str) -> Part<'f, Option<Timestamp>> {
    let Some(value) = part(event, pointer) else {
        return Ok(None);
    };
    let read = match value {
        Value::Number(number) => number.as_f64().and_then(since_1970),
        Value::String(text) => {
            let number = text.trim().parse().ok().and_then(since_1970);
            number.or_else(|| rfc_3339(text.trim()))
        }
        _ => None,
    };
    read.map(Some).ok_or_else(|| Wrong {
        pointer,
        message: format!(
            "{} is not a time; expected RFC 3339 (\"2026-01-31T12:00:00Z\"), or seconds or milliseconds since 1970",
            shown(value)
        ),
    })
}

fn since_1970(number: f64) -> Option<Timestamp> {
    let millis = if number < MILLIS_FROM {
        number * 1000.0
    } else {
        number
    };
    (0.0..=LAST_MILLIS)
        .contains(&millis)
        .then(|| Timestamp::from_millis(millis as i64))
}

/// As [`Timestamp::parse`], and with another offset than `Z`.
fn rfc_3339(text: &str) -> Option<Timestamp> {
    if let Some(time) = Timestamp::parse(text) {
        return Some(time);
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let number = |part: &str, below: i64| -> Option<i64> {
        let plain = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse().ok().filter(|n| plain && *n < below)
    };
    let millis = (number(hours, 24)? * 60 + number(minutes, 60)?) * 60_000;
    let local = Timestamp::parse(local)?.millis();
    match offset.as_bytes().first()? {
        b'+' => Some(Timestamp::from_millis(local - millis)),
        b'-' => Some(Timestamp::from_millis(local + millis)),
        _ => None,
    }
}

/// A value as a message repeats it: bounded, on one line.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    };
    let mut shown: String = text.chars().take(SHOWN).collect();
    if text.chars().count() > SHOWN {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
#[path = "extract_tests.rs"]
mod tests;
