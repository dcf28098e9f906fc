//! Everything in the simulator that looks random: derived from ids and a
//! seed, so that two runs tell the same story.

use std::hash::{BuildHasherDefault, Hasher};

/// What a batch id is filed under: 128 bits in place of 128 characters, so
/// that hundreds of thousands of batches cost a few megabytes.
pub(super) type Key = u128;

/// A map by [`Key`].
pub(super) type KeyMap<V> = std::collections::HashMap<Key, V, BuildHasherDefault<KeyHasher>>;

/// Takes a [`Key`] as its own hash: it is one already.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = fold(self.0 ^ u64::from(byte), ODD);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower half is as good as the whole"
    )]
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
const ODD_TOO: u64 = 0xd1b5_4a32_d192_ed03;

/// Both halves of a product, folded: cheap, and every bit counts.
#[expect(clippy::cast_possible_truncation, reason = "the two halves are wanted")]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Spreads a number over all 64 bits (the finish of splitmix64).
pub(super) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(ODD);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// What a batch id is filed under.
pub(super) fn key(batch_id: &str) -> Key {
    let (mut low, mut high) = (ODD ^ batch_id.len() as u64, ODD_TOO);
    for chunk in batch_id.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u64::from_le_bytes(word);
        low = fold(low ^ word, ODD);
        high = fold(high.rotate_left(23) ^ word, ODD_TOO);
    }
    (u128::from(mix(high)) << 64) | u128::from(mix(low))
}

/// A number that stands for a key under a seed.
#[expect(clippy::cast_possible_truncation, reason = "the two halves are wanted")]
pub(super) const fn draw(key: Key, seed: u64) -> u64 {
    mix((key as u64) ^ mix((key >> 64) as u64 ^ seed))
}

/// A number from 0 to just below 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
pub(super) fn share(number: u64) -> f64 {
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

/// Writes an id of the ledgers' shape: 128 lower case hex digits.
pub(super) fn write_id(out: &mut String, number: u64) {
    for part in 0..8 {
        let word = mix(number ^ mix(part));
        for shift in (0..16).rev() {
            let digit = (word >> (shift * 4)) & 0xf;
            out.push(char::from(b"0123456789abcdef"[digit as usize]));
        }
    }
}

/// A batch id for tests.
#[cfg(test)]
pub(super) fn test_id(number: u64) -> String {
    let mut id = String::new();
    write_id(&mut id, number);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_and_ids_differ() {
        let mut seen = HashSet::new();
        for number in 0..10_000 {
            let mut id = String::new();
            write_id(&mut id, number);
            assert_eq!(id.len(), 128);
            assert!(
                id.bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            );
            assert!(seen.insert(key(&id)));
        }
        assert_ne!(key("a"), key("a\0"));
    }

    #[test]
    fn shares_are_even() {
        let low = (0..10_000).filter(|n| share(mix(*n)) < 0.1).count();
        assert!((900..1100).contains(&low), "{low}");
    }
}
