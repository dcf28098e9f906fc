//! The keys of `[log]`.

use super::control::{TRACES_TRAVEL, WRITTEN_FILE};
use super::forms::{count, file, flag, log_filter, otlp_url, share, word};
use super::section::Section;
use super::settings::{
    DatabaseLocation, DatabaseSettings, LogFileSettings, LogFormat, LogRotation, LogSettings,
    TraceSettings,
};
use std::path::{Path, PathBuf};

/// `actix_server` says at each start, at level info, how many workers it has.
const FILTER: &str = "info,actix_server=warn,actix_http=off";

/// Reads the section; `None` when something is wrong.
pub(super) fn log(
    s: &mut Section<'_, '_>,
    base: &Path,
    database: Option<&DatabaseSettings>,
) -> Option<LogSettings> {
    let filter = s.get("filter", FILTER, log_filter);
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = s.get("format", "text", word(formats));
    let stderr = s.get("stderr", true, flag);
    let example = "{ path = \"highwater.log\", rotation = \"daily\", keep = 7 }";
    let file = s.group("file", example, |s| log_file(s, base, database));
    let example = "{ endpoint = \"http://127.0.0.1:4318/v1/traces\", sample = 1.0 }";
    let traces = s.group("traces", example, traces);
    if let (Some(false), Some(None)) = (stderr, &file) {
        let message = "nothing is logged anywhere: stderr is off and no file is named; set one of log.stderr and log.file.path";
        s.warn(&["stderr"], message.to_owned());
    }
    Some(LogSettings {
        filter: filter?,
        format: format?,
        stderr: stderr?,
        file: file?,
        traces: traces?,
    })
}

fn log_file(
    s: &mut Section<'_, '_>,
    base: &Path,
    database: Option<&DatabaseSettings>,
) -> Option<Option<LogFileSettings>> {
    s.not_by_control("path", WRITTEN_FILE);
    let path = s.optional("path", file(base));
    let rotations = [
        ("daily", LogRotation::Daily),
        ("hourly", LogRotation::Hourly),
        ("never", LogRotation::Never),
    ];
    let rotation = s.get("rotation", "daily", word(rotations));
    let keep = s.get("keep", 7, count(1..=1000, ""));
    let path = path?;
    let named = path
        .as_deref()
        .is_none_or(|path| path.file_name().is_some() && !path.is_dir());
    if !named {
        s.fault(
            &["path"],
            "names a folder; expected the path of a file, e.g. \"highwater.log\"".to_owned(),
        );
        return None;
    }
    let location = database.map(|database| &database.location);
    if let (Some(path), Some(DatabaseLocation::Sqlite(database))) = (&path, location)
        && is_of_database(path, database)
    {
        let message = format!(
            "\"{}\" is a file of the database, which lines of the log would destroy; expected another file",
            path.display()
        );
        s.fault(&["path"], message);
        return None;
    }
    let (rotation, keep) = (rotation?, keep?);
    if path.is_none() && (rotation != LogRotation::Daily || keep != 7) {
        let message = "has no effect: no file is named; set log.file.path";
        s.warn(&["rotation", "keep"], message.to_owned());
    }
    Some(path.map(|path| LogFileSettings {
        path,
        rotation,
        keep,
    }))
}

/// Whether a path leads to the SQLite file, or to one of those beside it.
fn is_of_database(path: &Path, database: &Path) -> bool {
    let (path, database) = (real(path), real(database));
    ["", "-wal", "-shm", "-journal", ".lock"].iter().any(|end| {
        let mut file = database.clone().into_os_string();
        file.push(end);
        path == Path::new(&file)
    })
}

/// The path with links followed, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let folder = || {
        let folder = path.parent()?.canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    let real = path.canonicalize().ok().or_else(folder);
    real.unwrap_or_else(|| path.to_path_buf())
}

fn traces(s: &mut Section<'_, '_>) -> Option<Option<TraceSettings>> {
    s.not_by_control("endpoint", TRACES_TRAVEL);
    let endpoint = s.optional("endpoint", otlp_url);
    let sample = s.get("sample", 1.0, share);
    let (endpoint, sample) = (endpoint?, sample?);
    Some(endpoint.map(|endpoint| TraceSettings { endpoint, sample }))
}
