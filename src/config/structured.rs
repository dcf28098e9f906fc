//! Keys that hold a list or a table of words that are no keys of ours: headers,
//! arguments, parameters. They stand in the file only: neither an environment
//! variable nor control has a notation for them.

use super::findings::Origin;
use super::forms::Parsed;
use super::scalar::Scalar;
use super::section::Section;
use serde_json::{Map, Number, Value as Json};
use toml_edit::{Array, InlineTable, Item, Value};

impl<'d> Section<'_, 'd> {
    /// Reads a table of names and values; empty when it is absent, `None` when
    /// something in it is wrong. `why` control does not set it.
    pub(super) fn pairs<T>(
        &mut self,
        key: &'static str,
        why: &'static str,
        example: &str,
        form: impl Fn(&str, &Item) -> Parsed<T>,
    ) -> Option<Vec<(String, T)>> {
        let Some((origin, item)) = self.in_file(key, why) else {
            return Some(Vec::new());
        };
        let Some(table) = item.as_table_like() else {
            let written = Scalar::of_item(item);
            let message = format!("{written} is not a table; expected {example}");
            self.misplaced(&origin, key, "", message);
            return None;
        };
        let mut pairs = Some(Vec::new());
        for (name, value) in table.iter() {
            match form(name, value) {
                Ok(read) => pairs = pairs.map(|pairs| with(pairs, (name.to_owned(), read))),
                Err(message) => {
                    let place = self.reader.origin_of(table.key(name), value);
                    self.misplaced(&place, key, &format!(".{}", shown(name)), message);
                    pairs = None;
                }
            }
        }
        self.show_item(key, origin, item);
        pairs
    }

    /// Reads a table of anything as a JSON object; an empty one when it is absent.
    pub(super) fn object(
        &mut self,
        key: &'static str,
        why: &'static str,
        example: &str,
    ) -> Option<Json> {
        let pairs = self.pairs(key, why, example, |_, item| json(item))?;
        Some(Json::Object(pairs.into_iter().collect()))
    }

    /// Reads a list of texts; inner `None` when it is absent, outer when
    /// something in it is wrong.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        why: &'static str,
        example: &str,
        form: impl Fn(&str) -> Parsed<()>,
    ) -> Option<Option<Vec<String>>> {
        let Some((origin, item)) = self.in_file(key, why) else {
            return Some(None);
        };
        let Some(list) = item.as_array() else {
            let written = Scalar::of_item(item);
            let message = format!("{written} is not a list; expected {example}");
            self.misplaced(&origin, key, "", message);
            return None;
        };
        let mut texts = Some(Vec::new());
        for (index, value) in list.iter().enumerate() {
            let checked = match value.as_str() {
                Some(text) => form(text).map(|()| text.to_owned()),
                None => Err(format!(
                    "{} is not a text; expected {example}",
                    Scalar::of_item(&Item::Value(value.clone()))
                )),
            };
            match checked {
                Ok(text) => texts = texts.map(|texts| with(texts, text)),
                Err(message) => {
                    let start = value.span().map(|span| span.start);
                    let place = start.map_or(origin.clone(), |start| self.reader.at(start));
                    self.misplaced(&place, key, &format!("[{index}]"), message);
                    texts = None;
                }
            }
        }
        self.show_item(key, origin, item);
        texts.map(Some)
    }

    /// Reads a key that is a word or a table of keys, where it is a word (or
    /// absent, and `default` is the word then); inner `None` where it is not.
    /// `why` control does not set it.
    pub(super) fn word_or_table<T>(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        why: &'static str,
        form: impl Fn(&Scalar) -> Parsed<T>,
    ) -> Option<Option<T>> {
        self.not_by_control(key, why);
        let item = self
            .table
            .and_then(|table| Some((table.key(key), table.get(key)?)));
        let shown_default = default.map(|word| Scalar::from(word).literal());
        let (origin, written) = match (item, default) {
            (Some((_, item)), _) if item.is_table_like() => return Some(None),
            (Some((key, item)), _) => (self.reader.origin_of(key, item), Scalar::of_item(item)),
            (None, Some(word)) => (Origin::Default, Scalar::from(word)),
            (None, None) => return Some(None),
        };
        self.known.push(key);
        match form(&written) {
            Ok(value) => {
                self.note(key, Some(written.literal()), shown_default, origin);
                Some(Some(value))
            }
            Err(message) => {
                self.note(key, None, shown_default, origin.clone());
                self.misplaced(&origin, key, "", message);
                None
            }
        }
    }

    /// Refuses keys that mean nothing in this table, each where it stands.
    pub(super) fn out_of_place(&mut self, keys: &[&'static str], why: &str) {
        let Some(table) = self.table else { return };
        for &key in keys {
            if let Some(item) = table.get(key) {
                self.known.push(key);
                let origin = self.reader.origin_of(table.key(key), item);
                self.misplaced(&origin, key, "", why.to_owned());
            }
        }
    }

    /// What the file says; an absent key is noted as such.
    fn in_file(&mut self, key: &'static str, why: &'static str) -> Option<(Origin, &'d Item)> {
        self.known.push(key);
        self.not_by_control(key, why);
        let item = self
            .table
            .and_then(|table| Some((table.key(key), table.get(key)?)));
        if let Some((key, item)) = item {
            return Some((self.reader.origin_of(key, item), item));
        }
        self.note(key, None, None, Origin::Default);
        None
    }

    fn show_item(&mut self, key: &'static str, origin: Origin, item: &Item) {
        let shown = json(item).ok().map(|value| toml(&value).to_string());
        self.note(key, shown, None, origin);
    }

    fn misplaced(&mut self, origin: &Origin, key: &str, below: &str, message: String) {
        let path = format!("{}{below}", self.path(key));
        let finding = self.reader.finding(origin, &path, message);
        self.reader.errors.push(finding);
    }
}

fn with<T>(mut list: Vec<T>, one: T) -> Vec<T> {
    list.push(one);
    list
}

/// A name as a message repeats it.
fn shown(name: &str) -> String {
    let quoted = Scalar::from(name).to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if !name.is_empty() && name.len() <= 100 && name.bytes().all(plain) {
        name.to_owned()
    } else {
        quoted
    }
}

/// Any TOML value as JSON; times become texts.
pub(super) fn json(item: &Item) -> Parsed<Json> {
    match item {
        Item::Value(value) => json_of(value),
        Item::Table(table) => object_of(table.iter().map(|(name, item)| (name, json(item)))),
        Item::ArrayOfTables(tables) => {
            let objects = tables
                .iter()
                .map(|table| object_of(table.iter().map(|(name, item)| (name, json(item)))));
            objects.collect::<Parsed<_>>().map(Json::Array)
        }
        Item::None => Err("there is no value".to_owned()),
    }
}

fn json_of(value: &Value) -> Parsed<Json> {
    Ok(match value {
        Value::String(text) => Json::String(text.value().clone()),
        Value::Integer(number) => Json::from(*number.value()),
        Value::Float(number) => Number::from_f64(*number.value())
            .map(Json::Number)
            .ok_or_else(|| format!("{} is no number that JSON has", number.value()))?,
        Value::Boolean(flag) => Json::Bool(*flag.value()),
        Value::Datetime(time) => Json::String(time.value().to_string()),
        Value::Array(list) => Json::Array(list.iter().map(json_of).collect::<Parsed<_>>()?),
        Value::InlineTable(table) => {
            object_of(table.iter().map(|(name, value)| (name, json_of(value))))?
        }
    })
}

fn object_of<'k>(pairs: impl Iterator<Item = (&'k str, Parsed<Json>)>) -> Parsed<Json> {
    let named = pairs.map(|(name, value)| Ok((name.to_owned(), value?)));
    Ok(Json::Object(named.collect::<Parsed<Map<_, _>>>()?))
}

/// JSON that came from TOML, as TOML on one line.
fn toml(value: &Json) -> Value {
    match value {
        // TOML has no null, so there is none.
        Json::Null => Value::from(""),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::from(whole),
            (None, number) => Value::from(number.unwrap_or_default()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(list) => Value::Array(list.iter().map(toml).collect::<Array>()),
        Json::Object(map) => {
            let pairs = map.iter().map(|(name, value)| (name.as_str(), toml(value)));
            Value::InlineTable(pairs.collect::<InlineTable>())
        }
    }
}
