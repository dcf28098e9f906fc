//! The prices of the demo: what is published at the beginning, and how they
//! change. Pure, but for chance.

use crate::flows::replicas::{Entry, Modification};
use rand::Rng;
use serde_json::json;

/// Prices at the beginning.
pub(super) const FIRST: usize = 30_000;
/// Where what is quoted is traded.
const PLACES: [&str; 4] = ["frankfurt", "london", "new-york", "tokyo"];

/// What is quoted at present.
pub(super) struct Market {
    /// Numbers of what is quoted; each has a key.
    quoted: Vec<usize>,
    /// Number of what is quoted next.
    next: usize,
}

impl Market {
    /// At its opening, with the prices of then.
    pub(super) fn open() -> (Self, Vec<Modification>) {
        let quoted: Vec<usize> = (0..FIRST).collect();
        let prices = quoted.iter().copied().map(quote).collect();
        let next = FIRST;
        (Self { quoted, next }, prices)
    }

    /// So many changes: mostly other prices, and now and then something is
    /// quoted for the first or for the last time.
    pub(super) fn trade(&mut self, changes: usize) -> Vec<Modification> {
        let mut rng = rand::rng();
        (0..changes)
            .map(|_| match rng.random_range(0..10) {
                0 => {
                    self.quoted.push(self.next);
                    self.next += 1;
                    quote(self.next - 1)
                }
                1 if !self.quoted.is_empty() => {
                    let place = rng.random_range(0..self.quoted.len());
                    Modification::Delete(key(self.quoted.swap_remove(place)))
                }
                _ => {
                    let place = rng.random_range(0..self.quoted.len().max(1));
                    quote(self.quoted.get(place).copied().unwrap_or(0))
                }
            })
            .collect()
    }
}

/// The key of a price: where it is quoted, and its number.
fn key(number: usize) -> String {
    let place = PLACES.get(number % PLACES.len()).copied().unwrap_or("");
    format!("{place}/{number:06}")
}

/// A price as it is at this moment.
fn quote(number: usize) -> Modification {
    let cents: u32 = rand::rng().random_range(100..1_000_000);
    let price = |cents: u32| f64::from(cents) / 100.0;
    let value = json!({ "bid": price(cents), "ask": price(cents + cents / 500 + 1) });
    Modification::Update(Entry {
        key: key(number),
        value: value.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn prices_come_change_and_go() {
        let (mut market, first) = Market::open();
        let mut keys: BTreeSet<String> = first.iter().map(|of| of.key().to_owned()).collect();
        assert_eq!(keys.len(), FIRST);
        let (mut new, mut gone) = (0, 0);
        for change in market.trade(1000) {
            let key = change.key().to_owned();
            match change {
                Modification::Update(entry) => {
                    serde_json::from_str::<serde_json::Value>(&entry.value).unwrap();
                    new += usize::from(keys.insert(key));
                }
                Modification::Delete(_) => {
                    assert!(keys.remove(&key), "{key} was not quoted");
                    gone += 1;
                }
            }
        }
        assert!(new > 20 && gone > 20, "{new} new, {gone} gone");
        assert_eq!(keys.len(), market.quoted.len());
    }
}
