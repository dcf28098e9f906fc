//! Rust code by event name: who is called when a site is visited.

use super::event::PollEvent;
use super::events_code::EventListener;
use crate::config::{HandlerSettings, JobSettings};
use crate::flows::events::SubscriptionName;
use crate::flows::sites::{AppName, FailureKind, JobKey, VisitError};
use crate::net::sources;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// A part of a visit that code can take part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Before the site is visited; a failure prevents the visit, and is its outcome.
    PrePoll,
    /// The visit's work: all of it where the handler is `code`, otherwise what
    /// comes after the configured handler has succeeded.
    Poll,
    /// After the visit, whatever came of it; changes nothing any more.
    PostPoll,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PrePoll, Self::Poll, Self::PostPoll];

    /// The word in names of events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrePoll => "pre-poll",
            Self::Poll => "poll",
            Self::PostPoll => "post-poll",
        }
    }
}

/// What names of events of every job begin with.
const EVERY_JOB: &str = "civi_cxn.";

/// Why a listener, or what it called, failed. Made of any error by `?`, or of
/// a text; a [`VisitError`], as the clients of a [`PollEvent`] give it, keeps
/// its kind, and everything else is the kind `handler`.
#[derive(Debug)]
pub struct PollError(VisitError);

impl PollError {
    /// The failure as the visit has it.
    pub(super) fn into_visit_error(self) -> VisitError {
        self.0
    }
}

// No `Error` itself, or it could not be made of every error.
impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for PollError {
    fn from(error: E) -> Self {
        let error: Box<dyn Error + Send + Sync> = error.into();
        match error.downcast::<VisitError>() {
            Ok(error) => Self(*error),
            Err(error) => Self(VisitError::new(FailureKind::Handler, &with_causes(&*error))),
        }
    }
}

impl fmt::Display for PollError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An error and its causes, each told once.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    // A longer chain says nothing more, and could be endless.
    for cause in sources(error).take(8) {
        let told = cause.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
    }
    text
}

/// A name that is no event's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{name}\" is no event: expected \"app:ID:job=NAME:poll\" (or pre-poll, post-poll), or \"civi_cxn.poll\" for every job{problem}"
)]
pub struct EventProblem {
    name: String,
    problem: String,
}

/// What a listener is registered for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EventName {
    step: Step,
    /// `None`: every job.
    job: Option<JobKey>,
}

impl EventName {
    fn parse(name: &str) -> Result<Self, EventProblem> {
        let wrong = |problem: String| EventProblem {
            name: name.chars().filter(|c| !c.is_control()).take(600).collect(),
            problem,
        };
        let step = |word: &str| Step::ALL.into_iter().find(|step| step.as_str() == word);
        if let Some(word) = name.strip_prefix(EVERY_JOB) {
            let step = step(word).ok_or_else(|| wrong(String::new()))?;
            return Ok(Self { step, job: None });
        }
        let parts = || {
            let (job, word) = name.strip_prefix("app:")?.rsplit_once(':')?;
            let (app, job) = job.split_once(":job=")?;
            Some((app, job, step(word)?))
        };
        let (app, job, step) = parts().ok_or_else(|| wrong(String::new()))?;
        let key = AppName::parse(app).and_then(|app| JobKey::new(app, job));
        Ok(Self {
            step,
            job: Some(key.map_err(|problem| wrong(format!(": {problem}")))?),
        })
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.job {
            Some(job) => f.write_str(&job.event(self.step.as_str())),
            None => write!(f, "{EVERY_JOB}{}", self.step.as_str()),
        }
    }
}

/// Code that is called for an event.
pub(super) type Listener =
    Arc<dyn Fn(PollEvent) -> BoxFuture<'static, Result<(), PollError>> + Send + Sync>;

/// Rust code by the name of the event that it is called for:
///
/// | name | called |
/// |---|---|
/// | `app:ID:job=NAME:pre-poll` | before a site of the job is visited |
/// | `app:ID:job=NAME:poll` | as the visit's work, or after the configured handler |
/// | `app:ID:job=NAME:post-poll` | when it is known what came of the visit |
/// | `civi_cxn.pre-poll`, `civi_cxn.poll`, `civi_cxn.post-poll` | the same, for every job |
///
/// Listeners of an event are called one after the other in the order in which
/// they were registered, those of the job before those of every job; a failure
/// ends the row, except after the visit. Code for events of subscriptions goes by
/// the subscription's name ([`Self::on_event`]). A clone is cheap.
#[derive(Clone, Default)]
pub struct Listeners {
    events: BTreeMap<EventName, Vec<Listener>>,
    /// Code for events of subscriptions.
    pub(super) subscriptions: BTreeMap<SubscriptionName, Vec<EventListener>>,
}

impl Listeners {
    /// Registers a listener for an event.
    ///
    /// # Errors
    /// The name is no event's; says what one looks like.
    pub fn on<F, R>(&mut self, event: &str, listener: F) -> Result<(), EventProblem>
    where
        F: Fn(PollEvent) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), PollError>> + Send + 'static,
    {
        let event = EventName::parse(event)?;
        let listener: Listener = Arc::new(move |event| Box::pin(listener(event)));
        self.events.entry(event).or_default().push(listener);
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.subscriptions.is_empty()
    }

    /// Names of events of jobs that are not among these: most likely misspelt.
    pub fn of_no_job(&self, jobs: &[JobSettings]) -> Vec<String> {
        let known = |key: &JobKey| jobs.iter().any(|job| job.key == *key);
        let unknown = |event: &&EventName| event.job.as_ref().is_some_and(|key| !known(key));
        let names = self.events.keys().filter(unknown);
        names.map(ToString::to_string).collect()
    }

    /// Why a job cannot work with these, and what to do: its work is code, and
    /// there is none for it. `None` for every other job.
    pub fn lacks(&self, job: &JobSettings) -> Option<String> {
        let code = matches!(job.handler, HandlerSettings::Code(_));
        let lacking = code && self.of(&job.key, Step::Poll).is_empty();
        lacking.then(|| {
            format!(
                "the work of job {} is Rust code ([jobs.handler.code]), and this program has none for it: \
                 register a listener for \"{}\" with Highwater::builder().on(…) in a program of your own, \
                 or give the job another handler",
                job.key,
                job.key.event(Step::Poll.as_str())
            )
        })
    }

    /// The listeners of one step of a job's visits, in the order in which they
    /// are called.
    pub(super) fn of(&self, job: &JobKey, step: Step) -> Vec<Listener> {
        let of = |job: Option<JobKey>| self.events.get(&EventName { step, job });
        let both = of(Some(job.clone())).into_iter().chain(of(None));
        both.flatten().cloned().collect()
    }
}

/// The events and how many listeners each has.
impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.events.iter();
        let subscriptions = self.subscriptions.iter();
        f.debug_map()
            .entries(counts.map(|(event, listeners)| (event.to_string(), listeners.len())))
            .entries(subscriptions.map(|(name, listeners)| (name.to_string(), listeners.len())))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_events_are_checked() {
        for name in [
            "app:org.civicrm.myapp:job=default:poll",
            "app:org.civicrm.myapp:job=sync_activities:pre-poll",
            "app:a:job=b:post-poll",
            "civi_cxn.pre-poll",
            "civi_cxn.poll",
            "civi_cxn.post-poll",
        ] {
            assert_eq!(EventName::parse(name).unwrap().to_string(), name);
        }
        for name in [
            "",
            "poll",
            "app:org.example:poll",
            "app:org.example:job=default",
            "app:org.example:job=default:pol",
            "org.example:job=default:poll",
            "app::job=default:poll",
            "app:org.example:job=:poll",
            "app:org.example:job=a b:poll",
            "civi_cxn.pol",
            "civi_cxn",
        ] {
            let problem = Listeners::default()
                .on(name, |_| async { Ok(()) })
                .unwrap_err();
            let text = problem.to_string();
            assert!(
                text.starts_with(&format!("\"{name}\" is no event")),
                "{text}"
            );
        }
    }

    #[test]
    fn listeners_of_jobs_that_nobody_configured_are_told_of() {
        let mut listeners = Listeners::default();
        for event in ["app:a:job=default:poll", "app:b:job=default:poll"] {
            listeners.on(event, |_| async { Ok(()) }).unwrap();
        }
        listeners.on("civi_cxn.poll", |_| async { Ok(()) }).unwrap();
        let key = JobKey::new(AppName::parse("a").unwrap(), "default").unwrap();
        let handler = crate::config::HandlerSettings::Code(crate::config::CodeHandler {
            timeout: std::time::Duration::from_secs(60),
        });
        let strange = listeners.of_no_job(&[JobSettings::new(key, handler)]);
        assert_eq!(strange, ["app:b:job=default:poll"]);
        assert!(format!("{listeners:?}").contains("\"civi_cxn.poll\": 1"));
    }

    #[test]
    fn an_error_keeps_its_causes_and_a_failure_of_a_visit_its_kind() {
        #[derive(Debug, thiserror::Error)]
        #[error("the report was not sent")]
        struct Outer(#[source] std::io::Error);
        let error = PollError::from(Outer(std::io::Error::other("disk full")));
        assert_eq!(
            error.to_string(),
            "handler: the report was not sent: disk full"
        );
        assert_eq!(PollError::from("no").to_string(), "handler: no");
        assert_eq!(PollError::from("no".to_owned()).to_string(), "handler: no");
        let error = VisitError::new(FailureKind::Timeout, "no answer");
        assert_eq!(PollError::from(error).to_string(), "timeout: no answer");
    }
}
