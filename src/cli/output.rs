//! What commands print: tables for people, JSON for programs.

use super::failure::Failure;
use crate::time::Timestamp;
use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one JSON document.
    Json,
}

/// `--output`.
#[derive(Debug, Default, Args)]
pub(super) struct OutputArgs {
    /// How the result is printed.
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

impl OutputArgs {
    /// Whether JSON is wanted.
    pub(super) fn is_json(&self) -> bool {
        self.output == Format::Json
    }
}

/// Prints a text and a line end to standard output.
///
/// # Errors
/// Standard output is closed or full.
pub(super) fn print(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Prints a value as one JSON document, indented on a terminal.
///
/// # Errors
/// Standard output is closed or full.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    print(text.map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?)
}

/// Writes a line to standard error. When that is closed there is nobody to tell.
pub(super) fn note(text: &impl Display) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// A table without frames: easy to read, to cut and to grep. No header when
/// that is empty.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header);
    }
    table
}

/// The table as text, without blanks at the ends of lines.
pub(super) fn lines(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// A long id: whole where a program reads, its beginning on a terminal, which
/// `batches show` takes as well.
pub(super) fn id(id: &str) -> String {
    const SHOWN: usize = 16;
    if io::stdout().is_terminal() && id.chars().count() > SHOWN + 1 {
        let start: String = id.chars().take(SHOWN).collect();
        format!("{start}…")
    } else {
        id.to_owned()
    }
}

/// A duration in its largest one or two units, as in `2h 5m`.
fn duration(duration: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// How long ago a time was, or how far it lies ahead.
pub(super) fn relative(time: Timestamp, now: Timestamp) -> String {
    if now.since(time).max(time.since(now)) < Duration::from_secs(1) {
        "now".to_owned()
    } else if time > now {
        format!("in {}", duration(time.since(now)))
    } else {
        format!("{} ago", duration(now.since(time)))
    }
}

/// A duration in milliseconds; nothing shorter is measured.
pub(super) fn millis(millis: u64) -> String {
    match millis {
        0 => "< 1 ms".to_owned(),
        millis => format!("{millis} ms"),
    }
}

/// A count with its noun.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units() {
        let now = Timestamp::from_millis(100_000_000);
        let before = now.minus(Duration::from_secs(7505));
        assert_eq!(relative(before, now), "2h 5m ago");
        assert_eq!(
            relative(now.plus(Duration::from_millis(3300)), now),
            "in 3s"
        );
        assert_eq!(relative(now, now), "now");
    }

    #[test]
    fn tables_have_no_blanks_at_line_ends() {
        let mut table = table(&["ledger", "error"]);
        table.add_row(["trace", ""]);
        assert_eq!(lines(&mut table), "ledger  error\ntrace");
    }
}
