//! Reads keys one by one from file, environment and defaults, and notes on
//! the way every key there is: what was not asked for is unknown.
//!
//! So a key is described in one place only, where it is read (`sections`);
//! the dump, the origins and the refusal of unknown keys follow from that.

use super::environment::{Environment, variable_part};
use super::findings::{Finding, Lines, Origin};
use super::forms::Parsed;
use super::hint::nearest;
use super::scalar::Scalar;
use std::path::PathBuf;
use toml_edit::{Item, Key, TableLike};

/// One key with its effective value.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// `batches`, or `ledgers[1]` in a list.
    pub section: String,
    /// Key within the section, dotted where it is in a group (`repoll.min`).
    pub key: String,
    /// Effective value as TOML; `None` when there is none. Secrets are `***`.
    pub value: Option<String>,
    /// Default as TOML; `None` when there is none.
    pub default: Option<String>,
    /// Where the value comes from.
    pub origin: Origin,
    /// Whether the value came by the environment and cannot stand in a file.
    pub secret: bool,
}

impl Entry {
    /// The whole path: `ledgers[1].url`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }
}

/// A key in the file that nobody asked for.
struct Unknown {
    section: String,
    key: String,
    origin: Origin,
    known: Vec<&'static str>,
    /// Keys that are taken from the environment only.
    secrets: Vec<&'static str>,
}

/// Everything learnt while reading one configuration.
pub(super) struct Reader<'d> {
    file: String,
    lines: Lines<'d>,
    environment: Environment,
    unknown: Vec<Unknown>,
    pub(super) entries: Vec<Entry>,
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
    /// The control token's file, when it is named and does not exist.
    pub(super) missing_control_token: Option<PathBuf>,
}

impl<'d> Reader<'d> {
    pub(super) fn new(file: &str, text: &'d str, environment: Environment) -> Self {
        Self {
            file: file.to_owned(),
            lines: Lines::of(text),
            environment,
            unknown: Vec::new(),
            entries: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            missing_control_token: None,
        }
    }

    /// A remark on `key`, placed where its value comes from.
    pub(super) fn finding(&self, origin: &Origin, key: &str, message: String) -> Finding {
        let mut finding = Finding {
            file: Some(self.file.clone()),
            line: None,
            column: None,
            variable: None,
            key: (!key.is_empty()).then(|| key.to_owned()),
            message,
        };
        match origin {
            Origin::Default => {}
            Origin::File { line, column } => {
                finding.line = Some(*line);
                finding.column = Some(*column);
            }
            Origin::Environment { variable } => {
                finding.file = None;
                finding.variable = Some(variable.clone());
            }
        }
        finding
    }

    pub(super) fn at(&self, offset: usize) -> Origin {
        let (line, column) = self.lines.locate(offset);
        Origin::File { line, column }
    }

    fn origin_of(&self, key: Option<&Key>, item: &Item) -> Origin {
        let span = item.span().or_else(|| key.and_then(Key::span));
        span.map_or(Origin::Default, |span| self.at(span.start))
    }

    /// Reads a section that is a table, `[name]`.
    pub(super) fn section<T>(
        &mut self,
        root: &'d dyn TableLike,
        name: &'static str,
        read: impl FnOnce(&mut Section<'_, 'd>) -> T,
    ) -> T {
        let item = root.get(name);
        let origin = item.map_or(Origin::Default, |item| self.origin_of(root.key(name), item));
        let table = item.and_then(Item::as_table_like);
        if let (Some(item), None) = (item, table) {
            let written = Scalar::of_item(item);
            let message = format!("{written} is not a table; expected [{name}] with keys below it");
            self.errors.push(self.finding(&origin, name, message));
        }
        let variables = vec![format!("{}__", variable_part(name))];
        self.table(table, name.to_owned(), variables, origin, read)
    }

    /// Reads a section that is a list, `[[name]]`, one table after the other.
    /// Tables are known to the environment by index and by their `name`.
    pub(super) fn list<T>(
        &mut self,
        root: &'d dyn TableLike,
        name: &'static str,
        mut read: impl FnMut(&mut Section<'_, 'd>) -> T,
    ) -> Vec<T> {
        let Some(item) = root.get(name) else {
            return Vec::new();
        };
        let key = root.key(name);
        let Some(tables) = tables_of(item) else {
            let written = Scalar::of_item(item);
            let message =
                format!("{written} is not a list of tables; expected [[{name}]], once for each");
            let origin = self.origin_of(key, item);
            self.errors.push(self.finding(&origin, name, message));
            return Vec::new();
        };
        let names: Vec<Option<&str>> = tables
            .iter()
            .map(|(_, table)| table.get("name").and_then(Item::as_str))
            .collect();
        let mut values = Vec::new();
        for (index, (start, table)) in tables.iter().enumerate() {
            let section = variable_part(name);
            let mut variables = vec![format!("{section}__{index}__")];
            if let Some(own) = names.get(index).copied().flatten() {
                let part = variable_part(own);
                // `a-b` and `a_b` are two names and one variable: neither gets it.
                let clear = names
                    .iter()
                    .flatten()
                    .all(|other| *other == own || variable_part(other) != part);
                if clear {
                    variables.push(format!("{section}__{part}__"));
                }
            }
            let origin = start.map_or(Origin::Default, |start| self.at(start));
            let path = format!("{name}[{index}]");
            values.push(self.table(Some(*table), path, variables, origin, &mut read));
        }
        values
    }

    fn table<T>(
        &mut self,
        table: Option<&'d dyn TableLike>,
        name: String,
        variables: Vec<String>,
        origin: Origin,
        read: impl FnOnce(&mut Section<'_, 'd>) -> T,
    ) -> T {
        let mut section = Section {
            reader: self,
            table,
            name,
            group: String::new(),
            variables,
            origin,
            known: Vec::new(),
            secrets: Vec::new(),
        };
        let value = read(&mut section);
        section.note_unknown();
        value
    }

    /// Reports what nobody asked for, in the file and in the environment.
    pub(super) fn refuse_unknown(&mut self, root: &'d dyn TableLike, sections: &[&'static str]) {
        for (name, item) in root.iter() {
            if !sections.contains(&name) {
                let span = root.key(name).and_then(Key::span).or_else(|| item.span());
                let origin = span.map_or(Origin::Default, |span| self.at(span.start));
                let what = if item.is_value() { "key" } else { "section" };
                let hint = self.hint("", name, sections);
                let known = sections.join(", ");
                let message = format!("unknown {what}{hint}; sections are {known}");
                self.errors.push(self.finding(&origin, name, message));
            }
        }
        for unknown in std::mem::take(&mut self.unknown) {
            let Unknown {
                section,
                key,
                origin,
                known,
                secrets,
            } = unknown;
            let message = if secrets.contains(&key.as_str()) {
                format!(
                    "a secret does not stand in the configuration; put it in a file and name that with {key}_file"
                )
            } else {
                let hint = self.hint(&section, &key, &known);
                format!("unknown key{hint}; known here are {}", known.join(", "))
            };
            self.errors
                .push(self.finding(&origin, &format!("{section}.{key}"), message));
        }
        for (variable, meant) in self.environment.unknown() {
            let hint = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
            let message = format!("no setting has this environment variable{hint}");
            let origin = Origin::Environment { variable };
            self.errors.push(self.finding(&origin, "", message));
        }
    }

    /// What a key may have been meant to be: one like it here, or the same elsewhere.
    fn hint(&self, section: &str, key: &str, known: &[&'static str]) -> String {
        if let Some(meant) = nearest(key, known.iter().copied()) {
            return format!("; did you mean {meant}?");
        }
        let elsewhere = self.entries.iter().find(|entry| {
            entry.section != section
                && (entry.key == key || entry.key.split('.').next() == Some(key))
        });
        elsewhere.map_or_else(String::new, |entry| {
            format!("; did you mean {}.{key}?", entry.section)
        })
    }
}

/// The tables of `[[name]]` or `name = [{…}]`, each with its place.
fn tables_of(item: &Item) -> Option<Vec<(Option<usize>, &dyn TableLike)>> {
    if let Some(tables) = item.as_array_of_tables() {
        let start = |table: &toml_edit::Table| table.span().map(|span| span.start);
        return Some(
            tables
                .iter()
                .map(|table| (start(table), table as _))
                .collect(),
        );
    }
    let values = item.as_array()?.iter();
    values
        .map(|value| {
            let table: &dyn TableLike = value.as_inline_table()?;
            Some((value.span().map(|span| span.start), table))
        })
        .collect()
}

/// One table of keys, while it is read.
pub(super) struct Section<'r, 'd> {
    pub(super) reader: &'r mut Reader<'d>,
    table: Option<&'d dyn TableLike>,
    name: String,
    /// `repoll.` inside that group, else empty.
    group: String,
    /// What variables of this table begin with, after `HIGHWATER_`.
    variables: Vec<String>,
    origin: Origin,
    known: Vec<&'static str>,
    secrets: Vec<&'static str>,
}

impl<'d> Section<'_, 'd> {
    /// Reads a key that has a default; `None` when what was written is wrong,
    /// which is then reported already.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        default: impl Into<Scalar>,
        form: impl Fn(&Scalar) -> Parsed<T>,
    ) -> Option<T> {
        self.read(key, Some(default.into()), form).flatten()
    }

    /// Reads a key that may be absent; outer `None` when it is wrong.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        form: impl Fn(&Scalar) -> Parsed<T>,
    ) -> Option<Option<T>> {
        self.read(key, None, form)
    }

    /// Reads a key that must be there; `None` when it is missing or wrong.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        form: impl Fn(&Scalar) -> Parsed<T>,
    ) -> Option<T> {
        let value = self.read(key, None, form)?;
        if value.is_none() {
            let message = format!("missing; expected {expected}");
            let finding = self.reader.finding(&self.origin, &self.path(key), message);
            self.reader.errors.push(finding);
        }
        value
    }

    /// Reads keys that stand together in a table, `key = { … }`.
    pub(super) fn group<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&mut Section<'_, 'd>) -> T,
    ) -> T {
        self.known.push(key);
        let item = self.table.and_then(|table| table.get(key));
        let mut origin = self.origin.clone();
        if let (Some(item), Some(table)) = (item, self.table) {
            origin = self.reader.origin_of(table.key(key), item);
            if !item.is_table_like() {
                let message = format!(
                    "{} is not a table; expected {example}",
                    Scalar::of_item(item)
                );
                let finding = self.reader.finding(&origin, &self.path(key), message);
                self.reader.errors.push(finding);
            }
        }
        let mut section = Section {
            reader: &mut *self.reader,
            table: item.and_then(Item::as_table_like),
            name: self.name.clone(),
            group: format!("{}{key}.", self.group),
            variables: self
                .variables
                .iter()
                .map(|start| format!("{start}{}__", variable_part(key)))
                .collect(),
            origin,
            known: Vec::new(),
            secrets: Vec::new(),
        };
        let value = read(&mut section);
        section.note_unknown();
        value
    }

    /// Reads a secret, which comes by the environment and never stands in the file.
    pub(super) fn secret_variable(&mut self, key: &'static str) -> Option<String> {
        self.secrets.push(key);
        let (variable, text) = self.variable(key)?;
        self.note(
            key,
            Some("\"***\"".to_owned()),
            None,
            Origin::Environment { variable },
        );
        if let Some(entry) = self.reader.entries.last_mut() {
            entry.secret = true;
        }
        Some(text)
    }

    /// Replaces what dumps show of a key's value.
    pub(super) fn show(&mut self, key: &str, shown: &str) {
        let (section, key) = (&self.name, format!("{}{key}", self.group));
        let mut entries = self.reader.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.section == *section && entry.key == key) {
            entry.value = Some(Scalar::from(shown).literal());
        }
    }

    /// Reports a mistake that shows only when keys are seen together, at the
    /// first of `keys` that somebody wrote.
    pub(super) fn fault(&mut self, keys: &[&str], message: String) {
        let finding = self.remark(keys, message);
        self.reader.errors.push(finding);
    }

    /// The same for what is allowed but deserves a look.
    pub(super) fn warn(&mut self, keys: &[&str], message: String) {
        let finding = self.remark(keys, message);
        self.reader.warnings.push(finding);
    }

    fn remark(&self, keys: &[&str], message: String) -> Finding {
        let origin_of = |key: &str| {
            let key = format!("{}{key}", self.group);
            let mut entries = self.reader.entries.iter();
            entries
                .find(|entry| entry.section == self.name && entry.key == key)
                .map(|entry| entry.origin.clone())
                .filter(|origin| *origin != Origin::Default)
        };
        let written = keys.iter().find_map(|key| Some((*key, origin_of(key)?)));
        let fallback = (
            keys.first().copied().unwrap_or_default(),
            self.origin.clone(),
        );
        let (key, origin) = written.unwrap_or(fallback);
        self.reader.finding(&origin, &self.path(key), message)
    }

    /// Outer `None`: wrong, and reported. Inner `None`: absent.
    fn read<T>(
        &mut self,
        key: &'static str,
        default: Option<Scalar>,
        form: impl Fn(&Scalar) -> Parsed<T>,
    ) -> Option<Option<T>> {
        self.known.push(key);
        let shown_default = default.as_ref().map(Scalar::literal);
        let item = self
            .table
            .and_then(|table| Some((table.key(key), table.get(key)?)));
        let (origin, meanings) = if let Some((variable, text)) = self.variable(key) {
            (Origin::Environment { variable }, Scalar::of_variable(&text))
        } else if let Some((key, item)) = item {
            (
                self.reader.origin_of(key, item),
                vec![Scalar::of_item(item)],
            )
        } else {
            (Origin::Default, default.into_iter().collect())
        };
        let mut wrong = None;
        for written in &meanings {
            match form(written) {
                Ok(value) => {
                    self.note(key, Some(written.literal()), shown_default, origin);
                    return Some(Some(value));
                }
                Err(message) => wrong = Some(message),
            }
        }
        self.note(key, None, shown_default, origin.clone());
        let Some(message) = wrong else {
            return Some(None);
        };
        let finding = self.reader.finding(&origin, &self.path(key), message);
        self.reader.errors.push(finding);
        None
    }

    /// The environment variable that sets `key`, and its value.
    fn variable(&mut self, key: &str) -> Option<(String, String)> {
        let names: Vec<String> = self
            .variables
            .iter()
            .map(|start| format!("{start}{}", variable_part(key)))
            .collect();
        let mut set = self.reader.environment.take(names);
        if let [(first, _), (second, _), ..] = set.as_slice() {
            let message = format!("set by {first} as well; keep one of the two");
            let origin = Origin::Environment {
                variable: second.clone(),
            };
            let finding = self.reader.finding(&origin, &self.path(key), message);
            self.reader.errors.push(finding);
        }
        (!set.is_empty()).then(|| set.swap_remove(0))
    }

    fn note(&mut self, key: &str, value: Option<String>, default: Option<String>, origin: Origin) {
        self.reader.entries.push(Entry {
            section: self.name.clone(),
            key: format!("{}{key}", self.group),
            value,
            default,
            origin,
            secret: false,
        });
    }

    fn path(&self, key: &str) -> String {
        format!("{}.{}{key}", self.name, self.group)
    }

    fn note_unknown(self) {
        let Some(table) = self.table else { return };
        for (key, item) in table.iter() {
            if self.known.contains(&key) {
                continue;
            }
            let span = table.key(key).and_then(Key::span).or_else(|| item.span());
            self.reader.unknown.push(Unknown {
                section: format!(
                    "{}{}",
                    self.name,
                    self.group
                        .strip_suffix('.')
                        .map_or_else(String::new, |group| format!(".{group}"))
                ),
                key: key.to_owned(),
                origin: span.map_or(Origin::Default, |span| self.reader.at(span.start)),
                known: self.known.clone(),
                secrets: self.secrets.clone(),
            });
        }
    }
}
