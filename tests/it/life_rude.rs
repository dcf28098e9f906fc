//! Ledgers that misbehave: survived, reported, and at the cost of their own
//! batches' time only.

use crate::life_support::{Db, PATIENCE, Place, Server, ledger, new_ids, sim, submit, text, until};
use highwater::ledgers::LedgerKind;
use highwater::sim::{Behaviour, Fault, SimHandle};
use std::time::{Duration, Instant};

const BATCHES: &str = "[batches]\npoll_interval = \"200ms\"\n\
    repoll = { min = \"100ms\", max = \"300ms\" }\nbackoff = { min = \"300ms\", max = \"600ms\" }\n";
const BATCHES_EACH: usize = 60;

struct Stage {
    place: Place,
    rude: SimHandle,
    kind: LedgerKind,
    good: SimHandle,
    tracked: (usize, usize),
}

impl Stage {
    fn new(db: Db, kind: LedgerKind) -> Self {
        let start = |kind| sim(kind, |options| options.latency = Duration::from_millis(2));
        Self {
            place: Place::new(db),
            rude: start(kind),
            kind,
            good: start(LedgerKind::Sawtooth),
            tracked: (0, 0),
        }
    }

    fn server(&self) -> Server {
        let rude = ledger(
            "rude",
            self.kind,
            &self.rude,
            "timeout = \"400ms\"\nconnections = 2",
        );
        let good = ledger("good", LedgerKind::Sawtooth, &self.good, "");
        Server::start(&self.place, &format!("{BATCHES}{rude}{good}"))
    }

    /// A service that was not asked before: a Splinter service remembers 100.
    fn service(&self) -> String {
        match self.kind {
            LedgerKind::Sawtooth => String::new(),
            LedgerKind::Splinter => format!("circuit::s{}", self.tracked.0),
        }
    }

    /// Submits to both ledgers; the good one settles its batches meanwhile.
    async fn feed(&mut self, server: &Server) {
        submit(
            server,
            "rude",
            &self.rude,
            &self.service(),
            &new_ids(BATCHES_EACH),
        )
        .await;
        submit(server, "good", &self.good, "", &new_ids(BATCHES_EACH)).await;
        self.tracked.0 += BATCHES_EACH;
        self.tracked.1 += BATCHES_EACH;
        let took = server.all_settle("good").await;
        assert!(
            took < Duration::from_secs(5),
            "the good ledger's took {took:?}"
        );
    }

    async fn all_true(&self, server: &Server) {
        server.all_settle("rude").await;
        server.assert_true("rude", &self.rude, self.tracked.0).await;
        server.assert_true("good", &self.good, self.tracked.1).await;
        assert_eq!(
            (
                self.rude.stats().asked_after_final,
                self.good.stats().asked_after_final
            ),
            (0, 0)
        );
    }
}

/// What fails as a whole, and a word of what is said of it.
const FAILURES: [(Fault, &str); 10] = [
    (Fault::Fail, "the ledger answered 500"),
    (Fault::Hang, "no answer within 400ms"),
    (Fault::Garbage, "makes no sense"),
    (Fault::HalfBody, "makes no sense"),
    (Fault::Oversize, "max_response_bytes"),
    (Fault::Close, "makes no sense"),
    (Fault::Unauthorized, "not authorised (401)"),
    (Fault::NotFound, "not found"),
    (Fault::TooMany, "slow down (429)"),
    (Fault::Redirect, "302"),
];

async fn every_failure(db: Db, kind: LedgerKind) {
    let mut stage = Stage::new(db, kind);
    let server = stage.server();
    for (fault, words) in FAILURES {
        stage.rude.set_behaviour(&Behaviour::always(fault));
        let failed = server.total("rude", "failed_requests").await;
        stage.feed(&server).await;
        until(&format!("{fault} is reported"), PATIENCE, async || {
            let troubles = server.troubles("rude").await;
            let again = server.total("rude", "failed_requests").await > failed;
            if again && troubles.contains(words) {
                Ok(())
            } else {
                Err(troubles)
            }
        })
        .await;
        // It cost no batch a poll.
        let outstanding = server.rows("ledger=rude&status=pending").await;
        assert_eq!(outstanding.len(), BATCHES_EACH, "{fault}");
        assert!(
            outstanding
                .iter()
                .all(|row| row["polls"] == 0 && row["unknowns"] == 0),
            "{fault}"
        );
        assert_eq!(server.get("/readyz").await.0, 200);
        stage.rude.set_behaviour(&Behaviour::default());
        // A closed connection or an answer cut off may have carried final statuses.
        server.all_settle("rude").await;
        until(&format!("{fault} is over"), PATIENCE, async || {
            let troubles = server.troubles("rude").await;
            if troubles.is_empty() {
                Ok(())
            } else {
                Err(troubles)
            }
        })
        .await;
    }
    stage.all_true(&server).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_of_sawtooth_is_survived_and_reported() {
    every_failure(Db::Sqlite, LedgerKind::Sawtooth).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_of_splinter_is_survived_and_reported() {
    every_failure(Db::Postgres, LedgerKind::Splinter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_not_asked_for_and_ids_left_out_are_counted() {
    for kind in [LedgerKind::Sawtooth, LedgerKind::Splinter] {
        let mut stage = Stage::new(Db::Sqlite, kind);
        let server = stage.server();
        stage
            .rude
            .set_behaviour(&Behaviour::always(Fault::ForeignId));
        stage.feed(&server).await;
        server.all_settle("rude").await;
        until("the strange id is counted", PATIENCE, async || {
            if server.total("rude", "unasked").await > 0 {
                Ok(())
            } else {
                Err(String::new())
            }
        })
        .await;
        assert_eq!(
            server.rows("ledger=rude").await.len(),
            BATCHES_EACH,
            "no row came of it"
        );

        stage
            .rude
            .set_behaviour(&Behaviour::always(Fault::MissingId));
        stage.feed(&server).await;
        let row = until("one stays pending", PATIENCE, async || {
            let mut rows = server.rows("ledger=rude&status=pending").await;
            match (rows.len(), rows.pop()) {
                (1, Some(row)) if row["polls"].as_i64() > Some(1) => Ok(row),
                (count, _) => Err(format!("{count} pending")),
            }
        })
        .await;
        assert!(
            text(&row["last_error"]).contains("left this batch out"),
            "{row}"
        );
        assert_eq!(row["unknowns"], 0);
        until("it is counted", PATIENCE, async || {
            if server.total("rude", "missing").await > 0 {
                Ok(())
            } else {
                Err(String::new())
            }
        })
        .await;
        stage.rude.set_behaviour(&Behaviour::default());
        stage.all_true(&server).await;
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_too_large_is_halved_until_it_fits() {
    let stage = Stage::new(Db::Sqlite, LedgerKind::Sawtooth);
    stage.rude.set_behaviour(&Behaviour {
        most_ids: 70,
        ..Behaviour::default()
    });
    let server = stage.server();
    submit(&server, "rude", &stage.rude, "", &new_ids(1000)).await;
    let took = server.all_settle("rude").await;
    assert!(took < Duration::from_secs(5), "not backed off: {took:?}");
    server.assert_true("rude", &stage.rude, 1000).await;
    // 500, 250 and 125 are too many, each on both connections at worst; 62 fit.
    let requests = stage.rude.stats().requests;
    assert!(requests <= 6 + 1000 / 62 + 8, "{requests} requests");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_waited_for() {
    let stage = Stage::new(Db::Sqlite, LedgerKind::Sawtooth);
    let slow_down = Behaviour {
        retry_after: Some(2),
        ..Behaviour::always(Fault::TooMany)
    };
    stage.rude.set_behaviour(&slow_down);
    let server = stage.server();
    submit(&server, "rude", &stage.rude, "", &new_ids(10)).await;
    until("it was asked", PATIENCE, async || {
        if stage.rude.stats().requests > 0 {
            Ok(())
        } else {
            Err(String::new())
        }
    })
    .await;
    let asked = Instant::now();
    stage.rude.set_behaviour(&Behaviour::default());
    server.all_settle("rude").await;
    let waited = asked.elapsed();
    assert!(
        waited > Duration::from_millis(1800),
        "asked again after {waited:?}"
    );
    assert_eq!(stage.rude.stats().requests, 2);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_is_refused_is_found_and_holds_up_nobody() {
    for db in [Db::Sqlite, Db::Postgres] {
        let stage = Stage::new(db, LedgerKind::Sawtooth);
        let ids = new_ids(501);
        let refused = ids[333].clone();
        let behaviour = Behaviour {
            refused_ids: vec![refused.clone()],
            ..Behaviour::default()
        };
        stage.rude.set_behaviour(&behaviour);
        let server = stage.server();
        submit(&server, "rude", &stage.rude, "", &ids).await;
        server.all_settle("rude").await;
        let rows = server.rows("ledger=rude").await;
        assert_eq!(rows.len(), 501);
        for row in rows {
            let wanted = if text(&row["batch_id"]) == refused {
                "refused"
            } else {
                "committed"
            };
            assert_eq!(text(&row["status"]), wanted, "{row}");
            if wanted == "refused" {
                assert!(text(&row["last_error"]).contains(&refused[..16]), "{row}");
            }
        }
        // Two requests for each of the nine halvings of 500, and the first ones.
        let requests = stage.rude.stats().requests;
        assert!(requests <= 24, "{requests} requests");
        assert_eq!(
            server.total("rude", "failed_requests").await,
            0,
            "it is no failure of the ledger"
        );
        server.stop();
    }
}
