//! One service in the register: where it stands, and what its end leads to.

use super::commands::{Command, Commander, commands};
use super::exit::{ExitBox, ExitGuard, ExitReason, Fence};
use super::launch::{Cut, Launch, LaunchOrder, Start};
use super::liveness::Liveness;
use super::lookup::LookupError;
use super::notes::Note;
use super::registry::{Keeper, Watchdog};
use super::restart::{RestartDecision, RestartHistory, RestartPolicy};
use super::service::{LineEntry, Progress, ServiceContext, ServiceParts};
use super::settings::AnySettings;
use super::state::{AnyState, SavedValue};
use super::status::{ServiceState, ServiceStatus};
use super::thread::Thread;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// A service in the register.
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) name: Arc<str>,
    pub(super) keeper: Keeper,
    pub(super) critical: bool,
    pub(super) policy: Option<RestartPolicy>,
    /// Name of the thread it runs on.
    pub(super) thread: Arc<str>,
    pub(super) depends_on: Vec<Arc<str>>,
    launch: Launch,
    pub(super) lines: Vec<LineEntry>,
    pub(super) settings: Option<AnySettings>,
    pub(super) kept: Option<AnyState>,
    pub(super) exits: Arc<ExitBox>,
    /// Progress of generations that are over.
    past: u64,
    /// The generation that runs.
    pub(super) running: Option<Running>,
    pub(super) generation: u64,
    pub(super) state: ServiceState,
    since: Timestamp,
    pub(super) changed: Instant,
    history: RestartHistory,
    /// When it is to be built.
    pub(super) start_at: Option<Instant>,
    /// The service that has to run before it.
    pub(super) waits_for: Option<Arc<str>>,
    /// What it was told, and what follows when it has ended.
    pub(super) then: Option<Then>,
    /// Why it is not built again, whatever its policy says.
    pub(super) forbidden: Option<String>,
    /// Whether it leaves the register at its end.
    leaves: bool,
    /// Whether the former generation is on a thread that was lost.
    pub(super) lost: bool,
    restarts: BTreeMap<String, u64>,
    pub(super) last_error: Option<String>,
    /// What is to be logged of it.
    pub(super) notes: Vec<Note>,
}

/// A generation of a service that runs.
pub(super) struct Running {
    pub(super) commands: Commander,
    pub(super) cut: Cut,
    pub(super) fence: Fence,
    pub(super) liveness: Liveness,
    pub(super) thread: Thread,
    /// Signs of life of this generation alone: one that was given up may come
    /// back and give some of its own.
    pub(super) progress: Arc<Progress>,
    started: Instant,
}

/// What follows when a service has ended as told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It stays as it is.
    Stay,
    /// It is built again at once.
    Restart,
    /// It is built again after the service that it depends on.
    Follow(Arc<str>),
    /// It leaves the register.
    Leave,
}

impl Entry {
    pub(super) fn new(
        id: u64,
        parts: ServiceParts,
        keeper: Keeper,
        saved: Option<&SavedValue>,
    ) -> Self {
        let kept = parts.state.map(|make| make(&parts.name, saved));
        Self {
            id,
            name: parts.name,
            keeper,
            critical: parts.critical,
            policy: parts.policy,
            thread: parts.thread,
            depends_on: parts.depends_on,
            launch: parts.launch,
            lines: parts.lines,
            settings: parts.settings,
            kept,
            exits: Arc::default(),
            past: 0,
            running: None,
            generation: 0,
            state: ServiceState::Registered,
            since: Timestamp::now(),
            changed: Instant::now(),
            history: RestartHistory::default(),
            start_at: None,
            waits_for: None,
            then: None,
            forbidden: None,
            leaves: false,
            lost: false,
            restarts: BTreeMap::new(),
            last_error: None,
            notes: Vec::new(),
        }
    }

    fn become_(&mut self, state: ServiceState) {
        self.state = state;
        self.since = Timestamp::now();
        self.changed = Instant::now();
    }

    /// Has it built as soon as its keeper looks, as an operator asked.
    pub(super) fn start_by_hand(&mut self) {
        self.forget_ends();
        self.waits_for = None;
        self.start_at = Some(Instant::now());
    }

    /// Forgets its former ends.
    pub(super) fn forget_ends(&mut self) {
        self.history.forget();
        self.forbidden = None;
    }

    /// Whether it is out of the register.
    pub(super) fn has_left(&self) -> bool {
        self.leaves && self.running.is_none()
    }

    /// Whether it is on its way out of the register.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaves
    }

    /// Tells it to end.
    pub(super) fn tell_to_end(&mut self, then: Then) {
        if let Some(running) = &self.running {
            // One that does not listen any more is ending already.
            let _listens: bool = running.commands.tell(Command::Stop);
        }
        self.leaves = then == Then::Leave;
        self.then = Some(then);
        if self.running.is_some() {
            self.become_(ServiceState::Stopping);
        } else {
            self.ended(&ExitReason::Stopped, &RestartPolicy::default());
        }
    }

    /// Whether the running generation was given up already.
    pub(super) fn is_given_up(&self) -> bool {
        self.running
            .as_ref()
            .is_none_or(|running| running.fence.is_up())
    }

    /// Gives the running generation up: nothing that it still does has an
    /// effect, and it is dropped as soon as its thread is free.
    pub(super) fn give_up(&self, reason: ExitReason) {
        if let Some(running) = &self.running {
            running.fence.raise();
            // Before the guard, which only knows that it was dropped.
            self.exits.put(self.generation, reason);
            running.cut.cut();
        }
    }

    /// Takes note of its end.
    pub(super) fn ended(&mut self, reason: &ExitReason, policy: &RestartPolicy) {
        (self.launch)(LaunchOrder::Disconnect {
            generation: self.generation,
        });
        let now = Instant::now();
        self.past += self.progress_now();
        let ran_for = self
            .running
            .take()
            .map_or_else(Default::default, |running| {
                now.saturating_duration_since(running.started)
            });
        self.start_at = None;
        match self.then.take() {
            Some(Then::Stay | Then::Leave) => {
                self.become_(ServiceState::Stopped);
                let service = self.name.clone();
                self.notes.push(Note::Stopped { service });
                return;
            }
            Some(Then::Restart) => {
                self.count(&ExitReason::Asked);
                self.start_at = Some(now);
                self.become_(ServiceState::Restarting);
                return;
            }
            Some(Then::Follow(on)) => {
                let reason = ExitReason::Dependency { on: on.to_string() };
                self.count(&reason);
                self.notes.push(Note::Follows {
                    service: self.name.clone(),
                    exit: reason,
                });
                self.waits_for = Some(on);
                self.start_at = Some(now);
                self.become_(ServiceState::Restarting);
                return;
            }
            None => {}
        }
        self.last_error = Some(reason.to_string());
        if let Some(why) = self.forbidden.clone() {
            self.last_error = Some(format!("{reason}; {why}"));
            self.fail(reason, why);
            return;
        }
        let decision = if reason.is_own_fault() {
            self.history
                .on_exit(policy, now, ran_for, rand::random::<f64>())
        } else {
            RestartDecision::RestartAfter(std::time::Duration::ZERO)
        };
        match decision {
            RestartDecision::RestartAfter(delay) => {
                self.count(reason);
                self.notes.push(Note::Restarts {
                    service: self.name.clone(),
                    exit: reason.clone(),
                    after: delay,
                });
                self.start_at = Some(now + delay);
                self.become_(ServiceState::Restarting);
            }
            RestartDecision::Fail => self.fail(reason, "it ended too often".to_owned()),
        }
    }

    fn fail(&mut self, exit: &ExitReason, why: String) {
        self.notes.push(Note::Fails {
            service: self.name.clone(),
            exit: exit.clone(),
            why,
        });
        self.become_(ServiceState::Failed);
    }

    fn count(&mut self, reason: &ExitReason) {
        *self.restarts.entry(reason.word().to_owned()).or_default() += 1;
    }

    /// Builds it on this thread.
    pub(super) fn launch(&mut self, watchdog: &Watchdog, thread: &Thread) {
        self.generation += 1;
        self.start_at = None;
        self.waits_for = None;
        for line in &self.lines {
            line.stats.begin_generation();
        }
        let progress = Arc::<Progress>::default();
        self.become_(ServiceState::Starting);
        let (commander, commands) = commands();
        let (cut, fence) = (Cut::default(), Fence::default());
        let context = ServiceContext {
            name: self.name.clone(),
            guard: Arc::new(ExitGuard {
                generation: self.generation,
                exits: self.exits.clone(),
                bell: watchdog.keepers_bell(self.keeper),
                error: std::sync::Mutex::default(),
            }),
            watchdog: watchdog.clone(),
            progress: progress.clone(),
            fence: fence.clone(),
            former_lost: std::mem::take(&mut self.lost),
            settings: self.settings.clone(),
            state: self.kept.clone(),
        };
        let start = LaunchOrder::Start(Box::new(Start {
            context,
            commands,
            cut: cut.clone(),
            turns: thread.turns.clone(),
            id: self.id,
        }));
        self.running = Some(Running {
            commands: commander,
            cut,
            fence,
            liveness: Liveness::default(),
            thread: thread.clone(),
            progress,
            started: Instant::now(),
        });
        self.notes.push(Note::Starts {
            service: self.name.clone(),
            generation: self.generation,
        });
        let launch = self.launch.clone();
        // Where the thread is gone the order is dropped, and its guard reports the end.
        let _sent: bool = thread.arbiter.spawn_fn(move || launch(start));
    }

    /// Where it stands: running once progress was seen.
    pub(super) fn standing(&self) -> ServiceState {
        match self.state {
            ServiceState::Starting if self.progress_now() > 0 => ServiceState::Running,
            state => state,
        }
    }

    /// Signs of life of the generation that runs, beside messages handled.
    fn progress_now(&self) -> u64 {
        self.running
            .as_ref()
            .map_or(0, |running| running.progress.count())
    }

    /// All signs of progress so far.
    pub(super) fn progress(&self) -> u64 {
        let handled = self.lines.iter().map(|line| line.stats.handled());
        self.past + self.progress_now() + handled.sum::<u64>()
    }

    pub(super) fn status(&self) -> ServiceStatus {
        let state = self.standing();
        let up = self
            .running
            .as_ref()
            .filter(|_| state == ServiceState::Running);
        let lines = self.lines.iter();
        ServiceStatus {
            name: self.name.to_string(),
            state,
            critical: self.critical,
            since: self.since,
            uptime_seconds: up.map(|running| running.started.elapsed().as_secs_f64()),
            generation: self.generation,
            thread: self.thread.to_string(),
            depends_on: self.depends_on.iter().map(ToString::to_string).collect(),
            waits_for: self.waits_for.as_ref().map(ToString::to_string),
            progress: self.progress(),
            settings_changes: self.settings.as_ref().map(AnySettings::changes),
            restarts: self.restarts.clone(),
            last_error: self.last_error.clone(),
            intercoms: lines.flat_map(|line| line.stats.snapshots()).collect(),
        }
    }
}

/// Finds a service by name.
pub(super) fn find<'a>(entries: &'a [Entry], name: &str) -> Result<&'a Entry, LookupError> {
    entries
        .iter()
        .find(|entry| &*entry.name == name)
        .ok_or_else(|| unknown(entries, name))
}

/// The same, to be changed.
pub(super) fn find_mut<'a>(
    entries: &'a mut [Entry],
    name: &str,
) -> Result<&'a mut Entry, LookupError> {
    match entries.iter().position(|entry| &*entry.name == name) {
        Some(index) => Ok(&mut entries[index]),
        None => Err(unknown(entries, name)),
    }
}

fn unknown(entries: &[Entry], name: &str) -> LookupError {
    LookupError::NoService {
        service: name.to_owned(),
        known: entries.iter().map(|entry| entry.name.to_string()).collect(),
    }
}
