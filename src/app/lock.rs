//! One server per SQLite file: an operating system lock on a file beside it,
//! which dies with its process, however it dies.

use super::AppError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Held for as long as the server lives.
#[derive(Debug)]
pub(super) struct DatabaseLock {
    _file: File,
}

impl DatabaseLock {
    /// Locks the database at `path`.
    pub(super) fn acquire(path: &Path) -> Result<Self, AppError> {
        let lock_path = lock_path(path);
        let failed = |source| AppError::Lock {
            path: lock_path.clone(),
            source,
        };
        if let Some(folder) = lock_path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                // Only to name the holder; the lock itself is what counts.
                let known = Read::by_ref(&mut file)
                    .take(20)
                    .read_to_string(&mut process)
                    .is_ok();
                let holder = match process.trim() {
                    process if known && !process.is_empty() => format!(" (process {process})"),
                    _ => String::new(),
                };
                return Err(AppError::SecondServer {
                    path: path.to_path_buf(),
                    holder,
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// `NAME.lock` beside the database, links followed, so that two ways to one
/// file lead to one lock.
fn lock_path(path: &Path) -> PathBuf {
    let real = path.canonicalize().or_else(|_| {
        // Not there yet: the folder may still be a link.
        let folder = path.parent().unwrap_or(Path::new("."));
        folder
            .canonicalize()
            .map(|folder| folder.join(path.file_name().unwrap_or_default()))
    });
    let mut name = real.unwrap_or_else(|_| path.to_path_buf()).into_os_string();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_the_lock_ends_with_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let first = DatabaseLock::acquire(&path).unwrap();
        let refused = DatabaseLock::acquire(&path).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        drop(first);
        DatabaseLock::acquire(&path).unwrap();
    }
}
