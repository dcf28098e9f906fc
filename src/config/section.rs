//! Reads the keys of one table, one by one: control wins over the environment,
//! the environment over the file, the file over the default.

use super::control;
use super::environment::variable_part;
use super::findings::{Finding, Origin};
use super::forms::Parsed;
use super::reader::{Entry, Reader, Unknown};
use super::scalar::Scalar;
use toml_edit::{Item, Key, TableLike};

/// One table of keys, while it is read.
pub(super) struct Section<'r, 'd> {
    pub(super) reader: &'r mut Reader<'d>,
    pub(super) table: Option<&'d dyn TableLike>,
    pub(super) name: String,
    /// `repoll.` inside that group, else empty.
    pub(super) group: String,
    /// What variables of this table begin with, after `HIGHWATER_`.
    pub(super) variables: Vec<String>,
    /// What control's keys of this table begin with; `None` for a table of a
    /// list until its name is known.
    pub(super) control: Option<String>,
    pub(super) origin: Origin,
    pub(super) known: Vec<&'static str>,
    pub(super) secrets: Vec<&'static str>,
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
            control: self.control.clone(),
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
        self.not_by_control(key, control::SECRET);
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

    /// Says that control may not set a key, and why; to be called before the
    /// key is read.
    pub(super) fn not_by_control(&mut self, key: &str, why: &'static str) {
        if let Some(path) = self.control_path(key) {
            self.reader.control.close(path, why);
        }
    }

    /// Makes a table of a list known to control by its name, which the keys of
    /// its identity make up.
    pub(super) fn named(&mut self, name: &str, identity: &[&str]) {
        let list = self.name.split('[').next().unwrap_or_default();
        let table = format!("{list}.{name}");
        self.reader.control.name(list, name);
        self.control = Some(format!("{table}."));
        self.reader.tables.insert(self.name.clone(), table);
        for key in identity {
            self.not_by_control(key, control::IDENTITY);
        }
    }

    /// Replaces what dumps show of a key's value.
    pub(super) fn show(&mut self, key: &str, shown: &str) {
        let (section, key) = (&self.name, format!("{}{key}", self.group));
        let mut entries = self.reader.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.section == *section && entry.key == key) {
            entry.value = Some(Scalar::from(shown).literal());
        }
    }

    /// Whether somebody wrote this key, in the file or the environment.
    pub(super) fn is_written(&self, key: &str) -> bool {
        let key = format!("{}{key}", self.group);
        let mut entries = self.reader.entries.iter();
        entries.any(|entry| {
            entry.section == self.name && entry.key == key && entry.origin != Origin::Default
        })
    }

    /// Whether the value of this key was set by control.
    pub(super) fn is_by_control(&self, key: &str) -> bool {
        let key = format!("{}{key}", self.group);
        let mut entries = self.reader.entries.iter();
        entries.any(|entry| {
            entry.section == self.name && entry.key == key && entry.origin == Origin::Control
        })
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
        let written = || keys.iter().filter_map(|key| Some((*key, origin_of(key)?)));
        // What was set by control is what somebody wants to change now.
        let written = written()
            .find(|(_, origin)| *origin == Origin::Control)
            .or_else(|| written().next());
        let fallback = (
            keys.first().copied().unwrap_or_default(),
            self.origin.clone(),
        );
        let (key, origin) = written.unwrap_or(fallback);
        let path = self.path_at(key, &origin);
        self.reader.finding(&origin, &path, message)
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
        let variable = self.variable(key);
        let (origin, meanings) = if let Some(text) = self.controlled(key) {
            (Origin::Control, Scalar::of_variable(&text))
        } else if let Some((variable, text)) = variable {
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
        let path = self.path_at(key, &origin);
        let finding = self.reader.finding(&origin, &path, message);
        self.reader.errors.push(finding);
        None
    }

    /// The value that control set for `key`.
    fn controlled(&mut self, key: &str) -> Option<String> {
        let path = self.control_path(key)?;
        self.reader.control.take(&path)
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

    pub(super) fn note(
        &mut self,
        key: &str,
        value: Option<String>,
        default: Option<String>,
        origin: Origin,
    ) {
        self.reader.entries.push(Entry {
            section: self.name.clone(),
            key: format!("{}{key}", self.group),
            value,
            default,
            origin,
            secret: false,
        });
    }

    pub(super) fn path(&self, key: &str) -> String {
        format!("{}.{}{key}", self.name, self.group)
    }

    fn control_path(&self, key: &str) -> Option<String> {
        let start = self.control.as_ref()?;
        Some(format!("{start}{}{key}", self.group))
    }

    /// The key as its origin names it.
    fn path_at(&self, key: &str, origin: &Origin) -> String {
        let by_control = (*origin == Origin::Control).then(|| self.control_path(key));
        by_control.flatten().unwrap_or_else(|| self.path(key))
    }

    pub(super) fn note_unknown(self) {
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
