//! What most commands start from: the configuration and the database.

use super::failure::Failure;
use super::progress;
use crate::config::{self, LedgerSettings, LoadOptions, Loaded};
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

/// Runs a command's asynchronous part to its end.
///
/// # Errors
/// The command's own; or no thread can be started.
pub(super) fn block_on<F: Future<Output = Result<(), Failure>>>(work: F) -> Result<(), Failure> {
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
