//! Judges what is sent in about batches, before anything is stored: every
//! ledger is configured, and every id has the shape its ledger knows.

use super::batches::check_text;
use super::intake::Keys;
use crate::config::Settings;
use crate::flows::batches::check_new_batch;
use crate::http::problem::{Answer, FieldError, MOST_ERRORS, Problem};
use crate::ledgers::LedgerKind;
use crate::store::NewBatch;
use std::collections::{BTreeSet, HashMap};

/// Most batches in one call.
const MOST_BATCHES: usize = 10_000;

/// Gathers what is wrong with a request, bounded.
pub(super) struct Check<'a> {
    kinds: HashMap<&'a str, LedgerKind>,
    names: String,
    errors: Vec<FieldError>,
    found: usize,
    other_than_ledgers: bool,
    ledgers: BTreeSet<String>,
}

impl<'a> Check<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        let names: Vec<&str> = settings
            .ledgers
            .iter()
            .take(20)
            .map(|ledger| ledger.name.as_str())
            .collect();
        Self {
            kinds: settings
                .ledgers
                .iter()
                .map(|ledger| (ledger.name.as_str(), ledger.kind))
                .collect(),
            names: names.join(", "),
            errors: Vec::new(),
            found: 0,
            other_than_ledgers: false,
            ledgers: BTreeSet::new(),
        }
    }

    fn wrong(&mut self, field: String, message: impl Into<String>) {
        self.other_than_ledgers = true;
        self.add(field, message);
    }

    fn add(&mut self, field: String, message: impl Into<String>) {
        self.found += 1;
        if self.errors.len() < MOST_ERRORS {
            self.errors.push(FieldError::new(field, message));
        }
    }

    pub(super) fn count(&mut self, field: &str, count: usize) {
        if count == 0 {
            self.wrong(field.to_owned(), "empty; name at least one batch");
        } else if count > MOST_BATCHES {
            let message = format!("{count} batches; send at most {MOST_BATCHES} a call");
            self.wrong(field.to_owned(), message);
        }
    }

    pub(super) fn ledger(&mut self, field: String, name: &str) -> Option<LedgerKind> {
        let kind = self.kinds.get(name).copied();
        if kind.is_some() {
            if !self.ledgers.contains(name) {
                self.ledgers.insert(name.to_owned());
            }
        } else {
            let shown: String = name.chars().take(64).collect();
            let message = format!(
                "ledger \"{shown}\" is not configured; configured are: {}",
                self.names
            );
            self.add(field, message);
        }
        kind
    }

    pub(super) fn text(&mut self, field: String, text: &str) {
        if let Err(message) = check_text(text) {
            self.wrong(field, message);
        }
    }

    pub(super) fn keys(&mut self, keys: &[Keys]) {
        self.count("batches", keys.len());
        for (index, key) in keys.iter().enumerate() {
            self.ledger(format!("batches[{index}].ledger"), &key.ledger);
            self.text(format!("batches[{index}].service_id"), &key.service_id);
            self.text(format!("batches[{index}].batch_id"), &key.batch_id);
        }
    }

    pub(super) fn new_batch(&mut self, index: usize, batch: &NewBatch) {
        if let Some(kind) = self.ledger(format!("batches[{index}].ledger"), &batch.key.ledger) {
            for (field, message) in check_new_batch(batch, kind) {
                self.wrong(format!("batches[{index}].{field}"), message);
            }
        }
    }

    /// The ledgers named, when nothing is wrong.
    pub(super) fn finish(self) -> Answer<BTreeSet<String>> {
        if self.found == 0 {
            return Ok(self.ledgers);
        }
        let problem = if self.other_than_ledgers {
            Problem::invalid_fields(self.errors, self.found)
        } else {
            Problem::unknown_ledger(self.errors)
        };
        Err(problem.into())
    }
}
