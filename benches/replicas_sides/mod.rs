//! The publisher and the follower: servers of the real binary, each a process of
//! its own, so that their memory is theirs alone.

use super::frame::Place;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Longest wait for a process to begin or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that runs; killed with its value.
pub(crate) struct Side {
    child: Child,
    config: PathBuf,
    log: PathBuf,
    /// `HOST:PORT`.
    address: String,
    pub(crate) client: reqwest::Client,
}

/// Memory of a process, in megabytes.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// The most that ever was resident.
    pub(crate) peak: f64,
    /// What is resident now.
    pub(crate) now: f64,
}

impl Side {
    /// Starts it; it is ready when this returns.
    pub(crate) fn start(runtime: &Runtime, name: &str, place: &Place, sections: &str) -> Self {
        let path = |ending: &str| place.folder().join(format!("{name}.{ending}"));
        let (config, out, log) = (path("toml"), path("out"), path("log"));
        std::fs::write(&config, place.text(sections)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&log).unwrap());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HIGHWATER_")) {
            command.env_remove(name);
        }
        let mut side = Self {
            child: command.spawn().unwrap(),
            config,
            log,
            address: String::new(),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        let begun = Instant::now();
        while side.address.is_empty() {
            let said = std::fs::read_to_string(&out).unwrap();
            let address = said
                .lines()
                .find_map(|line| line.strip_prefix("listening on http://"));
            side.address = match address {
                Some(address) if said.ends_with('\n') => address.to_owned(),
                _ => String::new(),
            };
            side.wait(begun, "says where it listens");
        }
        while !runtime.block_on(side.get("/readyz")).0 {
            side.wait(begun, "is ready");
        }
        side
    }

    fn wait(&mut self, begun: Instant, what: &str) {
        let ended = self.child.try_wait().unwrap();
        let told = || std::fs::read_to_string(&self.log).unwrap_or_default();
        assert!(ended.is_none(), "it ended: {}", told());
        assert!(begun.elapsed() < PATIENCE, "it never {what}: {}", told());
        std::thread::sleep(Duration::from_millis(10));
    }

    /// Where it listens, `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether it answers well, and what.
    pub(crate) async fn get(&self, path: &str) -> (bool, Value) {
        let url = format!("http://{}{path}", self.address);
        match self.client.get(url).send().await {
            Ok(answer) => {
                let good = answer.status().is_success();
                (good, answer.json().await.unwrap_or(Value::Null))
            }
            Err(_) => (false, Value::Null),
        }
    }

    /// The head of a content, `datasets/NAME` or `replicas/NAME`, and its state;
    /// `None` while there is nothing.
    pub(crate) async fn head(&self, content: &str) -> Option<(i64, String)> {
        let (good, info) = self.get(&format!("/v1/{content}/info")).await;
        let state = info["state"].as_str().unwrap_or_default().to_owned();
        good.then(|| (info["head"].as_i64().unwrap(), state))
    }

    /// It takes other sections, without a restart.
    pub(crate) fn reload(&self, place: &Place, sections: &str) {
        // The port of the first start is its own: nothing of it changes.
        std::fs::write(&self.config, place.text(sections)).unwrap();
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Memory {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let of = |field: &str| {
            let line = status.lines().find(|line| line.starts_with(field)).unwrap();
            let kb = line.split_whitespace().nth(1).unwrap();
            kb.parse::<f64>().unwrap() / 1024.0
        };
        Memory {
            peak: of("VmHWM:"),
            now: of("VmRSS:"),
        }
    }

    /// Processor time that it used so far, in seconds.
    pub(crate) fn processor(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name, which may hold blanks: user and system time, in ticks
        // of which Linux tells a hundred a second.
        let rest = stat.rsplit_once(')').unwrap().1;
        let ticks = rest.split_whitespace().skip(11).take(2);
        ticks.map(|it| it.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }

    /// Drains it; answers what it logged.
    pub(crate) fn stop(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // It may have ended before; then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
