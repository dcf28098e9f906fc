//! Keys of rows of our own tables, as entries of a dataset have them.

use super::datasets_source_triggers::tables;
use crate::config::DatasetSource;
use crate::flows::replicas::LONGEST_DATASET_KEY;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// The key of a row: its columns, or what stands for them where they are not
/// known any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceKey {
    /// Values of the key's columns.
    Columns(Vec<Value>),
    /// A key that the dataset has, of which no columns can be read.
    Lost(String),
}

impl SourceKey {
    /// Reads what was noted: a list of columns, or a key of the dataset.
    pub(super) fn noted(noted: &str, source: DatasetSource) -> Self {
        match serde_json::from_str(noted) {
            Ok(Value::Array(columns)) => Self::Columns(columns),
            Ok(Value::String(key)) => Self::read(key, source),
            _ => Self::Lost(noted.to_owned()),
        }
    }

    fn read(key: String, source: DatasetSource) -> Self {
        let ((_, columns), _) = tables(source);
        let parts: Vec<&str> = key.split('/').collect();
        if parts.len() != columns.len() {
            return Self::Lost(key);
        }
        let mut values = Vec::with_capacity(parts.len());
        for (part, column) in parts.iter().zip(columns) {
            let value = match (*column, part.parse::<i64>()) {
                ("block", Ok(block)) => Value::from(block),
                ("block", Err(_)) => return Self::Lost(key),
                _ => Value::from(unescape(part)),
            };
            values.push(value);
        }
        let read = Self::Columns(values);
        // A shortened key reads as something else than it was made of.
        if read.text() == key {
            read
        } else {
            Self::Lost(key)
        }
    }

    /// The dataset's key: the columns, with `/` between them. What cannot stand
    /// there is percent-encoded; of what is too long the rest is a hash.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Lost(key) => key.clone(),
            Self::Columns(columns) => {
                let part = |column: &Value| match column {
                    Value::String(text) => escape(text),
                    other => other.to_string(),
                };
                let parts: Vec<String> = columns.iter().map(part).collect();
                shortened(parts.join("/"))
            }
        }
    }
}

fn escape(text: &str) -> String {
    let text = text.replace('%', "%25").replace('/', "%2F");
    text.replace('\0', "%00")
}

fn unescape(text: &str) -> String {
    let text = text.replace("%2F", "/").replace("%00", "\0");
    text.replace("%25", "%")
}

fn shortened(key: String) -> String {
    if key.len() <= LONGEST_DATASET_KEY {
        return key;
    }
    let mut hash = String::from("#");
    for byte in Sha256::digest(key.as_bytes()) {
        // Writing to a string cannot fail.
        write!(hash, "{byte:02x}").unwrap_or_default();
    }
    let mut end = LONGEST_DATASET_KEY - hash.len();
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    let begin = key.get(..end).unwrap_or_default();
    format!("{begin}{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_made() {
        let columns = vec![Value::from("a/b%2F"), Value::from(""), Value::from("ü")];
        let key = SourceKey::Columns(columns);
        assert_eq!(key.text(), "a%2Fb%252F//ü");
        let noted = serde_json::to_string(&key.text()).unwrap();
        assert_eq!(SourceKey::noted(&noted, DatasetSource::Batches), key);
    }

    #[test]
    fn a_key_that_is_too_long_ends_in_a_hash() {
        let columns = |last: &str| {
            let long = "ä".repeat(1000);
            SourceKey::Columns(vec![Value::from("l"), Value::from(long), Value::from(last)])
        };
        let (one, other) = (columns("1").text(), columns("2").text());
        assert_ne!(one, other);
        assert!(one.len() <= LONGEST_DATASET_KEY);
        let noted = serde_json::to_string(&one).unwrap();
        assert_eq!(
            SourceKey::noted(&noted, DatasetSource::Batches),
            SourceKey::Lost(one)
        );
    }
}
