//! Forms of the keys of `[[gateways]]` and `[[subscriptions]]`.

use super::credentials::{Missing, token};
use super::event_settings::SecretOf;
use super::forms::{Parsed, http_url, name};
use super::scalar::Scalar;
use super::section::Section;
use super::site_forms::{json_pointer, some_text, text};
use crate::net::webhook::WebhookKey;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use url::Url;

/// Highest block: above it, numbers of JSON are no longer exact everywhere.
pub(super) const HIGHEST_BLOCK: u64 = 1 << 53;

/// Longest part of a gateway's form.
const LONGEST_PART: usize = 200;

/// Longest lookup of the operator's own.
const LONGEST_SQL: usize = 4000;

/// Longest address of a ledger's state: Sawtooth's 35 bytes.
const LONGEST_ADDRESS: usize = 70;

/// Names of the tables of a list so far, with their places.
#[derive(Default)]
pub(super) struct Names {
    places: BTreeMap<String, usize>,
    next: usize,
}

impl Names {
    /// Reads the name of the next table of `list`: an identity, distinct in it.
    pub(super) fn read(
        &mut self,
        s: &mut Section<'_, '_>,
        list: &str,
        example: &str,
    ) -> Option<String> {
        let index = self.next;
        self.next += 1;
        let name = s.required("name", example, name)?;
        s.named(&name, &["name"]);
        if let Some(first) = self.places.get(&name) {
            let message = format!(
                "\"{name}\" is the name of {list}[{first}] already; expected a name of its own"
            );
            s.fault(&["name"], message);
        } else {
            self.places.insert(name.clone(), index);
        }
        Some(name)
    }
}

/// A secret that signs, where one is asked for.
pub(super) struct Signing {
    /// Whether one is asked for, readable or not.
    pub(super) given: bool,
    pub(super) secret: Option<SecretOf>,
}

/// Reads a secret that is the key of Standard Webhooks signatures.
pub(super) fn signing_secret(
    s: &mut Section<'_, '_>,
    variable: &'static str,
    key: &'static str,
    base: &Path,
) -> Signing {
    let secret = token(s, variable, key, base, Missing::Refused);
    if let Some(secret) = &secret.token
        && let Err(problem) = WebhookKey::of(secret)
    {
        let message = format!("{problem}; expected whsec_ and base64, or any other text");
        s.fault(&[variable, key], message);
    }
    Signing {
        given: secret.given,
        secret: secret.token.map(SecretOf),
    }
}

/// Where subscriptions are posted.
pub(super) fn gateway_url(written: &Scalar) -> Parsed<Url> {
    let example = "expected e.g. \"http://127.0.0.1:9100/subscribe\"";
    let instead = "put the gateway's token in a file and name that with token_file";
    http_url(written, instead, example)
}

/// Where this server is reached from outside.
pub(super) fn callback_base(written: &Scalar) -> Parsed<Url> {
    let example =
        "expected this server's address as the gateway reaches it, e.g. \"http://127.0.0.1:8780\"";
    let instead = "the hook's secret is appended, and needs nothing else";
    http_url(written, instead, example)
}

/// Where events are posted.
pub(super) fn handler_url(written: &Scalar) -> Parsed<Url> {
    let example = "expected e.g. \"http://127.0.0.1:9000/process\"";
    let instead = "put the token in a file and name that with token_file";
    http_url(written, instead, example)
}

/// A part of what is asked of a gateway.
pub(super) fn form_part(written: &Scalar) -> Parsed<String> {
    let text = some_text(written)?;
    if text.len() > LONGEST_PART || text.contains(char::is_control) {
        return Err(format!(
            "{written} is not a name; expected up to {LONGEST_PART} bytes without control characters"
        ));
    }
    Ok(text)
}

/// A service of a ledger.
pub(super) fn service(written: &Scalar) -> Parsed<String> {
    let text = form_part(written)?;
    let parts = text.split_once("::");
    if !parts.is_some_and(|(circuit, service)| {
        !circuit.is_empty() && !service.is_empty() && !service.contains("::")
    }) {
        return Err(format!(
            "{written} is not a service; expected \"CIRCUIT::SERVICE\", e.g. \"01234-ABCDE::gsAA\""
        ));
    }
    Ok(text)
}

/// A place within an event: a JSON pointer below its root.
pub(super) fn place(written: &Scalar) -> Parsed<String> {
    let pointer = json_pointer(written)?;
    if pointer.is_empty() {
        return Err(format!(
            "{written} is all of the event; expected the JSON pointer of a part, e.g. \"/blockNumber\""
        ));
    }
    Ok(pointer)
}

/// Blocks: `"17"` or `"100-120"`.
pub(super) fn blocks(text: &str) -> Parsed<RangeInclusive<i64>> {
    let wrong = || {
        format!(
            "{} is neither a block nor a range of blocks; expected e.g. \"17\", \"100-120\"",
            Scalar::from(text)
        )
    };
    let number = |text: &str| -> Option<i64> {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first), number(last)),
        None => (number(text), number(text)),
    };
    let range = first.zip(last).map(|(first, last)| first..=last);
    range.filter(|range| !range.is_empty()).ok_or_else(wrong)
}

/// What the address of a ledger's state begins with.
pub(super) fn address_prefix(text: &str) -> Parsed<()> {
    let hex = text
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if text.is_empty() || text.len() > LONGEST_ADDRESS || !hex {
        return Err(format!(
            "{} is not the beginning of an address; expected up to {LONGEST_ADDRESS} lower case hex digits, e.g. \"5b7349\"",
            Scalar::from(text)
        ));
    }
    Ok(())
}

/// What a time grows by.
pub(super) fn factor(written: &Scalar) -> Parsed<f64> {
    let number = match written {
        Scalar::Integer(number) => number.to_string().parse().ok(),
        Scalar::Text(text) | Scalar::Other(text) => text.trim().parse::<f64>().ok(),
        Scalar::Boolean(_) => None,
    };
    number
        .filter(|factor| (1.0..=10.0).contains(factor))
        .ok_or_else(|| {
            format!(
                "{written} is not a factor; expected 1.0 (the delay stays) to 10.0, e.g. 2.0 (it doubles)"
            )
        })
}

/// The operator's own lookup: one query with two parameters.
pub(super) fn lookup(written: &Scalar) -> Parsed<String> {
    const EXPECTED: &str = "expected one SELECT with the parameters $1 (transaction id) and $2 (key), e.g. \"SELECT 1 FROM orders WHERE tx_id = $1 OR claim = $2\"";
    let text = text(written)?;
    let begins = |word: &str| {
        let start = text.trim_start().get(..word.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    if !begins("select") && !begins("with") {
        return Err(format!("{written} is not a query; {EXPECTED}"));
    }
    if text.contains(['\0', ';']) || text.len() > LONGEST_SQL {
        return Err(format!(
            "{written} holds a \";\" or more than {LONGEST_SQL} bytes; {EXPECTED}"
        ));
    }
    if !text.contains("$1") && !text.contains("$2") {
        return Err(format!(
            "{written} asks for no transaction id and no key, so that it says the same of every event; {EXPECTED}"
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_numbers_and_ranges() {
        assert_eq!(blocks("17"), Ok(17..=17));
        assert_eq!(blocks("100-120"), Ok(100..=120));
        assert_eq!(blocks(" 0 - 0 "), Ok(0..=0));
        for wrong in [
            "",
            "-",
            "-1",
            "1-",
            "2-1",
            "+1",
            "1-2-3",
            "a",
            "1.0",
            "99999999999999999999",
        ] {
            let told = blocks(wrong).unwrap_err();
            assert!(told.contains("neither a block nor"), "{wrong}: {told}");
        }
    }

    #[test]
    fn a_lookup_is_one_query_about_the_event() {
        let read = |text: &str| lookup(&Scalar::from(text));
        for fine in [
            "SELECT 1 FROM orders WHERE tx_id = $1",
            "  with k as (select $2) select 1 from k",
        ] {
            assert_eq!(read(fine).as_deref(), Ok(fine));
        }
        for wrong in [
            "",
            "DELETE FROM orders WHERE tx_id = $1",
            "select 1 where $1 = ''; drop table x",
            "select 1",
        ] {
            assert!(read(wrong).unwrap_err().contains("expected one SELECT"));
        }
    }
}
