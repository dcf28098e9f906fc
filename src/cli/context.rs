//! What most commands start from: the configuration and the database.

use super::failure::Failure;
use super::progress;
use crate::config::{self, ConfigErrors, LedgerSettings, LoadOptions, Loaded};
use crate::handlers::Listeners;
use crate::store::Store;
use std::future::Future;
use std::path::{Path, PathBuf};

/// Where the configuration is looked for, in this order.
const DEFAULT_PLACES: [&str; 2] = ["highwater.toml", "/etc/highwater/highwater.toml"];

/// The configuration file to use: the one named, else the first that exists.
///
/// # Errors
/// None is named and none exists.
pub(super) fn config_file(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return Ok(named.to_path_buf());
    }
    DEFAULT_PLACES
        .iter()
        .map(PathBuf::from)
        .find(|place| place.exists())
        .ok_or_else(|| {
            Failure::Usage(format!(
                "no configuration: neither {} here nor {} exists; name a file with --config, or \
                 see `highwater demo`, which needs none",
                DEFAULT_PLACES[0], DEFAULT_PLACES[1]
            ))
        })
}

/// Loads the configuration. Its warnings are for `check` and `serve` to tell:
/// here they would stand before every result.
///
/// # Errors
/// Every mistake in it.
pub(super) fn load(named: Option<&Path>) -> Result<Loaded, Failure> {
    Ok(config::load(
        &config_file(named)?,
        config::environment(),
        LoadOptions::default(),
    )?)
}

/// Loads a configuration for a server of this program, which has code for
/// some jobs and has to have it for all that servers run.
///
/// # Errors
/// Every mistake in it; or every job whose code this program lacks. Nothing
/// is made then, whatever the options.
pub(super) fn load_with(
    file: &Path,
    listeners: &Listeners,
    options: LoadOptions,
) -> Result<Loaded, ConfigErrors> {
    let load = |options| {
        let loaded = config::load(file, config::environment(), options)?;
        let unknown = listeners.of_no_job(&loaded.settings.jobs);
        let remarks = unknown.into_iter().map(|event| {
            format!("this program has code for \"{event}\", and no such job is configured: correct the event's name, or add the job")
        });
        let unknown = listeners.of_no_subscription(&loaded.settings.subscriptions);
        let more = unknown.into_iter().map(|name| {
            format!("this program has code for events of \"{name}\", and no such subscription is configured: correct the name, or add the subscription")
        });
        let remarks = remarks.chain(more).collect();
        loaded.held_against(
            |job| listeners.lacks(job).filter(|_| job.server),
            |subscription| listeners.lacks_events(subscription),
            remarks,
        )
    };
    let loaded = load(LoadOptions::default())?;
    if options == LoadOptions::default() {
        return Ok(loaded);
    }
    load(options)
}

/// Runs a command's asynchronous part to its end.
///
/// # Errors
/// The command's own; or no thread can be started.
pub(super) fn block_on<T, F>(work: F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(work)
}

/// Opens the database and brings its schema up to date: whichever command
/// comes first migrates.
///
/// # Errors
/// Out of reach, not migratable, or newer than this binary.
pub(super) async fn open(loaded: &Loaded) -> Result<Store, Failure> {
    let opened = Store::open(&loaded.settings.database);
    Ok(progress::while_waiting("opening the database", opened).await?)
}

/// A configured ledger by name.
///
/// # Errors
/// There is none of this name.
pub(super) fn ledger<'a>(loaded: &'a Loaded, name: &str) -> Result<&'a LedgerSettings, String> {
    let ledgers = &loaded.settings.ledgers;
    ledgers
        .iter()
        .find(|ledger| ledger.name == name)
        .ok_or_else(|| {
            let names: Vec<&str> = ledgers.iter().map(|ledger| ledger.name.as_str()).collect();
            let known = match names.as_slice() {
                [] => "none is configured".to_owned(),
                names => format!("configured: {}", names.join(", ")),
            };
            format!("no ledger \"{name}\" in the configuration ({known})")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_whose_code_is_lacking_are_refused_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.toml");
        let text = "[http]\ncontrol_token_file = 'control.token'\n\
                    [[jobs]]\napp = 'org.a'\nhandler.code = {}\n\
                    [[jobs]]\napp = 'org.b'\nserver = false\nhandler.code = {}\n";
        std::fs::write(&file, text).unwrap();
        let options = LoadOptions {
            create_control_token: true,
        };
        let mut listeners = Listeners::default();
        let errors = load_with(&file, &listeners, options).unwrap_err();
        assert_eq!(errors.errors().len(), 1, "{errors}");
        let told = errors.to_string();
        for part in [
            "own.toml:4:7: jobs[0].handler: the work of job org.a/default is Rust code",
            "register a listener for \"app:org.a:job=default:poll\"",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!folder.path().join("control.token").exists());

        for event in ["app:org.a:job=default:poll", "app:org.a:job=defualt:poll"] {
            listeners.on(event, async |_| Ok(())).unwrap();
        }
        let loaded = load_with(&file, &listeners, options).unwrap();
        assert!(loaded.created_control_token.is_some());
        let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert!(
            told.iter()
                .any(|told| told.contains("code for \"app:org.a:job=defualt:poll\"")),
            "{told:?}"
        );
    }
}
