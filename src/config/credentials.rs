//! Secrets as configured: in a file or the environment; for sites also in a
//! file for each.

use super::control::SECRET_FILE;
use super::findings::Origin;
use super::forms::file;
use super::reader::{Entry, Reader};
use super::section::Section;
use super::settings::HttpSettings;
use super::site_settings::{AppSettings, Credential, HandlerSettings, JobSettings};
use super::tokens::{self, SHORTEST_CREDENTIAL, TokenFile};
use crate::flows::sites::check_site_id;
use secrecy::SecretString;
use std::path::{Path, PathBuf};

/// What stands for the site in the path of a file for each site.
const SITE: &str = "{site_id}";

/// What a token file that does not exist means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// A mistake.
    Refused,
    /// The server will make one.
    MayBeCreated,
}

/// A token as configured.
pub(super) struct Token {
    /// Whether one is asked for, readable or not.
    pub(super) given: bool,
    pub(super) token: Option<SecretString>,
}

/// Reads a token from its variable, or else from its file.
pub(super) fn token(
    s: &mut Section<'_, '_>,
    variable: &'static str,
    key: &'static str,
    base: &Path,
    missing: Missing,
) -> Token {
    let from_variable = s.secret_variable(variable);
    s.not_by_control(key, SECRET_FILE);
    let path = s.optional(key, file(base));
    if let Some(text) = from_variable {
        let token = tokens::check(&text)
            .map_err(|problem| s.fault(&[variable], format!("the token {problem}")));
        return Token {
            given: true,
            token: token.ok(),
        };
    }
    let path = match path {
        Some(Some(path)) => path,
        absent_or_wrong => {
            return Token {
                given: absent_or_wrong.is_none(),
                token: None,
            };
        }
    };
    let token = token_in(s, key, &path, missing, tokens::SHORTEST);
    Token { given: true, token }
}

/// What is in a token's file; `None` when it is not there, or wrong and reported.
fn token_in(
    s: &mut Section<'_, '_>,
    key: &'static str,
    path: &Path,
    missing: Missing,
    shortest: usize,
) -> Option<SecretString> {
    let shown = path.display();
    match s.reader.tokens.read(path, shortest) {
        Ok(TokenFile::Present {
            token,
            open_to_others,
        }) => {
            if open_to_others {
                s.warn(
                    &[key],
                    format!("other users of this machine may read {shown}; chmod 600 it"),
                );
            }
            Some(token)
        }
        Ok(TokenFile::Missing) if missing == Missing::MayBeCreated => {
            s.reader.missing_control_token = Some(path.to_path_buf());
            None
        }
        Ok(TokenFile::Missing) => {
            s.fault(&[key], format!("the token file {shown} does not exist; create it with the token as its first line"));
            None
        }
        Err(problem) => {
            s.fault(&[key], problem);
            None
        }
    }
}

/// Reads a secret from its variable, or else from its file; a file for each
/// site is not read now. `None` when it is wrong, and reported.
pub(super) fn credential(
    s: &mut Section<'_, '_>,
    variable: &'static str,
    key: &'static str,
    base: &Path,
) -> Option<Option<Credential>> {
    let from_variable = s.secret_variable(variable);
    s.not_by_control(key, SECRET_FILE);
    let path = s.optional(key, file(base));
    if let Some(text) = from_variable {
        return match tokens::check_with(&text, SHORTEST_CREDENTIAL) {
            Ok(secret) => Some(Some(Credential::Shared(secret))),
            Err(problem) => {
                s.fault(&[variable], format!("the secret {problem}"));
                None
            }
        };
    }
    let Some(path) = path? else {
        return Some(None);
    };
    if path.to_string_lossy().contains(SITE) {
        return Some(Some(Credential::PerSite(path)));
    }
    let secret = token_in(s, key, &path, Missing::Refused, SHORTEST_CREDENTIAL)?;
    Some(Some(Credential::Shared(secret)))
}

/// Keys of apps and jobs, by section (`apps[0]`), whose secret is one for all
/// sites; both of them where one is set by file or by variable.
pub(super) fn shared_secrets(
    apps: Option<&[AppSettings]>,
    jobs: Option<&[JobSettings]>,
) -> Vec<(String, [&'static str; 2])> {
    let shared = |secret: Option<&Credential>| matches!(secret, Some(Credential::Shared(_)));
    let of_apps = apps.unwrap_or_default().iter().enumerate();
    let of_apps = of_apps.flat_map(|(index, app)| {
        [
            (&app.api_key, ["api_key", "api_key_file"]),
            (&app.site_key, ["site_key", "site_key_file"]),
        ]
        .into_iter()
        .filter(|(secret, _)| shared(secret.as_ref()))
        .map(move |(_, keys)| (format!("apps[{index}]"), keys))
    });
    let of_jobs = jobs.unwrap_or_default().iter().enumerate();
    let of_jobs = of_jobs.filter_map(|(index, job)| {
        let HandlerSettings::Http(http) = &job.handler else {
            return None;
        };
        let keys = if shared(http.token.as_ref()) {
            ["handler.http.token", "handler.http.token_file"]
        } else if shared(http.basic.as_ref().map(|(_, password)| password)) {
            ["handler.http.password", "handler.http.password_file"]
        } else {
            return None;
        };
        Some((format!("jobs[{index}]"), keys))
    });
    of_apps.chain(of_jobs).collect()
}

/// Who sends in a site says where its visits go, and what is sent with them.
pub(super) fn warn_of_open_intake(
    reader: &mut Reader<'_>,
    http: &HttpSettings,
    shared: &[(String, [&'static str; 2])],
) {
    let given = |entry: &Entry| {
        entry.section == "http"
            && matches!(&*entry.key, "intake_token" | "intake_token_file")
            && entry.origin != Origin::Default
    };
    // One that is asked for but cannot be read is a mistake of its own.
    if http.intake_token.is_some() || reader.entries.iter().any(given) {
        return;
    }
    for (section, keys) in shared {
        let find = |key: &str| {
            let mut entries = reader.entries.iter();
            entries.find(|entry| {
                entry.section == *section && entry.key == key && entry.origin != Origin::Default
            })
        };
        let Some(entry) = keys.iter().find_map(|key| find(key)) else {
            continue;
        };
        let message = "the secret is one for all sites, and there is no intake token: anybody who reaches this server can send in a site with an address of his own, to which the secret would be sent; set http.intake_token_file, or name a file for each site ({site_id} in its path)";
        let finding = reader.finding(&entry.origin, &entry.path(), message.to_owned());
        reader.warnings.push(finding);
    }
}

impl Credential {
    /// The secret for a site. Reads a file where each site has its own, so
    /// it is for a thread that may wait; it waits for no pipe, and reads no
    /// file of more than 64 KiB.
    ///
    /// # Errors
    /// Says what is wrong with the site's id or its file; never repeats what
    /// is in the file.
    pub fn of_site(&self, site_id: &str) -> Result<SecretString, String> {
        match self {
            Self::Shared(secret) => Ok(secret.clone()),
            Self::PerSite(path) => {
                // Applications write ids by SQL: one with a slash would lead elsewhere.
                check_site_id(site_id).map_err(|problem| problem.to_string())?;
                let path = path.to_string_lossy().replace(SITE, site_id);
                tokens::credential_file(&PathBuf::from(path))
            }
        }
    }

    /// Why no site's file can be read, whatever the site: the folder in which
    /// they all lie is not there. Asks the disk, so it is for a thread that may
    /// wait.
    pub fn folder_problem(&self) -> Option<String> {
        let Self::PerSite(path) = self else {
            return None;
        };
        let mut folders = path.ancestors().skip(1);
        let folder = folders.find(|folder| !folder.to_string_lossy().contains(SITE))?;
        let error = match folder.metadata() {
            Ok(found) if found.is_dir() => return None,
            Ok(_) => "it is no folder".to_owned(),
            Err(error) => error.to_string(),
        };
        Some(format!(
            "the folder {} of the files of all sites ({}) cannot be used: {error}",
            folder.display(),
            path.display()
        ))
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
