//! Batches as NDJSON: one JSON object a line.

use crate::cli::context;
use crate::config::Loaded;
use crate::flows::batches::{BatchKey, check_new_batch};
use crate::store::NewBatch;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use std::io::{self, BufRead, Read};

/// A line that holds more is no batch.
const MAX_LINE: u64 = 1 << 20;

/// What a line means when it does not say.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    /// `--ledger`
    pub(super) ledger: Option<String>,
    /// `--service`
    pub(super) service_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    ledger: Option<String>,
    service_id: Option<String>,
    batch_id: String,
    #[serde(default)]
    transaction_ids: Vec<String>,
}

/// Reads one line as a batch of a configured ledger.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn parse(line: &str, defaults: &Defaults, loaded: &Loaded) -> Result<NewBatch, String> {
    let line: Line = read_json(line)?;
    let ledger = line
        .ledger
        .or_else(|| defaults.ledger.clone())
        .ok_or("no \"ledger\" in it, and no --ledger given")?;
    let service_id = line
        .service_id
        .or_else(|| defaults.service_id.clone())
        .unwrap_or_default();
    let batch = NewBatch {
        key: BatchKey {
            ledger,
            service_id,
            batch_id: line.batch_id,
        },
        transaction_ids: line.transaction_ids,
    };
    check(&batch, loaded)?;
    Ok(batch)
}

/// Reads one line as a document of its own.
///
/// # Errors
/// Says what is wrong with it, and at which column.
pub(in crate::cli) fn read_json<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| {
        // Each line is a document of its own: "at line 1" would mislead.
        let text = error.to_string();
        let what = text
            .split_once(" at line ")
            .map_or(text.as_str(), |(what, _)| what);
        let what = match error.classify() {
            Category::Syntax => format!("not JSON: {what}"),
            Category::Eof => "JSON that ends early".to_owned(),
            Category::Data | Category::Io => what.to_owned(),
        };
        format!("column {}: {what}", error.column())
    })
}

/// Checks a batch where it enters: what a ledger can never know would be asked
/// for until it is given up.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn check(batch: &NewBatch, loaded: &Loaded) -> Result<(), String> {
    let ledger = context::ledger(loaded, &batch.key.ledger)?;
    match check_new_batch(batch, ledger.kind).into_iter().next() {
        Some((field, message)) => Err(format!("{field}: {message}")),
        None => Ok(()),
    }
}

/// Hands every line that is not blank to `each`, with its number from 1, until
/// that answers `false`. A line that is too long or no UTF-8 is handed over as
/// words on what is wrong.
///
/// # Errors
/// The input cannot be read.
pub(in crate::cli) fn for_each_line(
    mut input: impl BufRead,
    mut each: impl FnMut(usize, Result<String, String>) -> bool,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let read = input
            .by_ref()
            .take(MAX_LINE + 1)
            .read_until(b'\n', &mut bytes)?;
        if read == 0 {
            break;
        }
        let line = if bytes.len() as u64 > MAX_LINE && bytes.last() != Some(&b'\n') {
            skip_line(&mut input)?;
            Err(format!("longer than {MAX_LINE} bytes"))
        } else {
            match std::str::from_utf8(&bytes) {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => Ok(text.trim().to_owned()),
                Err(error) => Err(format!("not UTF-8 after {} bytes", error.valid_up_to())),
            }
        };
        if !each(number, line) {
            break;
        }
    }
    Ok(())
}

/// Reads up to the line's end without keeping it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (used, done) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, parse as parse_config};
    use std::path::Path;

    fn loaded() -> Loaded {
        let text = "[database]\nurl = \"sqlite://h.db\"\n\
            [[ledgers]]\nname = \"trace\"\nkind = \"sawtooth\"\nurl = \"http://127.0.0.1:1\"\n\
            [[ledgers]]\nname = \"chain\"\nkind = \"splinter\"\nurl = \"http://127.0.0.1:2\"\n";
        parse_config(text, "f", Path::new("/tmp"), [], LoadOptions::default()).unwrap()
    }

    fn lines(input: &[u8]) -> Vec<(usize, Result<String, String>)> {
        let mut seen = Vec::new();
        for_each_line(input, |number, line| {
            seen.push((number, line));
            true
        })
        .unwrap();
        seen
    }

    #[test]
    fn lines_are_numbered_as_an_editor_does() {
        let seen = lines(b"{}\r\n\n  \nlast");
        assert_eq!(seen, [(1, Ok("{}".to_owned())), (4, Ok("last".to_owned()))]);
    }

    #[test]
    fn a_huge_or_garbled_line_costs_only_itself() {
        let huge = usize::try_from(MAX_LINE).unwrap() * 3;
        let mut input = vec![b'x'; huge];
        input.extend_from_slice(b"\n\xff\xfe\nok\n");
        let seen = lines(&input);
        assert_eq!(seen.len(), 3);
        assert!(seen[0].1.as_ref().unwrap_err().contains("longer than"));
        assert!(seen[1].1.as_ref().unwrap_err().contains("UTF-8"));
        assert_eq!(seen[2], (3, Ok("ok".to_owned())));
    }

    #[test]
    fn defaults_fill_what_a_line_leaves_out() {
        let id = "a".repeat(128);
        let line = format!("{{\"batch_id\":\"{id}\",\"transaction_ids\":[\"t\"]}}");
        let defaults = Defaults {
            ledger: Some("chain".to_owned()),
            service_id: Some("c::s".to_owned()),
        };
        let batch = parse(&line, &defaults, &loaded()).unwrap();
        assert_eq!(batch.key.service_id, "c::s");
        assert_eq!(batch.transaction_ids, ["t"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let loaded = loaded();
        let id = "a".repeat(128);
        for (line, words) in [
            ("nonsense".to_owned(), "column 2: not JSON"),
            ("{\"ledger\":\"trace\"}".to_owned(), "batch_id"),
            (format!("{{\"batch_id\":\"{id}\"}}"), "no \"ledger\""),
            (
                format!("{{\"ledger\":\"x\",\"batch_id\":\"{id}\"}}"),
                "configured: trace, chain",
            ),
            (
                "{\"ledger\":\"trace\",\"batch_id\":\"XY\"}".to_owned(),
                "128 lower case hex",
            ),
            (
                format!("{{\"ledger\":\"chain\",\"batch_id\":\"{id}\"}}"),
                "circuit::service",
            ),
            (
                format!("{{\"ledger\":\"trace\",\"batch_id\":\"{id}\",\"transaction\":1}}"),
                "unknown field `transaction`",
            ),
            (
                format!(
                    "{{\"ledger\":\"trace\",\"batch_id\":\"{id}\",\"transaction_ids\":[\"\"]}}"
                ),
                "transaction_ids[0]",
            ),
        ] {
            let error = parse(&line, &Defaults::default(), &loaded).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
