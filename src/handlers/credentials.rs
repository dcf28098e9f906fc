//! Secrets of sites, read when they are needed.

use crate::config::Credential;
use crate::flows::sites::{FailureKind, VisitError};
use secrecy::SecretString;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Longest time that reading a file takes, on a disk that is elsewhere and away.
const LONGEST_READ: Duration = Duration::from_secs(5);

/// Files read at once. Those of a disk that does not answer keep a thread each,
/// and others need threads too.
static READS: Semaphore = Semaphore::const_new(8);

/// The secret for a site; a file for each site is read anew, so that a key that
/// was replaced counts from the next visit on.
///
/// # Errors
/// `Handler`: names the file and what is wrong, never what is in it. `Job`:
/// the folder of the files of all sites is missing, or its disk does not answer.
pub(super) async fn secret_of(
    credential: &Credential,
    site_id: &str,
) -> Result<SecretString, VisitError> {
    let pattern = match credential {
        Credential::Shared(secret) => return Ok(secret.clone()),
        Credential::PerSite(pattern) => pattern.display(),
    };
    let (own, id) = (credential.clone(), site_id.to_owned());
    let read = async {
        let permit = READS.acquire().await.ok()?;
        let read = tokio::task::spawn_blocking(move || {
            let secret = own.of_site(&id).map_err(|problem| {
                own.folder_problem().map_or_else(
                    || VisitError::new(FailureKind::Handler, &problem),
                    |problem| VisitError::new(FailureKind::Job, &problem),
                )
            });
            drop(permit);
            secret
        });
        read.await.ok()
    };
    match tokio::time::timeout(LONGEST_READ, read).await {
        Ok(Some(secret)) => secret,
        Ok(None) | Err(_) => Err(VisitError::new(
            FailureKind::Job,
            &format!(
                "the site's file of {pattern} was not read within {} s: its disk does not answer",
                LONGEST_READ.as_secs()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[tokio::test]
    async fn each_site_has_its_own_file_read_at_each_visit() {
        let folder = tempfile::tempdir().unwrap();
        let credential = Credential::PerSite(folder.path().join("{site_id}.key"));
        for written in ["  hunter22\nmore", "hunter33"] {
            std::fs::write(folder.path().join("a:1.key"), written).unwrap();
            let secret = secret_of(&credential, "a:1").await.unwrap();
            assert!(written.contains(secret.expose_secret()));
            assert_eq!(secret.expose_secret().len(), 8);
        }
        for (site, expected) in [
            ("b", "b.key does not exist"),
            ("../a:1", "is not a site id"),
        ] {
            let error = secret_of(&credential, site).await.unwrap_err();
            assert_eq!(error.kind, FailureKind::Handler);
            assert!(error.detail.contains(expected), "{error}");
        }
        let folder = folder.path().join("gone");
        let credential = Credential::PerSite(folder.join("{site_id}/key"));
        let error = secret_of(&credential, "a:1").await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Job);
        assert!(error.detail.contains(folder.to_str().unwrap()), "{error}");
    }
}
