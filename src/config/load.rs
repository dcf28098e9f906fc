//! From a file and the environment to settings, or to every mistake at once.

use super::environment::Environment;
use super::findings::{ConfigErrors, Origin, Warning};
use super::reader::{Entry, Reader};
use super::settings::Settings;
use super::{sections, tokens};
use std::path::{Path, PathBuf};
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
    let document = Document::parse(text).map_err(|error| {
        let reader = Reader::new(file_name, text, Environment::default());
        let start = error.span().map(|span| span.start);
        let origin = start.map_or(Origin::Default, |start| reader.at(start));
        let message = format!("not TOML: {}", error.message().trim());
        ConfigErrors::new(vec![reader.finding(&origin, "", message)])
    })?;
    let mut reader = Reader::new(file_name, text, Environment::new(environment));
    let settings = sections::settings(&mut reader, document.as_table(), base);
    let mut settings = match settings {
        Some(settings) if reader.errors.is_empty() => settings,
        _ => return Err(ConfigErrors::new(reader.errors)),
    };
    let created_control_token = control_token(&mut reader, &mut settings, options)?;
    reader.warnings.sort_by_key(Warning::order);
    Ok(Loaded {
        settings,
        warnings: reader.warnings,
        entries: reader.entries,
        created_control_token,
    })
}

/// Makes the control token's file when it is named and missing, or says that
/// a server would.
fn control_token(
    reader: &mut Reader<'_>,
    settings: &mut Settings,
    options: LoadOptions,
) -> Result<Option<PathBuf>, ConfigErrors> {
    let Some(path) = reader.missing_control_token.take() else {
        return Ok(None);
    };
    const KEY: &str = "http.control_token_file";
    let entry = reader.entries.iter().find(|entry| entry.path() == KEY);
    let origin = entry.map_or(Origin::Default, |entry| entry.origin.clone());
    if !options.create_control_token {
        let message = format!(
            "{} does not exist; `highwater serve` creates it with a random token",
            path.display()
        );
        let warning = reader.finding(&origin, KEY, message);
        reader.warnings.push(warning);
        return Ok(None);
    }
    match tokens::create(&path) {
        Ok(token) => {
            settings.http.control_token = Some(token);
            Ok(Some(path))
        }
        Err(message) => Err(ConfigErrors::new(vec![
            reader.finding(&origin, KEY, message),
        ])),
    }
}
