//! When a service counts as unresponsive: pure, with the clock passed in.
//!
//! Whoever looks (the sentinel, from a thread of its own) sees counters that
//! move while a service lives. What does not move for too long is a silence.
//! Time is counted only as fast as the looks come: a process that was paused,
//! or a machine that was asleep, accuses nobody when it wakes.

use std::fmt;
use std::time::{Duration, Instant};

/// How a service was silent, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It was in one turn of its own all the time: a loop, or a blocking call.
    Blocked(Duration),
    /// Nothing moved on its thread, though no service is in a turn there: a task
    /// of its own blocks it.
    Thread(Duration),
    /// It did not answer its watchdog's probe, though its thread is free: it
    /// waits for something and takes nothing in meanwhile.
    Probe(Duration),
    /// It took messages of this type and answered none.
    NoAnswer(&'static str, Duration),
    /// It made no progress, though it had said it would.
    NoProgress(Duration),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked(time) => write!(f, "it blocked its thread for {}", seconds(*time)),
            Self::Thread(time) => write!(f, "nothing moved on its thread for {}", seconds(*time)),
            Self::Probe(time) => write!(f, "it did not answer its watchdog for {}", seconds(*time)),
            Self::NoAnswer(message, time) => {
                write!(f, "it answered no {message} for {}", seconds(*time))
            }
            Self::NoProgress(time) => write!(f, "it made no progress for {}", seconds(*time)),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// What a look at a service sees.
#[derive(Clone, Debug, Default)]
pub(super) struct Signs<'a> {
    /// The newest probe that was answered.
    pub(super) answered_probe: u64,
    /// The number of the turn it is in, when it is in one now.
    pub(super) turn: Option<u64>,
    /// Turns of all services on its thread so far.
    pub(super) turns: u64,
    /// Signs of progress so far.
    pub(super) progress: u64,
    /// Within what time it said there would be progress.
    pub(super) progress_within: Option<Duration>,
    /// Messages that are to be answered.
    pub(super) answers: &'a [AnswerSigns],
}

/// What a look sees of messages that are to be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerSigns {
    /// Type of the message.
    pub(super) message: &'static str,
    /// Within what time they are to be answered.
    pub(super) within: Duration,
    /// Senders that wait now.
    pub(super) waiting: u64,
    /// Answers given so far.
    pub(super) answered: u64,
}

/// What a look leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Send this probe.
    pub(super) probe: Option<u64>,
    /// It has been silent for too long.
    pub(super) silence: Option<Silence>,
}

/// A counter, and for how long it has not moved.
#[derive(Clone, Debug, Default)]
struct Still {
    value: u64,
    time: Duration,
}

impl Still {
    fn see(&mut self, value: u64, passed: Duration) -> Duration {
        if self.value == value {
            self.time += passed;
        } else {
            self.value = value;
            self.time = Duration::ZERO;
        }
        self.time
    }
}

/// What is remembered of a service between looks; begins anew with each
/// generation of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Liveness {
    looked_at: Option<Instant>,
    probe: u64,
    unanswered: Duration,
    /// Turns on its thread when the probe was sent.
    turns: u64,
    turn: Option<u64>,
    in_turn: Duration,
    progress: Still,
    answers: Vec<Still>,
}

impl Liveness {
    /// For how long it has been in one turn.
    pub(super) fn in_turn(&self) -> Duration {
        self.in_turn
    }

    /// Looks. `tick` is how often looks are meant to come, `deadline` within
    /// which time a service without life is to be replaced: so it is given up
    /// a little earlier.
    pub(super) fn look(
        &mut self,
        now: Instant,
        tick: Duration,
        deadline: Duration,
        signs: &Signs<'_>,
    ) -> Look {
        let passed = self.looked_at.map_or(Duration::ZERO, |at| {
            now.saturating_duration_since(at).min(tick * 2)
        });
        self.looked_at = Some(now);
        let mut look = Look::default();

        if self.probe == signs.answered_probe {
            self.unanswered = Duration::ZERO;
            self.probe += 1;
            self.turns = signs.turns;
            look.probe = Some(self.probe);
        } else {
            self.unanswered += passed;
        }
        if signs.turn.is_some() && self.turn == signs.turn {
            self.in_turn += passed;
        } else {
            self.in_turn = Duration::ZERO;
        }
        self.turn = signs.turn;
        let unmoved = self.progress.see(signs.progress, passed);
        if signs.progress_within.is_none() {
            self.progress.time = Duration::ZERO;
        }
        self.answers
            .resize_with(signs.answers.len(), Still::default);

        look.silence = if self.in_turn >= patience(deadline) {
            Some(Silence::Blocked(self.in_turn))
        } else if self.unanswered >= patience(deadline) {
            // A probe wakes the service: where its thread is free, there are turns.
            Some(if self.turns == signs.turns {
                Silence::Thread(self.unanswered)
            } else {
                Silence::Probe(self.unanswered)
            })
        } else if signs
            .progress_within
            .is_some_and(|within| unmoved >= patience(within))
        {
            Some(Silence::NoProgress(unmoved))
        } else {
            None
        };
        for (still, answers) in self.answers.iter_mut().zip(signs.answers) {
            // Without a sender that waits, nobody is left unanswered.
            let passed = if answers.waiting > 0 {
                passed
            } else {
                Duration::ZERO
            };
            let time = still.see(answers.answered, passed);
            if look.silence.is_none() && time >= patience(answers.within) {
                look.silence = Some(Silence::NoAnswer(answers.message, time));
            }
        }
        look
    }
}

/// A deadline is for the whole: what is left of it is for the looks between
/// which the silence began, and for the replacement.
fn patience(deadline: Duration) -> Duration {
    deadline.mul_f64(0.75)
}

/// How often to look, so that a deadline can be kept.
pub(super) fn tick(deadline: Duration) -> Duration {
    (deadline / 12).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    struct Watcher {
        liveness: Liveness,
        now: Instant,
        answered: u64,
        turns: u64,
        /// Whether its thread goes on.
        moves: bool,
    }

    impl Watcher {
        fn new() -> Self {
            Self {
                liveness: Liveness::default(),
                now: Instant::now(),
                answered: 0,
                turns: 0,
                moves: true,
            }
        }

        /// Looks once a tick for `time`; answers the first silence.
        fn watch(&mut self, time: Duration, probed: bool, signs: &Signs<'_>) -> Option<Silence> {
            let (step, end) = (tick(DEADLINE), self.now + time);
            while self.now < end {
                self.now += step;
                let signs = Signs {
                    answered_probe: self.answered,
                    turns: self.turns,
                    ..signs.clone()
                };
                self.turns += u64::from(self.moves);
                let look = self.liveness.look(self.now, step, DEADLINE, &signs);
                if look.silence.is_some() {
                    return look.silence;
                }
                if let (Some(probe), true) = (look.probe, probed) {
                    self.answered = probe;
                }
            }
            None
        }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_that_answers_its_probes_lives() {
        assert_eq!(
            Watcher::new().watch(secs(3600), true, &Signs::default()),
            None
        );
    }

    #[test]
    fn one_that_leaves_a_probe_unanswered_is_given_up_before_its_deadline() {
        let mut watcher = Watcher::new();
        assert_eq!(watcher.watch(secs(100), true, &Signs::default()), None);
        let stuck_at = watcher.now;
        let silence = watcher.watch(DEADLINE, false, &Signs::default());
        assert!(
            matches!(silence, Some(Silence::Probe(time)) if time > secs(7)),
            "{silence:?}"
        );
        assert!(watcher.now - stuck_at < DEADLINE - Duration::from_millis(500));
    }

    #[test]
    fn a_thread_on_which_nothing_moves_is_told_from_a_service_that_waits() {
        let mut watcher = Watcher::new();
        assert_eq!(watcher.watch(secs(100), true, &Signs::default()), None);
        watcher.moves = false;
        let silence = watcher.watch(DEADLINE, false, &Signs::default());
        assert!(matches!(silence, Some(Silence::Thread(_))), "{silence:?}");
    }

    #[test]
    fn one_that_stays_in_a_turn_blocks_its_thread_and_many_turns_do_not() {
        let mut watcher = Watcher::new();
        for turn in 0..100 {
            let signs = Signs {
                turn: Some(turn),
                ..Signs::default()
            };
            assert_eq!(watcher.watch(secs(5), true, &signs), None);
        }
        let signs = Signs {
            turn: Some(7),
            ..Signs::default()
        };
        let silence = watcher.watch(DEADLINE, true, &signs);
        assert!(matches!(silence, Some(Silence::Blocked(_))), "{silence:?}");
    }

    #[test]
    fn one_that_answers_nobody_is_noticed_and_one_that_nobody_asks_is_not() {
        let asked = |waiting, answered| AnswerSigns {
            message: "Ping",
            within: secs(4),
            waiting,
            answered,
        };
        let mut watcher = Watcher::new();
        for answered in 0..20 {
            let answers = [asked(3, answered)];
            let signs = Signs {
                answers: &answers,
                ..Signs::default()
            };
            assert_eq!(watcher.watch(secs(2), true, &signs), None);
        }
        for (waiting, silent) in [(0, false), (1, true)] {
            let answers = [asked(waiting, 20)];
            let signs = Signs {
                answers: &answers,
                ..Signs::default()
            };
            let silence = watcher.watch(secs(600), true, &signs);
            assert_eq!(
                matches!(silence, Some(Silence::NoAnswer("Ping", _))),
                silent,
                "{silence:?}"
            );
        }
    }

    #[test]
    fn progress_is_asked_for_only_while_it_was_promised() {
        let mut watcher = Watcher::new();
        assert_eq!(watcher.watch(secs(600), true, &Signs::default()), None);
        let signs = Signs {
            progress_within: Some(secs(60)),
            ..Signs::default()
        };
        assert_eq!(watcher.watch(secs(40), true, &signs), None);
        let silence = watcher.watch(secs(30), true, &signs);
        assert!(
            matches!(silence, Some(Silence::NoProgress(_))),
            "{silence:?}"
        );
    }

    #[test]
    fn a_pause_of_the_whole_process_accuses_nobody() {
        let mut watcher = Watcher::new();
        assert_eq!(watcher.watch(secs(10), true, &Signs::default()), None);
        assert_eq!(watcher.watch(secs(2), false, &Signs::default()), None);
        watcher.now += secs(3600);
        assert_eq!(watcher.watch(secs(2), false, &Signs::default()), None);
    }

    proptest! {
        /// Whoever answers each probe within half the deadline is never given
        /// up, however the looks are spread.
        #[test]
        fn the_living_are_never_given_up(
            looks in proptest::collection::vec((1_u64..3000, proptest::bool::weighted(0.7)), 1..200)
        ) {
            let (mut liveness, mut now) = (Liveness::default(), Instant::now());
            let (mut sent, mut answered, mut open) = (0, 0, Duration::ZERO);
            for (pause, answers) in looks {
                let pause = Duration::from_millis(pause);
                now += pause;
                open += pause;
                if answers || open > DEADLINE / 2 {
                    (answered, open) = (sent, Duration::ZERO);
                }
                let signs = Signs { answered_probe: answered, ..Signs::default() };
                let look = liveness.look(now, tick(DEADLINE), DEADLINE, &signs);
                prop_assert_eq!(look.silence, None);
                if let Some(probe) = look.probe {
                    (sent, open) = (probe, Duration::ZERO);
                }
            }
        }
    }
}
