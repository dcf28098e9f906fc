//! Ledgers' streams against simulated ledgers with the habits of real ones:
//! whatever is lost on the way, nothing is missing in the recorder.

use crate::stream_support::{Memory, Noted, Running, patient, settings, source};
use crate::support::{PATIENCE, batch_id, eventually};
use highwater::flows::events::{Checkpoint, Source, SourceEnd, SourceState};
use highwater::ledgers::{
    LedgerKind, LedgerNews, LedgerWatch, SawtoothStream, SplinterStream, StreamLimits,
};
use highwater::sim::{Behaviour, LedgerSim, SimHandle, SimOptions};
use std::sync::Arc;
use std::time::Duration;

const SERVICE: &str = "1mtlg-MEz1L::a000";

fn ledger(kind: LedgerKind) -> SimHandle {
    LedgerSim::start(SimOptions::of(kind)).unwrap()
}

fn splinter(sim: &SimHandle, news: Option<Arc<dyn LedgerNews>>) -> Arc<dyn Source> {
    let settings = settings(LedgerKind::Splinter, &sim.url());
    Arc::new(SplinterStream::new(&settings, &source(SERVICE, 0), news, patient()).unwrap())
}

fn sawtooth(sim: &SimHandle, limits: StreamLimits) -> Arc<dyn Source> {
    let settings = settings(LedgerKind::Sawtooth, &sim.url());
    Arc::new(SawtoothStream::new(&settings, &source("", 0), None, limits).unwrap())
}

fn tx_ids(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(batch_id).collect()
}

fn commit(sim: &SimHandle, tx_ids: &[String]) {
    let ids: Vec<&str> = tx_ids.iter().map(String::as_str).collect();
    sim.commit_transactions(SERVICE, &ids);
}

/// Commits blocks of one transaction each.
fn blocks(sim: &SimHandle, from: usize, count: usize) {
    for tx_id in tx_ids(from, count) {
        sim.commit_block(&[&tx_id]);
    }
}

/// Blocks that count and have events, by number.
fn chain(sim: &SimHandle) -> Vec<String> {
    sim.chain().split_off(1)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    eventually(PATIENCE, what, async || condition()).await;
}

#[tokio::test]
async fn splinter_events_are_recorded_once_and_in_order_over_reconnects() {
    let sim = ledger(LedgerKind::Splinter);
    let all = tx_ids(0, 60);
    commit(&sim, &all[..20]);
    let memory = Arc::new(Memory::default());
    let noted = Arc::new(Noted::default());
    let _running = Running::start(splinter(&sim, Some(noted.clone())), &memory);
    until("what was there is recorded", || memory.count() == 20).await;
    commit(&sim, &all[20..40]);
    until("what comes is recorded", || memory.count() == 40).await;
    for part in all[40..].chunks(5) {
        sim.drop_streams();
        commit(&sim, part);
    }
    until("what was missed is recorded", || memory.count() == 60).await;
    assert_eq!(memory.tx_ids(), all);
    assert_eq!(
        memory.look(|kept| kept.again),
        0,
        "known ones are recognised"
    );
    assert!(
        *noted.gaps.lock().unwrap() >= 2,
        "each connection begins with a gap"
    );
    until("the batches are told", || {
        noted.committed.lock().unwrap().len() == 60
    })
    .await;
    assert_eq!(*noted.committed.lock().unwrap(), all);
}

#[tokio::test]
async fn splinter_events_are_handed_over_again_while_the_database_is_away() {
    let sim = ledger(LedgerKind::Splinter);
    let all = tx_ids(0, 450);
    commit(&sim, &all);
    let memory = Arc::new(Memory::default());
    memory.look(|kept| kept.away = 3);
    let _running = Running::start(splinter(&sim, None), &memory);
    until("all are recorded", || memory.count() == all.len()).await;
    assert_eq!(memory.tx_ids(), all);
}

#[tokio::test]
async fn a_splinter_service_that_is_not_there_and_a_wrong_token_are_told_apart() {
    let sim = LedgerSim::start(SimOptions {
        services: vec!["other::a000".to_owned()],
        ..SimOptions::of(LedgerKind::Splinter)
    })
    .unwrap();
    let end = splinter(&sim, None)
        .run(Checkpoint::default(), &Memory::default())
        .await;
    assert!(
        matches!(&end, SourceEnd::Failed { why, .. } if why.contains("not found")),
        "{end:?}"
    );
    for kind in [LedgerKind::Splinter, LedgerKind::Sawtooth] {
        let sim = LedgerSim::start(SimOptions {
            token: Some("right".to_owned()),
            ..SimOptions::of(kind)
        })
        .unwrap();
        let source = match kind {
            LedgerKind::Splinter => splinter(&sim, None),
            LedgerKind::Sawtooth => sawtooth(&sim, patient()),
        };
        let end = source.run(Checkpoint::default(), &Memory::default()).await;
        assert!(
            matches!(&end, SourceEnd::Refused(why) if why.contains("401")),
            "{end:?}"
        );
    }
}

#[tokio::test]
async fn sawtooth_blocks_that_were_missed_are_walked_back_to() {
    let sim = ledger(LedgerKind::Sawtooth);
    blocks(&sim, 0, 12);
    let memory = Arc::new(Memory::default());
    let _running = Running::start(sawtooth(&sim, patient()), &memory);
    until("the chain is recorded from its start", || {
        memory.count() == 12
    })
    .await;
    blocks(&sim, 12, 5);
    until("what comes is recorded", || memory.count() == 17).await;
    // Missed while connected: only the next block shows it.
    sim.set_behaviour(&Behaviour {
        lose_events: true,
        ..Behaviour::default()
    });
    blocks(&sim, 17, 30);
    sim.set_behaviour(&Behaviour::default());
    blocks(&sim, 47, 1);
    until("what was lost is recorded", || memory.count() == 48).await;
    for round in 0..5 {
        sim.drop_streams();
        blocks(&sim, 48 + round * 10, 10);
    }
    until("what was missed is recorded", || memory.count() == 98).await;
    assert_eq!(memory.blocks(), chain(&sim));
    memory.look(|kept| {
        assert_eq!(kept.again, 0);
        assert_eq!(kept.forks, [], "a flag of a fork is not one: 9 to 10");
        assert!(
            kept.told
                .iter()
                .any(|state| matches!(state, SourceState::CatchingUp { .. }))
        );
    });
}

#[tokio::test]
async fn sawtooth_blocks_of_a_validator_that_was_away_are_found_without_a_new_one() {
    let sim = ledger(LedgerKind::Sawtooth);
    blocks(&sim, 0, 3);
    let memory = Arc::new(Memory::default());
    let limits = StreamLimits {
        head_retry: Duration::from_millis(50),
        ..patient()
    };
    let _running = Running::start(sawtooth(&sim, limits), &memory);
    until("the chain is recorded", || {
        memory.count() == 3 && memory.is_live()
    })
    .await;
    sim.set_behaviour(&Behaviour {
        validator_gone: true,
        ..Behaviour::default()
    });
    until("the source knows that the validator is away", || {
        !memory.is_live()
    })
    .await;
    blocks(&sim, 3, 4);
    sim.set_behaviour(&Behaviour::default());
    until("the missed blocks are recorded", || {
        memory.count() == 7 && memory.is_live()
    })
    .await;
    assert_eq!(memory.blocks(), chain(&sim));
}

#[tokio::test]
async fn a_real_fork_is_told_with_the_abandoned_blocks_before_the_new_ones() {
    let sim = ledger(LedgerKind::Sawtooth);
    blocks(&sim, 0, 10);
    let memory = Arc::new(Memory::default());
    let _running = Running::start(sawtooth(&sim, patient()), &memory);
    until("the chain is recorded", || memory.count() == 10).await;
    let before = chain(&sim);
    let new = tx_ids(100, 4);
    let new: Vec<[&str; 1]> = new.iter().map(|id| [id.as_str()]).collect();
    let new: Vec<&[&str]> = new.iter().map(|block| &block[..]).collect();
    sim.fork(3, &new);
    until("the fork is recorded", || memory.count() == 14).await;
    let after = chain(&sim);
    memory.look(|kept| {
        assert_eq!(kept.forks.len(), 1);
        let fork = &kept.forks[0];
        let ids: Vec<&String> = fork.abandoned.iter().map(|block| &block.id).collect();
        assert_eq!(ids, before[7..].iter().collect::<Vec<_>>());
        assert_eq!(fork.ancestor.as_ref().unwrap().id, before[6]);
    });
    // Blocks of the same number are not taken for one another.
    assert_eq!(memory.blocks(), [&before[..], &after[7..]].concat());
    blocks(&sim, 200, 1);
    until("it goes on", || memory.count() == 15).await;
}

#[tokio::test]
async fn long_chains_and_deep_forks_are_caught_up_with_in_stretches() {
    let sim = ledger(LedgerKind::Sawtooth);
    blocks(&sim, 0, 1_300);
    let memory = Arc::new(Memory::default());
    let running = Running::start(sawtooth(&sim, patient()), &memory);
    until("the chain is recorded", || {
        memory.count() == 1_300 && memory.is_live()
    })
    .await;
    assert_eq!(memory.blocks(), chain(&sim));
    drop(running);
    // While nobody listens, the chain goes another way, deeper than a stretch.
    let new = tx_ids(10_000, 720);
    let new: Vec<[&str; 1]> = new.iter().map(|id| [id.as_str()]).collect();
    let new: Vec<&[&str]> = new.iter().map(|block| &block[..]).collect();
    sim.fork(700, &new);
    let _running = Running::start(sawtooth(&sim, patient()), &memory);
    until("the other way is recorded", || {
        memory.count() == 1_300 + 720
    })
    .await;
    let recorded = memory.blocks();
    assert!(chain(&sim).iter().all(|id| recorded.contains(id)));
    memory.look(|kept| {
        assert_eq!(kept.forks.len(), 1);
        assert!(kept.forks[0].abandoned.len() >= 32);
        assert!(kept.again < 600, "it begins near the fork: {}", kept.again);
    });
}

#[tokio::test]
async fn a_source_without_its_state_begins_at_the_second_highest_known_block() {
    let sim = ledger(LedgerKind::Sawtooth);
    blocks(&sim, 0, 20);
    let memory = Memory::default();
    let checkpoint = Checkpoint {
        second_block: Some(15),
        source_state: Some("of another kind".to_owned()),
        ..Checkpoint::default()
    };
    let source = sawtooth(&sim, patient());
    let run = source.run(checkpoint, &memory);
    tokio::select! {
        end = run => panic!("{end:?}"),
        () = until("the rest is recorded", || memory.count() == 6) => {}
    }
    assert_eq!(memory.blocks(), chain(&sim)[14..]);
}

#[tokio::test]
async fn only_addresses_that_are_asked_for_are_events() {
    let sim = ledger(LedgerKind::Sawtooth);
    let settings = settings(LedgerKind::Sawtooth, &sim.url());
    let mut source = source("", 0);
    source.address_prefixes = vec!["00ec01".to_owned()];
    let stream = SawtoothStream::new(&settings, &source, None, patient()).unwrap();
    let memory = Arc::new(Memory::default());
    let _running = Running::start(Arc::new(stream), &memory);
    blocks(&sim, 0, 5);
    let known = |number: usize| {
        let id = &sim.chain()[number];
        memory.look(|kept| kept.state.as_ref().is_some_and(|state| state.contains(id)))
    };
    until("the blocks are known", || known(5)).await;
    assert_eq!(memory.count(), 0);
}

#[tokio::test]
async fn a_watch_tells_the_batches_without_a_subscription() {
    for kind in [LedgerKind::Sawtooth, LedgerKind::Splinter] {
        let sim = ledger(kind);
        let noted = Arc::new(Noted::default());
        let (service, commit_one): (&str, &dyn Fn(usize)) = match kind {
            LedgerKind::Sawtooth => ("", &|n| drop(sim.commit_block(&[&batch_id(n)]))),
            LedgerKind::Splinter => (SERVICE, &|n| {
                sim.commit_transactions(SERVICE, &[&batch_id(n)]);
            }),
        };
        let settings = settings(kind, &sim.url());
        let watch = LedgerWatch::new(&settings, service, noted.clone(), patient()).unwrap();
        let running = tokio::spawn(async move { watch.run().await });
        let told = |n: usize| noted.committed.lock().unwrap().contains(&batch_id(n));
        until("it listens", || sim.streams().0 == 1).await;
        commit_one(1);
        until("the batches are told", || told(1)).await;
        sim.drop_streams();
        commit_one(2);
        until("they are told of what was missed", || told(2)).await;
        until("each connection begins with a gap", || {
            *noted.gaps.lock().unwrap() >= 2
        })
        .await;
        assert!(*noted.polls.lock().unwrap() >= 2);
        running.abort();
    }
}
