//! The digest of a range: see [`RangeDigest`](super::RangeDigest). Pure.

use super::model::{Entry, Modification};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Computes the digest of a range, entry by entry in the order of keys.
#[derive(Clone, Debug, Default)]
pub struct RangeHasher {
    hasher: Sha256,
    len: u64,
}

impl RangeHasher {
    /// The next entry.
    pub fn add(&mut self, key: &str, value: &str) {
        for part in [key, value] {
            let len = u64::try_from(part.len()).unwrap_or(u64::MAX);
            self.hasher.update(len.to_be_bytes());
            self.hasher.update(part.as_bytes());
        }
        self.len = self.len.saturating_add(1);
    }

    /// How many entries there were, and the digest in hexadecimal.
    pub fn end(self) -> (u64, String) {
        let digest = self.hasher.finalize();
        let mut text = String::with_capacity(64);
        for byte in digest {
            text.push_str(&format!("{byte:02x}"));
        }
        (self.len, text)
    }
}

/// Entries that come in the order of keys, with a diff laid over them.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// `None`: deleted.
    over: BTreeMap<String, Option<String>>,
}

impl Overlay {
    /// Takes over what concerns keys behind `after`, up to `until`.
    pub fn new(diff: &[Modification], after: &str, until: Option<&str>) -> Self {
        let of_range = |key: &str| key > after && until.is_none_or(|until| key <= until);
        let mut over = BTreeMap::new();
        for modification in diff.iter().filter(|m| of_range(m.key())) {
            let value = match modification {
                Modification::Update(entry) => Some(entry.value.clone()),
                Modification::Delete(_) => None,
            };
            over.insert(modification.key().to_owned(), value);
        }
        Self { over }
    }

    /// Adds entries, the next in the order of keys.
    pub fn add(&mut self, entries: &[Entry], hasher: &mut RangeHasher) {
        for entry in entries {
            while let Some(first) = self.over.first_entry()
                && *first.key() < entry.key
            {
                let (key, value) = first.remove_entry();
                if let Some(value) = value {
                    hasher.add(&key, &value);
                }
            }
            match self.over.remove(&entry.key) {
                Some(Some(value)) => hasher.add(&entry.key, &value),
                Some(None) => {}
                None => hasher.add(&entry.key, &entry.value),
            }
        }
    }

    /// No more entries come.
    pub fn end(self, hasher: &mut RangeHasher) {
        for (key, value) in self.over {
            if let Some(value) = value {
                hasher.add(&key, &value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str) -> Entry {
        Entry {
            key: key.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn a_range_with_a_diff_over_it_has_the_digest_of_what_the_diff_makes_of_it() {
        let before = [entry("b", "1"), entry("d", "1"), entry("f", "1")];
        let diff = [
            Modification::Update(entry("a", "2")),
            Modification::Delete("b".to_owned()),
            Modification::Update(entry("d", "2")),
            Modification::Delete("e".to_owned()),
            Modification::Update(entry("g", "2")),
            Modification::Update(entry("z", "2")),
        ];
        let mut overlaid = RangeHasher::default();
        let mut overlay = Overlay::new(&diff, "", Some("g"));
        overlay.add(&before[..1], &mut overlaid);
        overlay.add(&before[1..], &mut overlaid);
        overlay.end(&mut overlaid);
        let mut after = RangeHasher::default();
        for (key, value) in [("a", "2"), ("d", "2"), ("f", "1"), ("g", "2")] {
            after.add(key, value);
        }
        let (len, digest) = after.end();
        assert_eq!(overlaid.end(), (len, digest.clone()));
        assert_eq!((len, digest.len()), (4, 64));
    }

    #[test]
    fn a_digest_tells_where_a_key_ends() {
        let digest = |key: &str, value: &str| {
            let mut hasher = RangeHasher::default();
            hasher.add(key, value);
            hasher.end().1
        };
        assert_ne!(digest("ab", "c"), digest("a", "bc"));
    }
}
