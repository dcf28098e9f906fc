//! Walks the tables of a configuration and keeps what is learnt: every key
//! there is with its value and origin, and every mistake.
//!
//! A key is described in one place only, where it is read (`sections`). The
//! dump, the origins and the refusal of unknown keys follow from that: what
//! nobody asked for is unknown.

use super::control::Control;
use super::environment::{Environment, variable_part};
use super::findings::{Finding, Lines, Origin};
use super::hint::nearest;
use super::scalar::Scalar;
use super::section::Section;
use super::tokens::TokenFiles;
use std::collections::BTreeMap;
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
    /// The effective value as written, without TOML's quotes; secrets are `***`.
    pub fn plain(&self) -> Option<String> {
        let literal = self.value.as_deref()?;
        match literal.parse() {
            Ok(toml_edit::Value::String(text)) => Some(text.into_value()),
            _ => Some(literal.to_owned()),
        }
    }

    /// The whole path: `ledgers[1].url`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }
}

/// A key in the file that nobody asked for.
pub(super) struct Unknown {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) origin: Origin,
    pub(super) known: Vec<&'static str>,
    /// Keys that are taken from the environment only.
    pub(super) secrets: Vec<&'static str>,
}

/// Everything learnt while reading one configuration.
pub(super) struct Reader<'d> {
    file: String,
    lines: Lines<'d>,
    pub(super) environment: Environment,
    pub(super) control: Control,
    pub(super) tokens: TokenFiles,
    /// Tables of lists, `ledgers[0]`, as control calls them: `ledgers.trace`.
    pub(super) tables: BTreeMap<String, String>,
    pub(super) unknown: Vec<Unknown>,
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
            control: Control::default(),
            tokens: TokenFiles::default(),
            tables: BTreeMap::new(),
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
            control: false,
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
            Origin::Control => {
                finding.file = None;
                finding.control = true;
            }
        }
        finding
    }

    pub(super) fn at(&self, offset: usize) -> Origin {
        let (line, column) = self.lines.locate(offset);
        Origin::File { line, column }
    }

    pub(super) fn origin_of(&self, key: Option<&Key>, item: &Item) -> Origin {
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
        let control = Some(format!("{name}."));
        self.table(table, name.to_owned(), variables, control, origin, read)
    }

    /// Reads a section that is a list, `[[name]]`, one table after the other.
    /// Tables are known to the environment by index and by what `identity`
    /// makes of them.
    pub(super) fn list<T>(
        &mut self,
        root: &'d dyn TableLike,
        name: &'static str,
        identity: fn(&dyn TableLike) -> Option<String>,
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
        let names: Vec<Option<String>> = tables.iter().map(|(_, table)| identity(*table)).collect();
        let mut values = Vec::new();
        for (index, (start, table)) in tables.iter().enumerate() {
            let section = variable_part(name);
            let mut variables = vec![format!("{section}__{index}__")];
            if let Some(own) = names.get(index).and_then(Option::as_ref) {
                let part = variable_part(own);
                // `a-b` and `a_b` are two names and one variable: neither gets it.
                let clear = names
                    .iter()
                    .flatten()
                    .all(|other| other == own || variable_part(other) != part);
                let index_too = part.bytes().all(|b| b.is_ascii_digit());
                if clear && !index_too {
                    variables.push(format!("{section}__{part}__"));
                }
            }
            let origin = start.map_or(Origin::Default, |start| self.at(start));
            let path = format!("{name}[{index}]");
            let value = self.table(Some(*table), path, variables, None, origin, &mut read);
            values.push(value);
        }
        values
    }

    fn table<T>(
        &mut self,
        table: Option<&'d dyn TableLike>,
        name: String,
        variables: Vec<String>,
        control: Option<String>,
        origin: Origin,
        read: impl FnOnce(&mut Section<'_, 'd>) -> T,
    ) -> T {
        let mut section = Section {
            reader: self,
            table,
            name,
            group: String::new(),
            variables,
            control,
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
            let hint = meant.map_or_else(
                || "; unset it or correct its name".to_owned(),
                |meant| format!("; did you mean {meant}?"),
            );
            let message = format!("no setting has this environment variable{hint}");
            let origin = Origin::Environment { variable };
            self.errors.push(self.finding(&origin, "", message));
        }
        for (key, message) in self.control.refused() {
            let finding = self.finding(&Origin::Control, &key, message);
            self.errors.push(finding);
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

/// What a table of a list is called, by its `name`.
pub(super) fn own_name(table: &dyn TableLike) -> Option<String> {
    Some(table.get("name")?.as_str()?.to_owned())
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
