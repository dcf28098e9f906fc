//! The fields of log entries and spans: the table in docs/LOGGING.md, checked
//! against the sources.

use crate::imports::sources;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const MACROS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "info_span"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn charter() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs/LOGGING.md")).unwrap();
    let table = text.split("| field | in | what |").nth(1).unwrap();
    table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('`').nth(1).unwrap().to_owned())
        .collect()
}

/// The arguments of a macro call, from behind its parenthesis on.
fn arguments(text: &str) -> Vec<String> {
    let mut arguments = vec![String::new()];
    let (mut depth, mut quoted) = (0, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => {
                chars.next();
            }
            '"' => quoted = !quoted,
            _ if quoted => {}
            ')' | ']' | '}' if depth == 0 => break,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(argument) = arguments.last_mut() {
            argument.push(c);
        }
    }
    arguments
}

/// The field that an argument sets: `a.b = …`, `%a`, `?a` or `a`.
fn field(argument: &str) -> Option<String> {
    let argument = argument.trim();
    if argument.is_empty() || argument.contains('"') && !argument.contains('=') {
        return None;
    }
    let name = argument.split('=').next().unwrap().trim();
    let name = name.trim_start_matches(['%', '?']);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
    // `target: …` and `parent: …` are no fields.
    (!name.is_empty() && name.chars().all(plain)).then(|| name.to_owned())
}

/// Every field in use, and a file that uses it.
fn used() -> BTreeMap<String, String> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut used = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code: String = production
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| [line, "\n"])
            .collect();
        for name in MACROS {
            for call in code.split(&format!("tracing::{name}!(")).skip(1) {
                let mut given = arguments(call);
                // Fields may stand in braces of their own.
                let braced = given.iter().find_map(|a| a.trim().strip_prefix('{'));
                given.extend(braced.map(arguments).unwrap_or_default());
                for field in given.iter().filter_map(|a| field(a)) {
                    used.insert(field, file.display().to_string());
                }
            }
        }
    }
    used
}

#[test]
fn every_field_is_in_the_charter() {
    let charter = charter();
    let mut strange = used();
    strange.retain(|field, _| !charter.contains(field));
    assert!(
        strange.is_empty(),
        "not in the table of docs/LOGGING.md; use one that is there, or add a row: {strange:#?}"
    );
}

#[test]
fn every_field_of_the_charter_is_used() {
    let used = used();
    assert!(used.len() > 40, "the scan finds little: {used:?}");
    for field in charter() {
        assert!(
            used.contains_key(&field),
            "nothing in src logs {field} any more; remove its row from docs/LOGGING.md"
        );
    }
}

#[test]
fn names_are_dotted() {
    for field in charter() {
        assert!(field == "error" || field.contains('.'), "{field}");
    }
}

/// What watches the log looks for these.
#[test]
fn the_events_in_the_charter_are_those_that_are_logged() {
    let text = std::fs::read_to_string(root().join("docs/LOGGING.md")).unwrap();
    let table = text.split("| message | level |").nth(1).unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let messages: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    assert!(messages.len() >= 4, "{messages:?}");
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let code: String = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    for message in messages {
        assert!(code.contains(&format!("\"{message}\"")), "{message}");
    }
}
