//! An event of a scabbard service: what one committed transaction changed.

use crate::flows::events::Heard;
use serde::Deserialize;
use std::borrow::Cow;

/// Name of these events.
const NAME: &str = "scabbard/state-delta";
/// Characters of a message that are shown where it makes no sense.
const SHOWN: usize = 100;

/// An event as it comes: an id, and changes in which only the addresses matter
/// here; what is recorded is the text.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    state_changes: Vec<Change<'a>>,
}

#[derive(Deserialize)]
enum Change<'a> {
    Set {
        #[serde(borrow)]
        key: Cow<'a, str>,
    },
    Delete {
        #[serde(borrow)]
        key: Cow<'a, str>,
    },
}

impl Change<'_> {
    fn address(&self) -> &str {
        let (Self::Set { key } | Self::Delete { key }) = self;
        key
    }
}

/// A transaction that a service tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Its id.
    pub(super) tx_id: String,
    /// The event, where it changed an address that is asked for.
    pub(super) heard: Option<Heard>,
}

/// Reads a message.
///
/// A transaction is told as one event, so its id identifies the event. The key
/// is the address where it changed one only.
///
/// # Errors
/// It is no event: what was expected, and how it begins.
pub(super) fn read(text: String, prefixes: &[String]) -> Result<Told, String> {
    let begin = || text.chars().take(SHOWN).collect::<String>();
    let event: Event<'_> =
        serde_json::from_str(&text).map_err(|error| format!("{error}; it begins: {}", begin()))?;
    if event.id.is_empty() || event.id.len() > 256 {
        return Err(format!(
            "its \"id\" has {} characters where 1 to 256 were expected; it begins: {}",
            event.id.len(),
            begin()
        ));
    }
    let wanted = |address: &str| {
        prefixes.is_empty() || prefixes.iter().any(|prefix| address.starts_with(prefix))
    };
    let mut addresses = event.state_changes.iter().map(Change::address);
    let first = addresses.next();
    let one = first.filter(|first| addresses.all(|address| address == *first));
    let key = one.map(str::to_owned);
    let asked_for = prefixes.is_empty()
        || event
            .state_changes
            .iter()
            .any(|change| wanted(change.address()));
    let tx_id = event.id.into_owned();
    let heard = asked_for.then_some(()).map(|()| Heard {
        block: None,
        tx_id: tx_id.clone(),
        event_id: "0".to_owned(),
        event_name: NAME.to_owned(),
        payload: text,
        key,
        rank: 0,
        occurred_at: None,
    });
    Ok(Told { tx_id, heard })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"{"id":"t1","state_changes":[
        {"Set":{"key":"00ec01aa","value":[1,2]}},{"Delete":{"key":"00ec02bb"}}]}"#;

    #[test]
    fn an_event_is_its_transaction_and_its_text() {
        let told = read(TWO.to_owned(), &[]).unwrap();
        let heard = told.heard.unwrap();
        assert_eq!((told.tx_id.as_str(), heard.tx_id.as_str()), ("t1", "t1"));
        assert_eq!((heard.block, heard.key), (None, None));
        assert_eq!(heard.payload, TWO);
        let one = r#"{"id":"t2","state_changes":[{"Delete":{"key":"00ec02bb"}}]}"#;
        let heard = read(one.to_owned(), &[]).unwrap().heard.unwrap();
        assert_eq!(heard.key.as_deref(), Some("00ec02bb"));
    }

    #[test]
    fn a_transaction_elsewhere_is_known_and_no_event() {
        let there = ["00ec02".to_owned()];
        assert!(read(TWO.to_owned(), &there).unwrap().heard.is_some());
        let elsewhere = ["1cf126".to_owned()];
        let told = read(TWO.to_owned(), &elsewhere).unwrap();
        assert_eq!((told.tx_id.as_str(), told.heard), ("t1", None));
    }

    #[test]
    fn rubbish_is_named() {
        for text in ["hello", "{}", r#"{"id":"","state_changes":[]}"#, "null"] {
            let error = read(text.to_owned(), &[]).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
