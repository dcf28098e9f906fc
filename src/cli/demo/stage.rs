//! What the demo plays on: a folder with a configuration, two ledgers, sites,
//! and a gateway with a consumer of its events.

use super::{events, prices, sites};
use crate::cli::failure::Failure;
use crate::config::{self, LoadOptions, Loaded};
use crate::ledgers::LedgerKind;
use crate::sim::{
    ConsumerHandle, ConsumerSim, GatewayHandle, GatewaySim, LedgerSim, SimHandle, SimOptions,
    SitesHandle, SitesSim, Span,
};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use toml_edit::{DocumentMut, Table, value};

/// Valid as it stands; the addresses are put in.
const TEMPLATE: &str = include_str!("../../../config/demo.toml");
/// Name of the configuration in the folder.
const FILE: &str = "demo.toml";
/// Name of the control token's file, as the configuration has it.
const TOKEN_FILE: &str = "control.token";
/// Name of the file with the secret of the hooks, as the configuration has it.
const SECRET_FILE: &str = "hook.secret";
const DEFAULT_PORT: u16 = 8780;

/// Name of the Sawtooth ledger.
pub(super) const TRACE: &str = "trace";
/// Name of the Splinter ledger.
pub(super) const SUPPLY_CHAIN: &str = "supply-chain";
/// Name of the gateway.
const CUSTOMS: &str = "customs";

/// The folder, its configuration, and the ledgers, sites, gateway and consumer,
/// which run.
pub(super) struct Stage {
    pub(super) folder: TempDir,
    pub(super) config: Loaded,
    pub(super) trace: SimHandle,
    pub(super) supply_chain: SimHandle,
    /// Services of the Splinter ledger.
    pub(super) services: Vec<String>,
    pub(super) sites: SitesHandle,
    pub(super) gateway: GatewayHandle,
    pub(super) consumer: ConsumerHandle,
}

/// Where everything of a run is.
struct Addresses {
    /// Of the server.
    listen: SocketAddr,
    trace: String,
    supply_chain: String,
    gateway: String,
    consumer: String,
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
        let gateway = GatewaySim::start(events::gateway())?;
        let consumer = ConsumerSim::start(events::consumer())?;
        let path = folder.path().join(FILE);
        let text = configuration(&Addresses {
            listen,
            trace: trace.url(),
            supply_chain: supply_chain.url(),
            gateway: gateway.url(),
            consumer: consumer.url(),
        })?;
        write(&path, &text)?;
        write(&folder.path().join(SECRET_FILE), &secret())?;
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
            gateway,
            consumer,
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

    /// Ends everything that runs, and keeps the folder.
    pub(super) fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// Ends everything that runs, and removes the folder.
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

/// The port that is asked for; else the usual one, or any when that is taken. A
/// free one is chosen here, since the gateway is told where to call back; that
/// another program takes it before the server does is possible, and told.
fn choose_port(asked: Option<u16>) -> Result<SocketAddr, Failure> {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let free = |port| TcpListener::bind(address(port)).and_then(|bound| bound.local_addr());
    let wanted = asked.unwrap_or(DEFAULT_PORT);
    let chosen = match free(wanted) {
        Err(error) if asked.is_none() && error.kind() == io::ErrorKind::AddrInUse => free(0),
        chosen => chosen,
    };
    chosen.map_err(|error| {
        Failure::Failed(format!(
            "cannot listen on {}: {error}; choose another port with --port",
            address(wanted)
        ))
    })
}

/// Writes a file that only its owner reads.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

/// What the gateway calls back with.
fn secret() -> String {
    format!("{:032x}\n", rand::random::<u128>())
}

/// The template with the addresses of this run.
fn configuration(addresses: &Addresses) -> Result<String, Failure> {
    let mut document: DocumentMut = TEMPLATE
        .parse()
        .map_err(|error: toml_edit::TomlError| broken(&error.to_string()))?;
    let http = document
        .get_mut("http")
        .and_then(|http| http.as_table_mut())
        .ok_or_else(|| broken("no [http]"))?;
    http.insert("listen", value(addresses.listen.to_string()));
    for (name, url) in [
        (TRACE, &addresses.trace),
        (SUPPLY_CHAIN, &addresses.supply_chain),
    ] {
        named(&mut document, "ledgers", name)?.insert("url", value(url));
    }
    let gateway = named(&mut document, "gateways", CUSTOMS)?;
    gateway.insert("url", value(&addresses.gateway));
    let server = format!("http://{}", addresses.listen);
    gateway.insert("callback_base", value(&server));
    for name in [events::CLAIMS, events::PAYMENTS] {
        let handler = named(&mut document, "subscriptions", name)?
            .get_mut("handler")
            .and_then(|handler| handler.get_mut("http"))
            .and_then(|http| http.as_table_mut())
            .ok_or_else(|| broken(name))?;
        handler.insert("url", value(&addresses.consumer));
    }
    // It follows this very server, as it would follow another.
    let replica = named(&mut document, "replicas", prices::COPY)?;
    replica.insert("upstream", value(server));
    Ok(document.to_string())
}

/// The table of that name among those of a kind.
fn named<'a>(
    document: &'a mut DocumentMut,
    kind: &str,
    name: &str,
) -> Result<&'a mut Table, Failure> {
    document
        .get_mut(kind)
        .and_then(|tables| tables.as_array_of_tables_mut())
        .and_then(|tables| {
            tables
                .iter_mut()
                .find(|table| table.get("name").and_then(|name| name.as_str()) == Some(name))
        })
        .ok_or_else(|| broken(&format!("no {kind} {name}")))
}

fn broken(what: &str) -> Failure {
    Failure::Failed(format!("config/demo.toml, as built in: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EventHandlerSettings;

    #[test]
    fn the_template_is_a_valid_configuration() {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let text = configuration(&Addresses {
            listen,
            trace: "http://127.0.0.1:1".to_owned(),
            supply_chain: "http://127.0.0.1:2".to_owned(),
            gateway: "http://127.0.0.1:3/subscribe".to_owned(),
            consumer: "http://127.0.0.1:4/process".to_owned(),
        })
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join(SECRET_FILE), &secret()).unwrap();
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
        let gateway = &loaded.settings.gateways[0];
        assert_eq!(gateway.url.port(), Some(3));
        for name in [events::CLAIMS, events::PAYMENTS] {
            let mut all = loaded.settings.subscriptions.iter();
            let found = all.find(|of| of.name.as_str() == name).unwrap();
            let EventHandlerSettings::Http(handler) = &found.handler else {
                panic!("{name} is not posted on");
            };
            assert_eq!(handler.url.port(), Some(4));
        }
        let names: Vec<_> = loaded
            .settings
            .jobs
            .iter()
            .map(|job| job.key.to_string())
            .collect();
        let told = format!("{}/{}", sites::APP, sites::JOB);
        assert!(names.contains(&told), "{names:?}");
        let replica = &loaded.settings.replicas[0];
        let followed = (replica.name.as_str(), replica.dataset.as_str());
        assert_eq!(followed, (prices::COPY, prices::PRICES));
        assert_eq!(replica.upstreams[0].port(), Some(0));
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
