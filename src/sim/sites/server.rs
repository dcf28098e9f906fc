//! Simulated sites that run: an actix-web server on a thread of its own, so
//! that any test, runtime or benchmark can start one.

use super::behaviour::{SiteAnswer, SiteBehaviour};
use super::handle::{SitesHandle, SitesStats};
use super::options::SitesOptions;
use super::visits::{Ticket, Visits};
use crate::sim::running::{Running, cannot_listen};
use crate::sim::{hash, shared};
use crate::time::Timestamp;
use actix_web::dev::Server;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Largest body of a request that is read, in bytes.
const MAX_BODY: usize = 1 << 20;
/// Idle connections are dropped after this, as most web servers do.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Path below a site where it tells about itself.
const ABOUT: &str = "info";
/// Tries to find a port that is free on every host address.
const TRIES: usize = 10;

/// Starts simulated sites.
pub struct SitesSim;

impl SitesSim {
    /// Starts a server that plays all sites; it listens when this returns, and
    /// stops when the handle is dropped.
    ///
    /// # Errors
    /// The options do not fit together, the address is taken or not allowed,
    /// or no thread can be started.
    pub fn start(options: SitesOptions) -> io::Result<SitesHandle> {
        options
            .check()
            .map_err(|problem| io::Error::new(io::ErrorKind::InvalidInput, problem))?;
        let shared = web::Data::new(SitesShared::new(options));
        let served = shared.clone();
        let running = Running::start("simulated sites", "sim-sites", move || bind(&served))?;
        Ok(SitesHandle::new(shared, running))
    }
}

/// What the handlers of one running simulator share.
pub(super) struct SitesShared {
    pub(super) options: SitesOptions,
    pub(super) state: Mutex<State>,
    pub(super) paused: watch::Sender<bool>,
    /// Wall clock at the start; times go on by the steady clock.
    started_at: Timestamp,
    started: Instant,
}

/// What changes while it runs. One lock for all sites: it is held for less
/// than a microsecond a visit.
pub(super) struct State {
    pub(super) visits: Visits,
    /// Sites that were told to behave otherwise than drawn.
    pub(super) behaviours: HashMap<u32, SiteBehaviour>,
}

impl SitesShared {
    fn new(options: SitesOptions) -> Self {
        Self {
            state: Mutex::new(State {
                visits: Visits::new(options.count, options.keep_visits),
                behaviours: HashMap::new(),
            }),
            paused: watch::Sender::new(false),
            started_at: Timestamp::now(),
            started: Instant::now(),
            options,
        }
    }

    /// A panic elsewhere leaves the state usable: every change to it is
    /// complete in itself.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the start.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The point in time so many milliseconds after the start.
    pub(super) fn at(&self, millis: u64) -> Timestamp {
        self.started_at.plus(Duration::from_millis(millis))
    }

    /// Whole seconds from the start to a point in time, 0 when it lies before.
    pub(super) fn second(&self, at: Timestamp) -> u64 {
        at.since(self.started_at).as_secs()
    }

    /// Takes a visit; `None` when there is no such site.
    fn begin(&self, site: u32, path: &str) -> Option<(UnderWay<'_>, SiteBehaviour)> {
        let mut state = self.state();
        // Read under the lock, so that a log is in the order of its times.
        let ticket = state.visits.begin(site, path, self.now())?;
        let behaviour = state.behaviour(&self.options, site);
        let visit = UnderWay {
            shared: self,
            ticket,
            answer: None,
        };
        Some((visit, behaviour))
    }

    /// What a visit is answered, and after how long.
    fn draw(&self, behaviour: SiteBehaviour, ticket: &Ticket) -> (SiteAnswer, Duration) {
        let options = &self.options;
        let (site, number) = (ticket.site, ticket.number);
        let visit = (u128::from(site) << 32) | u128::from(number);
        let share = |salt: u64| hash::share(hash::draw(visit, options.seed ^ salt));
        let delay = options.latency.at(share(1));
        let elapsed = Duration::from_millis(self.now());
        match behaviour {
            SiteBehaviour::Healthy => (SiteAnswer::Ok, delay),
            SiteBehaviour::Slow => (SiteAnswer::Ok, delay + options.slow_for.at(share(2))),
            SiteBehaviour::Flapping if options.flap.works(site, options.seed, number, elapsed) => {
                (SiteAnswer::Ok, delay)
            }
            SiteBehaviour::Flapping | SiteBehaviour::Failing => (SiteAnswer::Fail, delay),
            SiteBehaviour::Dead => (SiteAnswer::Close, delay),
            SiteBehaviour::Limited => (SiteAnswer::TooMany, delay),
        }
    }

    /// Waits while the sites are paused.
    async fn wait_for_resume(&self) {
        if *self.paused.borrow() {
            // The sender is in `self`, so it is not gone.
            drop(self.paused.subscribe().wait_for(|paused| !paused).await);
        }
    }
}

impl State {
    /// How a site behaves now.
    pub(super) fn behaviour(&self, options: &SitesOptions, site: u32) -> SiteBehaviour {
        let told = self.behaviours.get(&site).copied();
        told.unwrap_or_else(|| options.mix.behaviour(site, options.seed))
    }
}

/// A visit until its answer is made, or its visitor is gone.
struct UnderWay<'a> {
    shared: &'a SitesShared,
    ticket: Ticket,
    answer: Option<SiteAnswer>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let now = self.shared.now();
        state.visits.end(&self.ticket, self.answer, now);
    }
}

/// Listens on every host's address, all with the port of the first.
fn bind(shared: &web::Data<SitesShared>) -> io::Result<(SocketAddr, Server)> {
    let options = &shared.options;
    // Another program may have the free port on another host's address.
    let tries = if options.listen.port() == 0 { TRIES } else { 1 };
    let mut failed = None;
    for _ in 0..tries {
        match bind_once(shared) {
            Ok(bound) => return Ok(bound),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::other("no address bound")))
}

fn bind_once(shared: &web::Data<SitesShared>) -> io::Result<(SocketAddr, Server)> {
    let options = &shared.options;
    let data = shared.clone();
    let app = move || {
        App::new()
            .app_data(data.clone())
            .default_service(web::to(handle))
    };
    let mut server = HttpServer::new(app)
        .workers(options.workers.max(1))
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(Duration::ZERO)
        // A visitor that hangs up ends the visit.
        .h1_allow_half_closed(false)
        .disable_signals()
        .bind(options.listen)
        .map_err(cannot_listen(options.listen))?;
    let addr = server.addrs().first().copied();
    let addr = addr.ok_or_else(|| io::Error::other("no address bound"))?;
    for ip in options.more_addresses() {
        let address = SocketAddr::new(ip, addr.port());
        server = server.bind(address).map_err(cannot_listen(address))?;
    }
    Ok((addr, server.run()))
}

async fn handle(
    req: HttpRequest,
    payload: web::Payload,
    shared: web::Data<SitesShared>,
) -> HttpResponse {
    let asked = site_and_path(req.path());
    let visit = asked.and_then(|(site, path)| shared.begin(site, path));
    let Some((mut visit, behaviour)) = visit else {
        if req.path() == "/sim/stats" {
            return HttpResponse::Ok().json(SitesStats::of(&shared));
        }
        let error = format!(
            "no such site; there are /0 to /{}, and GET /sim/stats",
            shared.options.count - 1
        );
        return HttpResponse::NotFound().json(serde_json::json!({ "error": error }));
    };
    // What is sent is read, so that the connection can be used again.
    if !matches!(*req.method(), Method::GET | Method::HEAD)
        && shared::read_body(payload, MAX_BODY).await.is_err()
    {
        return HttpResponse::PayloadTooLarge().finish();
    }
    shared.wait_for_resume().await;
    let (answer, delay) = shared.draw(behaviour, &visit.ticket);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    visit.answer = Some(answer);
    let about = asked.is_some_and(|(_, path)| path == ABOUT);
    respond(answer, visit.ticket.site, about, &shared.options)
}

/// The number of the site, and the path below it.
fn site_and_path(path: &str) -> Option<(u32, &str)> {
    let path = path.strip_prefix('/')?;
    let (number, below) = path.split_once('/').unwrap_or((path, ""));
    Some((number.parse().ok()?, below))
}

fn respond(answer: SiteAnswer, site: u32, about: bool, options: &SitesOptions) -> HttpResponse {
    let json = |status| shared::json(status, "application/json");
    match answer {
        SiteAnswer::Ok if about => {
            let patch = hash::draw(u128::from(site), options.seed) % 5;
            let info = serde_json::json!({
                "name": format!("Site {site}"),
                "version": format!("5.80.{patch}"),
            });
            json(StatusCode::OK)
                .body(serde_json::json!({ "ok": true, "site": site, "info": info }).to_string())
        }
        SiteAnswer::Ok => json(StatusCode::OK).body(format!("{{\"ok\":true,\"site\":{site}}}")),
        SiteAnswer::Fail => json(StatusCode::INTERNAL_SERVER_ERROR)
            .body(format!("{{\"error\":\"out of order\",\"site\":{site}}}")),
        SiteAnswer::TooMany => json(StatusCode::TOO_MANY_REQUESTS)
            .insert_header((header::RETRY_AFTER, options.retry_after.to_string()))
            .body(format!(
                "{{\"error\":\"too many requests\",\"site\":{site}}}"
            )),
        SiteAnswer::Close => shared::close(),
    }
}
