//! What systemd is told, and what it says of the unit.

use crate::imports::sources;
use crate::support::{
    Database, Installation, PATIENCE, ServerProcess, batch_id, eventually, tracking,
};
use highwater::ledgers::LedgerKind;
use highwater::sim::{Behaviour, Fault, LedgerSim, SimOptions};
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const UNIT: &str = include_str!("../../deploy/highwater.service");

/// systemd's end of the socket, and all it was told. Always read, since few
/// messages fit into a socket.
struct Systemd {
    heard: mpsc::Receiver<String>,
    told: Vec<String>,
}

impl Systemd {
    fn on(socket: UnixDatagram) -> Self {
        let (hear, heard) = mpsc::channel();
        // Ends with the test: its receiver is gone then, or the process.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = socket.recv(&mut buffer) {
                let message = String::from_utf8(buffer[..count].to_vec()).unwrap();
                if hear.send(message).is_err() {
                    return;
                }
            }
        });
        Self {
            heard,
            told: Vec::new(),
        }
    }

    fn listen(&mut self) {
        self.told.extend(self.heard.try_iter());
    }

    /// How many messages begin so, until now.
    fn count(&mut self, start: &str) -> usize {
        self.listen();
        self.told.iter().filter(|it| it.starts_with(start)).count()
    }

    /// Waits for a message that begins so, behind the first `after`; answers it
    /// and its place.
    async fn hears(&mut self, start: &str, after: usize) -> (String, usize) {
        let what = format!("systemd is told {start}");
        let mut found = None;
        eventually(PATIENCE, &what, async || {
            self.listen();
            let place = self
                .told
                .iter()
                .skip(after)
                .position(|it| it.starts_with(start));
            found = place.map(|place| place + after);
            found.is_some()
        })
        .await;
        let place = found.unwrap();
        (self.told[place].clone(), place)
    }
}

/// Seconds since the machine started, which is about what `CLOCK_MONOTONIC` tells.
fn uptime() -> Duration {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    Duration::from_secs_f64(seconds)
}

async fn started(place: &Installation, address: &str, more: &[(&str, &str)]) -> ServerProcess {
    let mut variables = vec![("NOTIFY_SOCKET", address)];
    variables.extend(more);
    let mut server = place.start_with(&variables);
    server.ready().await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_told_of_start_reload_progress_and_drain() {
    let sim = LedgerSim::start(SimOptions::of(LedgerKind::Sawtooth)).unwrap();
    sim.set_behaviour(&Behaviour::default().with(Fault::Hang, 1.0));
    let database = Database::sqlite();
    let sections = format!(
        "[server]\nshutdown_timeout = \"5s\"\n\n\
         [[ledgers]]\nname = \"trace\"\nkind = \"sawtooth\"\nurl = \"{}\"\ntimeout = \"60s\"\n",
        sim.url()
    );
    let place = Installation::new(&database, "server", &sections);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let mut systemd = Systemd::on(UnixDatagram::bind(&path).unwrap());
    let address = path.to_str().unwrap();
    let server = started(&place, address, &[("WATCHDOG_USEC", "400000")]).await;
    let (ready, at) = systemd.hears("READY=1", 0).await;
    assert!(
        ready.contains(&format!("STATUS=serving {}", server.address())),
        "{ready}"
    );

    // Fed twice in its 0.4 s.
    let begun = Instant::now();
    let before = systemd.count("WATCHDOG=1");
    eventually(PATIENCE, "the watchdog is fed", async || {
        systemd.count("WATCHDOG=1") >= before + 10
    })
    .await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1700), "10 pings in {took:?}");

    // A reload: begun with the time, and ended, also when it is refused.
    let time_before = uptime();
    server.hangup();
    let (reloading, at) = systemd.hears("RELOADING=1\nMONOTONIC_USEC=", at).await;
    let time: u64 = reloading.rsplit('=').next().unwrap().parse().unwrap();
    let slack = Duration::from_secs(1);
    let time = Duration::from_micros(time);
    assert!(
        time + slack >= time_before && time <= uptime() + slack,
        "{time:?}"
    );
    let (ready, at) = systemd.hears("READY=1", at).await;
    assert!(!ready.contains("changed nothing"), "{ready}");
    let config = std::fs::read_to_string(place.config()).unwrap();
    std::fs::write(place.config(), format!("{config}\nnonsense = 1\n")).unwrap();
    server.hangup();
    let (_, at) = systemd.hears("RELOADING=1", at).await;
    let (ready, at) = systemd.hears("READY=1", at).await;
    assert!(
        ready.contains("the last reload changed nothing: "),
        "{ready}"
    );
    assert_eq!(ready.lines().count(), 2, "{ready}");

    // A drain that waits for a ledger which never answers.
    server
        .track(&tracking([("trace".into(), String::new(), batch_id(1))]))
        .await;
    eventually(PATIENCE, "the ledger is asked", async || {
        sim.stats().in_flight >= 1
    })
    .await;
    server.terminate().await;
    let (_, at) = systemd
        .hears("STOPPING=1\nSTATUS=draining (SIGTERM)", at)
        .await;
    systemd.listen();
    let asked: Vec<u64> = systemd.told[at..]
        .iter()
        .filter_map(|it| it.strip_prefix("EXTEND_TIMEOUT_USEC="))
        .map(|usec| usec.parse().unwrap())
        .collect();
    assert!(asked.len() >= 3, "{asked:?}");
    assert!(asked.is_sorted_by(|a, b| a > b), "{asked:?}");
    assert!(asked[0] >= 5_000_000 && asked[0] <= 20_000_000, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abstract_socket_does_as_well_and_a_wrong_one_no_harm() {
    let name = format!(
        "highwater-test-{}-{:08x}",
        std::process::id(),
        rand::random::<u32>()
    );
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let mut systemd = Systemd::on(UnixDatagram::bind_addr(&address).unwrap());
    let database = Database::sqlite();
    let place = Installation::new(&database, "server", "");
    let server = started(&place, &format!("@{name}"), &[]).await;
    systemd.hears("READY=1", 0).await;
    server.terminate().await;
    systemd.hears("STOPPING=1", 0).await;
    assert_eq!(systemd.count("WATCHDOG=1"), 0, "nobody asked for it");

    let server = started(&place, "/there/is/nothing/here", &[]).await;
    assert!(
        server.log().contains("NOTIFY_SOCKET cannot be used"),
        "{}",
        server.log()
    );
    server.terminate().await;
}

/// A child would inherit `NOTIFY_SOCKET`: taking it out of our environment is
/// not safe once there are threads, so it is taken out of the child's, at the
/// one place where one is started.
#[test]
fn one_place_starts_processes_and_withholds_the_socket() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let place = src.join("handlers/process.rs");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path == place || name.ends_with("_tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for word in ["process::Command", "Command::new", "CommandExt"] {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
    let text = std::fs::read_to_string(&place).unwrap();
    assert_eq!(text.matches("Command::new").count(), 1);
    for word in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "env_remove"] {
        assert!(text.contains(word), "{word}");
    }
}

/// SIGTERM is for the server, which drains; a command under way gets it only
/// from there, and is not failed by it.
#[test]
fn the_unit_stops_the_server_before_its_commands() {
    assert!(UNIT.lines().any(|it| it == "KillMode=mixed"));
}

#[test]
fn the_unit_asks_for_what_the_server_tells() {
    for line in ["Type=notify-reload", "NotifyAccess=main", "WatchdogSec=30s"] {
        assert!(UNIT.lines().any(|it| it == line), "lacks {line}");
    }
    assert!(!UNIT.lines().any(|it| it.starts_with("ExecReload")));
}

/// The unit with the program where it is built, since it is not installed here.
#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let program = env!("CARGO_BIN_EXE_highwater");
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("highwater.service");
    assert!(UNIT.contains("=/usr/local/bin/highwater "));
    std::fs::write(&unit, UNIT.replace("/usr/local/bin/highwater", program)).unwrap();
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&unit)
        .output();
    let verified = match verified {
        Ok(verified) => verified,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Past the harness, which shows nothing of a test that passes.
            let told = "\nSKIPPED: the unit is not verified: there is no systemd-analyze on this machine (Debian package systemd)\n";
            std::io::stderr().write_all(told.as_bytes()).unwrap();
            return;
        }
        Err(error) => panic!("systemd-analyze: {error}"),
    };
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    println!("{said}");
    // A systemd before 253 does not know the type, and nothing else is wrong.
    let wrong: Vec<&str> = said
        .lines()
        .filter(|line| !line.contains("notify-reload"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        verified.status.success() || said.contains("notify-reload"),
        "{said}"
    );
}
