//! What the handlers of one running simulator share.

use super::hash::{self, Key};
use super::streams::Streams;
use super::{Behaviour, Fault, SimLedger, SimOptions, SimStats};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// How long the first half of a cut answer gets to leave before the
/// connection is dropped.
const HALF_BODY_HEAD_START: Duration = Duration::from_millis(20);

/// Worker threads of a Splinter node's REST API on the two-core machine of the
/// recordings.
const SPLINTER_REST_WORKERS: usize = 2;

/// How the ledger behaves, and the services that behave otherwise.
#[derive(Clone, Default)]
struct Behaviours {
    all: Behaviour,
    services: HashMap<String, Behaviour>,
}

impl Behaviours {
    fn of(&self, service_id: &str) -> &Behaviour {
        if self.services.is_empty() {
            return &self.all;
        }
        self.services.get(service_id).unwrap_or(&self.all)
    }
}

/// The state of one running simulator.
pub(super) struct Shared {
    pub(super) options: SimOptions,
    /// One lock for all services: it is held for microseconds, also for
    /// hundreds of ids.
    ledger: Mutex<SimLedger>,
    behaviours: ArcSwap<Behaviours>,
    /// Sawtooth: whether the validator is gone.
    pub(super) gone: watch::Sender<bool>,
    /// Splinter: a request with `wait` holds one for as long as it waits.
    pub(super) rest_workers: Arc<Semaphore>,
    pub(super) streams: Streams,
    rolls: AtomicU64,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
    last_traceparent: Mutex<Option<String>>,
}

/// What a request meets: how long it takes and what goes wrong.
pub(super) struct Lot {
    fault: Option<Fault>,
    delay: Duration,
}

impl Shared {
    pub(super) fn new(options: SimOptions) -> Self {
        let mut behaviours = Behaviours {
            all: options.behaviour(),
            services: HashMap::new(),
        };
        for service_fault in &options.service_faults {
            let faults = &mut behaviours
                .services
                .entry(service_fault.service_id.clone())
                .or_insert_with(|| options.behaviour())
                .faults;
            faults.insert(service_fault.fault.fault, service_fault.fault.share);
        }
        Self {
            ledger: Mutex::new(SimLedger::new(options.clone())),
            behaviours: ArcSwap::from_pointee(behaviours),
            gone: watch::Sender::new(false),
            rest_workers: Arc::new(Semaphore::new(SPLINTER_REST_WORKERS)),
            streams: Streams::new(options.seed),
            rolls: AtomicU64::new(options.seed),
            in_flight: AtomicUsize::new(0),
            max_in_flight: AtomicUsize::new(0),
            last_traceparent: Mutex::default(),
            options,
        }
    }

    /// The model, locked. A panic elsewhere leaves it usable: every change to
    /// it is complete in itself.
    pub(super) fn ledger(&self) -> MutexGuard<'_, SimLedger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The behaviour of one service, or of all that have none of their own.
    pub(super) fn behaviour(&self, service_id: Option<&str>) -> Behaviour {
        let behaviours = self.behaviours.load();
        service_id
            .map_or(&behaviours.all, |service_id| behaviours.of(service_id))
            .clone()
    }

    /// Changes how one service behaves, or all that have no behaviour of their
    /// own.
    pub(super) fn set_behaviour(&self, service_id: Option<&str>, behaviour: &Behaviour) {
        self.behaviours.rcu(|old| {
            let mut new = Behaviours::clone(old);
            match service_id {
                Some(service_id) => {
                    new.services
                        .insert(service_id.to_owned(), behaviour.clone());
                }
                None => new.all = behaviour.clone(),
            }
            new
        });
        let gone = self.behaviours.load().all.validator_gone;
        self.gone.send_replace(gone);
    }

    /// Lets a service behave as all the others do.
    pub(super) fn clear_service_behaviour(&self, service_id: &str) {
        self.behaviours.rcu(|old| {
            let mut new = Behaviours::clone(old);
            new.services.remove(service_id);
            new
        });
    }

    /// Commits transactions to a Splinter service.
    pub(super) fn commit_transactions(&self, service_id: &str, tx_ids: &[&str]) {
        self.streams.chain().commit(service_id, tx_ids);
        self.streams.committed();
    }

    /// Commits a block; answers its id.
    pub(super) fn commit_block(&self, tx_ids: Vec<String>) -> String {
        let id = self.streams.chain().add_block(tx_ids);
        self.announce();
        id
    }

    /// Tells streams of the newest block, if they hear of it at all.
    pub(super) fn announce(&self) {
        let behaviour = self.behaviour(None);
        if !behaviour.validator_gone && !behaviour.lose_events {
            self.streams.chain().announce();
        }
        self.streams.committed();
    }

    pub(super) fn stats(&self) -> SimStats {
        let mut stats = self.ledger().stats();
        stats.in_flight = self.in_flight.load(Ordering::Relaxed);
        stats.max_in_flight = self.max_in_flight.load(Ordering::Relaxed);
        let last = self.last_traceparent.lock();
        stats
            .last_traceparent
            .clone_from(&last.unwrap_or_else(PoisonError::into_inner));
        stats
    }

    /// A number from 0 to just below 1, another one each time.
    fn roll(&self) -> f64 {
        hash::share(self.roll_number())
    }

    pub(super) fn roll_number(&self) -> u64 {
        hash::mix(self.rolls.fetch_add(1, Ordering::Relaxed))
    }

    /// Counts a request as being worked on until the guard is dropped.
    pub(super) fn begin(&self) -> InFlight<'_> {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_in_flight.fetch_max(now, Ordering::Relaxed);
        InFlight(self)
    }

    /// Remembers of which trace a request says it is part.
    pub(super) fn note_trace(&self, req: &HttpRequest) {
        let parent = req.headers().get("traceparent");
        if let Some(parent) = parent.and_then(|parent| parent.to_str().ok()) {
            let mut last = self
                .last_traceparent
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *last = Some(parent.to_owned());
        }
    }

    /// Counts a request that is well formed, and draws what it meets.
    pub(super) fn draw(&self, service_id: &str, asked: &[(Key, &str)]) -> Lot {
        let behaviours = self.behaviours.load();
        let behaviour = behaviours.of(service_id);
        let fault = (!behaviour.faults.is_empty())
            .then(|| behaviour.fault_at(self.roll()))
            .flatten();
        let delay = behaviour.delay_at(self.roll());
        self.ledger().count_request(service_id, asked.len(), fault);
        Lot { fault, delay }
    }

    /// Spends the time that an answer takes; never returns when it hangs.
    /// What goes wrong with the answer remains to be done.
    pub(super) async fn meet(&self, lot: Lot) -> Option<Fault> {
        if !lot.delay.is_zero() {
            tokio::time::sleep(lot.delay).await;
        }
        if lot.fault == Some(Fault::Hang) {
            std::future::pending::<()>().await;
        }
        lot.fault
    }

    /// Something that is no list of statuses, another one each time.
    pub(super) fn garbage(&self) -> HttpResponse {
        const GARBAGE: [&str; 6] = [
            "<html><body>It works!</body></html>",
            "{\"data\": 5}",
            "[{\"id\": null, \"status\": {}}]",
            "",
            "null",
            "{\"data\": [{\"id\": \"00\", \"status\": \"PERHAPS\"}], \"link\": [",
        ];
        let choice = self.roll() * 6.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 5"
        )]
        let body = GARBAGE[(choice as usize).min(5)];
        HttpResponse::Ok()
            .content_type("application/json")
            .body(body)
    }

    /// The builder of a 429, with `Retry-After` where it is set.
    pub(super) fn too_many(&self, service_id: &str) -> HttpResponseBuilder {
        let mut response = HttpResponse::TooManyRequests();
        if let Some(seconds) = self.behaviours.load().of(service_id).retry_after {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        response
    }

    /// Sends an answer: whole, cut in half, or padded.
    pub(super) fn finish(
        &self,
        service_id: &str,
        mut response: HttpResponseBuilder,
        body: String,
        fault: Option<Fault>,
    ) -> HttpResponse {
        let length = body.len();
        match fault {
            Some(Fault::HalfBody) => {
                let half = Bytes::from(body).slice(..length / 2);
                let cut = stream::once(async {
                    tokio::time::sleep(HALF_BODY_HEAD_START).await;
                    Err(io::Error::from(io::ErrorKind::ConnectionAborted))
                });
                response
                    .no_chunking(length as u64)
                    .streaming(stream::once(async { Ok(half) }).chain(cut))
            }
            Some(Fault::Oversize) => {
                let total = self.behaviours.load().of(service_id).oversize_bytes;
                let total = total.max(length);
                let blanks = Bytes::from(vec![b' '; 1 << 16]);
                let padding = total - length;
                let rest = blanks.slice(..padding % blanks.len());
                let padded = stream::iter(std::iter::repeat_n(blanks.clone(), padding >> 16))
                    .chain(stream::iter([rest, Bytes::from(body)]))
                    .map(Ok::<_, io::Error>);
                response.no_chunking(total as u64).streaming(padded)
            }
            _ => response.body(body),
        }
    }
}

/// A request being worked on.
pub(super) struct InFlight<'a>(&'a Shared);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request body larger than allowed.
pub(super) struct TooLarge {
    /// Its size in bytes.
    pub(super) actual: usize,
}

/// Reads a request body to its end, keeping up to `limit` bytes: who sends
/// too much is to read the answer, not to find the connection gone.
pub(super) async fn read_body(mut payload: web::Payload, limit: usize) -> Result<Bytes, TooLarge> {
    let mut body = BytesMut::new();
    let mut actual = 0;
    while let Some(Ok(chunk)) = payload.next().await {
        actual += chunk.len();
        if actual < limit {
            body.extend_from_slice(&chunk);
        }
    }
    if actual < limit {
        Ok(body.freeze())
    } else {
        Err(TooLarge { actual })
    }
}

/// Whether a request carries the token, where one is wanted.
pub(super) fn authorized(req: &HttpRequest, wanted: Option<&str>, prefix: &str) -> bool {
    let Some(wanted) = wanted else {
        return true;
    };
    req.headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix(prefix))
        == Some(wanted)
}

/// Parses a query string: the pairs, decoded.
pub(super) fn query(req: &HttpRequest) -> url::form_urlencoded::Parse<'_> {
    url::form_urlencoded::parse(req.query_string().as_bytes())
}

/// Hangs up: the connection ends before anything was sent.
pub(super) fn close() -> HttpResponse {
    let error = io::Error::from(io::ErrorKind::ConnectionAborted);
    HttpResponse::Ok()
        .no_chunking(1)
        .streaming(stream::once(async { Err::<Bytes, _>(error) }))
}

/// Points elsewhere, where nobody answers.
pub(super) fn redirect() -> HttpResponse {
    HttpResponse::Found()
        .insert_header((header::LOCATION, "http://127.0.0.1:9/login"))
        .body("elsewhere")
}

/// Starts a JSON answer of a status.
pub(super) fn json(status: StatusCode, content_type: &'static str) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response.insert_header((
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    ));
    response
}
