//! Secrets of sites, read when they are needed.

use crate::config::Credential;
use crate::flows::sites::{FailureKind, VisitError, check_site_id};
use secrecy::SecretString;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

/// What stands for the site in the path of a file for each site.
const SITE: &str = "{site_id}";
/// Most bytes read of such a file.
const LONGEST_FILE: u64 = 4096;
/// Longest time that reading it takes, on a disk that is elsewhere and away.
const LONGEST_READ: Duration = Duration::from_secs(5);
/// Shortest secret taken: hiding a shorter one would tear words apart.
const SHORTEST: usize = 8;

/// The secret for a site; a file for each site is read anew, so that a key that
/// was replaced counts from the next visit on.
///
/// # Errors
/// `Handler`: names the file's pattern and what is wrong, never what is in it.
pub(super) async fn secret_of(
    credential: &Credential,
    site_id: &str,
) -> Result<SecretString, VisitError> {
    let pattern = match credential {
        Credential::Shared(secret) => return Ok(secret.clone()),
        Credential::PerSite(pattern) => pattern.clone(),
    };
    // Applications write ids by SQL: one with a slash would lead elsewhere.
    if let Err(problem) = check_site_id(site_id) {
        return Err(VisitError::new(FailureKind::Handler, &problem.to_string()));
    }
    let shown = pattern.display().to_string();
    let path = pattern.to_string_lossy().replace(SITE, site_id);
    let read = tokio::task::spawn_blocking(move || first_line(Path::new(&path)));
    let problem = match tokio::time::timeout(LONGEST_READ, read).await {
        Ok(Ok(Ok(line))) => return Ok(line),
        Ok(Ok(Err(problem))) => problem,
        Ok(Err(_)) | Err(_) => "cannot be read now".to_owned(),
    };
    Err(VisitError::new(
        FailureKind::Handler,
        &format!(
            "the site's file of {shown} {problem}; expected a file whose first line is the secret"
        ),
    ))
}

fn first_line(path: &Path) -> Result<SecretString, String> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    // Opening a pipe would wait for somebody who writes.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is no file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let line = bytes.split(|byte| *byte == b'\n').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    let secret = line.trim();
    if secret.len() < SHORTEST {
        return Err(format!("holds fewer than {SHORTEST} characters"));
    }
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds spaces or characters that no HTTP header takes".to_owned());
    }
    Ok(SecretString::from(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[tokio::test]
    async fn each_site_has_its_own_file_read_at_each_visit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a:1.key");
        let credential = Credential::PerSite(folder.path().join("{site_id}.key"));
        for written in ["  hunter22\nmore", "hunter33"] {
            std::fs::write(&file, written).unwrap();
            let secret = secret_of(&credential, "a:1").await.unwrap();
            assert!(written.contains(secret.expose_secret()));
            assert_eq!(secret.expose_secret().len(), 8);
        }
        std::fs::write(folder.path().join("short.key"), "hunter2").unwrap();
        std::fs::write(folder.path().join("odd.key"), "hunter2 hunter2").unwrap();
        for (site, expected) in [
            ("b", "{site_id}.key does not exist"),
            ("short", "fewer than 8"),
            ("odd", "no HTTP header"),
            ("../a:1", "is not a site id"),
        ] {
            let error = secret_of(&credential, site).await.unwrap_err();
            assert_eq!(error.kind, FailureKind::Handler);
            assert!(error.detail.contains(expected), "{error}");
            assert!(!error.detail.contains("hunter2"), "{error}");
        }
    }
}
