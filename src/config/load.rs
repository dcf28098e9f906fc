//! From a file and the environment to settings, or to every mistake at once.

use super::control::Control;
use super::environment::{Environment, has_prefix};
use super::event_settings::SubscriptionSettings;
use super::findings::{ConfigError, ConfigErrors, Finding, Origin, Warning};
use super::reader::{Entry, Reader};
use super::settings::Settings;
use super::site_settings::JobSettings;
use super::tokens::TokenFiles;
use super::{sections, tokens};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml_edit::Document;

/// How to load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Whether a control token file that does not exist is made, with a random
    /// token and for its owner only. A server does; checks only say that it
    /// would be. Nothing is made for a configuration that has mistakes.
    pub create_control_token: bool,
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the rest of the code sees.
    pub settings: Settings,
    /// What is allowed but deserves a look.
    pub warnings: Vec<Warning>,
    /// Every key with its effective value and where that comes from, in the
    /// order of the dump.
    pub entries: Vec<Entry>,
    /// The control token file that this load made.
    pub created_control_token: Option<PathBuf>,
    /// Tables of lists, `ledgers[0]`, as control calls them: `ledgers.trace`.
    tables: BTreeMap<String, String>,
    source: Source,
}

/// What settings are computed from.
#[derive(Clone)]
struct Source {
    text: Arc<str>,
    file_name: String,
    base: PathBuf,
    environment: Vec<(String, String)>,
    options: LoadOptions,
    tokens: TokenFiles,
    control: BTreeMap<String, String>,
}

/// There may be secrets in the file and in the environment.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("file_name", &self.file_name)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// The same configuration with other values set by control: key path
    /// (`batches.poll_interval`, `ledgers.trace.url`) → value as written in
    /// the environment (`2s`). They win over environment, file and default.
    ///
    /// File, environment and token files are those that were read, whatever
    /// became of them since: a change by control applies nothing else.
    ///
    /// # Errors
    /// Every mistake; secrets, and what takes effect only at a start, are
    /// refused.
    pub fn with_control(&self, control: BTreeMap<String, String>) -> Result<Self, ConfigErrors> {
        let source = Source {
            control,
            ..self.source.clone()
        };
        source.compute()
    }

    /// The same, held against the program that is to use it: `wrong` says why
    /// it cannot do a job's work, `wrong_events` why it cannot handle a
    /// subscription's events, `remarks` are about all of it.
    ///
    /// # Errors
    /// Every job that it cannot do, where its `app` stands, and every
    /// subscription, where its `name` stands.
    pub fn held_against(
        mut self,
        wrong: impl Fn(&JobSettings) -> Option<String>,
        wrong_events: impl Fn(&SubscriptionSettings) -> Option<String>,
        remarks: Vec<String>,
    ) -> Result<Self, ConfigErrors> {
        let reader = Reader::new(
            &self.source.file_name,
            &self.source.text,
            Environment::default(),
        );
        for remark in remarks {
            let finding = reader.finding(&Origin::Default, "", remark);
            self.warnings.push(finding);
        }
        let finding = |section: String, key: &str, problem: String| {
            let named = |entry: &&Entry| entry.section == section && entry.key == key;
            let origin = self.entries.iter().find(named).map(|entry| &entry.origin);
            let origin = origin.unwrap_or(&Origin::Default);
            reader.finding(origin, &format!("{section}.handler"), problem)
        };
        let jobs = self.settings.jobs.iter().enumerate();
        let jobs = jobs
            .filter_map(|(index, job)| Some(finding(format!("jobs[{index}]"), "app", wrong(job)?)));
        let subscriptions = self.settings.subscriptions.iter().enumerate();
        let subscriptions = subscriptions.filter_map(|(index, subscription)| {
            let section = format!("subscriptions[{index}]");
            Some(finding(section, "name", wrong_events(subscription)?))
        });
        let errors: Vec<ConfigError> = jobs.chain(subscriptions).collect();
        if errors.is_empty() {
            return Ok(self);
        }
        Err(ConfigErrors::new(errors).with_warnings(self.warnings))
    }

    /// The values set by control.
    pub fn control(&self) -> &BTreeMap<String, String> {
        &self.source.control
    }

    /// Every key with its entry, as control names it: tables of a list go by
    /// name (`ledgers.trace.url`, `jobs.org.civicrm.myapp/default.retry`).
    pub fn keys(&self) -> impl Iterator<Item = (String, &Entry)> {
        self.entries.iter().map(|entry| {
            let table = self.tables.get(&entry.section).unwrap_or(&entry.section);
            (format!("{table}.{}", entry.key), entry)
        })
    }

    /// What is wrong with a key for control; `None` when it may be set.
    pub fn closed_to_control(&self, key: &str) -> Option<ConfigError> {
        let document = self.source.document().ok()?;
        let (reader, _) = self.source.read(&document);
        let problem = reader.control.problem_with(key)?;
        Some(reader.finding(&Origin::Control, key, problem))
    }

    /// Name of the file, as the caller of [`load`] or [`parse`] gave it.
    pub fn file_name(&self) -> &str {
        &self.source.file_name
    }
}

/// Loads a configuration file, with overrides from the environment, e.g.
/// [`environment`](super::environment()). Paths in the file are relative to
/// its folder.
///
/// # Errors
/// Every mistake, with file, line, key and what is allowed.
pub fn load(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    options: LoadOptions,
) -> Result<Loaded, ConfigErrors> {
    let file_name = path.display().to_string();
    let refused = |message: String| {
        let reader = Reader::new(&file_name, "", Environment::default());
        ConfigErrors::new(vec![reader.finding(&Origin::Default, "", message)])
    };
    let bytes = std::fs::read(path).map_err(|error| {
        refused(format!(
            "cannot read the configuration: {error}; name another file with --config"
        ))
    })?;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let valid = String::from_utf8_lossy(valid);
            let reader = Reader::new(&file_name, &valid, Environment::default());
            let message = "not UTF-8; expected TOML, which is UTF-8".to_owned();
            let finding = reader.finding(&reader.at(valid.len()), "", message);
            return Err(ConfigErrors::new(vec![finding]));
        }
    };
    let absolute = std::path::absolute(path)
        .map_err(|error| refused(format!("cannot find the configuration's folder: {error}")))?;
    let base = absolute.parent().unwrap_or(Path::new("/"));
    parse(text, &file_name, base, environment, options)
}

/// Reads a configuration from text. `file_name` is what findings call it;
/// `base` is the folder that paths are relative to. Token files are read.
///
/// # Errors
/// Every mistake, with line, key and what is allowed.
pub fn parse(
    text: &str,
    file_name: &str,
    base: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    options: LoadOptions,
) -> Result<Loaded, ConfigErrors> {
    let source = Source {
        text: text.into(),
        file_name: file_name.to_owned(),
        base: base.to_path_buf(),
        environment: environment
            .into_iter()
            .filter(|(name, _)| has_prefix(name))
            .collect(),
        options,
        tokens: TokenFiles::default(),
        control: BTreeMap::new(),
    };
    source.compute()
}

impl Source {
    fn compute(mut self) -> Result<Loaded, ConfigErrors> {
        let document = self.document()?;
        let (mut reader, settings) = self.read(&document);
        let missing = reader.missing_control_token.take();
        let create = self.options.create_control_token;
        if let Some(path) = missing.as_ref().filter(|_| !create) {
            let message = format!(
                "{} does not exist; `highwater serve` creates it with a random token",
                path.display()
            );
            let warning = at_control_token(&reader, message);
            reader.warnings.push(warning);
        }
        let mut settings = match settings {
            Some(settings) if reader.errors.is_empty() => settings,
            _ => return Err(ConfigErrors::new(reader.errors).with_warnings(reader.warnings)),
        };
        // Only now: nothing is made for a configuration that has mistakes.
        let created_control_token = missing.filter(|_| create);
        if let Some(path) = &created_control_token {
            let token = tokens::create(path)
                .map_err(|message| ConfigErrors::new(vec![at_control_token(&reader, message)]))?;
            reader.tokens.created(path, token.clone());
            settings.http.control_token = Some(token);
        }
        reader.warnings.sort_by_key(Warning::order);
        let Reader {
            tokens,
            tables,
            entries,
            warnings,
            ..
        } = reader;
        self.tokens = tokens;
        Ok(Loaded {
            settings,
            warnings,
            entries,
            created_control_token,
            tables,
            source: self,
        })
    }

    fn document(&self) -> Result<Document<&str>, ConfigErrors> {
        let (file_name, text) = (self.file_name.as_str(), &*self.text);
        Document::parse(text).map_err(|error| {
            let reader = Reader::new(file_name, text, Environment::default());
            let start = error.span().map(|span| span.start);
            let origin = start.map_or(Origin::Default, |start| reader.at(start));
            let message = format!("not TOML: {}", error.message().trim());
            ConfigErrors::new(vec![reader.finding(&origin, "", message)])
        })
    }

    /// Reads all keys; what is wrong is in the reader then.
    fn read<'d>(&'d self, document: &'d Document<&'d str>) -> (Reader<'d>, Option<Settings>) {
        let environment = Environment::new(self.environment.iter().cloned());
        let mut reader = Reader::new(&self.file_name, &self.text, environment);
        reader.control = Control::new(self.control.clone());
        reader.tokens = self.tokens.clone();
        let settings = sections::settings(&mut reader, document.as_table(), &self.base);
        (reader, settings)
    }
}

/// A remark on the control token's file.
fn at_control_token(reader: &Reader<'_>, message: String) -> Finding {
    const KEY: &str = "http.control_token_file";
    let entry = reader.entries.iter().find(|entry| entry.path() == KEY);
    let origin = entry.map_or(Origin::Default, |entry| entry.origin.clone());
    reader.finding(&origin, KEY, message)
}
