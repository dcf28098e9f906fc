//! Builds the handler of a job, with its events around it.

use super::Handler;
use super::civicrm_visits::CivicrmVisits;
use super::client::SiteClient;
use super::command::CommandVisits;
use super::event::{Common, PollEvent};
use super::http::HttpVisits;
use super::listeners::{Listener, Listeners, Step};
use crate::config::{AppSettings, HandlerSettings, JobSettings, SitesSettings};
use crate::flows::sites::{FailureKind, Visit, VisitError, Visited};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// Builds the handler of a job; `app` is its app's settings, if it has any. A
/// panic in it, or in a listener, is a failure of the visit. All jobs may have
/// the same `client`.
///
/// # Errors
/// The job's work is code, and no listener is registered for it; or the
/// handler cannot work as it is configured. Says what to do.
pub fn connect(
    job: &JobSettings,
    app: Option<&AppSettings>,
    sites: &SitesSettings,
    listeners: &Listeners,
    client: &SiteClient,
) -> Result<Arc<dyn Handler>, String> {
    if let Some(problem) = listeners.lacks(job) {
        return Err(problem);
    }
    let of = |step| listeners.of(&job.key, step);
    let (before, poll, after) = (of(Step::PrePoll), of(Step::Poll), of(Step::PostPoll));
    let (work, limit): (Option<Box<dyn Handler>>, Duration) = match &job.handler {
        HandlerSettings::Http(settings) => {
            let visits = HttpVisits::new(
                client.clone(),
                settings.clone(),
                job.tries_more,
                sites.max_result_bytes,
            )?;
            (Some(Box::new(visits)), settings.timeout)
        }
        HandlerSettings::Civicrm(settings) => {
            let visits = CivicrmVisits::new(
                client.clone(),
                settings.clone(),
                app,
                job.tries_more,
                sites.max_result_bytes,
            )?;
            (Some(Box::new(visits)), settings.timeout)
        }
        HandlerSettings::Command(settings) => {
            let visits = CommandVisits::new(settings.clone(), app, sites.max_result_bytes)?;
            (Some(Box::new(visits)), settings.timeout)
        }
        HandlerSettings::Code(settings) => (None, settings.timeout),
    };
    Ok(Arc::new(Connected {
        common: Arc::new(Common::new(
            &job.key.app,
            app,
            client.clone(),
            sites.max_result_bytes,
        )),
        work,
        before,
        poll,
        after,
        limit,
    }))
}

/// A handler with its events.
struct Connected {
    common: Arc<Common>,
    /// What is done on a site before the listeners of `poll`; nothing where
    /// the job's work is code.
    work: Option<Box<dyn Handler>>,
    before: Vec<Listener>,
    poll: Vec<Listener>,
    after: Vec<Listener>,
    /// How long the listeners of a step may take together.
    limit: Duration,
}

impl Connected {
    async fn work(&self, visit: &Visit) -> Visited {
        match &self.work {
            Some(work) => {
                let visited = caught(|| work.visit(visit)).await;
                visited.unwrap_or_else(|error| failed(error, None))
            }
            None => Visited::well(None),
        }
    }

    async fn visit_with_events(&self, visit: &Visit) -> Visited {
        let event = PollEvent::new(self.common.clone(), visit);
        let visited = self.told_before_and_done(&event, visit).await;
        let ended = event.ended(&visited);
        for listener in &self.after {
            if let Err(error) = self.call(listener, &ended, Step::PostPoll).await {
                tracing::warn!(job.key = %visit.job, site.id = %visit.site.site_id, error = %error, "a listener of post-poll failed, which changes nothing");
            }
        }
        visited
    }

    async fn told_before_and_done(&self, event: &PollEvent, visit: &Visit) -> Visited {
        if let Err(error) = self.call_all(&self.before, event, Step::PrePoll).await {
            return failed(error, None);
        }
        let Visited {
            result,
            retry_after,
        } = self.work(visit).await;
        match result {
            Err(error) => return failed(error, retry_after),
            Ok(None) => {}
            Ok(learned) => *event.learned() = learned,
        }
        if let Err(error) = self.call_all(&self.poll, event, Step::Poll).await {
            return failed(error, retry_after);
        }
        let learned = event.learned().take();
        Visited {
            result: Ok(learned),
            retry_after,
        }
    }

    /// Calls listeners one after the other until one fails; all of them within
    /// the time limit.
    async fn call_all(
        &self,
        listeners: &[Listener],
        event: &PollEvent,
        step: Step,
    ) -> Result<(), VisitError> {
        let calls = async {
            for listener in listeners {
                call(listener, event).await?;
            }
            Ok(())
        };
        self.in_time(calls, step).await
    }

    /// Calls one listener, within the time limit.
    async fn call(
        &self,
        listener: &Listener,
        event: &PollEvent,
        step: Step,
    ) -> Result<(), VisitError> {
        self.in_time(call(listener, event), step).await
    }

    async fn in_time(
        &self,
        work: impl Future<Output = Result<(), VisitError>>,
        step: Step,
    ) -> Result<(), VisitError> {
        let ended = tokio::time::timeout(self.limit, work).await;
        ended.unwrap_or_else(|_| {
            Err(VisitError::new(
                FailureKind::Timeout,
                &format!(
                    "a listener of {} did not end within {} (timeout of the job's handler)",
                    step.as_str(),
                    humantime::format_duration(self.limit)
                ),
            ))
        })
    }
}

impl Handler for Connected {
    fn visit<'a>(&'a self, visit: &'a Visit) -> BoxFuture<'a, Visited> {
        let listeners = [&self.before, &self.poll, &self.after];
        if listeners.iter().all(|listeners| listeners.is_empty()) {
            return Box::pin(self.work(visit));
        }
        Box::pin(self.visit_with_events(visit))
    }
}

fn failed(error: VisitError, retry_after: Option<Duration>) -> Visited {
    Visited {
        result: Err(error),
        retry_after,
    }
}

async fn call(listener: &Listener, event: &PollEvent) -> Result<(), VisitError> {
    let told = caught(|| listener(event.clone())).await?;
    told.map_err(super::PollError::into_visit_error)
}

/// Does some work; a panic in it, or while it is made, is a failure.
async fn caught<T, F: Future<Output = T>>(make: impl FnOnce() -> F) -> Result<T, VisitError> {
    // What a panic leaves half done is the visit's alone, and dropped with it.
    let work = AssertUnwindSafe(async { make().await });
    work.catch_unwind().await.map_err(|panic| {
        let detail = format!("a panic: {}", message(&*panic));
        VisitError::new(FailureKind::Panic, &detail)
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
