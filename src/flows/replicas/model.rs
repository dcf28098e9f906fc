//! The vocabulary of datasets and replicas. Pure.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Longest key of an entry, in bytes.
pub const LONGEST_DATASET_KEY: usize = 1024;

/// Version of a dataset: moves by one with each change that is published. A
/// replica's is that of its publisher.
pub type Head = i64;

/// The name of a dataset or a replica, checked where it enters: 1 to 64 of
/// `a-z`, `A-Z`, `0-9`, `.`, `_`, `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DatasetName(Arc<str>);

impl DatasetName {
    /// Longest name, in bytes.
    pub const LONGEST: usize = 64;

    /// Reads a name; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = (1..=Self::LONGEST).contains(&text.len()) && text.bytes().all(fits);
        is_name.then(|| Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Which history a head is a version of: random, new when a dataset is created
/// or restored. Heads of different epochs cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// A new one: 16 hexadecimal digits.
    pub fn random() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()).into())
    }

    /// One that was told; any text.
    pub fn told(text: &str) -> Self {
        Self(text.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What is published here, or a copy of what another node publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentKind {
    /// Published here.
    Dataset,
    /// A copy.
    Replica,
}

impl ContentKind {
    /// The word in the database, routes and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Replica => "replica",
        }
    }
}

/// A dataset or a replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content {
    /// Which of the two.
    pub kind: ContentKind,
    /// Its name.
    pub name: DatasetName,
}

/// Why a text is no key; names what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyProblem(pub String);

/// Checks a key: 1 to 1024 bytes, without NUL (which PostgreSQL cannot keep).
///
/// # Errors
/// It is none.
pub fn check_key(key: &str) -> Result<(), KeyProblem> {
    if key.is_empty() {
        return Err(KeyProblem("a key is empty; give it a text".to_owned()));
    }
    if key.len() > LONGEST_DATASET_KEY {
        return Err(KeyProblem(format!(
            "a key has {} bytes; at most {LONGEST_DATASET_KEY} are kept",
            key.len()
        )));
    }
    if key.contains('\0') {
        return Err(KeyProblem(format!(
            "the key {key:?} holds a NUL character, which cannot be kept"
        )));
    }
    Ok(())
}

/// A key and its value, a JSON text that is passed on as it came. On the wire
/// `["key", value]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Key.
    pub key: String,
    /// Value: a JSON text.
    pub value: String,
}

impl Entry {
    /// Bytes of key and value.
    pub const fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: &RawValue =
            serde_json::from_str(&self.value).map_err(serde::ser::Error::custom)?;
        (&self.key, value).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (key, value) = <(String, Box<RawValue>)>::deserialize(deserializer)?;
        check_key(&key).map_err(D::Error::custom)?;
        let value = String::from(Box::<str>::from(value));
        Ok(Self { key, value })
    }
}

/// A change of one key. On the wire `{"update":["key", value]}` and
/// `{"delete":"key"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Modification {
    /// The key has this value now.
    Update(Entry),
    /// The key is gone, if it was there.
    Delete(String),
}

impl Modification {
    /// The key that it changes.
    pub fn key(&self) -> &str {
        match self {
            Self::Update(entry) => &entry.key,
            Self::Delete(key) => key,
        }
    }

    /// Bytes of key and value.
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Update(entry) => entry.bytes(),
            Self::Delete(key) => key.len(),
        }
    }
}

impl<'de> Deserialize<'de> for Modification {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Wire {
            Update(Entry),
            Delete(String),
        }
        Ok(match Wire::deserialize(deserializer)? {
            Wire::Update(entry) => Self::Update(entry),
            Wire::Delete(key) => {
                check_key(&key).map_err(D::Error::custom)?;
                Self::Delete(key)
            }
        })
    }
}

/// Of each key the last modification, in the order of those.
pub fn compact(modifications: Vec<Modification>) -> Vec<Modification> {
    let last: HashMap<String, usize> = modifications
        .iter()
        .enumerate()
        .map(|(place, modification)| (modification.key().to_owned(), place))
        .collect();
    if last.len() == modifications.len() {
        return modifications;
    }
    let numbered = modifications.into_iter().enumerate();
    numbered
        .filter(|(place, modification)| last.get(modification.key()) == Some(place))
        .map(|(_, modification)| modification)
        .collect()
}

/// How a content stands. On the wire of `…/info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Info {
    /// Which history its heads are of.
    #[schema(value_type = String)]
    pub epoch: Epoch,
    /// Its version.
    pub head: Head,
    /// Entries.
    pub len: u64,
    /// Lowest head from which a diff can be had.
    pub oldest_head: Head,
    /// Keys that cut it into even ranges, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits: Option<Vec<String>>,
    /// How a replica stands, where one is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// Which entries are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// By index in the order of keys: `begin..end`, as the seed does.
    Index {
        /// First.
        begin: u64,
        /// Behind the last.
        end: u64,
    },
    /// By key.
    Key {
        /// The first key is behind this one; empty: from the first on.
        after: String,
        /// Up to this key, included; `None`: to the end.
        until: Option<String>,
        /// So many at most; 0 asks for the diff alone.
        limit: u64,
    },
}

/// What the follower has, so that the diff from there is answered too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// Its epoch, where it knows one.
    pub epoch: Option<Epoch>,
    /// Its head.
    pub head: Head,
    /// Only modifications of keys behind this one and, in a chunk by key, not
    /// behind `after`: `None` for all keys.
    pub from: Option<String>,
}

/// A request for a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetching {
    /// Which entries.
    pub chunk: Chunk,
    /// From which head on a diff is wanted; `None`: none.
    pub since: Option<Since>,
}

/// Where the next chunk begins: a key for a chunk by key, an index for one by
/// index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Next {
    /// `after` of the next one.
    Key(String),
    /// `begin` of the next one.
    Index(u64),
}

/// What [`Fetched::len`] is where the upstream does not say (the seed's older
/// servers).
pub const LEN_UNKNOWN: u64 = u64::MAX;

/// A chunk and a diff, of one snapshot. On the wire of `…/fetch`.
///
/// Where the diff is too large for one answer, it ends at an earlier `head` than
/// `latest`, and there are no entries: the follower asks again from that head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Fetched {
    /// Which history the heads are of.
    #[schema(value_type = String)]
    pub epoch: Epoch,
    /// The head that the entries are at, and to which the diff leads.
    pub head: Head,
    /// Newest head of the content.
    pub latest: Head,
    /// Entries, by key.
    #[schema(value_type = Vec<Vec<serde_json::Value>>)]
    pub entries: Vec<Entry>,
    /// Oldest to newest, one modification a key.
    #[schema(value_type = Vec<Object>)]
    pub diff: Vec<Modification>,
    /// Entries of the whole content.
    pub len: u64,
    /// Where the next chunk begins; `None` at the end (of the range).
    pub next: Option<Next>,
}

/// Modifications between two heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// From this head.
    pub from: Head,
    /// To this one.
    pub to: Head,
    /// Oldest to newest, one a key.
    pub modifications: Vec<Modification>,
}

/// The digest of a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RangeDigest {
    /// Keys behind this one; empty: from the first on.
    pub after: String,
    /// Up to this one, included; `None`: to the end.
    pub until: Option<String>,
    /// Entries.
    pub len: u64,
    /// SHA-256 over them in the order of keys, in hexadecimal: of each the length
    /// of the key (8 bytes, big endian), the key, the length of the value, the value.
    pub digest: String,
}

/// Digests of ranges, of one snapshot. On the wire of `…/digests`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Digests {
    /// Which history the heads are of.
    #[schema(value_type = String)]
    pub epoch: Epoch,
    /// The head that the ranges are at.
    pub head: Head,
    /// The ranges, one behind the other.
    pub ranges: Vec<RangeDigest>,
    /// What brings the follower from its head to this one, within the ranges.
    #[schema(value_type = Vec<Object>)]
    pub diff: Vec<Modification>,
    /// Where the next ranges begin; `None` at the end.
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(key: &str, value: &str) -> Modification {
        Modification::Update(Entry {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }

    #[test]
    fn modifications_are_read_and_written_as_the_wire_has_them() {
        let text = r#"[{"update":["k",{"a":1.10}]},{"delete":"k"}]"#;
        let read: Vec<Modification> = serde_json::from_str(text).unwrap();
        let expected = [
            update("k", r#"{"a":1.10}"#),
            Modification::Delete("k".to_owned()),
        ];
        assert_eq!(read, expected);
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn a_key_that_cannot_be_kept_is_refused() {
        for text in [r#"{"delete":""}"#, r#"{"update":["\u0000",1]}"#] {
            assert!(
                serde_json::from_str::<Modification>(text).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn of_each_key_the_last_modification_stays_in_its_place() {
        let all = vec![
            update("a", "1"),
            update("b", "1"),
            Modification::Delete("a".to_owned()),
            update("c", "1"),
            update("b", "2"),
        ];
        let expected = [
            Modification::Delete("a".to_owned()),
            update("c", "1"),
            update("b", "2"),
        ];
        assert_eq!(compact(all), expected);
    }

    #[test]
    fn a_name_is_bounded_and_plain() {
        assert!(DatasetName::parse("prices.v2_a-b").is_some());
        for bad in ["", "a/b", "ä", &"a".repeat(65)] {
            assert_eq!(DatasetName::parse(bad), None, "{bad}");
        }
    }
}
