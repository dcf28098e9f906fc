//! Token files: first line, trimmed, at least 16 characters; credentials for
//! sites, which others choose, at least 8.

use secrecy::SecretString;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Shortest token taken.
pub(super) const SHORTEST: usize = 16;

/// Shortest credential taken that a site's operator chose.
pub(super) const SHORTEST_CREDENTIAL: usize = 8;

/// Most bytes read of a token file; a JWT takes a few hundred.
const LONGEST_FILE: u64 = 64 * 1024;

/// What a token file holds.
#[derive(Clone, Debug)]
pub(super) enum TokenFile {
    Present {
        token: SecretString,
        /// Others may read it: worth a warning.
        open_to_others: bool,
    },
    Missing,
}

/// Token files, each read once: what was in them when the configuration was
/// loaded holds until it is loaded again. By path and shortest length taken.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenFiles(BTreeMap<(PathBuf, usize), TokenFile>);

impl TokenFiles {
    /// What is in a token file, or was when it was read first.
    ///
    /// # Errors
    /// As for [`read`].
    pub(super) fn read(&mut self, path: &Path, shortest: usize) -> Result<TokenFile, String> {
        let key = (path.to_path_buf(), shortest);
        if let Some(known) = self.0.get(&key) {
            return Ok(known.clone());
        }
        let found = read_with(path, shortest)?;
        self.0.insert(key, found.clone());
        Ok(found)
    }

    /// Remembers a token that was just written to a file for its owner only.
    pub(super) fn created(&mut self, path: &Path, token: SecretString) {
        let file = TokenFile::Present {
            token,
            open_to_others: false,
        };
        self.0.insert((path.to_path_buf(), SHORTEST), file);
    }
}

/// Reads the token in a file that must be there, as a command line names it.
///
/// # Errors
/// Says what is wrong with the file; never repeats what is in it.
pub fn token_file(path: &Path) -> Result<SecretString, String> {
    present(path, SHORTEST)
}

/// Reads the credential in a file that must be there: a plain one and no longer
/// than needed, since it is read at each visit.
///
/// # Errors
/// As for [`token_file`].
pub(super) fn credential_file(path: &Path) -> Result<SecretString, String> {
    // Opening a pipe would wait for somebody who writes.
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() || metadata.len() > LONGEST_FILE => Err(format!(
            "{} is no file of at most {LONGEST_FILE} bytes; expected one whose first line is the secret",
            path.display()
        )),
        _ => present(path, SHORTEST_CREDENTIAL),
    }
}

fn present(path: &Path, shortest: usize) -> Result<SecretString, String> {
    match read_with(path, shortest)? {
        TokenFile::Present { token, .. } => Ok(token),
        TokenFile::Missing => Err(format!(
            "the token file {} does not exist; expected a file whose first line is the token",
            path.display()
        )),
    }
}

/// Reads a token file.
///
/// # Errors
/// Says what is wrong with the file; never repeats what is in it.
pub(super) fn read(path: &Path) -> Result<TokenFile, String> {
    read_with(path, SHORTEST)
}

fn read_with(path: &Path, shortest: usize) -> Result<TokenFile, String> {
    let unreadable = |error: std::io::Error| {
        format!(
            "cannot read the token file {}: {error}; expected a file whose first line is the token",
            path.display()
        )
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(TokenFile::Missing),
        Err(error) => return Err(unreadable(error)),
    };
    let open_to_others = file
        .metadata()
        .is_ok_and(|metadata| readable_by_others(&metadata));
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let first = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let token = check_with(&String::from_utf8_lossy(first), shortest).map_err(|problem| {
        format!(
            "the first line of the token file {} {problem}",
            path.display()
        )
    })?;
    Ok(TokenFile::Present {
        token,
        open_to_others,
    })
}

/// Checks a token, trimmed.
///
/// # Errors
/// Says what is wrong, after the token's name: "is too short …".
pub fn check(token: &str) -> Result<SecretString, String> {
    check_with(token, SHORTEST)
}

/// Checks a token or credential of at least so many characters, trimmed.
///
/// # Errors
/// As for [`check`].
pub(super) fn check_with(token: &str, shortest: usize) -> Result<SecretString, String> {
    let token = token.trim();
    if token.len() < shortest {
        return Err(format!(
            "is too short for a token; expected at least {shortest} characters"
        ));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "holds spaces or characters that no HTTP header takes; expected the token alone, without \"Bearer\""
                .to_owned(),
        );
    }
    Ok(SecretString::from(token))
}

/// Writes a new random token (32 bytes, in hex) to a file that only its owner
/// may read. Another process may do the same at once: the file appears whole
/// and once, and both use what is in it.
///
/// # Errors
/// Says why the file cannot be written.
pub(super) fn create(path: &Path) -> Result<SecretString, String> {
    let failed = |error: std::io::Error| {
        format!(
            "cannot create the token file {}: {error}; create it, or its folder, with the right owner",
            path.display()
        )
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut token = String::with_capacity(64);
    for byte in rand::random::<[u8; 32]>() {
        write!(token, "{byte:02x}").map_err(|error| error.to_string())?;
    }
    // A temporary file is 0600 from the start.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    writeln!(file, "{token}").map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(SecretString::from(token)),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => match read(path)? {
            TokenFile::Present { token, .. } => Ok(token),
            TokenFile::Missing => Err(failed(error.error)),
        },
        Err(error) => Err(failed(error.error)),
    }
}

#[cfg(unix)]
fn readable_by_others(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.is_file() && metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn readable_by_others(_: &std::fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn a_created_token_is_private_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.token");
        assert!(matches!(read(&path), Ok(TokenFile::Missing)));
        let created = create(&path).unwrap();
        assert_eq!(created.expose_secret().len(), 64);
        let again = create(&path).unwrap();
        assert_eq!(again.expose_secret(), created.expose_secret());
        let Ok(TokenFile::Present {
            token,
            open_to_others,
        }) = read(&path)
        else {
            panic!("not readable");
        };
        assert_eq!(token.expose_secret(), created.expose_secret());
        assert!(!open_to_others);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_first_line_counts_and_is_never_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        std::fs::write(&path, "  0123456789abcdef \r\nsecond line\n").unwrap();
        let Ok(TokenFile::Present {
            token,
            open_to_others,
        }) = read(&path)
        else {
            panic!("not readable");
        };
        assert_eq!(token.expose_secret(), "0123456789abcdef");
        assert_eq!(open_to_others, cfg!(unix));

        for bad in [
            "hunter2",
            "Bearer hunter2-hunter2-hunter2",
            "",
            "hunter2-hunter2-hüntér2",
        ] {
            std::fs::write(&path, bad).unwrap();
            let message = read(&path).unwrap_err();
            assert!(!message.contains("hunter2"), "{message}");
            assert!(message.contains("expected"), "{message}");
        }
        assert!(read(folder.path()).unwrap_err().contains("cannot read"));
    }
}
