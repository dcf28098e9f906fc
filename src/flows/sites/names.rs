//! Names of apps, jobs and sites, checked where they enter.

use std::fmt;
use std::sync::Arc;
use url::Url;

/// What an app id may be written with in front of it.
const APP_PREFIX: &str = "app:";

/// The id of an app, without `app:` in front.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppName(Arc<str>);

/// A job: an app and the name of what is done on its sites.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// The app.
    pub app: AppName,
    /// Name of the job.
    pub name: Arc<str>,
}

/// What is wrong with a name, and what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameProblem(String);

impl AppName {
    /// Reads an app id, with or without `app:` in front.
    ///
    /// # Errors
    /// It is empty, longer than 250 characters, or holds others than letters,
    /// digits, `.`, `_` and `-`.
    pub fn parse(text: &str) -> Result<Self, NameProblem> {
        let bare = text.strip_prefix(APP_PREFIX).unwrap_or(text);
        check_word(bare, 250, "an app id", "org.civicrm.myapp")?;
        Ok(Self(bare.into()))
    }

    /// The id without `app:`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl JobKey {
    /// Name of a job that is given none.
    pub const DEFAULT: &str = "default";

    /// A job of an app.
    ///
    /// # Errors
    /// The name is empty, longer than 250 characters, or holds others than
    /// letters, digits, `.`, `_` and `-`.
    pub fn new(app: AppName, name: &str) -> Result<Self, NameProblem> {
        check_word(name, 250, "a job name", "sync_activities")?;
        Ok(Self {
            app,
            name: name.into(),
        })
    }

    /// The name of one of its events (`pre-poll`, `poll`, `post-poll`):
    /// `app:org.civicrm.myapp:job=default:poll`.
    pub fn event(&self, event: &str) -> String {
        format!("{APP_PREFIX}{}:job={}:{event}", self.app, self.name)
    }
}

/// `org.civicrm.myapp/default`, as logs, pages and metrics show it.
impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.name)
    }
}

fn check_word(text: &str, most: usize, what: &str, example: &str) -> Result<(), NameProblem> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if text.is_empty() || text.len() > most || !text.bytes().all(plain) {
        return Err(NameProblem(format!(
            "\"{}\" is not {what}: expected 1 to {most} letters, digits, \".\", \"_\" and \"-\", e.g. {example}",
            shortened(text)
        )));
    }
    Ok(())
}

/// Checks a site id: 1 to 256 letters, digits and `. _ - : @ +`, neither `.`
/// nor `..`, so that it can stand in paths.
///
/// # Errors
/// Says what is wrong and what is expected.
pub fn check_site_id(text: &str) -> Result<(), NameProblem> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-:@+".contains(&b);
    let path = text == "." || text == "..";
    if text.is_empty() || text.len() > 256 || path || !text.bytes().all(plain) {
        return Err(NameProblem(format!(
            "\"{}\" is not a site id: expected 1 to 256 letters, digits and any of . _ - : @ +",
            shortened(text)
        )));
    }
    Ok(())
}

/// Checks the name of a label: 1 to 64 letters, digits, `.`, `_` and `-`.
///
/// # Errors
/// Says what is wrong and what is expected.
pub fn check_label_name(text: &str) -> Result<(), NameProblem> {
    check_word(text, 64, "a label's name", "region")
}

/// Checks the address of a site: http or https with a host, no credentials
/// and no fragment, at most 2048 characters.
///
/// # Errors
/// Says what is wrong and what is expected.
pub fn check_site_url(text: &str) -> Result<Url, NameProblem> {
    let wrong = |problem: &str| {
        NameProblem(format!(
            "\"{}\" {problem}: expected an address as https://site.example/path",
            shortened(text)
        ))
    };
    if text.len() > 2048 {
        return Err(wrong("is longer than 2048 characters"));
    }
    let url = Url::parse(text).map_err(|_| wrong("is not an address"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("is not an http or https address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(NameProblem(
            "the address holds credentials: leave them out, and name them in [[apps]] or the job's handler"
                .to_owned(),
        ));
    }
    if url.fragment().is_some() {
        return Err(wrong("holds a fragment (#…)"));
    }
    Ok(url)
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
