//! A simulated ledger that runs: an actix-web server on a thread of its own,
//! so that any test, runtime or benchmark can start one.

use super::running::{Running, cannot_listen};
use super::shared::Shared;
use super::{Behaviour, Fate, SimOptions, SimStats, SimStatus, control, sawtooth, splinter};
use crate::ledgers::LedgerKind;
use crate::time::Timestamp;
use actix_web::dev::Server;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use std::io;
use std::net::SocketAddr;
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
        let served = shared.clone();
        let running = Running::start("simulated ledger", "sim-ledger", move || bind(&served))?;
        Ok(SimHandle { shared, running })
    }
}

fn bind(shared: &web::Data<Shared>) -> io::Result<(SocketAddr, Server)> {
    let options = &shared.options;
    let data = shared.clone();
    let app = move || {
        App::new()
            .app_data(data.clone())
            .default_service(web::to(handle))
    };
    let refused = cannot_listen(options.listen);
    let server = HttpServer::new(app)
        .workers(options.workers.max(1))
        .keep_alive(keep_alive(options.kind))
        .client_request_timeout(Duration::ZERO)
        // A client that hangs up ends the request it made.
        .h1_allow_half_closed(false)
        .disable_signals()
        .bind(options.listen)
        .map_err(&refused)?;
    let addr = server.addrs().first().copied();
    let addr = addr.ok_or_else(|| refused(io::Error::other("no address bound")))?;
    Ok((addr, server.run()))
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
    shared.note_trace(&req);
    match shared.options.kind {
        LedgerKind::Sawtooth => sawtooth::handle(&req, payload, &shared).await,
        LedgerKind::Splinter => splinter::handle(&req, payload, &shared).await,
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
    shared: web::Data<Shared>,
    running: Running,
}

impl SimHandle {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.running.addr()
    }

    /// Where it listens, as a ledger's `url` wants it: no slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
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

    /// Splinter: commits transactions to a service: an event for each on its
    /// streams. What becomes of batches is another matter.
    pub fn commit_transactions(&self, service_id: &str, tx_ids: &[&str]) {
        self.shared.commit_transactions(service_id, tx_ids);
    }

    /// Sawtooth: commits a block with these transactions, each with a change of
    /// its own; answers its id. Streams are told unless the validator is gone.
    pub fn commit_block(&self, tx_ids: &[&str]) -> String {
        let tx_ids = tx_ids.iter().map(|id| (*id).to_owned()).collect();
        self.shared.commit_block(tx_ids)
    }

    /// Sawtooth: gives up the newest `depth` blocks for blocks of these
    /// transactions, of which the newest is told.
    pub fn fork(&self, depth: usize, blocks: &[&[&str]]) {
        {
            let mut chain = self.shared.streams.chain();
            chain.cut(depth);
            for tx_ids in blocks {
                chain.add_block(tx_ids.iter().map(|id| (*id).to_owned()).collect());
            }
        }
        self.shared.announce();
    }

    /// Sawtooth: ids of the blocks that count, by number.
    pub fn chain(&self) -> Vec<String> {
        self.shared.streams.chain().ids().to_vec()
    }

    /// Ends all streams without a close frame.
    pub fn drop_streams(&self) {
        self.shared.streams.drop_all();
    }

    /// Streams that are subscribed now, and that ever were.
    pub fn streams(&self) -> (usize, usize) {
        self.shared.streams.counts()
    }

    /// What was counted.
    pub fn stats(&self) -> SimStats {
        self.shared.stats()
    }

    /// Stops at once: open requests are dropped, the port is free on return.
    pub fn stop(self) {
        drop(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::hash::test_id;
    use crate::sim::{Fault, SimTruth};
    use serde_json::{Value, json};

    const KINDS: [LedgerKind; 2] = [LedgerKind::Sawtooth, LedgerKind::Splinter];

    fn url(sim: &SimHandle, kind: LedgerKind, service: &str, id: &str) -> String {
        match kind {
            LedgerKind::Sawtooth => format!("{}/batch_statuses?id={id}", sim.url()),
            LedgerKind::Splinter => {
                format!("{}/scabbard/c/{service}/batch_statuses?ids={id}", sim.url())
            }
        }
    }

    fn service_id(kind: LedgerKind) -> &'static str {
        match kind {
            LedgerKind::Sawtooth => "",
            LedgerKind::Splinter => "c::s",
        }
    }

    #[tokio::test]
    async fn every_fault_is_what_it_says() {
        for kind in KINDS {
            let sim = LedgerSim::start(SimOptions::of(kind)).unwrap();
            let id = test_id(1);
            sim.submit(service_id(kind), &id);
            let url = url(&sim, kind, "s", &id);
            let status_with = async |behaviour: Behaviour| {
                sim.set_behaviour(&behaviour);
                reqwest::get(&url).await.unwrap()
            };
            for (fault, status) in [
                (Fault::Fail, 500),
                (Fault::Unauthorized, 401),
                (Fault::NotFound, 404),
            ] {
                let response = status_with(Behaviour::always(fault)).await;
                assert_eq!(response.status(), status, "{kind} {fault}");
            }
            let mut busy = Behaviour::always(Fault::TooMany);
            let response = status_with(busy.clone()).await;
            assert_eq!(response.status(), 429);
            assert!(response.headers().get("retry-after").is_none());
            busy.retry_after = Some(7);
            assert_eq!(status_with(busy).await.headers()["retry-after"], "7");

            let garbage = status_with(Behaviour::always(Fault::Garbage)).await;
            assert_eq!(garbage.status(), 200);
            assert!(!garbage.text().await.unwrap().contains("ommitted"));

            let half = status_with(Behaviour::always(Fault::HalfBody)).await;
            assert_eq!(half.status(), 200);
            assert!(half.content_length().is_some());
            assert!(half.text().await.is_err());

            let large = status_with(Behaviour::always(Fault::Oversize)).await;
            let large = large.bytes().await.unwrap();
            assert_eq!(large.len(), 11 << 20);
            assert!(serde_json::from_slice::<Value>(&large).is_ok());

            let foreign = status_with(Behaviour::always(Fault::ForeignId)).await;
            let foreign: Value = foreign.json().await.unwrap();
            let entries = foreign.get("data").unwrap_or(&foreign);
            assert_eq!(entries.as_array().unwrap().len(), 2);

            let missing = status_with(Behaviour::always(Fault::MissingId)).await;
            let missing: Value = missing.json().await.unwrap();
            let entries = missing.get("data").unwrap_or(&missing);
            assert!(entries.as_array().unwrap().is_empty());

            // ForeignId was the first whole answer about the batch.
            assert_eq!(sim.stats().asked_after_final, 0);
            status_with(Behaviour::default()).await;
            let stats = sim.stats();
            assert_eq!(stats.asked_after_final_ids, [id]);
            assert_eq!((stats.requests, stats.max_in_flight), (11, 1));
            assert_eq!(stats.faults[&Fault::TooMany], 2);
        }
    }

    #[tokio::test]
    async fn one_service_hangs_and_the_others_answer() {
        let kind = LedgerKind::Splinter;
        let sim = LedgerSim::start(SimOptions {
            service_faults: vec!["c::dead=hang".parse().unwrap()],
            ..SimOptions::of(kind)
        })
        .unwrap();
        let hung = reqwest::get(url(&sim, kind, "dead", "a"));
        let other = async {
            while sim.stats().requests == 0 {
                tokio::task::yield_now().await;
            }
            reqwest::get(url(&sim, kind, "s", "a")).await.unwrap()
        };
        tokio::select! {
            _ = hung => panic!("a request to the dead service was answered"),
            response = other => assert_eq!(response.status(), 200),
        }
        assert_eq!(sim.stats().requests_by_service["c::dead"], 1);
        // The client hung up, so the request ends.
        while sim.stats().in_flight > 0 {
            tokio::task::yield_now().await;
        }
        sim.set_service_behaviour("c::dead", None);
        let response = reqwest::get(url(&sim, kind, "dead", "a")).await.unwrap();
        assert_eq!(response.status(), 200);
    }

    #[tokio::test]
    async fn another_process_can_drive_it() {
        let kind = LedgerKind::Splinter;
        let sim = LedgerSim::start(SimOptions::of(kind)).unwrap();
        let client = reqwest::Client::new();
        let post = async |path: &str, body: Value| {
            let request = client.post(format!("{}/sim/{path}", sim.url())).json(&body);
            let response = request.send().await.unwrap();
            (
                response.status().as_u16(),
                response.json::<Value>().await.unwrap(),
            )
        };
        let batches = json!([
            {"service_id": "c::s", "batch_id": "a"},
            {"service_id": "c::s", "batch_id": "b", "fate": "invalid"},
        ]);
        assert_eq!(post("submit", batches.clone()).await.1["submitted"], 2);
        let (_, truths) = post("truth", batches.clone()).await;
        let truths: Vec<SimTruth> = serde_json::from_value(truths).unwrap();
        assert_eq!(truths[0].status, SimStatus::Committed);
        assert_eq!(truths[1].status, SimStatus::Invalid);

        let (_, new) = post("behaviour", json!({"faults": {"fail": 1}})).await;
        assert_eq!(new["latency"], "0s");
        let (_, new) = post("behaviour", json!({"latency": "1ms"})).await;
        assert_eq!(new["faults"]["fail"], 1.0);
        let of_one = json!({"service_id": "c::t", "faults": {}});
        assert_eq!(post("behaviour", of_one).await.0, 200);
        for (service, status) in [("s", 500), ("t", 200)] {
            let response = reqwest::get(url(&sim, kind, service, "a")).await.unwrap();
            assert_eq!(response.status(), status);
        }
        let (status, error) = post("behaviour", json!({"latencie": "1ms"})).await;
        assert_eq!(status, 400);
        assert!(error["error"].as_str().unwrap().contains("latencie"));

        assert_eq!(post("restart", json!({})).await.0, 200);
        let (_, truths) = post("truth", batches).await;
        assert_eq!(truths[0]["status"], "unknown");
        let stats = reqwest::get(format!("{}/sim/stats", sim.url()));
        let stats: SimStats = stats.await.unwrap().json().await.unwrap();
        assert_eq!((stats.batches, stats.requests), (2, 2));
    }

    #[tokio::test]
    async fn a_stopped_simulator_frees_its_port() {
        let sim = LedgerSim::start(SimOptions::default()).unwrap();
        let listen = sim.addr();
        let taken = LedgerSim::start(SimOptions {
            listen,
            ..SimOptions::default()
        });
        let error = taken.err().unwrap().to_string();
        assert!(error.contains(&listen.to_string()), "{error}");
        sim.stop();
        let again = LedgerSim::start(SimOptions {
            listen,
            ..SimOptions::default()
        });
        assert_eq!(again.unwrap().addr(), listen);
    }
}
