//! A simulated ledger that runs: an actix-web server on a thread of its own,
//! so that any test, runtime or benchmark can start one.

use super::shared::Shared;
use super::{Behaviour, Fate, SimOptions, SimStats, SimStatus, control, sawtooth, splinter};
use crate::ledgers::LedgerKind;
use crate::time::Timestamp;
use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Starts simulated ledgers.
pub struct LedgerSim;

impl LedgerSim {
    /// Starts a ledger; it listens when this returns, and stops when the
    /// handle is dropped.
    ///
    /// # Errors
    /// The address is taken or not allowed, or no thread can be started.
    pub fn start(options: SimOptions) -> io::Result<SimHandle> {
        let shared = web::Data::new(Shared::new(options));
        let (report, started) = mpsc::channel();
        let served = shared.clone();
        let thread = thread::Builder::new()
            .name("sim-ledger".to_owned())
            .spawn(move || serve(&served, &report))?;
        let (addr, server) = started
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the simulator's thread ended at once")))?;
        Ok(SimHandle {
            addr,
            shared,
            server,
            thread: Some(thread),
        })
    }
}

type Started = io::Result<(SocketAddr, ServerHandle)>;

/// The thread of a simulator: reports its address, serves until stopped.
fn serve(shared: &web::Data<Shared>, report: &mpsc::Sender<Started>) {
    let system = actix_web::rt::System::new();
    system.block_on(async {
        let options = &shared.options;
        let data = shared.clone();
        let app = move || {
            App::new()
                .app_data(data.clone())
                .default_service(web::to(handle))
        };
        let bound = HttpServer::new(app)
            .workers(options.workers.max(1))
            .keep_alive(keep_alive(options.kind))
            .client_request_timeout(Duration::ZERO)
            // A client that hangs up ends the request it made.
            .h1_allow_half_closed(false)
            .disable_signals()
            .bind(options.listen)
            .and_then(|server| {
                let addr = server.addrs().first().copied();
                addr.map(|addr| (addr, server))
                    .ok_or_else(|| io::Error::other("no address bound"))
            });
        let (addr, server) = match bound {
            Ok((addr, server)) => (addr, server.run()),
            Err(error) => {
                let address = options.listen;
                let text = format!("cannot listen on {address}: {error}; choose another address");
                // When nobody waits for the report, nobody wants the server.
                drop(report.send(Err(io::Error::new(error.kind(), text))));
                return;
            }
        };
        if report.send(Ok((addr, server.handle()))).is_ok()
            && let Err(error) = server.await
        {
            tracing::warn!(%addr, %error, "simulated ledger ended with an error");
        }
    });
}

async fn handle(
    req: HttpRequest,
    payload: web::Payload,
    shared: web::Data<Shared>,
) -> HttpResponse {
    if req.path().starts_with("/sim/") {
        return control::handle(&req, payload, &shared).await;
    }
    let _in_flight = shared.begin();
    match shared.options.kind {
        LedgerKind::Sawtooth => sawtooth::handle(&req, payload, &shared).await,
        LedgerKind::Splinter => splinter::handle(&req, &shared).await,
    }
}

/// Idle connections are dropped after 5 s by Splinter, after 75 s by Sawtooth.
const fn keep_alive(kind: LedgerKind) -> Duration {
    match kind {
        LedgerKind::Sawtooth => Duration::from_secs(75),
        LedgerKind::Splinter => Duration::from_secs(5),
    }
}

/// A running simulator; stops when dropped.
pub struct SimHandle {
    addr: SocketAddr,
    shared: web::Data<Shared>,
    server: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl SimHandle {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it listens, as a ledger's `url` wants it: no slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Takes a batch in, with the fate that its id draws.
    pub fn submit(&self, service_id: &str, batch_id: &str) {
        let now = Timestamp::now();
        self.shared.ledger().submit(service_id, batch_id, None, now);
    }

    /// Takes a batch in whose fate is given.
    pub fn submit_as(&self, service_id: &str, batch_id: &str, fate: Fate) {
        let now = Timestamp::now();
        self.shared
            .ledger()
            .submit(service_id, batch_id, Some(fate), now);
    }

    /// Takes batches of one service in, all at the same time.
    pub fn submit_many<'a>(&self, service_id: &str, batch_ids: impl IntoIterator<Item = &'a str>) {
        let now = Timestamp::now();
        let mut ledger = self.shared.ledger();
        for batch_id in batch_ids {
            ledger.submit(service_id, batch_id, None, now);
        }
    }

    /// What the ledger says of a batch in the end; see
    /// [`SimLedger::status_of`](super::SimLedger::status_of).
    pub fn status_of(&self, service_id: &str, batch_id: &str) -> SimStatus {
        let now = Timestamp::now();
        self.shared.ledger().status_of(service_id, batch_id, now)
    }

    /// How services behave that have no behaviour of their own.
    pub fn behaviour(&self) -> Behaviour {
        self.shared.behaviour(None)
    }

    /// Changes how services behave that have no behaviour of their own, from
    /// the next request on; `validator_gone` also hits what is in flight.
    pub fn set_behaviour(&self, behaviour: &Behaviour) {
        self.shared.set_behaviour(None, behaviour);
    }

    /// Gives one service a behaviour of its own, or takes it away (`None`).
    pub fn set_service_behaviour(&self, service_id: &str, behaviour: Option<&Behaviour>) {
        match behaviour {
            Some(behaviour) => self.shared.set_behaviour(Some(service_id), behaviour),
            None => self.shared.clear_service_behaviour(service_id),
        }
    }

    /// Restarts the ledger, not the server: Splinter forgets every status, on
    /// Sawtooth INVALID and PENDING become UNKNOWN.
    pub fn restart(&self) {
        self.shared.ledger().restart(Timestamp::now());
    }

    /// What was counted.
    pub fn stats(&self) -> SimStats {
        self.shared.stats()
    }

    /// Stops at once: open requests are dropped, the port is free on return.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        // The command is sent here; its outcome is the end of the thread.
        drop(self.server.stop(false));
        if thread.join().is_err() {
            tracing::warn!(addr = %self.addr, "simulated ledger panicked");
        }
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        self.end();
    }
}
