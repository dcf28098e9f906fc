//! The sentinel: looks at every service from a thread on which none of them
//! runs, gives up those without life, and keeps the Supervisor.

use super::commands::Command;
use super::exit::ExitReason;
use super::liveness::{self, AnswerSigns, Signs, Silence};
use super::notes::Note;
use super::query::WatchdogQuery;
use super::register::Register;
use super::registry::{Keeper, Watchdog};
use super::stats::lock;
use super::status::ServiceState;
use actix::Arbiter;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the sentinel may be late before the watchdog itself is not well.
const LATE: Duration = Duration::from_secs(5);
/// Longest sleep of the root task.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The thread from which services are watched; goes on until it is stopped.
#[derive(Debug)]
pub struct Sentinel {
    arbiter: Arbiter,
}

impl Sentinel {
    /// Begins to watch; to be called where an actix system runs.
    pub fn start(query: &WatchdogQuery) -> Self {
        let arbiter = Arbiter::new();
        let watchdog = query.watchdog().clone();
        arbiter.spawn(keep_supervisor(watchdog.clone()));
        arbiter.spawn(async move {
            loop {
                let tick = watchdog.look(Instant::now());
                tokio::time::sleep(tick).await;
            }
        });
        Self { arbiter }
    }

    /// Ends it.
    pub fn stop(&self) {
        self.arbiter.stop();
    }
}

/// The root of supervision: keeps the Supervisor, which keeps the others.
async fn keep_supervisor(watchdog: Watchdog) {
    let bell = watchdog.keepers_bell(Keeper::Root);
    loop {
        let pause = watchdog.attend(Keeper::Root).map_or(LONGEST_SLEEP, |at| {
            at.saturating_duration_since(Instant::now())
        });
        // Either way the register says what is to be done.
        drop(tokio::time::timeout(pause, bell.notified()).await);
    }
}

impl Watchdog {
    /// Whether services are being watched, and none that is critical has been
    /// without life for longer than its deadline.
    pub fn is_well(&self) -> bool {
        let register = lock(&self.inner.register);
        let deadline = register.limits.deadline;
        let stuck = register.entries.iter().any(|entry| {
            entry.critical
                && matches!(entry.state, ServiceState::Starting | ServiceState::Running)
                && entry.standing() == ServiceState::Starting
                && entry.changed.elapsed() > deadline * 2
        });
        !stuck && register.looked_at.is_some_and(|at| at.elapsed() < LATE)
    }

    /// One look at every service. Answers after what time the next is due.
    fn look(&self, now: Instant) -> Duration {
        let mut guard = lock(&self.inner.register);
        let register = &mut *guard;
        let deadline = register.limits.deadline;
        let tick = liveness::tick(deadline);
        register.looked_at = Some(now);
        register.find_recovered();
        let silent = register.find_silent(now, tick, deadline);
        for (index, silence) in silent {
            if register.entries[index].is_given_up() {
                // With the thread of another.
                continue;
            }
            let blocked = matches!(silence, Silence::Blocked(_) | Silence::Thread(_));
            let reason = ExitReason::Unresponsive(silence);
            if blocked {
                register.lose_thread(index, reason);
            } else {
                register.entries[index].give_up(reason);
            }
        }
        let notes = register.settle();
        drop(guard);
        notes.into_iter().for_each(Note::log);
        self.ring(Keeper::Root);
        self.ring(Keeper::Supervisor);
        tick
    }
}

impl Register {
    /// Looks at every service; answers those that have been silent too long.
    fn find_silent(
        &mut self,
        now: Instant,
        tick: Duration,
        deadline: Duration,
    ) -> Vec<(usize, Silence)> {
        let mut silent = Vec::new();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let progress = entry.progress();
            let Some(running) = &mut entry.running else {
                continue;
            };
            if running.fence.is_up() {
                continue;
            }
            let answers: Vec<AnswerSigns> = entry
                .lines
                .iter()
                .filter(|line| line.stats.prompt)
                .map(|line| {
                    let (waiting, answered) = line.stats.answers();
                    AnswerSigns {
                        message: line.stats.message,
                        within: deadline,
                        waiting,
                        answered,
                    }
                })
                .collect();
            let signs = Signs {
                answered_probe: running.progress.answered_probe(),
                turn: running.thread.turns.of(entry.id),
                turns: running.thread.turns.count(),
                progress,
                progress_within: running.progress.within(),
                answers: &answers,
            };
            let look = running.liveness.look(now, tick, deadline, &signs);
            if let Some(probe) = look.probe {
                // One that does not listen any more is about to end.
                let _listens: bool = running.commands.tell(Command::Probe(probe));
            }
            if let Some(silence) = look.silence {
                silent.push((index, silence));
            }
        }
        // While one service blocks a thread, the others there cannot help it.
        silent.retain(|(index, silence)| {
            matches!(silence, Silence::Blocked(_)) || !self.is_held_up(*index, deadline / 4)
        });
        silent
    }

    /// Whether another service has been in a turn on this one's thread so long.
    fn is_held_up(&self, index: usize, time: Duration) -> bool {
        let Some(held_up) = &self.entries[index].running else {
            return false;
        };
        self.entries.iter().enumerate().any(|(other, entry)| {
            other != index
                && entry.running.as_ref().is_some_and(|running| {
                    Arc::ptr_eq(&running.thread.turns, &held_up.thread.turns)
                        && running.liveness.in_turn() >= time
                })
        })
    }

    /// Threads that were lost and came back are ended: what they ran is cut off.
    fn find_recovered(&mut self) {
        let before = self.lost.len();
        let notes = &mut self.notes;
        self.lost.retain(|lost| {
            let back = lost.thread.turns.count() != lost.turns;
            if back {
                lost.thread.arbiter.stop();
                notes.push(Note::ThreadIsBack {
                    service: lost.shown.service.clone(),
                    thread: lost.shown.thread.clone(),
                });
            }
            !back
        });
        self.recovered += (before - self.lost.len()) as u64;
    }
}
