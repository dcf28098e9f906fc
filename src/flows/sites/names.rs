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
    let path = text == "." || text == "..";
    if text.is_empty() || text.len() > most || path || !text.bytes().all(plain) {
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

/// Checks the address of a site: `http://` or `https://` with a host, no
/// credentials, no fragment, no spaces, at most 2048 characters. It is used as
/// it stands, so it has to be what the returned one was read from: spaces,
/// tabs and line ends, which are passed over in reading, are refused.
///
/// # Errors
/// Says what is wrong and what is expected.
pub fn check_site_url(text: &str) -> Result<Url, NameProblem> {
    let wrong = |problem: &str| {
        NameProblem(format!(
            "\"{}\" {problem}: expected an address as https://site.example/path",
            shortened(without_credentials(text))
        ))
    };
    if text.len() > 2048 {
        return Err(wrong("is longer than 2048 characters"));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(wrong("holds spaces or control characters"));
    }
    let url = Url::parse(text).map_err(|_| wrong("is not an address"))?;
    // Others than "://" are read too ("http:site.example"), and not everywhere alike.
    let written = text.get(url.scheme().len()..);
    let plain = written.is_some_and(|rest| rest.starts_with("://") && !rest.starts_with(":///"));
    let web = matches!(url.scheme(), "http" | "https");
    if !web || !plain || url.host_str().is_none_or(str::is_empty) {
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

/// The beginning of what was given, for messages.
pub(crate) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// What is behind the last `@`, if there is one: a message must not show a
/// password, also when the address cannot be read.
fn without_credentials(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_named_with_or_without_its_prefix() {
        let bare = AppName::parse("org.civicrm.myapp").unwrap();
        assert_eq!(AppName::parse("app:org.civicrm.myapp").unwrap(), bare);
        assert_eq!(bare.to_string(), "org.civicrm.myapp");
        for wrong in ["", "app:", "app:app:x", "a/b", "a b", "..", "é"] {
            AppName::parse(wrong).unwrap_err();
        }
        AppName::parse(&"a".repeat(250)).unwrap();
        insta::assert_snapshot!(AppName::parse("my app").unwrap_err(), @r#""my app" is not an app id: expected 1 to 250 letters, digits, ".", "_" and "-", e.g. org.civicrm.myapp"#);
    }

    #[test]
    fn events_are_named_as_in_the_seed() {
        let app = AppName::parse("org.civicrm.myapp").unwrap();
        let job = JobKey::new(app.clone(), JobKey::DEFAULT).unwrap();
        assert_eq!(job.event("poll"), "app:org.civicrm.myapp:job=default:poll");
        assert_eq!(job.to_string(), "org.civicrm.myapp/default");
        for wrong in ["", "a:b", "a=b", ".", "sync activities"] {
            JobKey::new(app.clone(), wrong).unwrap_err();
        }
    }

    #[test]
    fn ids_of_sites_can_stand_in_paths() {
        for right in ["1", "site-1.example:8080", "a@b+c", "..."] {
            check_site_id(right).unwrap();
        }
        for wrong in ["", ".", "..", "a/b", "a%2fb", "a b", "é", &"x".repeat(257)] {
            check_site_id(wrong).unwrap_err();
        }
        check_label_name(&"x".repeat(64)).unwrap();
        check_label_name(&"x".repeat(65)).unwrap_err();
    }

    #[test]
    fn addresses_of_sites_are_http_with_a_host_and_nothing_hidden() {
        for right in [
            "http://127.0.0.1:1",
            "HTTPS://site.example/a?b=c",
            "http://[::1]/",
            "https://x/@me",
        ] {
            check_site_url(right).unwrap();
        }
        let wrongs = [
            "",
            "site.example",
            "ftp://x/",
            "http:///x",
            "http:x",
            "http:\\\\x",
            "http://",
            " http://x",
            "http://x\n",
            "http://x/#f",
            &format!("http://x/{}", "y".repeat(2048)),
        ];
        for wrong in wrongs {
            check_site_url(wrong).unwrap_err();
        }
        insta::assert_snapshot!(check_site_url("ftp://x/").unwrap_err(), @r#""ftp://x/" is not an http or https address: expected an address as https://site.example/path"#);
    }

    #[test]
    fn a_message_about_an_address_never_shows_its_password() {
        for wrong in [
            "http://me:hush@x/",
            "ftp://me:hush@x/",
            "http://me:hush@x y",
            "me:hush@x",
            "http:me:hush@x",
            "http://me:hush@x/#y",
        ] {
            let told = check_site_url(wrong).unwrap_err().to_string();
            assert!(!told.contains("hush"), "{told}");
        }
    }

    #[test]
    fn what_is_shown_of_a_long_text_is_short() {
        let told = check_site_id(&"x y\u{1b}".repeat(5000))
            .unwrap_err()
            .to_string();
        assert!(told.len() < 300 && !told.contains('\u{1b}'), "{told}");
    }
}
