//! The log file: a thread of its own writes it, begins it anew by day or by
//! hour, and removes what is past keeping.
//!
//! Whoever logs never waits for the disk: lines go through a bounded queue, and
//! those that find it full are lost and counted.

use super::logging::LogError;
use crate::config::{LogFileSettings, LogRotation};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};

/// Most lines that wait for the disk.
const QUEUE: usize = 8192;

/// Lines that the disk refused, over the life of the process.
static REFUSED: AtomicU64 = AtomicU64::new(0);
/// Lines that found a queue full.
static DROPPED: Mutex<Dropped> = Mutex::new(Dropped {
    next: 0,
    former: 0,
    open: BTreeMap::new(),
});

struct Dropped {
    next: u64,
    /// By files that are closed.
    former: u64,
    /// By each that is open.
    open: BTreeMap<u64, ErrorCounter>,
}

/// An open log file. Dropping it writes what is queued, which takes a second
/// at most: not to be done on an actor's thread.
#[derive(Debug)]
pub(super) struct LogFile {
    number: u64,
    writer: NonBlocking,
    _flush: WorkerGuard,
}

impl LogFile {
    /// Opens the file and starts its thread.
    pub(super) fn open(settings: &LogFileSettings) -> Result<Self, LogError> {
        Ok(Self::of(Kept::open(settings)?))
    }

    fn of(file: impl Write + Send + 'static) -> Self {
        let (writer, flush) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(QUEUE)
            .thread_name("highwater-log")
            .finish(file);
        let mut dropped = DROPPED.lock().unwrap_or_else(PoisonError::into_inner);
        dropped.next += 1;
        let number = dropped.next;
        dropped.open.insert(number, writer.error_counter());
        Self {
            number,
            writer,
            _flush: flush,
        }
    }

    /// Takes lines; a lost one is an error to nobody.
    pub(super) fn writer(&self) -> NonBlocking {
        self.writer.clone()
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        let mut dropped = DROPPED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = dropped.open.remove(&self.number) {
            dropped.former += counter.dropped_lines() as u64;
        }
    }
}

/// Whether the file can be opened now to append to; makes it where it is not
/// there, and does nothing else.
pub(super) fn check(settings: &LogFileSettings) -> Result<(), LogError> {
    appender(settings).map(drop)
}

/// Opens the file; also answers its folder and the name that it has there,
/// before any date.
fn appender(settings: &LogFileSettings) -> Result<(RollingFileAppender, &Path, &str), LogError> {
    let failed = |detail: String| LogError::File {
        path: settings.path.clone(),
        detail,
    };
    let name = settings.path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| failed("it names no file".to_owned()))?;
    let folder = settings.path.parent().unwrap_or(Path::new("/"));
    let rotation = match settings.rotation {
        LogRotation::Daily => Rotation::DAILY,
        LogRotation::Hourly => Rotation::HOURLY,
        LogRotation::Never => Rotation::NEVER,
    };
    let built = RollingFileAppender::builder()
        .rotation(rotation)
        .filename_prefix(name)
        .build(folder);
    let appender = built.map_err(|error| {
        let source = error.source().map(ToString::to_string);
        failed(source.unwrap_or_else(|| error.to_string()))
    })?;
    Ok((appender, folder, name))
}

/// Lines lost since the process started.
pub(super) fn lost_lines() -> u64 {
    let dropped = DROPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let open = dropped.open.values();
    let open: u64 = open.map(|counter| counter.dropped_lines() as u64).sum();
    REFUSED.load(Ordering::Relaxed) + dropped.former + open
}

/// A file that is begun anew, and its forerunners, of which some are kept.
///
/// `tracing-appender` can remove old files itself, but goes by the beginning of
/// their names alone: `highwater.db` is no log file.
struct Kept {
    appender: RollingFileAppender,
    folder: PathBuf,
    name: String,
    keep: usize,
    rotates: bool,
    /// Hour since 1970 in which old files were last looked for.
    looked: u64,
}

impl Kept {
    fn open(settings: &LogFileSettings) -> Result<Self, LogError> {
        let (appender, folder, name) = appender(settings)?;
        let mut kept = Self {
            appender,
            folder: folder.to_path_buf(),
            name: name.to_owned(),
            keep: settings.keep,
            rotates: settings.rotation != LogRotation::Never,
            looked: 0,
        };
        kept.remove_old();
        Ok(kept)
    }

    /// Removes the oldest files, where it may have become time for that.
    fn remove_old(&mut self) {
        let hour = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs() / 3600);
        if !self.rotates || self.looked == hour {
            return;
        }
        self.looked = hour;
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return;
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let ours = entry.file_type().ok()?.is_file()
                    && is_dated(&self.name, entry.file_name().to_str()?);
                ours.then(|| entry.path())
            })
            .collect();
        // By name is by date.
        files.sort();
        for old in files.iter().take(files.len().saturating_sub(self.keep)) {
            // One that cannot be removed is tried again in an hour.
            drop(std::fs::remove_file(old));
        }
    }
}

impl Write for Kept {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.appender.write_all(line).is_err() {
            REFUSED.fetch_add(1, Ordering::Relaxed);
        }
        // After the line, which may have begun a new file.
        self.remove_old();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.appender.flush()
    }
}

/// Whether a file is `NAME.2030-01-31` or `NAME.2030-01-31-23`.
fn is_dated(name: &str, file: &str) -> bool {
    let date = file
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('.'));
    date.is_some_and(|date| {
        matches!(date.len(), 10 | 13)
            && date.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 | 10 => byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: PathBuf, rotation: LogRotation) -> LogFileSettings {
        LogFileSettings {
            path,
            rotation,
            keep: 3,
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().to_str().unwrap().to_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn only_dated_files_of_the_name_are_removed_and_the_newest_kept() {
        let folder = tempfile::tempdir().unwrap();
        let others = [
            "log.db",
            "log.toml",
            "log",
            "log.2020-01-01.gz",
            "log2.2020-01-01",
        ];
        let old = [
            "log.2020-01-01",
            "log.2020-01-02-23",
            "log.2020-01-03",
            "log.2020-01-04",
        ];
        for name in others.iter().chain(&old) {
            std::fs::write(folder.path().join(name), "old").unwrap();
        }
        let mut kept =
            Kept::open(&settings(folder.path().join("log"), LogRotation::Daily)).unwrap();
        kept.write_all(b"a line\n").unwrap();
        let left = names(folder.path());
        for name in others.iter().chain(&old[2..]) {
            assert!(left.iter().any(|left| left == name), "{name} in {left:?}");
        }
        assert_eq!(left.len(), others.len() + 3, "{left:?}");
        let new = left
            .iter()
            .find(|name| is_dated("log", name) && !old.contains(&name.as_str()));
        let written = std::fs::read_to_string(folder.path().join(new.unwrap())).unwrap();
        assert_eq!(written, "a line\n");
    }

    #[test]
    fn a_file_that_never_rotates_has_its_own_name_and_removes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("log.2020-01-01"), "old").unwrap();
        let file = LogFile::open(&settings(folder.path().join("log"), LogRotation::Never)).unwrap();
        file.writer().write_all(b"one\n").unwrap();
        file.writer().write_all(b"two\n").unwrap();
        drop(file);
        let written = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(written, "one\ntwo\n", "dropping it writes what is queued");
        assert_eq!(names(folder.path()), ["log", "log.2020-01-01"]);
    }

    #[test]
    fn what_cannot_be_opened_says_which_file_and_why() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plain"), "").unwrap();
        let path = folder.path().join("plain/log");
        let told = check(&settings(path.clone(), LogRotation::Daily)).unwrap_err();
        let told = told.to_string();
        assert!(told.contains(&path.display().to_string()), "{told}");
        assert!(told.contains("log.file.path"), "{told}");
    }

    /// A disk that takes nothing until its sender is gone.
    struct Hanging(std::sync::mpsc::Receiver<()>);

    impl Write for Hanging {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.recv().unwrap_or_default();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_disk_that_hangs_holds_up_nobody_and_what_is_lost_is_counted() {
        let (works, hangs) = std::sync::mpsc::channel();
        let file = LogFile::of(Hanging(hangs));
        let (before, lines) = (lost_lines(), QUEUE as u64 + 100);
        for _ in 0..lines {
            file.writer().write_all(b"a line\n").unwrap();
        }
        let lost = || lost_lines() - before;
        // One more than the queue holds may be at the disk, and another test
        // loses one.
        assert!((99..=101).contains(&lost()), "{}", lost());
        let open = lost();
        drop(works);
        drop(file);
        assert!(lost() >= open, "what a closed file lost is not forgotten");
    }

    #[test]
    fn lines_that_the_disk_refuses_are_counted_and_hold_up_nobody() {
        if !Path::new("/dev/full").exists() {
            return;
        }
        let before = lost_lines();
        let mut kept = Kept::open(&settings("/dev/full".into(), LogRotation::Never)).unwrap();
        kept.write_all(b"a line\n").unwrap();
        assert!(lost_lines() > before);
    }
}
