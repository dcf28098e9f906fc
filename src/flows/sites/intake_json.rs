//! A site written as a JSON object, as a line of a file has it. Read by hand,
//! so that a mistake names the field, what was found and what is allowed.

use super::intake::SiteEntry;
use super::names::shortened;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;
use std::fmt;

/// The fields of a site.
const FIELDS: &str = "site_id, app_id, url, batch_code, enabled, labels";

/// Reads a site from one JSON document.
///
/// # Errors
/// Says what is wrong: with the JSON, and at which column, or with a field.
pub fn read_site(text: &str) -> Result<SiteEntry, String> {
    let fields = match serde_json::from_str(text).map_err(|error| not_json(&error))? {
        Document::Fields(fields) => fields,
        Document::Other(found) => {
            return Err(format!(
                "expected an object, as {{\"site_id\":\"s1\",\"app_id\":\"org.civicrm.myapp\",\"url\":\"https://s1.example/\"}}, found {found}"
            ));
        }
    };
    let mut site = SiteEntry::default();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in fields {
        if seen.contains(&name) {
            return Err(format!("{name}: given twice"));
        }
        let wrong = |expected: &str, value: &Value| {
            format!("{name}: expected {expected}, found {}", found(value))
        };
        let text = |value: Value| match value {
            Value::String(text) => Ok(text),
            other => Err(wrong("a text in quotes", &other)),
        };
        match (name.as_str(), value) {
            ("site_id", value) => site.site_id = text(value)?,
            ("url", value) => site.url = text(value)?,
            // As if it were left out.
            ("app_id" | "batch_code" | "enabled" | "labels", Value::Null) => {}
            ("app_id", value) => site.app_id = Some(text(value)?),
            ("batch_code", value) => match value.as_i64() {
                Some(code) => site.batch_code = Some(code),
                None => return Err(wrong("a whole number from 0 to 10000", &value)),
            },
            ("enabled", Value::Bool(flag)) => site.enabled = Some(flag),
            ("enabled", value) => return Err(wrong("true or false", &value)),
            ("labels", Value::Object(labels)) => site.labels = Some(labels),
            ("labels", value) => {
                return Err(wrong("an object, as {\"region\":\"eu\"}", &value));
            }
            _ => {
                let name = shortened(&name);
                return Err(format!("\"{name}\" is not a field: expected {FIELDS}"));
            }
        }
        seen.push(name);
    }
    Ok(site)
}

/// What a value is, for messages.
fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => format!("the number {}", shortened(&number.to_string())),
        Value::String(text) => format!("the text \"{}\"", shortened(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn not_json(error: &serde_json::Error) -> String {
    let column = error.column();
    if error.classify() == Category::Eof {
        return format!("column {column}: JSON that ends early");
    }
    // Each line is a document of its own: "at line 1" would mislead.
    let text = error.to_string();
    let what = text
        .split_once(" at line ")
        .map_or(&*text, |(what, _)| what);
    format!("column {column}: not JSON: {what}")
}

/// A JSON document, of which an object keeps each of its fields.
enum Document {
    Fields(Vec<(String, Value)>),
    Other(&'static str),
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyDocument)
    }
}

struct AnyDocument;

impl<'de> Visitor<'de> for AnyDocument {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Document::Fields(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Document, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Document::Other("a list"))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Document, E> {
        Ok(Document::Other("a text"))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Document, E> {
        Ok(Document::Other(if flag { "true" } else { "false" }))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Document, E> {
        Ok(Document::Other("a number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Document, E> {
        Ok(Document::Other("a number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Document, E> {
        Ok(Document::Other("a number"))
    }

    fn visit_unit<E: Error>(self) -> Result<Document, E> {
        Ok(Document::Other("null"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mistake_names_the_field_what_was_found_and_what_is_allowed() {
        let told = |text: &str| read_site(text).unwrap_err();
        insta::assert_snapshot!(
            [
                "[]", "3", "\"s1\"", "null", "true",
                r#"{"site_id":7}"#,
                r#"{"url":null}"#,
                r#"{"app_id":["a"]}"#,
                r#"{"batch_code":"17"}"#,
                r#"{"batch_code":1.5}"#,
                r#"{"enabled":"yes"}"#,
                r#"{"labels":["a"]}"#,
                r#"{"site":"s1"}"#,
                r#"{"url":"a","url":"b"}"#,
                r#"{"site_id":"#,
                "nonsense",
            ]
            .map(told)
            .join("\n"),
            @r#"
        expected an object, as {"site_id":"s1","app_id":"org.civicrm.myapp","url":"https://s1.example/"}, found a list
        expected an object, as {"site_id":"s1","app_id":"org.civicrm.myapp","url":"https://s1.example/"}, found a number
        expected an object, as {"site_id":"s1","app_id":"org.civicrm.myapp","url":"https://s1.example/"}, found a text
        expected an object, as {"site_id":"s1","app_id":"org.civicrm.myapp","url":"https://s1.example/"}, found null
        expected an object, as {"site_id":"s1","app_id":"org.civicrm.myapp","url":"https://s1.example/"}, found true
        site_id: expected a text in quotes, found the number 7
        url: expected a text in quotes, found null
        app_id: expected a text in quotes, found a list
        batch_code: expected a whole number from 0 to 10000, found the text "17"
        batch_code: expected a whole number from 0 to 10000, found the number 1.5
        enabled: expected true or false, found the text "yes"
        labels: expected an object, as {"region":"eu"}, found a list
        "site" is not a field: expected site_id, app_id, url, batch_code, enabled, labels
        url: given twice
        column 11: JSON that ends early
        column 2: not JSON: expected ident
        "#);
    }

    #[test]
    fn a_site_is_read_as_it_is_written() {
        let site = read_site(
            r#"{"site_id":"s","app_id":null,"url":"u","batch_code":3,"enabled":false,"labels":{"a":1}}"#,
        )
        .unwrap();
        assert_eq!((&*site.site_id, &*site.url), ("s", "u"));
        assert_eq!(
            (site.app_id, site.batch_code, site.enabled),
            (None, Some(3), Some(false))
        );
        assert_eq!(site.labels.unwrap()["a"], 1);
    }

    /// A JSON value of any kind.
    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-10.0..10.0_f64).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..3).prop_map(Value::from),
            labels(),
        ]
    }

    fn labels() -> impl Strategy<Value = Value> {
        let label = (".{0,4}", any::<i32>().prop_map(Value::from));
        proptest::collection::vec(label, 0..3)
            .prop_map(|labels| Value::Object(labels.into_iter().collect()))
    }

    /// Mostly a value that a field takes, else any.
    fn mostly(
        fitting: impl Strategy<Value = Value> + 'static,
    ) -> impl Strategy<Value = Option<Value>> {
        let value = prop_oneof![12 => fitting.boxed(), 1 => any_value().boxed()];
        proptest::option::weighted(0.6, value)
    }

    /// An object with some of the fields of a site, in any order, now and then
    /// with a field once more or one that nobody knows.
    fn site() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
        let text = || ".{0,8}".prop_map(Value::from).boxed();
        let needed = || prop_oneof![6 => text().prop_map(Some), 1 => mostly(text())];
        let values = (
            needed(),
            needed(),
            mostly(text()),
            mostly((-1..20_000_i64).prop_map(Value::from)),
            mostly(any::<bool>().prop_map(Value::from)),
            mostly(labels()),
        );
        let name = proptest::sample::select(FIELDS.split(", ").chain(["site"]).collect::<Vec<_>>());
        let stray = proptest::option::weighted(0.1, (name, any_value()));
        let fields = (values, stray).prop_map(|((id, url, app, code, enabled, labels), stray)| {
            let named = [
                ("site_id", id),
                ("url", url),
                ("app_id", app),
                ("batch_code", code),
                ("enabled", enabled),
                ("labels", labels),
            ];
            let given = named.into_iter();
            let given = given.filter_map(|(name, value)| Some((name, value?)));
            given.chain(stray).collect::<Vec<_>>()
        });
        fields.prop_shuffle()
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_api_reads(fields in site()) {
            let written = |(name, value): &(&str, Value)| format!("\"{name}\":{value}");
            let text: Vec<String> = fields.iter().map(written).collect();
            let text = format!("{{{}}}", text.join(","));
            let strict: Result<SiteEntry, _> = serde_json::from_str(&text);
            let read = read_site(&text);
            // The API asks for the fields that it needs; else both read alike.
            let has = |needed: &str| fields.iter().any(|(name, _)| *name == needed);
            if has("site_id") && has("url") {
                prop_assert_eq!(read.as_ref().ok(), strict.as_ref().ok(), "{}", text);
            } else {
                prop_assert!(strict.is_err(), "{}", text);
            }
        }

        #[test]
        fn no_text_stops_the_reader(text in "[\\[\\]{}:,\"a-z0-9_ .-]{0,80}") {
            // The API takes a list for an object too, which nobody means.
            let strict: Result<SiteEntry, _> = serde_json::from_str(&text);
            let list = text.trim_start().starts_with('[');
            prop_assert!(read_site(&text).is_ok() || strict.is_err() || list);
        }
    }
}
