//! The running gateway: takes subscriptions, grows its chain.

use super::chain::Chain;
use super::control;
use super::delivery;
use super::handle::{GatewayHandle, GatewaySubscription};
use super::knobs::{GatewayKnobs, Outage};
use super::options::GatewayOptions;
use super::record::Record;
use super::subscription::Subscription;
use crate::sim::peer::Peer;
use crate::sim::shared::{authorized, close, read_body};
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Largest form that is read, in bytes.
const MAX_FORM: usize = 64 * 1024;
/// Subscriptions that are remembered; when there are more live ones, the oldest
/// ends.
const MOST_SUBSCRIPTIONS: usize = 1000;

/// Starts a simulated gateway.
pub struct GatewaySim;

impl GatewaySim {
    /// Starts a gateway; it listens when this returns, and stops when the
    /// handle is dropped.
    ///
    /// # Errors
    /// The options do not fit together, the address is taken or not allowed,
    /// or no thread or HTTP client can be made.
    pub fn start(options: GatewayOptions) -> io::Result<GatewayHandle> {
        options
            .check()
            .map_err(|problem| io::Error::new(io::ErrorKind::InvalidInput, problem))?;
        let (listen, workers) = (options.listen, options.workers);
        let shared = Arc::new(GatewayShared::new(options)?);
        let data = web::Data::from(shared.clone());
        let routes = move |config: &mut web::ServiceConfig| {
            config
                .app_data(data.clone())
                .default_service(web::to(handle));
        };
        let grows = shared.clone();
        let peer = Peer::start("sim-gateway", listen, workers, routes, move || {
            if !grows.options.block_every.is_zero() {
                actix_web::rt::spawn(grow(grows));
            }
        })?;
        Ok(GatewayHandle::new(peer, shared))
    }
}

/// What the parts of one running gateway share.
pub(super) struct GatewayShared {
    pub(super) options: GatewayOptions,
    pub(super) chain: Chain,
    /// How many blocks there are.
    pub(super) blocks: watch::Sender<i64>,
    pub(super) knobs: watch::Sender<GatewayKnobs>,
    pub(super) client: reqwest::Client,
    state: Mutex<State>,
}

/// What changes with every request and call; the lock is held for microseconds.
pub(super) struct State {
    pub(super) record: Record,
    /// In the order in which they were asked for.
    pub(super) subscriptions: VecDeque<(GatewaySubscription, Option<AbortHandle>)>,
    pub(super) asked: u64,
    pub(super) refused: u64,
}

impl GatewayShared {
    fn new(options: GatewayOptions) -> io::Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(io::Error::other)?;
        Ok(Self {
            chain: Chain::new(&options),
            blocks: watch::Sender::new(options.blocks.into()),
            knobs: watch::Sender::new(options.knobs.clone()),
            client,
            state: Mutex::new(State {
                record: Record::new(options.keep),
                subscriptions: VecDeque::new(),
                asked: 0,
                refused: 0,
            }),
            options,
        })
    }

    /// A panic elsewhere leaves the state usable: every change to it is
    /// complete in itself.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn grow(&self, blocks: u32) {
        self.blocks
            .send_modify(|count| *count = count.saturating_add(blocks.into()));
    }

    /// Forgets all subscriptions, in the middle of whatever they send.
    pub(super) fn crash(&self) {
        for (subscription, task) in &mut self.state().subscriptions {
            subscription.live = false;
            if let Some(task) = task.take() {
                task.abort();
            }
        }
    }

    /// A subscription has reached its end.
    pub(super) fn ended(&self, id: u64) {
        let mut state = self.state();
        let mut subscriptions = state.subscriptions.iter_mut();
        if let Some((subscription, task)) = subscriptions.find(|(known, _)| known.id == id) {
            subscription.live = false;
            *task = None;
        }
    }
}

impl State {
    /// Takes a subscription in; its number.
    fn take(&mut self, subscription: &Subscription) -> u64 {
        self.asked += 1;
        if self.subscriptions.len() >= MOST_SUBSCRIPTIONS
            && let Some((_, Some(task))) = self.subscriptions.pop_front()
        {
            task.abort();
        }
        let taken = GatewaySubscription {
            id: self.asked,
            event_name: subscription.event_name.clone(),
            from: subscription.from,
            to: subscription.to,
            callback: subscription.callback.to_string(),
            live: true,
        };
        self.subscriptions.push_back((taken, None));
        self.asked
    }

    fn runs(&mut self, id: u64, runs: AbortHandle) {
        let mut subscriptions = self.subscriptions.iter_mut();
        match subscriptions.find(|(known, _)| known.id == id && known.live) {
            Some((_, task)) => *task = Some(runs),
            // It crashed, or another pushed it out, meanwhile.
            None => runs.abort(),
        }
    }
}

async fn grow(shared: Arc<GatewayShared>) {
    let mut ticks = tokio::time::interval(shared.options.block_every);
    // The first tick is at once.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let rests = {
            let knobs = shared.knobs.borrow();
            knobs.rest || knobs.outage != Outage::None
        };
        if !rests {
            shared.grow(1);
        }
    }
}

async fn handle(
    req: HttpRequest,
    payload: web::Payload,
    shared: web::Data<GatewayShared>,
) -> HttpResponse {
    if req.path().starts_with("/sim/") {
        return control::handle(&req, payload, &shared).await;
    }
    if *req.method() != Method::POST {
        let error = "POST a subscription to /subscribe; there is GET /sim/chain besides";
        return HttpResponse::MethodNotAllowed().json(json!({ "error": error }));
    }
    let Ok(form) = read_body(payload, MAX_FORM).await else {
        return HttpResponse::PayloadTooLarge().finish();
    };
    let knobs = shared.knobs.borrow().clone();
    tokio::time::sleep(knobs.latency).await;
    match knobs.outage {
        Outage::None => {}
        Outage::Unavailable => {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "out of order", &knobs);
        }
        Outage::Hangup => return close(),
        Outage::Hang => std::future::pending().await,
    }
    if !authorized(&req, shared.options.token.as_deref(), "Bearer ") {
        return refuse(
            StatusCode::UNAUTHORIZED,
            "the token is missing or wrong",
            &knobs,
        );
    }
    let refused = |status, words: &str| {
        shared.state().refused += 1;
        refuse(status, words, &knobs)
    };
    if let Some(status) = knobs.refuse {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        return refused(status, "subscriptions are refused");
    }
    let subscription = match Subscription::parse(&form) {
        Ok(subscription) => subscription,
        Err(problem) => return refused(StatusCode::BAD_REQUEST, &problem),
    };
    let id = shared.state().take(&subscription);
    let shared = shared.into_inner();
    let task = tokio::task::spawn_local(delivery::deliver(shared.clone(), id, subscription));
    shared.state().runs(id, task.abort_handle());
    HttpResponse::Ok().json(json!({ "subscriptionId": id.to_string() }))
}

fn refuse(status: StatusCode, words: &str, knobs: &GatewayKnobs) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    if let Some(seconds) = knobs.retry_after {
        response.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    response.json(json!({ "error": words }))
}
