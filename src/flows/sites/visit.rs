//! One visit of a site, and what came of it.

use super::names::JobKey;
use crate::time::Timestamp;
use std::time::Duration;

/// A site, as a visit knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteInfo {
    /// Its id.
    pub site_id: String,
    /// Its address; may be any text when an application wrote it by SQL.
    pub url: String,
    /// Its labels: a JSON object.
    pub labels: String,
    /// Its batch code.
    pub batch_code: u16,
}

/// One visit of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The job.
    pub job: JobKey,
    /// The site.
    pub site: SiteInfo,
    /// When the last visit began; `None` for the first.
    pub last_run_at: Option<Timestamp>,
    /// Level at which it stands.
    pub level: u32,
    /// Failures in a row at this level.
    pub count: u32,
}

/// What came of a visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visited {
    /// What the handler learned, a JSON document, or why it failed.
    pub result: Result<Option<String>, VisitError>,
    /// How long the host asked to be left alone (`Retry-After`).
    pub retry_after: Option<Duration>,
}

/// Why a visit failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct VisitError {
    /// What kind of failure.
    pub kind: FailureKind,
    /// The thing, the value and what was expected; bounded, without secrets.
    pub detail: String,
}

/// Kinds of failures of visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// No answer in time.
    Timeout,
    /// No connection, or one that ended early.
    Unreachable,
    /// An answer that is not what the job expects.
    Unexpected,
    /// The site's API says that it failed.
    Api,
    /// A command that ended with another code than 0.
    Exit,
    /// The address may not be visited.
    Denied,
    /// The handler says so, or cannot work for this site.
    Handler,
    /// A panic in a handler.
    Panic,
    /// The job's handler cannot work at all, whatever the site (its program is
    /// missing, say): counts against the job, and against no site.
    Job,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Timeout,
        Self::Unreachable,
        Self::Unexpected,
        Self::Api,
        Self::Exit,
        Self::Denied,
        Self::Handler,
        Self::Panic,
        Self::Job,
    ];

    /// The word in the database, metrics and pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Unexpected => "unexpected",
            Self::Api => "api",
            Self::Exit => "exit",
            Self::Denied => "denied",
            Self::Handler => "handler",
            Self::Panic => "panic",
            Self::Job => "job",
        }
    }
}

impl std::fmt::Display for FailureKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl VisitError {
    /// Longest detail, in characters.
    pub const LONGEST: usize = 500;

    /// A failure; a long detail is cut.
    pub fn new(kind: FailureKind, detail: &str) -> Self {
        let mut short: String = detail.chars().take(Self::LONGEST).collect();
        if short.len() < detail.len() {
            short.push('…');
        }
        Self {
            kind,
            detail: short,
        }
    }
}

impl Visited {
    /// Why the job's handler cannot work at all; `None` when the visit says
    /// something of its site.
    pub fn of_job(&self) -> Option<&str> {
        let error = self.result.as_ref().err()?;
        (error.kind == FailureKind::Job).then_some(&*error.detail)
    }

    /// A visit that failed, with no wish of the host.
    pub fn failed(kind: FailureKind, detail: &str) -> Self {
        Self {
            result: Err(VisitError::new(kind, detail)),
            retry_after: None,
        }
    }

    /// A visit that went well, with what was learned.
    pub const fn well(learned: Option<String>) -> Self {
        Self {
            result: Ok(learned),
            retry_after: None,
        }
    }
}
