//! What is going on, put together from settings, the batch flow's view and the
//! database's figures: the status page, `/v1/ledgers`, `/readyz` and metrics
//! all show this, so that they never disagree.

use super::summary::{MoreLedgers, SPLINTER_MEMORY, Summary};
use crate::config::Settings;
use crate::flows::batches::{BatchesView, BreakerPosition, LedgerView, Status};
use crate::ledgers::LedgerKind;
use crate::store::{LedgerSummary, ServiceCount, ServiceSummary};
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// How a ledger fares, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LedgerState {
    /// Requests are answered.
    Answering,
    /// The ledger answers, some of its services do not.
    Degraded,
    /// Requests fail.
    Failing,
    /// Not asked yet.
    Waiting,
    /// Another server polls it.
    Elsewhere,
    /// No longer configured: its rows stay and are not polled.
    NotConfigured,
}

impl LedgerState {
    /// The words on pages.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Answering => "answering",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
            Self::Waiting => "not asked yet",
            Self::Elsewhere => "held elsewhere",
            Self::NotConfigured => "not configured",
        }
    }
}

/// One ledger: what the Scheduler sees and what the database counts.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub(crate) struct LedgerReport {
    /// Name.
    pub name: String,
    /// How it fares.
    pub state: LedgerState,
    /// Whether it is in the configuration.
    pub configured: bool,
    /// Batches pending or valid.
    pub outstanding: i64,
    /// Of those, due now.
    pub due: i64,
    /// Batches committed, invalid, lost or refused.
    pub settled: i64,
    /// Batches by status.
    pub counts: BTreeMap<String, i64>,
    /// Since when the oldest due batch is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_due_at: Option<Timestamp>,
    /// The Scheduler's view; absent when the ledger is not configured, or not started yet.
    pub view: Option<LedgerView>,
}

/// All ledgers and the services to look at.
#[derive(Clone, Debug)]
pub(super) struct Overview {
    pub(super) ledgers: Vec<LedgerReport>,
    /// Ledgers left out of `ledgers`; none of them is configured.
    pub(super) more_ledgers: MoreLedgers,
    pub(super) services: Vec<ServiceReport>,
    /// Services whose oldest batches may be forgotten by the ledger; bounded.
    pub(super) at_risk: Vec<ServiceCount>,
    /// How many there are of these.
    pub(super) at_risk_total: usize,
    pub(super) read_at: Option<Timestamp>,
    pub(super) problem: Option<String>,
}

/// A ledger's service with outstanding batches.
#[derive(Clone, Debug)]
pub(super) struct ServiceReport {
    pub(super) summary: ServiceSummary,
    /// Whether the ledger may forget batches before they are asked for.
    pub(super) at_risk: bool,
    pub(super) configured: bool,
}

impl Overview {
    pub(super) fn gather(settings: &Settings, view: &BatchesView, figures: &Summary) -> Self {
        let views: BTreeMap<&str, &LedgerView> = view
            .ledgers
            .iter()
            .map(|ledger| (ledger.name.as_str(), ledger))
            .collect();
        let counted: BTreeMap<&str, &LedgerSummary> = figures
            .ledgers
            .iter()
            .map(|ledger| (ledger.ledger.as_str(), ledger))
            .collect();
        let kinds: BTreeMap<&str, LedgerKind> = settings
            .ledgers
            .iter()
            .map(|ledger| (ledger.name.as_str(), ledger.kind))
            .collect();
        let configured = settings.ledgers.iter().map(|ledger| ledger.name.as_str());
        let others = figures
            .ledgers
            .iter()
            .map(|ledger| ledger.ledger.as_str())
            .filter(|name| !kinds.contains_key(name));
        let ledgers = configured
            .chain(others)
            .map(|name| {
                report(
                    name,
                    kinds.contains_key(name),
                    views.get(name).copied(),
                    counted.get(name).copied(),
                )
            })
            .collect();
        let services = figures
            .services
            .iter()
            .map(|summary| {
                let kind = kinds.get(summary.ledger.as_str());
                ServiceReport {
                    at_risk: kind == Some(&LedgerKind::Splinter)
                        && summary.outstanding > SPLINTER_MEMORY,
                    configured: kind.is_some(),
                    summary: summary.clone(),
                }
            })
            .collect();
        // Figures may be older than the last reload.
        let mut at_risk = figures.at_risk.clone();
        at_risk.retain(|service| kinds.get(service.ledger.as_str()) == Some(&LedgerKind::Splinter));
        let at_risk_total = figures
            .at_risk_total
            .saturating_sub(figures.at_risk.len() - at_risk.len());
        Self {
            ledgers,
            more_ledgers: figures.more_ledgers.clone(),
            services,
            at_risk,
            at_risk_total,
            read_at: figures.read_at,
            problem: figures.problem.clone(),
        }
    }

    /// What a person should look at, in sentences.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(problem) = &self.problem {
            warnings.push(format!("the figures are old: {problem}"));
        }
        for ledger in &self.ledgers {
            match (ledger.state, &ledger.view) {
                (LedgerState::Failing, Some(view)) => {
                    let why = view.last_error.as_deref().unwrap_or("no error was kept");
                    warnings.push(format!("ledger {} is failing: {why}", ledger.name));
                }
                (LedgerState::Degraded, Some(view)) => warnings.push(format!(
                    "{} of ledger {}'s services are failing",
                    view.failing_services_total, ledger.name
                )),
                (LedgerState::NotConfigured, _) if ledger.outstanding > 0 => {
                    warnings.push(format!(
                        "{} for ledger {}, which is not configured",
                        match ledger.outstanding {
                            1 => "1 batch waits".to_owned(),
                            many => format!("{many} batches wait"),
                        },
                        ledger.name
                    ));
                }
                _ => {}
            }
        }
        if self.more_ledgers.ledgers > 0 {
            warnings.push(format!(
                "{} batches and {} not configured",
                match self.more_ledgers.ledgers {
                    1 => "1 more ledger has".to_owned(),
                    many => format!("{many} more ledgers have"),
                },
                if self.more_ledgers.ledgers == 1 {
                    "is"
                } else {
                    "are"
                }
            ));
        }
        // First how many, since a long list of warnings is cut.
        if self.at_risk_total > 1 {
            warnings.push(format!(
                "{} services are at risk, with more than {SPLINTER_MEMORY} batches outstanding",
                self.at_risk_total
            ));
        }
        warnings.extend(self.at_risk.iter().map(|service| {
            format!(
                "service {} of ledger {} has {} batches outstanding: a Splinter node remembers \
                 the newest {SPLINTER_MEMORY}, older ones may be forgotten before they are asked",
                service.service_id, service.ledger, service.outstanding
            )
        }));
        warnings
    }
}

fn report(
    name: &str,
    configured: bool,
    view: Option<&LedgerView>,
    counted: Option<&LedgerSummary>,
) -> LedgerReport {
    let counts = counted.map_or_else(BTreeMap::new, |summary| summary.counts.clone());
    let mut outstanding = 0;
    let mut settled = 0;
    for (word, count) in &counts {
        if word.parse().is_ok_and(Status::is_outstanding) {
            outstanding += count;
        } else {
            settled += count;
        }
    }
    LedgerReport {
        name: name.to_owned(),
        state: state(configured, view),
        configured,
        outstanding,
        due: counted.map_or(0, |summary| summary.due),
        settled,
        counts,
        oldest_due_at: counted.and_then(|summary| summary.oldest_due_at),
        view: view.filter(|_| configured).cloned(),
    }
}

/// One word for a ledger; what is worst wins.
fn state(configured: bool, view: Option<&LedgerView>) -> LedgerState {
    if !configured {
        return LedgerState::NotConfigured;
    }
    let Some(view) = view else {
        return LedgerState::Waiting;
    };
    if !view.held {
        return if view.holder.is_some() {
            LedgerState::Elsewhere
        } else {
            LedgerState::Waiting
        };
    }
    // An error that an answer has followed is history.
    let erring = view.last_error.is_some() && view.last_error_at >= view.last_success_at;
    if view.breaker != BreakerPosition::Closed || erring {
        return LedgerState::Failing;
    }
    if view.failing_services_total > 0 {
        return LedgerState::Degraded;
    }
    if view.last_success_at.is_none() {
        return LedgerState::Waiting;
    }
    LedgerState::Answering
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn the_worst_word_wins() {
        let mut view = testing::ledger_view("trace", LedgerKind::Sawtooth);
        assert_eq!(state(true, Some(&view)), LedgerState::Answering);
        assert_eq!(state(false, Some(&view)), LedgerState::NotConfigured);
        assert_eq!(state(true, None), LedgerState::Waiting);
        view.failing_services.push(testing::trouble("a::b"));
        view.failing_services_total = 1;
        assert_eq!(state(true, Some(&view)), LedgerState::Degraded);
        view.breaker = BreakerPosition::HalfOpen;
        assert_eq!(state(true, Some(&view)), LedgerState::Failing);
        view.held = false;
        assert_eq!(state(true, Some(&view)), LedgerState::Waiting);
        view.holder = Some("other".into());
        assert_eq!(state(true, Some(&view)), LedgerState::Elsewhere);
    }

    #[test]
    fn ledgers_of_the_database_only_are_shown_as_such() {
        let settings = testing::settings();
        let figures = Summary {
            ledgers: vec![LedgerSummary {
                ledger: "gone".into(),
                counts: [("pending".to_owned(), 7), ("lost".to_owned(), 2)].into(),
                due: 3,
                oldest_due_at: None,
            }],
            at_risk: ["supply", "supply", "gone"]
                .map(|ledger| ServiceCount {
                    ledger: ledger.into(),
                    service_id: "c1::a000".into(),
                    outstanding: 101,
                })
                .into(),
            at_risk_total: 60,
            more_ledgers: MoreLedgers {
                ledgers: 4,
                counts: BTreeMap::new(),
            },
            ..Summary::default()
        };
        let overview = Overview::gather(&settings, &BatchesView::default(), &figures);
        let gone = overview.ledgers.last().unwrap();
        assert_eq!((gone.outstanding, gone.settled, gone.due), (7, 2, 3));
        assert_eq!(gone.state, LedgerState::NotConfigured);
        assert_eq!((overview.at_risk.len(), overview.at_risk_total), (2, 59));
        let warnings = overview.warnings().join("\n");
        assert!(warnings.contains("7 batches wait for ledger gone"));
        assert!(warnings.contains("c1::a000"), "{warnings}");
        assert!(warnings.contains("59 services are at risk"), "{warnings}");
        assert!(warnings.contains("4 more ledgers"), "{warnings}");
    }
}
