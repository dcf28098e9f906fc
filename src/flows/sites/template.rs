//! Texts with places to fill in: `/sites/{site_id}?region={label:region}`.
//!
//! `{site_id}`, `{app_id}` and `{label:NAME}` are known; `{{` and `}}` stand
//! for braces. What is filled in is escaped for where it goes, the text
//! around it stays as it is written.

use super::names::check_label_name;
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
    /// Every name that is not known, and every brace that stands alone.
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

    /// The text for a site. `labels` is a JSON object; its texts, numbers and
    /// booleans can be filled in. `escape` is applied to what is filled in:
    /// [`percent_encoded`], [`json_escaped`] or [`as_it_is`].
    ///
    /// # Errors
    /// Says which label the site lacks or cannot be filled in.
    pub fn fill(
        &self,
        site_id: &str,
        app_id: &str,
        labels: &str,
        escape: fn(&str) -> String,
    ) -> Result<String, String> {
        let mut filled = String::new();
        let mut read = None;
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::SiteId => filled.push_str(&escape(site_id)),
                Part::AppId => filled.push_str(&escape(app_id)),
                Part::Label(name) => {
                    let labels = match read.take() {
                        Some(labels) => labels,
                        None => object(labels)?,
                    };
                    filled.push_str(&escape(&label(&labels, name)?));
                    read = Some(labels);
                }
            }
        }
        Ok(filled)
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
    /// Reads to the next brace and what it begins; `false` at the end.
    fn step(&mut self) -> bool {
        let Some(at) = self.rest.find(['{', '}']) else {
            self.plain.push_str(self.rest);
            return false;
        };
        self.plain.push_str(self.rest.get(..at).unwrap_or_default());
        self.skip(at);
        for brace in ["{{", "}}"] {
            if self.rest.starts_with(brace) {
                self.plain.push_str(brace.get(1..).unwrap_or_default());
                self.skip(2);
                return true;
            }
        }
        if self.rest.starts_with('}') {
            self.problem("a \"}\" that closes nothing: write }} for the brace itself".to_owned());
            self.skip(1);
            return true;
        }
        let inside = self.rest.get(1..).unwrap_or_default();
        match inside.find(['{', '}']) {
            Some(end) if inside[end..].starts_with('}') => {
                let name = inside.get(..end).unwrap_or_default();
                match part(name) {
                    Ok(part) => {
                        self.end_text();
                        self.parts.push(part);
                    }
                    Err(problem) => self.problem(problem),
                }
                self.skip(end + 2);
            }
            _ => {
                self.problem(
                    "a \"{\" that nothing closes: write {{ for the brace itself".to_owned(),
                );
                self.skip(1);
            }
        }
        true
    }

    /// Goes on by so many bytes.
    fn skip(&mut self, bytes: usize) {
        let (over, rest) = self.rest.split_at(bytes);
        self.place += over.chars().count();
        self.rest = rest;
    }

    fn problem(&mut self, message: String) {
        self.problems.push(TemplateProblem {
            place: self.place,
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
        "{{{shown}}} is not known: expected {{site_id}}, {{app_id}} or {{label:NAME}}, and {{{{ or }}}} for the brace itself"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LABELS: &str =
        r#"{"region":"North & \"West\"","size":7,"on":true,"list":[1],"gone":null}"#;

    fn filled(text: &str, escape: fn(&str) -> String) -> Result<String, String> {
        let template = Template::parse(text).unwrap_or_else(|problems| panic!("{problems:?}"));
        template.fill("a:b@c", "org.app", LABELS, escape)
    }

    fn problems(text: &str) -> String {
        let problems = Template::parse(text).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        told.join("\n")
    }

    #[test]
    fn what_is_filled_in_is_escaped_and_the_rest_is_not() {
        assert_eq!(
            filled("/ü?s={site_id}&r={label:region}&{{}}", percent_encoded).unwrap(),
            "/ü?s=a%3Ab%40c&r=North%20%26%20%22West%22&{}"
        );
        let body = r#"{{"r":"{label:region}","n":{label:size},"app":"{app_id}"}}"#;
        let json: serde_json::Value =
            serde_json::from_str(&filled(body, json_escaped).unwrap()).unwrap();
        assert_eq!(json["r"], "North & \"West\"");
        assert_eq!(json["n"], 7);
        assert_eq!(
            filled("{label:on} {site_id}", as_it_is).unwrap(),
            "true a:b@c"
        );
        assert_eq!(filled("", as_it_is).unwrap(), "");
    }

    #[test]
    fn labels_that_cannot_be_filled_in_are_named() {
        for (text, expected) in [
            ("{label:none}", "no label \"none\""),
            ("{label:gone}", "no label \"gone\""),
            ("{label:list}", "label \"list\" is a list"),
        ] {
            let told = filled(text, as_it_is).unwrap_err();
            assert!(told.contains(expected), "{told}");
        }
        let template = Template::parse("{label:a}{site_id}").unwrap();
        let told = template.fill("s", "a", "[]", as_it_is).unwrap_err();
        assert!(told.contains("no JSON object"), "{told}");
        // Nobody asks for the labels, nobody minds them.
        let none = Template::parse("{site_id}").unwrap();
        assert_eq!(none.fill("s", "a", "[]", as_it_is).unwrap(), "s");
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        insta::assert_snapshot!(problems("ü{site}/{label:a b}/{label:}}{"), @r#"
        {site} is not known: expected {site_id}, {app_id} or {label:NAME}, and {{ or }} for the brace itself, at character 2
        "a b" is not a label's name: expected 1 to 64 letters, digits, ".", "_" and "-", e.g. region, at character 9
        "" is not a label's name: expected 1 to 64 letters, digits, ".", "_" and "-", e.g. region, at character 21
        a "}" that closes nothing: write }} for the brace itself, at character 29
        a "{" that nothing closes: write {{ for the brace itself, at character 30
        "#);
        assert!(problems(r#"{"a": 1}"#).contains("is not known"));
        assert!(problems("{a{site_id}").contains("nothing closes"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[{}a-z:_é ]{0,40}", labels in "[{}\":a-z0-9]{0,10}") {
            if let Ok(template) = Template::parse(&text) {
                drop(template.fill("site", "app", &labels, percent_encoded));
            }
        }

        #[test]
        fn any_text_with_doubled_braces_comes_out_as_it_was(text in "[{}a-zé\"\n]{0,40}") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            let template = Template::parse(&doubled).unwrap();
            prop_assert_eq!(template.fill("s", "a", "", percent_encoded).unwrap(), text);
        }

        #[test]
        fn what_is_filled_into_a_path_stays_one_piece(value in any::<String>()) {
            let labels = serde_json::json!({ "l": value }).to_string();
            let template = Template::parse("/a/{label:l}/b").unwrap();
            let path = template.fill("s", "a", &labels, percent_encoded).unwrap();
            let middle = path.strip_prefix("/a/").unwrap().strip_suffix("/b").unwrap();
            prop_assert!(!middle.contains(['/', '?', '#', '&', '=']), "{}", middle);
            let back = percent_encoding::percent_decode_str(middle).decode_utf8().unwrap();
            prop_assert_eq!(back, value);
        }

        #[test]
        fn what_is_filled_into_json_is_read_as_it_was(value in any::<String>()) {
            let labels = serde_json::json!({ "l": value }).to_string();
            let template = Template::parse(r#"["{label:l}"]"#).unwrap();
            let text = template.fill("s", "a", &labels, json_escaped).unwrap();
            let read: Vec<String> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read[0], &value);
        }
    }
}
