//! What the demo plays on: a folder with a configuration, two ledgers, and
//! sites.

use super::sites;
use crate::cli::failure::Failure;
use crate::config::{self, LoadOptions, Loaded};
use crate::ledgers::LedgerKind;
use crate::sim::{LedgerSim, SimHandle, SimOptions, SitesHandle, SitesSim, Span};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use toml_edit::{DocumentMut, value};

/// Valid as it stands; the addresses are put in.
const TEMPLATE: &str = include_str!("../../../config/demo.toml");
/// Name of the configuration in the folder.
const FILE: &str = "demo.toml";
/// Name of the control token's file, as the configuration has it.
const TOKEN_FILE: &str = "control.token";
const DEFAULT_PORT: u16 = 8780;

/// Name of the Sawtooth ledger.
pub(super) const TRACE: &str = "trace";
/// Name of the Splinter ledger.
pub(super) const SUPPLY_CHAIN: &str = "supply-chain";

/// The folder, its configuration, and the ledgers and sites, which run.
pub(super) struct Stage {
    pub(super) folder: TempDir,
    pub(super) config: Loaded,
    pub(super) trace: SimHandle,
    pub(super) supply_chain: SimHandle,
    /// Services of the Splinter ledger.
    pub(super) services: Vec<String>,
    pub(super) sites: SitesHandle,
}

impl Stage {
    /// Sets everything up; `port` is the server's, `rate` the batches to come
    /// per second.
    ///
    /// # Errors
    /// The port is taken, or the folder cannot be written.
    pub(super) fn build(port: Option<u16>, rate: u32) -> Result<Self, Failure> {
        let listen = choose_port(port)?;
        let folder = tempfile::Builder::new()
            .prefix("highwater-demo-")
            .tempdir()
            .map_err(|error| Failure::Failed(format!("cannot make a folder: {error}")))?;
        let trace = LedgerSim::start(ledger(LedgerKind::Sawtooth))?;
        let supply_chain = LedgerSim::start(ledger(LedgerKind::Splinter))?;
        let sites = SitesSim::start(sites::options())?;
        let path = folder.path().join(FILE);
        let text = configuration(listen, &trace.url(), &supply_chain.url())?;
        std::fs::write(&path, text).map_err(|error| {
            Failure::Failed(format!("cannot write {}: {error}", path.display()))
        })?;
        // The demo is the same for everyone: no overrides.
        let options = LoadOptions {
            create_control_token: true,
        };
        let config = config::load(&path, [], options)?;
        Ok(Self {
            folder,
            config,
            trace,
            supply_chain,
            services: services(rate),
            sites,
        })
    }

    /// The configuration's file.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    /// The file with the control token.
    pub(super) fn token_file(&self) -> PathBuf {
        self.folder.path().join(TOKEN_FILE)
    }

    /// Ends the ledgers and the sites, and keeps the folder.
    pub(super) fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// Ends the ledgers and the sites, and removes the folder.
    ///
    /// # Errors
    /// The folder cannot be removed.
    pub(super) fn remove(self) -> Result<(), Failure> {
        let path = self.folder.path().to_owned();
        self.folder
            .close()
            .map_err(|error| Failure::Failed(format!("cannot remove {}: {error}", path.display())))
    }
}

/// A ledger with the pace and the blemishes of a real one.
fn ledger(kind: LedgerKind) -> SimOptions {
    SimOptions {
        latency: Duration::from_millis(15),
        jitter: Duration::from_millis(60),
        commit_after: Span::new(Duration::from_secs(1), Duration::from_secs(6)),
        invalid: 0.03,
        never_known: 0.002,
        ..SimOptions::of(kind)
    }
}

/// A Splinter service remembers its newest 100 batches: there are as many
/// services as keep that from hurting at this rate, and at least a dozen.
fn services(rate: u32) -> Vec<String> {
    let circuits = (rate / 40).max(3);
    (0..circuits)
        .flat_map(|circuit| {
            (0..4).map(move |service| format!("demo{}-{:05}::a00{service}", circuit % 10, circuit))
        })
        .collect()
}

/// The port that is asked for; else the usual one, or any when that is taken.
fn choose_port(asked: Option<u16>) -> Result<SocketAddr, Failure> {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let wanted = address(asked.unwrap_or(DEFAULT_PORT));
    match TcpListener::bind(wanted) {
        Ok(_) => Ok(wanted),
        Err(error) if asked.is_none() && error.kind() == io::ErrorKind::AddrInUse => Ok(address(0)),
        Err(error) => Err(Failure::Failed(format!(
            "cannot listen on {wanted}: {error}; choose another port with --port"
        ))),
    }
}

/// The template with the addresses of this run.
fn configuration(listen: SocketAddr, trace: &str, supply_chain: &str) -> Result<String, Failure> {
    let broken = |what: &str| Failure::Failed(format!("config/demo.toml, as built in: {what}"));
    let mut document: DocumentMut = TEMPLATE
        .parse()
        .map_err(|error: toml_edit::TomlError| broken(&error.to_string()))?;
    let http = document
        .get_mut("http")
        .and_then(|http| http.as_table_mut())
        .ok_or_else(|| broken("no [http]"))?;
    http.insert("listen", value(listen.to_string()));
    let ledgers = document
        .get_mut("ledgers")
        .and_then(|ledgers| ledgers.as_array_of_tables_mut())
        .ok_or_else(|| broken("no [[ledgers]]"))?;
    for (name, url) in [(TRACE, trace), (SUPPLY_CHAIN, supply_chain)] {
        ledgers
            .iter_mut()
            .find(|ledger| ledger.get("name").and_then(|name| name.as_str()) == Some(name))
            .ok_or_else(|| broken(name))?
            .insert("url", value(url));
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_valid_configuration() {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let text = configuration(listen, "http://127.0.0.1:1", "http://127.0.0.1:2").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let options = LoadOptions::default();
        let loaded = config::parse(&text, "demo.toml", folder.path(), [], options).unwrap();
        assert_eq!(loaded.settings.http.listen.port(), 0);
        let urls: Vec<_> = loaded
            .settings
            .ledgers
            .iter()
            .map(|ledger| (ledger.name.as_str(), ledger.url.port()))
            .collect();
        assert_eq!(urls, [(SUPPLY_CHAIN, Some(2)), (TRACE, Some(1))]);
        let names: Vec<_> = loaded
            .settings
            .jobs
            .iter()
            .map(|job| job.key.to_string())
            .collect();
        let told = format!("{}/{}", sites::APP, sites::JOB);
        assert!(names.contains(&told), "{names:?}");
        assert!(text.contains(&format!("control_token_file = \"{TOKEN_FILE}\"")));
    }

    #[test]
    fn every_service_is_one_that_splinter_could_have() {
        for rate in [1, 20, 5000] {
            let services = services(rate);
            assert!(services.len() >= 12);
            for service in services {
                LedgerKind::Splinter.check_service_id(&service).unwrap();
            }
        }
    }
}
