//! Tests of windows: examples, and a gateway that crashes and forgets.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SILENCE: Duration = Duration::from_secs(600);

fn settings(start_block: i64, window: impl Into<Option<i64>>) -> WindowSettings {
    WindowSettings {
        start_block,
        window: window.into(),
        silence: SILENCE,
    }
}

/// What is known when these blocks are.
fn known(blocks: &[i64], source_state: Option<&str>) -> Checkpoint {
    Checkpoint {
        highest_block: blocks.iter().max().copied(),
        second_block: blocks.iter().rev().nth(1).copied(),
        source_state: source_state.map(str::to_owned),
        ..Checkpoint::default()
    }
}

fn asked(settings: WindowSettings, checkpoint: &Checkpoint) -> (i64, Option<i64>) {
    Window::new(settings, checkpoint).blocks()
}

#[test]
fn the_first_subscription_begins_at_start_block_and_holds_a_window() {
    let nothing = known(&[], None);
    assert_eq!(asked(settings(0, 1000), &nothing), (0, Some(999)));
    assert_eq!(asked(settings(500, 1), &nothing), (500, Some(500)));
    assert_eq!(asked(settings(7, None), &nothing), (7, None));
    let one_block = known(&[18], None);
    assert_eq!(asked(settings(0, 1000), &one_block), (0, Some(999)));
}

#[test]
fn a_later_one_begins_at_the_second_highest_block_and_reaches_beyond_the_highest() {
    let dense = known(&[3, 49, 50], None);
    assert_eq!(asked(settings(0, 1000), &dense), (49, Some(1048)));
    let sparse = known(&[3, 17, 5000], None);
    assert_eq!(asked(settings(0, 1000), &sparse), (17, Some(5999)));
    assert_eq!(asked(settings(0, 1), &sparse), (17, Some(5001)));
    assert_eq!(asked(settings(0, None), &sparse), (17, None));
    // Someone raised start_block: what lies before is not wanted any more.
    assert_eq!(asked(settings(6000, 1000), &sparse), (6000, Some(6999)));
}

#[test]
fn it_is_renewed_before_its_end_and_not_while_nothing_is_new() {
    let mut window = Window::new(settings(0, 80), &known(&[9, 10], None));
    let now = Instant::now();
    let heard = |highest_block| HeardSoFar {
        highest_block: Some(highest_block),
        silent_for: Duration::ZERO,
        refused: None,
    };
    let subscribe = WindowStep::Subscribe {
        from: 9,
        to: Some(88),
    };
    assert_eq!(window.next(now, &heard(88)), subscribe);
    window.subscribed(now);
    let wait = WindowStep::Wait {
        until: now + SOONEST_LOOK,
    };
    assert_eq!(window.next(now, &heard(10)), wait);
    assert_eq!(window.next(now, &heard(77)), wait);
    let renew = WindowStep::Renew {
        why: RenewReason::NearlyFull,
        remember: None,
    };
    assert_eq!(window.next(now, &heard(78)), renew);

    let mut smallest = Window::new(settings(0, 1), &known(&[9, 10], None));
    smallest.subscribed(now);
    assert_eq!(smallest.next(now, &heard(10)), wait);
    assert_eq!(smallest.next(now, &heard(11)), renew);
}

#[test]
fn silence_counts_from_the_subscription_and_doubles_an_empty_window() {
    let mut checkpoint = known(&[9, 10], None);
    let settings = settings(0, 100);
    let mut now = Instant::now();
    for last in [108, 208, 408, 808] {
        let mut window = Window::new(settings, &checkpoint);
        assert_eq!(window.blocks(), (9, Some(last)));
        window.subscribed(now);
        // Nothing was heard for days: the gateway gets its time nevertheless.
        let heard = HeardSoFar {
            highest_block: Some(10),
            silent_for: 1000 * SILENCE,
            refused: None,
        };
        let look = WindowStep::Wait {
            until: now + LATEST_LOOK,
        };
        assert_eq!(window.next(now, &heard), look);
        now += SILENCE;
        let WindowStep::Renew { why, remember } = window.next(now, &heard) else {
            panic!("{window:?} is not renewed");
        };
        assert_eq!(why, RenewReason::Silence);
        checkpoint.source_state = remember;
    }
    // A block was found in it: windows are as configured again.
    let found = Checkpoint {
        highest_block: Some(700),
        second_block: Some(10),
        ..checkpoint.clone()
    };
    assert_eq!(asked(settings, &found), (10, Some(799)));
    let unreadable = known(&[9, 10], Some("{\"width\":"));
    assert_eq!(asked(settings, &unreadable), (9, Some(108)));
}

#[test]
fn what_the_hook_refused_is_asked_for_again_until_a_window_has_passed_it() {
    let settings = settings(3, 100);
    let checkpoint = known(&[9, 10], None);
    let begun = Instant::now();
    let secs = Duration::from_secs;
    let mut window = Window::new(settings, &checkpoint);
    window.subscribed(begun);
    let heard = |first: u64, last: u64| HeardSoFar {
        highest_block: Some(10),
        silent_for: secs(1),
        refused: Some(RefusedBlock {
            block: 7,
            first: secs(first),
            last: secs(last),
        }),
    };
    let refused = WindowStep::Renew {
        why: RenewReason::Refused,
        remember: None,
    };
    // Not while more is refused; of long ones less and less often.
    let now = begun + secs(400);
    for (first, last, renewed) in [
        (4, 4, false),
        (9, 5, true),
        (200, 49, false),
        (200, 50, true),
    ] {
        let step = window.next(now, &heard(first, last));
        assert_eq!(step == refused, renewed, "{first} {last}: {step:?}");
    }
    assert_eq!(
        window.passed(now, &heard(9, 5), RenewReason::NearlyFull),
        None
    );

    let mut window = Window::with_refused(settings, &checkpoint, Some(7));
    assert_eq!(window.blocks(), (7, Some(106)));
    window.asked(begun);
    window.subscribed(begun + secs(2));
    // Refused before it was asked for: it comes again.
    let (now, mut heard) = (begun + secs(60), heard(90, 61));
    assert_ne!(window.next(now, &heard), refused);
    let passed = |heard: &HeardSoFar, why| window.passed(now, heard, why);
    assert_eq!(passed(&heard, RenewReason::NearlyFull), Some(begun));
    assert_eq!(passed(&heard, RenewReason::Silence), Some(begun));
    heard.silent_for = secs(61);
    assert_eq!(passed(&heard, RenewReason::Silence), None, "nothing came");
    heard.refused = heard.refused.map(|refused| RefusedBlock {
        last: secs(59),
        ..refused
    });
    assert_eq!(window.next(now, &heard), refused, "refused once more");
    assert_eq!(passed(&heard, RenewReason::NearlyFull), None);

    // What start_block leaves out is not lost.
    let early = Window::with_refused(settings, &checkpoint, Some(0));
    assert_eq!(early.blocks(), (3, Some(102)));
}

#[test]
fn silence_after_something_new_leaves_the_window_as_wide_as_it_was() {
    let mut window = Window::new(settings(0, 100), &known(&[9, 10], None));
    let now = Instant::now();
    window.subscribed(now);
    let heard = HeardSoFar {
        highest_block: Some(11),
        silent_for: SILENCE,
        refused: None,
    };
    let renew = WindowStep::Renew {
        why: RenewReason::Silence,
        remember: None,
    };
    assert_eq!(window.next(now + SILENCE, &heard), renew);
    let mut endless = Window::new(settings(0, None), &known(&[9, 10], None));
    endless.subscribed(now);
    // Sooner than that: what the hook refuses is to be seen.
    let wait = WindowStep::Wait { until: now + CALM };
    let nothing = HeardSoFar {
        highest_block: Some(10),
        silent_for: Duration::ZERO,
        refused: None,
    };
    assert_eq!(endless.next(now, &nothing), wait);
    assert_eq!(endless.next(now + SILENCE, &heard), renew);
}

#[test]
fn no_number_that_is_known_overflows() {
    for block in [MOST_BLOCK, i64::MAX - 1, i64::MAX] {
        let state = r#"{"width":9223372036854775807,"above":9223372036854775807}"#;
        let checkpoint = known(&[block - 1, block], Some(state));
        let mut window = Window::new(settings(0, i64::MAX), &checkpoint);
        let now = Instant::now();
        window.subscribed(now);
        let heard = HeardSoFar {
            highest_block: Some(block),
            silent_for: SILENCE,
            refused: None,
        };
        assert!(matches!(
            window.next(now + SILENCE, &heard),
            WindowStep::Renew { .. }
        ));
    }
}

/// What happens to a subscription.
#[derive(Clone, Debug)]
enum Op {
    /// Blocks with so many events each.
    Grow(Vec<u8>),
    /// A live subscription sends so many events.
    Send(usize, usize),
    /// The window is asked what to do, and it is done.
    Turn(Answer),
    Sleep(u64),
    GatewayCrash,
    /// The server is killed and starts again.
    ServerCrash,
}

/// How the gateway answers, should it be asked.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Taken,
    /// It takes the subscription, and the answer is lost.
    Lost,
    /// It fails or refuses.
    No,
}

struct Live {
    to: i64,
    /// The event that it sends next.
    next: (i64, u8),
}

struct World {
    settings: WindowSettings,
    /// Events by block.
    chain: Vec<u8>,
    live: Vec<Live>,
    /// What the database holds.
    known: BTreeMap<i64, BTreeSet<u8>>,
    state: Option<String>,
    window: Option<Window>,
    now: Instant,
    heard_at: Instant,
    /// Highest block asked for so far: a wider window that was forgotten may
    /// still send, and then what it sent is where the next one begins.
    last_end: Option<i64>,
}

impl World {
    fn new(settings: WindowSettings) -> Self {
        let now = Instant::now();
        Self {
            settings,
            chain: Vec::new(),
            live: Vec::new(),
            known: BTreeMap::new(),
            state: None,
            window: None,
            now,
            heard_at: now,
            last_end: None,
        }
    }

    fn checkpoint(&self) -> Checkpoint {
        let blocks: Vec<i64> = self.known.keys().copied().collect();
        known(&blocks, self.state.as_deref())
    }

    fn missing(&self) -> usize {
        let events = (0_i64..).zip(&self.chain);
        events
            .filter(|(block, _)| *block >= self.settings.start_block)
            .map(|(block, count)| {
                usize::from(*count) - self.known.get(&block).map_or(0, BTreeSet::len)
            })
            .sum()
    }

    fn send(&mut self, which: usize, count: usize) {
        if self.live.is_empty() {
            return;
        }
        let which = which % self.live.len();
        for _ in 0..count {
            let live = &mut self.live[which];
            let (mut block, mut event) = live.next;
            while block <= live.to
                && let Some(events) = self.chain.get(usize::try_from(block).unwrap())
                && event >= *events
            {
                (block, event) = (block + 1, 0);
            }
            live.next = (block, event);
            if block > live.to || block >= i64::try_from(self.chain.len()).unwrap() {
                return;
            }
            live.next.1 += 1;
            self.known.entry(block).or_default().insert(event);
            self.heard_at = self.now;
        }
    }

    fn turn(&mut self, answer: Answer) {
        let checkpoint = self.checkpoint();
        let settings = self.settings;
        let window = self
            .window
            .get_or_insert_with(|| Window::new(settings, &checkpoint));
        let heard = HeardSoFar {
            highest_block: checkpoint.highest_block,
            silent_for: self.now - self.heard_at,
            refused: None,
        };
        match window.next(self.now, &heard) {
            WindowStep::Subscribe { from, to } => self.subscribe(from, to, answer),
            WindowStep::Wait { until } => assert!(until > self.now),
            WindowStep::Renew { remember, .. } => {
                self.window = None;
                // Where it is not written, the next window is not wider.
                if let (Some(state), Answer::Taken) = (remember, answer) {
                    self.state = Some(state);
                }
            }
        }
    }

    fn subscribe(&mut self, from: i64, to: Option<i64>, answer: Answer) {
        let end = to.unwrap_or(i64::MAX);
        assert!(from >= self.settings.start_block && end >= from);
        assert!(
            self.last_end.is_none_or(|last| from <= last),
            "a gap before {from}"
        );
        let before = (0_i64..)
            .zip(&self.chain)
            .filter(|(block, _)| *block >= self.settings.start_block && *block < from);
        for (block, events) in before {
            let known = self.known.get(&block).map_or(0, BTreeSet::len);
            assert_eq!(known, usize::from(*events), "block {block} is left behind");
        }
        if matches!(answer, Answer::Taken | Answer::Lost) {
            self.live.push(Live {
                to: end,
                next: (from, 0),
            });
            self.last_end = self.last_end.max(Some(end));
        }
        match answer {
            Answer::Taken => self.window.as_mut().unwrap().subscribed(self.now),
            Answer::Lost | Answer::No => self.window = None,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Grow(blocks) => self.chain.extend(blocks),
            Op::Send(which, count) => self.send(which, count),
            Op::Turn(answer) => self.turn(answer),
            Op::Sleep(seconds) => self.now += Duration::from_secs(seconds),
            Op::GatewayCrash => self.live.clear(),
            Op::ServerCrash => self.window = None,
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let events = prop_oneof![6 => Just(0_u8), 3 => 1_u8..4];
    let answer =
        prop_oneof![4 => Just(Answer::Taken), 1 => Just(Answer::Lost), 1 => Just(Answer::No)];
    prop_oneof![
        3 => proptest::collection::vec(events, 1..40).prop_map(Op::Grow),
        1 => (1_usize..300).prop_map(|blocks| Op::Grow(vec![0; blocks])),
        6 => (any::<usize>(), 1_usize..12).prop_map(|(which, count)| Op::Send(which, count)),
        8 => answer.prop_map(Op::Turn),
        3 => (1_u64..900).prop_map(Op::Sleep),
        1 => Just(Op::GatewayCrash),
        1 => Just(Op::ServerCrash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_every_event_from_start_on_is_heard(
        start in 0_i64..30,
        window in proptest::option::of(1_i64..40),
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        let mut world = World::new(settings(start, window));
        for op in ops {
            world.apply(op);
        }
        // From here on nothing fails: so many silences pass at most.
        let mut rounds = 0;
        while world.missing() > 0 {
            world.turn(Answer::Taken);
            for live in 0..world.live.len() {
                world.send(live, usize::MAX);
            }
            world.now += SILENCE / 2;
            rounds += 1;
            prop_assert!(rounds < 2000, "{} events are never heard", world.missing());
        }
    }
}
