//! The record of what operators do over HTTP: a row in the audit and a line in
//! the log for each action, whether it was done or refused, and whether or not
//! the client waits for the answer. An operator must be able to act while the
//! database is away: then the row is missing, and the answer says so.

use super::auth::{Access, Refused};
use super::guesses::{address, network};
use super::problem::{Answer, Problem, Refusal};
use super::shown_path::shown_path;
use super::state::Http;
use crate::store::{AuditOutcome, NewAudit, Store};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// Who acts, as the client says: `USER@HOST`.
const OPERATOR: &str = "highwater-operator";
/// What went wrong beside an action.
const WARNING: HeaderName = HeaderName::from_static("highwater-warning");

/// Most characters taken of the operator's name.
const OPERATOR_CHARS: usize = 100;
/// Most characters recorded of a path.
const PATH_CHARS: usize = 200;
/// How long an answer waits for its row.
const RECORD_WITHIN: Duration = Duration::from_secs(3);
/// Wrong tokens of one address (and calls without any) are one row, and one more for those that follow
/// within this time.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses with rows of their own in that time; the others share theirs.
const MOST_WINDOWS: usize = 60;

/// Something that an operator asks for.
#[derive(Clone, Debug)]
pub(super) struct Act {
    who: String,
    action: &'static str,
    target: String,
    details: Option<Value>,
}

impl Act {
    /// What a request with the control token asks for.
    pub(super) fn of(request: &HttpRequest, action: &'static str) -> Self {
        let address = address(request);
        let who = match operator(request.headers().get(OPERATOR)) {
            Some(operator) => format!("control token from {address} ({operator})"),
            None => format!("control token from {address}"),
        };
        Self {
            who,
            action,
            target: String::new(),
            details: None,
        }
    }

    /// What it is to be done to.
    pub(super) fn on(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// What else tells what is asked for; no secrets.
    pub(super) fn with(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// What was told so far.
    pub(super) fn details(&self) -> Option<Value> {
        self.details.clone()
    }

    fn ended(self, problem: Option<&Problem>) -> NewAudit {
        NewAudit {
            who: self.who,
            action: self.action.to_owned(),
            target: self.target,
            details: self.details,
            outcome: match problem {
                None => AuditOutcome::Done,
                Some(problem) if problem.nothing_was_tried() => AuditOutcome::Refused,
                Some(_) => AuditOutcome::Failed,
            },
            problem: problem.map(Problem::record),
        }
    }
}

/// What the client calls itself, printable and short.
fn operator(header: Option<&HeaderValue>) -> Option<String> {
    let text = String::from_utf8_lossy(header?.as_bytes());
    let shown: String = text
        .trim()
        .chars()
        .filter(|c| !c.is_control() && !matches!(c, '(' | ')'))
        .take(OPERATOR_CHARS)
        .collect();
    (!shown.is_empty()).then_some(shown)
}

/// What was done, and what else is to be recorded of it.
#[derive(Debug)]
pub(super) struct Done<T> {
    /// For the client.
    pub(super) value: T,
    /// For the record, in place of what was asked for.
    pub(super) details: Option<Value>,
}

impl<T> From<T> for Done<T> {
    fn from(value: T) -> Self {
        Self {
            value,
            details: None,
        }
    }
}

/// What was done and recorded.
#[derive(Debug)]
pub(super) struct Acted<T> {
    pub(super) value: T,
    warning: Option<&'static str>,
}

impl<T> Acted<T> {
    /// The same, with another value for the client.
    pub(super) fn map<U>(self, value: impl FnOnce(T) -> U) -> Acted<U> {
        Acted {
            value: value(self.value),
            warning: self.warning,
        }
    }
}

impl<T: Serialize> Acted<T> {
    /// The answer.
    pub(super) fn respond(self, status: StatusCode) -> HttpResponse {
        let mut response = HttpResponse::build(status).json(self.value);
        if let Some(warning) = self.warning {
            let warning = HeaderValue::from_static(warning);
            response.headers_mut().insert(WARNING, warning);
        }
        response
    }
}

impl Http {
    /// Does what an operator asked for and records it: both to their end, even
    /// when the client goes away.
    ///
    /// # Errors
    /// Those of the work.
    pub(super) async fn act<T: Send + 'static>(
        &self,
        mut act: Act,
        work: impl Future<Output = Result<Done<T>, Box<Problem>>> + Send + 'static,
    ) -> Answer<Acted<T>> {
        let auditor = self.auditor.clone();
        let task = self.runtime.spawn(async move {
            // A panic in the work is an outcome too.
            let ended = tokio::spawn(work).await.unwrap_or_else(|error| {
                tracing::error!(error = %error, "an operator's action broke off");
                Err(Problem::internal())
            });
            if let Ok(Done {
                details: details @ Some(_),
                ..
            }) = &ended
            {
                act.details.clone_from(details);
            }
            let row = act.ended(ended.as_ref().err().map(AsRef::as_ref));
            (ended, auditor.record(row).await)
        });
        match task.await {
            Ok((Ok(done), warning)) => Ok(Acted {
                value: done.value,
                warning,
            }),
            Ok((Err(problem), warning)) => Err(warned(problem, warning).into()),
            Err(error) => {
                tracing::error!(error = %error, "an operator's action was not recorded");
                Err(Problem::internal().into())
            }
        }
    }

    /// Records what was refused before it was tried.
    pub(super) async fn refuse(&self, act: Act, refusal: Refusal) -> Refusal {
        let problem = refusal.0;
        let refused: Answer<Acted<()>> = self.act(act, async { Err(problem) }).await;
        match refused {
            Err(refusal) => refusal,
            Ok(_) => Problem::internal().into(),
        }
    }

    /// Takes note of a request with a wrong token.
    ///
    /// # Errors
    /// There are too many of these.
    pub(super) fn wrong_token(
        &self,
        request: &HttpRequest,
        token: &'static str,
    ) -> Result<(), Box<Problem>> {
        metrics::counter!("highwater_wrong_tokens_total").increment(1);
        let address = address(request);
        self.auditor.turned_away(
            address,
            token,
            Refused::Wrong,
            request.method(),
            request.path(),
        );
        let counted = self.guesses.wrong(address);
        counted.map_err(Problem::too_many_wrong_tokens)
    }

    /// Takes note of a request without a token that was to change something by
    /// control.
    pub(super) fn no_token(&self, request: &HttpRequest, why: Refused) {
        self.auditor.turned_away(
            address(request),
            Access::Control.token(),
            why,
            request.method(),
            request.path(),
        );
    }
}

fn warned(problem: Box<Problem>, warning: Option<&'static str>) -> Box<Problem> {
    match warning {
        Some(warning) => problem.with_header(WARNING, warning.to_owned()),
        None => problem,
    }
}

/// Writes the rows.
#[derive(Clone)]
pub(super) struct Auditor {
    store: Store,
    runtime: Handle,
    windows: Arc<Windows>,
    window: Duration,
}

impl Auditor {
    /// Of this store, on the runtime of its connections.
    pub(super) fn new(store: Store, runtime: Handle) -> Self {
        Self {
            store,
            runtime,
            windows: Arc::default(),
            window: WINDOW,
        }
    }

    /// As it is, but with another time in which wrong tokens are one row.
    #[cfg(test)]
    pub(super) fn with_window(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// Writes a row, and a line in the log in any case. Answers what the
    /// client is to be warned of.
    async fn record(&self, row: NewAudit) -> Option<&'static str> {
        log(&row);
        match tokio::time::timeout(RECORD_WITHIN, self.store.record_audit(row)).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => {
                tracing::error!(error = %error, "the audit row was not written");
                Some("not recorded in the audit: the database is out of reach; the log has it")
            }
            Err(_) => {
                tracing::error!(
                    audit.within_ms = RECORD_WITHIN.as_millis() as u64,
                    "the audit row was not written in time"
                );
                Some("not recorded in the audit in time: the database is slow; the log has it")
            }
        }
    }

    /// Records a request that was turned away for its token, or for having none.
    fn turned_away(
        &self,
        address: IpAddr,
        token: &'static str,
        why: Refused,
        method: &Method,
        path: &str,
    ) {
        // None and a wrong one have windows of their own: neither hides the other.
        let wrong = why == Refused::Wrong;
        let Some(window) = self.windows.count(wrong, network(address)) else {
            return;
        };
        let what = if wrong { "wrong" } else { "no" };
        let problem = match why {
            Refused::Wrong => format!("this is not the {token} token"),
            Refused::Missing => format!("the {token} token was not sent"),
            Refused::NoControlToken => "no control token is configured".to_owned(),
        };
        let auditor = self.clone();
        let method = method.to_string();
        let path: String = shown_path(path).chars().take(PATH_CHARS).collect();
        self.runtime.spawn(async move {
            let row = |tries: u64| NewAudit {
                who: match window {
                    (_, Some(_)) => format!("{what} token from {address}"),
                    (_, None) => format!("{what} tokens from many addresses"),
                },
                action: "token".to_owned(),
                target: token.to_owned(),
                details: Some(json!({ "tries": tries, "method": method, "path": path })),
                outcome: AuditOutcome::Refused,
                problem: Some(problem.clone()),
            };
            auditor.record(row(1)).await;
            tokio::time::sleep(auditor.window).await;
            let more = auditor.windows.close(window);
            if more > 0 {
                auditor.record(row(more)).await;
            }
        });
    }
}

fn log(row: &NewAudit) {
    let details = row.details.as_ref().map(ToString::to_string);
    tracing::info!(
        target: "highwater::audit",
        {
            audit.who = %row.who,
            audit.action = %row.action,
            audit.target = %row.target,
            audit.details = details,
            audit.outcome = row.outcome.as_str(),
            audit.problem = row.problem,
        },
        "an operator's action"
    );
}

/// Whether the tokens were wrong, or there were none; and where they came from:
/// `None` stands for all addresses without a window of their own.
type Window = (bool, Option<IpAddr>);

/// Requests that were turned away in the windows that are open, beyond the
/// first of each.
#[derive(Debug, Default)]
struct Windows(Mutex<HashMap<Window, u64>>);

impl Windows {
    fn open(&self) -> MutexGuard<'_, HashMap<Window, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one; answers the window when this is its first, to be recorded
    /// now and closed later.
    fn count(&self, wrong: bool, network: IpAddr) -> Option<Window> {
        let mut open = self.open();
        let own = (wrong, Some(network));
        let alike = open.keys().filter(|(other, _)| *other == wrong).count();
        let window = if open.contains_key(&own) || alike < MOST_WINDOWS {
            own
        } else {
            (wrong, None)
        };
        if let Some(others) = open.get_mut(&window) {
            *others += 1;
            return None;
        }
        open.insert(window, 0);
        Some(window)
    }

    /// Closes a window; answers how many there were beyond the first.
    fn close(&self, window: Window) -> u64 {
        self.open().remove(&window).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
