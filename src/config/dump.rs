//! The effective configuration as TOML, without secrets.

use super::load::Loaded;
use std::fmt::Write as _;

/// Writes every key with its effective value and, as a comment, where that
/// comes from: `# default`, `# file line 12` or the environment variable.
/// Keys without a value, and secrets from the environment (`***`), are
/// commented out; the password in a PostgreSQL address reads `***`.
pub fn dump(loaded: &Loaded) -> String {
    let mut out = String::new();
    let mut section = "";
    for entry in &loaded.entries {
        if entry.section != section {
            let gap = if out.is_empty() { "" } else { "\n" };
            section = &entry.section;
            push(&mut out, format_args!("{gap}{}\n", header(section)));
        }
        let (key, origin) = (&entry.key, &entry.origin);
        match &entry.value {
            Some(value) if entry.secret => {
                push(&mut out, format_args!("# {key} = {value} # {origin}\n"));
            }
            Some(value) => push(&mut out, format_args!("{key} = {value} # {origin}\n")),
            None => push(&mut out, format_args!("# {key} is not set\n")),
        }
    }
    out
}

/// `ledgers[1]` is written `[[ledgers]]`.
fn header(section: &str) -> String {
    match section.split_once('[') {
        Some((list, _)) => format!("[[{list}]]"),
        None => format!("[{section}]"),
    }
}

/// Writing to a string cannot fail.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    if out.write_fmt(text).is_err() {
        debug_assert!(false, "a string refuses no text");
    }
}
