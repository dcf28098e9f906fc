//! Soft state: written by several servers without loss, debounced, tried again
//! when it cannot be written, and set aside when it cannot be read.

use crate::command_line::program;
use crate::support::{Database, Installation, PATIENCE, eventually, on_both_databases};
use highwater::actors::{StateSaver, StateSaverParts};
use highwater::config::{self, LoadOptions};
use highwater::messages::SaveStates;
use highwater::store::{SavedState, StateWrite, Store};
use highwater::watchdog::{
    self, Fault, Intercom, Keeper, Registration, Sentinel, State, StateHandle, StateSource,
    WatchdogQuery,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

on_both_databases!(
    servers_that_write_one_row_lose_nothing_of_each_other,
    what_cannot_be_read_is_kept_and_only_the_newest_of_it,
    a_busy_state_is_written_once_a_second_and_the_last_of_it_at_the_end,
    a_state_that_cannot_be_written_is_tried_again_and_shown,
);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts(BTreeMap<String, u64>);

impl State for Counts {
    const VERSION: i32 = 1;
}

async fn open(database: &Database) -> Store {
    let text = database.section("saver");
    let base = Path::new("/");
    let loaded = config::parse(&text, "t.toml", base, [], LoadOptions::default()).unwrap();
    Store::open(&loaded.settings.database).await.unwrap()
}

/// Adds a name to those saved, as a server adds its ledgers.
async fn add(store: &Store, name: String) {
    let decide = move |former: Option<&SavedState>| {
        let mut names: Vec<String> = former.map_or_else(Vec::new, |former| {
            serde_json::from_str(&former.value).unwrap()
        });
        names.push(name.clone());
        Ok(StateWrite {
            value: serde_json::to_string(&names).unwrap(),
            unreadable: None,
        })
    };
    store.save_state("demo", 1, decide).await.unwrap();
}

async fn servers_that_write_one_row_lose_nothing_of_each_other(database: &Database) {
    let (one, two) = (open(database).await, open(database).await);
    let write = async |store: &Store, server: &str| {
        for n in 0..20 {
            add(store, format!("{server}{n}")).await;
        }
    };
    // The first write of each finds no row to lock.
    tokio::join!(write(&one, "a"), write(&two, "b"));
    let saved = one.saved_state("demo").await.unwrap().unwrap();
    let names: Vec<String> = serde_json::from_str(&saved.value).unwrap();
    assert_eq!(names.len(), 40, "{names:?}");
    // What cannot be decided changes nothing.
    let refused = one
        .save_state("demo", 2, |_| Err("no way".to_owned()))
        .await;
    assert!(refused.unwrap_err().to_string().contains("no way"));
    assert_eq!(two.saved_state("demo").await.unwrap(), Some(saved));
}

async fn what_cannot_be_read_is_kept_and_only_the_newest_of_it(database: &Database) {
    let store = open(database).await;
    for n in 0..7 {
        let decide = move |former: Option<&SavedState>| {
            Ok(StateWrite {
                value: format!("{n}"),
                unreadable: former.map(|former| format!("is {}", former.value)),
            })
        };
        store.save_state("demo", n, decide).await.unwrap();
    }
    let aside = store.states_aside().await.unwrap();
    let kept: Vec<(&str, i32, &str)> = aside
        .iter()
        .map(|row| (row.value.as_str(), row.version, row.problem.as_str()))
        .collect();
    assert_eq!(
        kept,
        [
            ("5", 5, "is 5"),
            ("4", 4, "is 4"),
            ("3", 3, "is 3"),
            ("2", 2, "is 2"),
            ("1", 1, "is 1")
        ]
    );
    // Set aside at a start: only what is there still, and then it is gone.
    let saved = store.saved_state("demo").await.unwrap().unwrap();
    let replaced = SavedState {
        value: "older".into(),
        ..saved.clone()
    };
    assert!(!store.set_state_aside(replaced, "late").await.unwrap());
    assert!(store.set_state_aside(saved, "broken").await.unwrap());
    assert_eq!(store.saved_state("demo").await.unwrap(), None);
    assert_eq!(store.states_aside().await.unwrap()[0].problem, "broken");
    assert_eq!(store.drop_states_aside("other").await.unwrap(), 0);
    assert_eq!(store.drop_states_aside("demo").await.unwrap(), 5);
    assert_eq!(store.states_aside().await.unwrap(), []);
}

/// A StateSaver that writes one service's state, on a thread of its own.
struct Saving {
    handle: StateHandle<Counts>,
    source: StateSource,
    save: Intercom<SaveStates>,
    query: WatchdogQuery,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Saving {
    fn start(store: &Store) -> Self {
        let saver = watchdog::StateSaver::new("demo", Counts::default());
        let source = saver.source();
        let sources = vec![source.clone()];
        let parts = StateSaverParts {
            store: store.clone(),
            states: Arc::new(move || sources.clone()),
        };
        let (query, _orders) = WatchdogQuery::new(tokio::runtime::Handle::current());
        let service = Registration::<StateSaver>::new("state_saver")
            .accepts::<SaveStates>()
            .built_by(move |context| Ok::<_, Infallible>(StateSaver::new(context, parts.clone())));
        query.register(service, Keeper::Root).unwrap();
        let save = query.watchdog().intercom("test", "state_saver").unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let kept = query.clone();
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                kept.start_all();
                let sentinel = Sentinel::start(&kept);
                drop(stopped.await);
                sentinel.stop();
                kept.stop_threads();
            });
        });
        Self {
            handle: saver.handle(),
            source,
            save,
            query,
            stop,
            thread,
        }
    }

    fn count(&self) {
        self.handle
            .modify(|counts| *counts.0.entry("n".into()).or_default() += 1);
    }

    async fn flush(&self) -> Result<(), String> {
        self.save.send(SaveStates, PATIENCE).await.unwrap()
    }

    fn end(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

async fn saved_count(store: &Store) -> Option<u64> {
    let saved = store.saved_state("demo").await.unwrap()?;
    let counts: Counts = serde_json::from_str(&saved.value).unwrap();
    counts.0.get("n").copied()
}

async fn a_busy_state_is_written_once_a_second_and_the_last_of_it_at_the_end(database: &Database) {
    let store = open(database).await;
    let saving = Saving::start(&store);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(
        saved_count(&store).await,
        None,
        "the initial state is no news"
    );
    let begun = Instant::now();
    let mut seen = Vec::new();
    let mut counted = 0;
    while begun.elapsed() < Duration::from_millis(3500) {
        saving.count();
        counted += 1;
        seen.extend(saved_count(&store).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    seen.dedup();
    let most = begun.elapsed().as_secs() as usize;
    assert!(
        !seen.is_empty() && seen.len() <= most,
        "{seen:?} in {most} s"
    );
    saving.flush().await.unwrap();
    assert_eq!(saved_count(&store).await, Some(counted));
    let status = saving.source.status();
    assert!(!status.unsaved && status.saved_at.is_some() && status.bytes.unwrap() > 5);

    // A StateSaver that is built again finds what its predecessor had not written.
    saving.count();
    let fault = Fault::Panic("injected".to_owned());
    saving.query.inject("state_saver", fault).unwrap();
    eventually(PATIENCE, "the next one writes it", async || {
        saved_count(&store).await == Some(counted + 1)
    })
    .await;
    saving.end();
}

async fn a_state_that_cannot_be_written_is_tried_again_and_shown(database: &Database) {
    let store = open(database).await;
    let saving = Saving::start(&store);
    let rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        database.run(&sql).await.unwrap();
    };
    rename("service_states", "hidden").await;
    saving.count();
    eventually(PATIENCE, "two writes have failed", async || {
        saving.source.status().failures >= 2
    })
    .await;
    let status = saving.source.status();
    let problem = status.problem.unwrap();
    assert!(
        problem.contains("service_states") && status.unsaved,
        "{problem}"
    );
    assert!(saving.flush().await.unwrap_err().starts_with("demo: "));
    rename("hidden", "service_states").await;
    // By itself, with nothing new to save.
    eventually(PATIENCE, "it is written", async || {
        saved_count(&store).await == Some(1)
    })
    .await;
    eventually(PATIENCE, "all is well", async || {
        let status = saving.source.status();
        !status.unsaved && status.problem.is_none() && status.failures == 0
    })
    .await;
    saving.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_state_that_cannot_be_read_is_reported_until_it_is_dropped() {
    let database = Database::sqlite();
    drop(open(&database).await);
    database
        .run(
            "INSERT INTO service_states (service, version, value, saved_at) \
             VALUES ('scheduler', 99, '{\"from\": \"the future\"}', '2026-01-01 00:00:00')",
        )
        .await
        .unwrap();
    let place = Installation::new(&database, "server", "");
    let server = place.serve().await;
    assert!(server.log().contains("version 99"), "{}", server.log());
    let states = server.get("/v1/states").await;
    assert_eq!(states["items"][0]["service"], "scheduler");
    assert_eq!(states["aside"][0]["version"], 99);
    let ready = server.get("/readyz").await;
    let warning = ready["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("version 99") && warning.contains("highwater states drop scheduler"),
        "{warning}"
    );
    let page = server.page("/services").await;
    assert!(page.contains("Set aside") && page.contains("version 99"));

    // The operator looks at it and drops it, while the server runs.
    let config = place.config();
    let run = |args: &[&str]| {
        let ended = program(config.parent().unwrap())
            .args(args)
            .output()
            .unwrap();
        let out = String::from_utf8(ended.stdout).unwrap();
        (ended.status.code(), out)
    };
    let (_, listed) = run(&["states", "list"]);
    assert!(listed.contains("version 99"), "{listed}");
    let (_, listed) = run(&["states", "list", "--output", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["aside"][0]["state"]["from"], "the future");
    assert_eq!(run(&["states", "drop", "schedule"]).0, Some(1));
    assert_eq!(
        run(&["states", "drop", "scheduler"]),
        (Some(0), "1 state dropped\n".to_owned())
    );
    eventually(PATIENCE, "nobody is warned any more", async || {
        server.get("/readyz").await["warnings_total"] == 0
    })
    .await;
    let (_, audit) = run(&["audit", "--action", "states.drop"]);
    assert!(
        audit.contains("refused") && audit.contains("done"),
        "{audit}"
    );
    server.terminate().await;
}
