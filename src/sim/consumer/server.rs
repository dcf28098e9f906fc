//! The running consumer.

use super::handle::{ConsumerHandle, ConsumerStats, Received};
use super::options::{ConsumerKnobs, ConsumerOptions};
use crate::sim::hash;
use crate::sim::peer::Peer;
use crate::sim::shared::{query, read_body};
use crate::time::Timestamp;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Largest event that is read, in bytes.
const MAX_BODY: usize = 8 << 20;
/// Calls told at once.
const MOST_TOLD: usize = 10_000;

/// Starts a simulated consumer.
pub struct ConsumerSim;

impl ConsumerSim {
    /// Starts a consumer; it listens when this returns, and stops when the
    /// handle is dropped.
    ///
    /// # Errors
    /// The address is taken or not allowed, or no thread can be started.
    pub fn start(options: ConsumerOptions) -> io::Result<ConsumerHandle> {
        let (listen, workers) = (options.listen, options.workers);
        let shared = Arc::new(ConsumerShared {
            knobs: watch::Sender::new(options.knobs.clone()),
            state: Mutex::default(),
            options,
        });
        let data = web::Data::from(shared.clone());
        let routes = move |config: &mut web::ServiceConfig| {
            config
                .app_data(data.clone())
                .default_service(web::to(handle));
        };
        let peer = Peer::start("sim-consumer", listen, workers, routes, || {})?;
        Ok(ConsumerHandle::new(peer, shared))
    }
}

/// What the handlers of one running consumer share.
pub(super) struct ConsumerShared {
    pub(super) options: ConsumerOptions,
    pub(super) knobs: watch::Sender<ConsumerKnobs>,
    state: Mutex<State>,
}

/// What changes with every call; the lock is held for microseconds.
#[derive(Default)]
pub(super) struct State {
    /// The newest calls, in order of arrival.
    pub(super) received: VecDeque<Received>,
    pub(super) stats: ConsumerStats,
    /// So many of the next calls fail.
    pub(super) fail_next: u32,
}

/// What CloudEvents 1.0 wants, and what may be there.
#[derive(Deserialize)]
struct CloudEvent {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: Option<String>,
    data: Option<Value>,
}

impl ConsumerShared {
    /// A panic elsewhere leaves the state usable: every change to it is
    /// complete in itself.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a call; its number, and whether it was told to fail.
    fn begin(&self, path: &str, event: CloudEvent, signed: bool) -> (u64, bool) {
        let mut state = self.state();
        let number = state.stats.calls;
        state.stats.calls += 1;
        state.received.push_back(Received {
            number,
            path: path.to_owned(),
            id: event.id,
            source: event.source,
            event_type: event.event_type,
            subject: event.subject,
            data: event.data.filter(|_| self.options.keep_data),
            signed,
            at: Timestamp::now(),
            status: None,
        });
        if state.received.len() > self.options.keep {
            state.received.pop_front();
        }
        let fails = state.fail_next > 0;
        state.fail_next = state.fail_next.saturating_sub(1);
        (number, fails)
    }

    fn answered(&self, number: u64, status: u16) {
        let mut state = self.state();
        let taken = (200..300).contains(&status);
        let count = if taken {
            &mut state.stats.taken
        } else {
            &mut state.stats.failed
        };
        *count += 1;
        // The newest are looked for, so from behind.
        let mut calls = state.received.iter_mut().rev();
        if let Some(call) = calls.find(|call| call.number == number) {
            call.status = Some(status);
        }
    }
}

async fn handle(
    req: HttpRequest,
    payload: web::Payload,
    shared: web::Data<ConsumerShared>,
) -> HttpResponse {
    let Ok(body) = read_body(payload, MAX_BODY).await else {
        return HttpResponse::PayloadTooLarge().finish();
    };
    match (req.method(), req.path()) {
        (&Method::GET, "/sim/stats") => HttpResponse::Ok().json(shared.state().stats),
        (&Method::GET, "/sim/received") => received(&req, &shared),
        (&Method::POST, "/sim/knobs") => knobs(&body, &shared),
        (&Method::POST, path) if !path.starts_with("/sim/") => process(&req, &body, &shared).await,
        _ => {
            let error = "no such endpoint; there are POST /process, GET /sim/stats, GET /sim/received?after=N, POST /sim/knobs";
            HttpResponse::NotFound().json(json!({ "error": error }))
        }
    }
}

async fn process(req: &HttpRequest, body: &[u8], shared: &ConsumerShared) -> HttpResponse {
    let event = match serde_json::from_slice::<CloudEvent>(body) {
        Ok(event) if event.specversion == "1.0" => event,
        Ok(event) => {
            return bad(
                &format!("specversion is \"{}\", not 1.0", event.specversion),
                shared,
            );
        }
        Err(error) => return bad(&error.to_string(), shared),
    };
    let signed = req.headers().contains_key("webhook-signature");
    let (number, told_to_fail) = shared.begin(req.path(), event, signed);
    let knobs = shared.knobs.borrow().clone();
    let share = |salt: u64| {
        let drawn = hash::draw(number.into(), hash::mix(shared.options.seed ^ salt));
        hash::share(drawn)
    };
    tokio::time::sleep(knobs.latency).await;
    if share(1) < knobs.hang {
        std::future::pending::<()>().await;
    }
    let poisoned = knobs.fail_on.as_deref().is_some_and(|text| {
        let body = String::from_utf8_lossy(body);
        body.contains(text)
    });
    let status = if told_to_fail || poisoned || share(2) < knobs.fail {
        StatusCode::from_u16(knobs.fail_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    } else {
        StatusCode::NO_CONTENT
    };
    shared.answered(number, status.as_u16());
    if status == StatusCode::NO_CONTENT {
        return HttpResponse::NoContent().finish();
    }
    HttpResponse::build(status).json(json!({ "error": "the consumer was told to fail" }))
}

fn bad(problem: &str, shared: &ConsumerShared) -> HttpResponse {
    shared.state().stats.malformed += 1;
    let error = format!("this is no CloudEvent in JSON: {problem}");
    HttpResponse::BadRequest().json(json!({ "error": error }))
}

fn received(req: &HttpRequest, shared: &ConsumerShared) -> HttpResponse {
    let after = query(req).find(|(key, _)| key == "after");
    let after = after.and_then(|(_, number)| number.parse::<u64>().ok());
    let state = shared.state();
    let items: Vec<_> = state
        .received
        .iter()
        .filter(|call| after.is_none_or(|after| call.number > after))
        .take(MOST_TOLD)
        .collect();
    HttpResponse::Ok().json(json!({ "items": items, "stats": state.stats }))
}

fn knobs(body: &[u8], shared: &ConsumerShared) -> HttpResponse {
    let changed = || -> Result<Value, serde_json::Error> {
        let changes: Map<String, Value> = serde_json::from_slice(body)?;
        let mut knobs = serde_json::to_value(shared.knobs.borrow().clone())?;
        for (name, value) in changes {
            knobs[name] = value;
        }
        shared
            .knobs
            .send_replace(serde_json::from_value(knobs.clone())?);
        Ok(knobs)
    };
    match changed() {
        Ok(knobs) => HttpResponse::Ok().json(knobs),
        Err(error) => HttpResponse::BadRequest().json(json!({ "error": error.to_string() })),
    }
}
