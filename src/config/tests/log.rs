//! What is logged, and where.

use super::*;
use std::path::PathBuf;

#[test]
fn a_log_filter_is_checked() {
    for filter in [
        "warn,highwater::ledgers=debug",
        "debug,[span{field=1}]=trace",
    ] {
        let loaded = loaded(LEDGER, &[("HIGHWATER_LOG__FILTER", filter)]);
        assert_eq!(loaded.settings.log.filter, filter);
    }
    for filter in ["highwater=loud", " A\u{c0e}="] {
        let told = errors(LEDGER, &[("HIGHWATER_LOG__FILTER", filter)]);
        assert!(told.contains("is not a log filter"), "{told}");
    }
}

#[test]
fn log_outputs_are_read_and_their_mistakes_told() {
    let log = |keys: &str| loaded(&format!("[log]\n{keys}"), &[]);
    let file = log("file = { path = 'a.log', rotation = 'hourly', keep = 3 }")
        .settings
        .log
        .file;
    let expected = LogFileSettings {
        path: PathBuf::from("/nonexistent/base/a.log"),
        rotation: LogRotation::Hourly,
        keep: 3,
    };
    assert_eq!(file, Some(expected));
    let traces = |keys: &str| log(keys).settings.log.traces.unwrap();
    assert_eq!(
        traces("traces = { endpoint = 'http://h/v1', sample = 0.25 }").sample,
        0.25
    );
    assert_eq!(
        traces("traces = { endpoint = 'http://h/v1', sample = 1 }").sample,
        1.0
    );
    let by_variable = loaded(
        "log.traces.endpoint = 'https://h'",
        &[
            ("HIGHWATER_LOG__TRACES__SAMPLE", "0.5"),
            ("HIGHWATER_LOG__STDERR", "false"),
        ],
    );
    assert_eq!(by_variable.settings.log.traces.unwrap().sample, 0.5);
    assert!(!by_variable.settings.log.stderr);

    let told = errors("[log]\nfilter = 'loud'", &[]);
    assert!(told.contains("\"loud\" is no level"), "{told}");
    let fine = "[log]\nfilter = 'WARN,highwater::ledgers=debug,sqlx=off'";
    assert!(try_parse(fine, &[]).is_ok());
    let warning = |loaded: Loaded| format!("{:?}", loaded.warnings);
    assert!(warning(log("stderr = false")).contains("nothing is logged"));
    assert!(warning(log("file.keep = 3")).contains("no file is named"));

    let wrong = "[log]\nstderr = 'no'\nfile = { path = '/tmp', keep = 0, rotation = 'weekly' }\n\
                 traces = { endpoint = 'http://me:hunter2@h', sample = 1.5 }";
    let told = errors(wrong, &[]);
    for part in [
        "log.stderr: \"no\" is neither; expected true or false",
        "log.file.rotation: \"weekly\" is not known; expected \"daily\" or \"hourly\" or \"never\"",
        "log.file.keep: 0 is out of range; expected 1 to 1000",
        "log.file.path: names a folder",
        "log.traces.endpoint: the address holds a user or password",
        "log.traces.sample: 1.5 is not a share; expected 0.0 (none) to 1.0 (all)",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn the_log_is_not_written_into_the_database() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("b.db"), "").unwrap();
    std::os::unix::fs::symlink("b.db", folder.path().join("link")).unwrap();
    std::os::unix::fs::symlink(".", folder.path().join("here")).unwrap();
    let told = |path: &str| {
        let text = format!(
            "database.url = 'sqlite://b.db'\nlog.file = {{ path = '{path}', rotation = 'never' }}"
        );
        let loaded = parse_in(folder.path(), &text, &[]);
        loaded.map_or_else(|errors| errors.to_string(), |_| String::new())
    };
    for path in [
        "b.db",
        "./b.db-wal",
        "b.db-shm",
        "b.db.lock",
        "link",
        "here/b.db-journal",
    ] {
        let told = told(path);
        assert!(
            told.contains("log.file.path") && told.contains("a file of the database"),
            "{path}: {told}"
        );
    }
    assert_eq!(told("b.db.log"), "");
}
