//! The program as a process of its own, told by signals.

use crate::command_line::program;
use crate::life_support::{Api, Db, PATIENCE, Place, until};
use highwater::config::{self, LoadOptions};
use highwater::store::Store;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The program, serving; killed when dropped.
pub(super) struct Process {
    pub(super) api: Api,
    pub(super) child: Child,
    pub(super) place: Place,
}

impl Process {
    pub(super) fn start(db: Db, sections: &str) -> Self {
        let place = Place::new(db);
        write(&place, sections);
        // Its command in the way the other tests build it, to be spawned.
        let template = program(place.path());
        let mut command = Command::new(template.get_program());
        for (name, value) in template.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let log = File::create(place.path().join("log")).unwrap();
        let mut child = command
            .current_dir(place.path())
            .args(["serve", "--config", "highwater.toml"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let said = std::fs::read_to_string(place.path().join("log")).unwrap();
        let Some(base) = line.trim().strip_prefix("listening on ") else {
            panic!("it did not start: {line:?} {said}");
        };
        Self {
            api: Api::new(base.to_owned()),
            child,
            place,
        }
    }

    pub(super) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Writes another configuration and tells the server to read it.
    pub(super) fn reload(&self, sections: &str) {
        write(&self.place, sections);
        self.signal("-HUP");
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.place.path().join("log")).unwrap()
    }

    pub(super) async fn logged(&self, words: &str) {
        until(&format!("{words:?} is logged"), PATIENCE, async || {
            let log = self.log();
            if log.contains(words) {
                Ok(())
            } else {
                Err(log)
            }
        })
        .await;
    }

    pub(super) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the process ends", PATIENCE, async || {
            child
                .try_wait()
                .unwrap()
                .ok_or_else(|| "it runs".to_owned())
        })
        .await
    }

    pub(super) async fn metric(&self, sample: &str) -> Option<String> {
        let (_, metrics) = self.api.text("/metrics").await;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(sample).map(str::to_owned));
        line.map(|value| value.trim().to_owned())
    }

    /// Since when each service runs, and how often it was restarted, once all run.
    pub(super) async fn lives(&self) -> Vec<String> {
        until("all services run", PATIENCE, async || {
            let (_, services) = self.api.get("/v1/services").await;
            let items = services["items"].as_array().unwrap();
            if items.iter().all(|service| service["state"] == "running") {
                let life = |service: &serde_json::Value| {
                    format!(
                        "{} {} {}",
                        service["name"], service["since"], service["restarts"]
                    )
                };
                Ok(items.iter().map(life).collect())
            } else {
                Err(services.to_string())
            }
        })
        .await
    }

    pub(super) async fn warnings(&self) -> String {
        let (status, body) = self.api.get("/readyz").await;
        assert_eq!(status, 200, "{body}");
        body["warnings"].to_string()
    }

    /// The database, once the process is gone.
    pub(super) fn store(&self) -> Store {
        let file = self.place.path().join("highwater.toml");
        let loaded = config::load(&file, [], LoadOptions::default()).unwrap();
        Store::open_as_is(&loaded.settings.database).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn write(place: &Place, sections: &str) {
    std::fs::write(
        place.path().join("highwater.toml"),
        format!("{}{sections}", place.base()),
    )
    .unwrap();
}
