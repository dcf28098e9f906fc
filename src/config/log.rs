//! The keys of `[log]`.

use super::forms::{count, file, flag, log_filter, otlp_url, share, word};
use super::section::Section;
use super::settings::{LogFileSettings, LogFormat, LogRotation, LogSettings, TraceSettings};
use std::path::Path;

/// `actix_server` says at each start, at level info, how many workers it has.
const FILTER: &str = "info,actix_server=warn";

/// Reads the section; `None` when something is wrong.
pub(super) fn log(s: &mut Section<'_, '_>, base: &Path) -> Option<LogSettings> {
    let filter = s.get("filter", FILTER, log_filter);
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = s.get("format", "text", word(formats));
    let stderr = s.get("stderr", true, flag);
    let example = "{ path = \"highwater.log\", rotation = \"daily\", keep = 7 }";
    let file = s.group("file", example, |s| log_file(s, base));
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

fn log_file(s: &mut Section<'_, '_>, base: &Path) -> Option<Option<LogFileSettings>> {
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

fn traces(s: &mut Section<'_, '_>) -> Option<Option<TraceSettings>> {
    let endpoint = s.optional("endpoint", otlp_url);
    let sample = s.get("sample", 1.0, share);
    let (endpoint, sample) = (endpoint?, sample?);
    Some(endpoint.map(|endpoint| TraceSettings { endpoint, sample }))
}
