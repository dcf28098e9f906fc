//! A server under control, for the tests of `/v1/control`.

use super::super::audit::Auditor;
use super::super::guesses::Guesses;
use super::super::state::Http;
use super::super::testing::Fixture;
use super::Seen;
use crate::watchdog::{
    EffectiveSetting, Keeper, Order, OrderError, Orders, Registration, Reloaded, Sentinel,
    ServiceContext,
};
use actix::{Actor, Context};
use actix_web::http::Method;
use actix_web::test::TestRequest;
use actix_web::web;
use secrecy::SecretString;
use serde_json::Value;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) const CONTROL: &str = "control-token-0123456789";
pub(super) const WRONG: &str = "another-token-0123456789";

/// A service that does nothing.
struct Idle {
    _context: ServiceContext,
}

impl Actor for Idle {
    type Context = Context<Self>;
}

/// A server under control: services `worker` and `keeper`, an application that
/// knows a few settings, and a clock for the limit on wrong tokens.
pub(super) struct Controlled {
    pub(super) fixture: Fixture,
    pub(super) clock: Arc<Mutex<Duration>>,
    /// Values set by control.
    pub(super) set: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Controlled {
    pub(super) async fn new() -> Self {
        let mut fixture = Fixture::with(|settings| {
            settings.http.control_token = Some(SecretString::from(CONTROL));
            settings.http.read_token = Some(SecretString::from("read-token-0123456789"));
        })
        .await;
        let clock = Arc::new(Mutex::new(Duration::from_secs(1000)));
        let told = Arc::clone(&clock);
        let state = fixture.state.clone();
        let runtime = tokio::runtime::Handle::current();
        fixture.http = web::Data::new(Http {
            guesses: Guesses::with_clock(move || *told.lock().unwrap()),
            auditor: Auditor::new(state.store.clone(), runtime.clone())
                .with_window(Duration::from_millis(200)),
            ..Http::new(state, runtime)
        });
        let query = fixture.state.control.clone();
        for (name, keeper) in [("worker", Keeper::Supervisor), ("keeper", Keeper::Root)] {
            let service = Registration::<Idle>::new(name)
                .built_by(|context| Ok::<_, Infallible>(Idle { _context: context }));
            query.register(service, keeper).unwrap();
        }
        query.start_all();
        drop(Sentinel::start(&query));
        actix_rt::spawn(async move {
            loop {
                let pause = query
                    .attend(Keeper::Supervisor)
                    .map_or(Duration::from_secs(60), |at| {
                        at.saturating_duration_since(std::time::Instant::now())
                    });
                drop(tokio::time::timeout(pause, query.bell(Keeper::Supervisor)).await);
            }
        });
        let orders = fixture.orders.lock().unwrap().take().unwrap();
        let set = Arc::new(Mutex::new(BTreeMap::new()));
        actix_rt::spawn(carry_out(orders, Arc::clone(&set)));
        let controlled = Self {
            fixture,
            clock,
            set,
        };
        controlled.until_is("worker", "running").await;
        controlled
    }

    pub(super) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Seen {
        let mut request = TestRequest::default()
            .method(method)
            .uri(&format!("/v1/control/{path}"))
            .peer_addr("192.0.2.7:4711".parse().unwrap())
            .insert_header(("Authorization", format!("Bearer {CONTROL}")))
            .insert_header(("Highwater-Operator", "eve@desk"));
        if let Some(body) = body {
            request = request.set_json(body);
        }
        self.fixture.call(request).await
    }

    pub(super) async fn get(&self, path: &str) -> Seen {
        self.call(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str) -> Seen {
        self.call(Method::POST, path, None).await
    }

    pub(super) async fn patch(&self, body: Value) -> Seen {
        self.call(Method::PATCH, "settings", Some(body)).await
    }

    /// Waits until a service is in a state; answers it.
    pub(super) async fn until_is(&self, service: &str, state: &str) -> Value {
        let seen = until(async || {
            let seen = self.get(&format!("services/{service}")).await.json();
            (seen["state"] == state).then_some(seen)
        });
        seen.await
    }

    /// The audit, newest first.
    pub(super) async fn audit(&self) -> Vec<Value> {
        let seen = self.get("audit").await.json();
        seen["items"].as_array().unwrap().clone()
    }

    /// A request with another token.
    pub(super) async fn guess(&self, path: &str, address: &str) -> Seen {
        let request = TestRequest::post()
            .uri(path)
            .peer_addr(format!("{address}:1").parse().unwrap())
            .insert_header(("Authorization", format!("Bearer {WRONG}")));
        self.fixture.call(request).await
    }
}

pub(super) async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect("it never came true")
}

/// Plays the application: knows two settings, one of which is a duration.
async fn carry_out(mut orders: Orders, set: Arc<Mutex<BTreeMap<String, String>>>) {
    while let Some(order) = orders.next().await {
        let mut set = set.lock().unwrap();
        match order {
            Order::Reload { reset, reply } => {
                let changed: Vec<String> = if reset {
                    std::mem::take(&mut *set).into_keys().collect()
                } else {
                    Vec::new()
                };
                let answer = if set.contains_key("batches.commit_rows") {
                    let mistakes = ["highwater.toml:3:1: no key", "batches: does not fit"];
                    Err(OrderError::Refused(mistakes.map(str::to_owned).to_vec()))
                } else {
                    Ok(Reloaded {
                        changed,
                        needs_restart: vec!["http.listen".into()],
                    })
                };
                drop(reply.send(answer));
            }
            Order::Change { changes, reply } => {
                let known = [
                    "batches.commit_rows",
                    "batches.poll_interval",
                    "http.control_token",
                ];
                let mut mistakes = Vec::new();
                for (key, value) in &changes {
                    let value = value.as_deref();
                    if !known.contains(&key.as_str()) {
                        mistakes.push(format!("control: {key}: unknown key"));
                    } else if key == "batches.poll_interval"
                        && value.is_some_and(|v| !v.ends_with('s'))
                    {
                        let value = value.unwrap();
                        mistakes.push(format!("control: {key}: \"{value}\" is no duration"));
                    }
                }
                let answer = if mistakes.is_empty() {
                    for (key, value) in &changes {
                        match value {
                            Some(value) => drop(set.insert(key.clone(), value.clone())),
                            None => drop(set.remove(key)),
                        }
                    }
                    Ok(Reloaded {
                        changed: changes.into_keys().collect(),
                        needs_restart: Vec::new(),
                    })
                } else {
                    Err(OrderError::Refused(mistakes))
                };
                drop(reply.send(answer));
            }
            Order::Settings { reply } => {
                let shown = set.iter().map(|(key, value)| EffectiveSetting {
                    key: key.clone(),
                    value: if key.ends_with("token") {
                        "***".into()
                    } else {
                        value.clone()
                    },
                    origin: "control".into(),
                    place: None,
                });
                drop(reply.send(Ok(shown.collect())));
            }
            Order::Shutdown { reply } => drop(reply.send(Ok(()))),
        }
    }
}
