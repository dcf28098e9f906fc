//! `/livez` and `/readyz`: whether the process answers, and whether it does its work.

use super::api::jobs::gather_from;
use super::auth::{Access, Refused, authorize};
use super::job_figures::job_figures_within;
use super::overview::Overview;
use super::replica_figures::replica_figures_within;
use super::replica_report::ReplicaReport;
use super::replicas::gather_replicas;
use super::service_notices::service_notices;
use super::single_flight::{Given, SingleFlight, Spacing};
use super::state::{Http, ReloadReport};
use super::subscription_figures::subscription_figures_within;
use super::subscriptions::{SubscriptionReport, gather_from as gather_subscriptions};
use super::summary::summary_within;
use crate::config::owners;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;
use crate::watchdog::ServiceState;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// How long the database may take to answer a probe.
const PING: Duration = Duration::from_secs(2);

/// How long a probe waits for what else it tells, once the database answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most warnings told in one answer.
const MOST_WARNINGS: usize = 50;

/// What the database said to a probe: nothing, or why it is not usable.
pub(super) type Readiness = Option<String>;

/// Answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct ReadyBody {
    /// Whether the server does its work.
    pub ready: bool,
    /// Why it is not ready; empty when it is. Without details where a read
    /// token is set and was not sent.
    pub reasons: Vec<String>,
    /// How many things there are that a person should look at, though the
    /// server is ready.
    pub warnings_total: usize,
    /// These things, at most 50; none where a read token is set and was not sent.
    pub warnings: Vec<String>,
}

/// How ready the server is, as told to those who may read and to those who may not.
pub(super) struct Verdict {
    reasons: Vec<Reason>,
    warnings: Vec<String>,
}

/// Why the server is not ready.
struct Reason {
    /// For anyone: names nothing of what is inside.
    brief: &'static str,
    /// For those who may read.
    full: String,
}

impl Verdict {
    /// Whether the server does its work.
    pub(super) fn ready(&self) -> bool {
        self.reasons.is_empty()
    }

    fn body(self, may_read: bool) -> ReadyBody {
        let reasons = self.reasons.into_iter();
        let mut body = ReadyBody {
            ready: reasons.len() == 0,
            reasons: reasons
                .map(|reason| {
                    if may_read {
                        reason.full
                    } else {
                        reason.brief.to_owned()
                    }
                })
                .collect(),
            warnings_total: self.warnings.len(),
            warnings: self.warnings,
        };
        body.warnings
            .truncate(if may_read { MOST_WARNINGS } else { 0 });
        // Many reasons may be one in brief.
        body.reasons.dedup();
        body
    }
}

/// Probes share one ping: anyone may call them.
pub(super) fn cache() -> Arc<SingleFlight<Readiness>> {
    SingleFlight::new(Spacing {
        at_least: Duration::from_millis(500),
        times_taken: 1,
    })
}

/// Looking for migrations takes the database's migration lock: seldom.
pub(super) fn migrations_cache() -> Arc<SingleFlight<Option<String>>> {
    SingleFlight::new(Spacing {
        at_least: Duration::from_secs(60),
        times_taken: 100,
    })
}

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "health", responses(
    (status = 200, description = "The process answers", body = String, content_type = "text/plain"),
))]
pub(super) async fn livez() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("alive\n")
}

/// Whether the server does its work, with reasons and warnings.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "Ready; warnings tell what to look at", body = ReadyBody),
    (status = 503, description = "Not ready, with reasons", body = ReadyBody),
))]
pub(super) async fn readyz(http: web::Data<Http>, request: HttpRequest) -> HttpResponse {
    let read = authorize(&http.settings().http, &request, Access::Read);
    if read == Err(Refused::Wrong) {
        // It counts, and is answered: a probe is no login.
        drop(http.wrong_token(&request, Access::Read.token()));
    }
    let may_read = read.is_ok();
    let body = ready(&http).await.body(may_read);
    let mut response = if body.ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    response
        .insert_header(("Cache-Control", "no-store"))
        .json(body)
}

/// Decides on readiness (DESIGN.md, "Contracts").
pub(super) async fn ready(http: &Http) -> Verdict {
    let mut reasons = Vec::new();
    if *http.state.draining.borrow() {
        let brief = "the server is stopping";
        reasons.push(Reason {
            brief,
            full: brief.to_owned(),
        });
    }
    let pinged = database_problem(http).await;
    let database_answers = pinged.is_none();
    reasons.extend(pinged.map(|full| Reason {
        brief: "the database is out of reach",
        full,
    }));
    // A probe waits for nothing else when the database does not answer.
    let (figures, jobs, subscriptions, replicas) = if database_answers {
        let (migrations, figures, jobs, subscriptions, replicas) = tokio::join!(
            migration_problem(http),
            summary_within(http, PATIENCE),
            job_figures_within(http, PATIENCE),
            subscription_figures_within(http, PATIENCE),
            replica_figures_within(http, PATIENCE),
        );
        reasons.extend(migrations.map(|full| Reason {
            brief: "the database's tables are not of this version",
            full,
        }));
        (figures, jobs, subscriptions, replicas)
    } else {
        (
            http.summary.newest().unwrap_or_default(),
            http.jobs.newest().unwrap_or_default(),
            http.subscriptions.newest().unwrap_or_default(),
            http.replica_figures.newest().unwrap_or_default(),
        )
    };
    if database_answers && let Some(trouble) = http.state.lease_trouble.borrow().clone() {
        reasons.push(Reason {
            brief: "no lease can be held",
            full: format!("no lease can be held, so nothing is polled: {trouble}"),
        });
    }
    let watchdog = (http.state.services)();
    let services = &watchdog.services;
    for service in services {
        if service.critical && service.state == ServiceState::Failed {
            let why = service.last_error.as_deref().unwrap_or("no error was kept");
            reasons.push(Reason {
                brief: "a service has failed",
                full: format!("service {} has failed: {why}", service.name),
            });
        }
    }
    let mut warnings = Vec::new();
    warnings.extend(reload_warning(&http.state.reload.borrow()));
    for service in services {
        if !service.critical && service.state == ServiceState::Failed {
            let name = &service.name;
            warnings.push(format!(
                "service {name} has failed: `highwater ctl start {name}` tries again"
            ));
        }
    }
    // A server that stops stops its services.
    if !*http.state.draining.borrow() {
        warnings.extend(service_notices(&watchdog));
    }
    if database_answers {
        warnings.extend(super::states::warnings(http, PATIENCE).await);
    }
    let overview = Overview::gather(&http.settings(), &http.view(), &figures);
    warnings.extend(overview.warnings());
    warnings.extend(gather_from(http, &jobs).warnings(Timestamp::now()));
    let subscriptions = gather_subscriptions(http, &subscriptions);
    warnings.extend(subscriptions.iter().flat_map(SubscriptionReport::warnings));
    let replicas = gather_replicas(http, &replicas);
    let replicas = replicas.iter().filter(|replica| replica.configured);
    warnings.extend(replicas.flat_map(ReplicaReport::warnings));
    Verdict { reasons, warnings }
}

/// What the last reload left undone, and since when.
fn reload_warning(reload: &ReloadReport) -> Option<String> {
    let since = reload
        .at
        .map_or_else(String::new, |at| format!(", at {at},"));
    if let Some(problem) = &reload.problem {
        // The first of a row has one time, which is told already.
        let first = reload
            .failing_since
            .filter(|first| Some(*first) != reload.at)
            .map_or_else(String::new, |first| format!(", as all since {first}"));
        return Some(format!(
            "the last reload{since} changed nothing{first}: {problem}"
        ));
    }
    (!reload.needs_restart.is_empty()).then(|| {
        format!(
            "the last reload{since} was applied, except for what needs a restart of the server: {}",
            reload.needs_restart.join(", ")
        )
    })
}

async fn database_problem(http: &Http) -> Option<String> {
    // A probe does not queue behind those who look at pages.
    let store = http.state.store.for_owner(owners::UPKEEP);
    let ping = move || async move {
        match tokio::time::timeout(PING, store.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "the database does not answer a probe");
                Some("the database is out of reach".to_owned())
            }
            Err(_) => Some(slow()),
        }
    };
    let patience = PING + Duration::from_millis(100);
    match http.readiness.get(&http.runtime, patience, ping).await {
        Given::Fresh(problem) => problem.as_ref().clone(),
        Given::Stale(_) => Some(slow()),
    }
}

fn slow() -> String {
    format!(
        "the database is out of reach: no answer within {} s",
        PING.as_secs()
    )
}

async fn migration_problem(http: &Http) -> Option<String> {
    let database = http.settings().database.clone();
    let look = move || async move {
        match Store::wanted_migrations(&database).await {
            Ok(wanted) if wanted.is_empty() => None,
            Ok(wanted) => Some(format!(
                "the database wants migrations ({}): run highwater migrate",
                wanted.join(", ")
            )),
            Err(error @ StoreError::Newer { .. }) => Some(error.to_string()),
            // Out of reach or locked: the ping tells that, and better.
            Err(_) => None,
        }
    };
    match http.migrations.get(&http.runtime, PATIENCE, look).await {
        Given::Fresh(problem) => problem.as_ref().clone(),
        Given::Stale(last) => last.and_then(|problem| problem.as_ref().clone()),
    }
}
