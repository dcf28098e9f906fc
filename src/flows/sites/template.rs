//! Texts with places to fill in: `/sites/{site_id}?region={label:region}`.
//!
//! `{site_id}`, `{app_id}` and `{label:NAME}` are filled in; another name in
//! braces is a mistake. `{{NAME}}` stands for `{NAME}` itself, whatever the name,
//! and every brace that does not begin or end a name stands for itself, so that JSON is
//! written as it is: `{"site":"{site_id}"}`. What is filled in is escaped for
//! where it goes, the text around it stays as it is written.

use super::names::check_label_name;
use super::visit::Visit;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Write as _;

/// Everything but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Longest name that a message repeats, in characters.
const SHOWN: usize = 40;

/// A text with places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// As it stands.
    Text(String),
    /// `{site_id}`
    SiteId,
    /// `{app_id}`
    AppId,
    /// `{label:NAME}`
    Label(String),
}

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}, at character {}", place + 1)]
pub struct TemplateProblem {
    /// Characters before the mistake.
    pub place: usize,
    /// What is wrong, and what is expected.
    pub message: String,
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// Every name that is not known, and every known one that nothing closes.
    pub fn parse(text: &str) -> Result<Self, Vec<TemplateProblem>> {
        let mut scan = Scan {
            rest: text,
            place: 0,
            plain: String::new(),
            parts: Vec::new(),
            problems: Vec::new(),
        };
        while scan.step() {}
        scan.end_text();
        if scan.problems.is_empty() {
            Ok(Self { parts: scan.parts })
        } else {
            Err(scan.problems)
        }
    }

    /// Whether nothing is filled in.
    pub fn is_plain(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Whether it begins with what is filled in.
    pub fn begins_filled(&self) -> bool {
        !matches!(self.parts.first(), Some(Part::Text(_)) | None)
    }

    /// The text for a visit; texts, numbers and booleans of the site's labels
    /// can be filled in. `escape` is applied to what is filled in:
    /// [`percent_encoded`], [`json_escaped`] or [`as_it_is`].
    ///
    /// # Errors
    /// Says which label the site lacks or cannot be filled in.
    pub fn fill(&self, visit: &Visit, escape: fn(&str) -> String) -> Result<String, String> {
        let mut filled = String::new();
        self.each(visit, |text, given| {
            if given {
                filled.push_str(&escape(text));
            } else {
                filled.push_str(text);
            }
        })?;
        Ok(filled)
    }

    /// The path and query for a visit: what is filled in is percent-encoded,
    /// and cannot lead out of the folder in which it stands.
    ///
    /// # Errors
    /// As for [`fill`](Self::fill); or what is filled in makes a whole segment
    /// of the path `.` or `..`.
    pub fn fill_path(&self, visit: &Visit) -> Result<String, String> {
        let mut filled = String::new();
        let mut given = Vec::new();
        self.each(visit, |text, is_given| {
            let start = filled.len();
            if is_given {
                filled.push_str(&percent_encoded(text));
                given.push(start..filled.len());
            } else {
                filled.push_str(text);
            }
        })?;
        let path = filled.split('?').next().unwrap_or_default();
        let mut start = 0;
        // A backslash is a slash to those who read addresses as browsers do.
        for segment in path.split(['/', '\\']) {
            let end = start + segment.len();
            let dots = segment.replace("%2e", ".").replace("%2E", ".");
            if matches!(dots.as_str(), "." | "..")
                && given.iter().any(|at| start <= at.start && at.end <= end)
            {
                return Err(format!(
                    "what is filled into the path leads elsewhere, since a part of it becomes \"{dots}\": correct the site's id or label"
                ));
            }
            start = end + 1;
        }
        Ok(filled)
    }

    /// Hands over the pieces in their order, and whether each is filled in.
    fn each(&self, visit: &Visit, mut piece: impl FnMut(&str, bool)) -> Result<(), String> {
        let mut read = None;
        for part in &self.parts {
            match part {
                Part::Text(text) => piece(text, false),
                Part::SiteId => piece(&visit.site.site_id, true),
                Part::AppId => piece(visit.job.app.as_str(), true),
                Part::Label(name) => {
                    let labels = match read.take() {
                        Some(labels) => labels,
                        None => object(&visit.site.labels)?,
                    };
                    piece(&label(&labels, name)?, true);
                    read = Some(labels);
                }
            }
        }
        Ok(())
    }
}

type Labels = serde_json::Map<String, serde_json::Value>;

fn object(labels: &str) -> Result<Labels, String> {
    serde_json::from_str(labels)
        .map_err(|_| "the site's labels are no JSON object: correct them".to_owned())
}

fn label(labels: &Labels, name: &str) -> Result<String, String> {
    use serde_json::Value;
    match labels.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Bool(flag)) => Ok(flag.to_string()),
        Some(Value::Null) | None => Err(format!(
            "the site has no label \"{name}\", which the job fills in: add it, or leave {{label:{name}}} out of the job"
        )),
        Some(Value::Array(_) | Value::Object(_)) => Err(format!(
            "the site's label \"{name}\" is a list or an object, which cannot be filled in: expected a text, a number or a boolean"
        )),
    }
}

/// For paths and queries: all but letters, digits and `-._~` as `%XX`.
pub fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// For what stands between the quotes of a JSON text.
pub fn json_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            // Writing to a string cannot fail.
            c if c.is_control() => drop(write!(escaped, "\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

/// For headers, arguments and texts of any other kind: nothing is changed.
pub fn as_it_is(text: &str) -> String {
    text.to_owned()
}

struct Scan<'t> {
    rest: &'t str,
    /// Characters before `rest`.
    place: usize,
    plain: String,
    parts: Vec<Part>,
    problems: Vec<TemplateProblem>,
}

impl Scan<'_> {
    /// Reads to the next brace that opens and what it begins; `false` at the end.
    fn step(&mut self) -> bool {
        let Some(at) = self.rest.find('{') else {
            self.plain.push_str(self.rest);
            return false;
        };
        self.take_text(at);
        let opened = self.rest.trim_start_matches('{');
        let braces = self.rest.len() - opened.len();
        match Named::at(opened) {
            Named::Not => self.take_text(braces),
            Named::Open => {
                let message = "a name that nothing closes: expected } behind it";
                self.problem(braces - 1, message.to_owned());
                self.skip(braces);
            }
            Named::Closed(name) => {
                let after = opened.get(name.len()..).unwrap_or_default();
                let closing = after.len() - after.trim_start_matches('}').len();
                // Two pairs stand for one pair, three for one around what is filled in.
                let pairs = braces.min(closing).min(3);
                self.take_text(braces - pairs);
                if pairs > 1 {
                    self.plain.push('{');
                }
                if pairs == 2 {
                    self.plain.push_str(name);
                } else {
                    match part(name) {
                        Ok(part) => {
                            self.end_text();
                            self.parts.push(part);
                        }
                        Err(message) => self.problem(pairs - 1, message),
                    }
                }
                if pairs > 1 {
                    self.plain.push('}');
                }
                self.skip(pairs + name.len() + pairs);
            }
        }
        true
    }

    /// Goes on by so many bytes, which stand for themselves.
    fn take_text(&mut self, bytes: usize) {
        self.plain
            .push_str(self.rest.get(..bytes).unwrap_or_default());
        self.skip(bytes);
    }

    /// Goes on by so many bytes.
    fn skip(&mut self, bytes: usize) {
        let (over, rest) = self.rest.split_at(bytes);
        self.place += over.chars().count();
        self.rest = rest;
    }

    fn problem(&mut self, further: usize, message: String) {
        self.problems.push(TemplateProblem {
            place: self.place + further,
            message,
        });
    }

    fn end_text(&mut self) {
        if !self.plain.is_empty() {
            let text = std::mem::take(&mut self.plain);
            self.parts.push(Part::Text(text));
        }
    }
}

/// What stands behind a brace that opens.
enum Named<'t> {
    /// No name: the brace stands for itself.
    Not,
    /// The beginning of a known name, not closed.
    Open,
    /// A name, known or not, and the brace that closes it.
    Closed(&'t str),
}

impl<'t> Named<'t> {
    fn at(text: &'t str) -> Self {
        let label = text.starts_with("label:");
        let word = |c: char| c.is_ascii_alphanumeric() || "_-.: ".contains(c);
        let end = if label {
            text.find(['{', '}', '"', '\n']).unwrap_or(text.len())
        } else {
            text.find(|c| !word(c)).unwrap_or(text.len())
        };
        let (name, after) = text.split_at(end);
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        // "{ site_id }" is meant as a name; "{ a b }" is no such thing.
        let one = label || begins && !name.contains(' ') || is_known(name.trim());
        if one && after.starts_with('}') {
            Self::Closed(name)
        } else if label || begins && is_known(name.trim_end()) {
            Self::Open
        } else {
            Self::Not
        }
    }
}

fn is_known(name: &str) -> bool {
    matches!(name, "site_id" | "app_id")
}

fn part(name: &str) -> Result<Part, String> {
    match name {
        "site_id" => return Ok(Part::SiteId),
        "app_id" => return Ok(Part::AppId),
        _ => {}
    }
    if let Some(label) = name.strip_prefix("label:") {
        return match check_label_name(label) {
            Ok(()) => Ok(Part::Label(label.to_owned())),
            Err(problem) => Err(problem.to_string()),
        };
    }
    let mut shown: String = name
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().count() > SHOWN {
        shown.push('…');
    }
    Err(format!(
        "{{{shown}}} is not known: expected {{site_id}}, {{app_id}} or {{label:NAME}}, or {{{{{shown}}}}} for {{{shown}}} itself"
    ))
}
