//! What lists of sites are asked for, and what they answer.

use super::sites_read::{SiteRow, StatusRow};
use crate::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Longest cursor that is read.
const LONGEST_CURSOR: usize = 2048;

/// In which order sites are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteSort {
    /// By id (and job).
    #[default]
    SiteId,
    /// By when they are due; only those that are enabled and not given up.
    NextDueAt,
    /// By when the last visit began; only those that were visited.
    LastRunAt,
    /// By level; only those that were visited.
    Level,
    /// By batch code.
    BatchCode,
    /// In the order in which they were added.
    CreatedAt,
}

impl SiteSort {
    /// The order of a list that names none: what is due or waits is listed by
    /// when, which an index serves; anything else by id.
    pub const fn usual(state: Option<SiteState>) -> Self {
        match state {
            Some(SiteState::Due | SiteState::Waiting) => Self::NextDueAt,
            _ => Self::SiteId,
        }
    }
}

/// How sites stand that are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteState {
    /// Visited before, and due again.
    Due,
    /// Visited before, and due later.
    Waiting,
    /// Given up.
    GivenUp,
    /// Disabled, whatever else.
    Disabled,
    /// Enabled, and never visited: due at once.
    Never,
    /// Enabled, and the last visit failed; those given up aside.
    Failing,
    /// Enabled, and the last visit went well.
    Well,
}

/// Words of a list's order or of a state, and what was read instead of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not one of {1}")]
pub struct UnknownSiteWord(String, String);

macro_rules! words {
    ($name:ident: $($variant:ident = $word:literal),+) => {
        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word in queries, on the command line and in pages.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownSiteWord;

            fn from_str(text: &str) -> Result<Self, UnknownSiteWord> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err(UnknownSiteWord(
                        other.chars().filter(|c| !c.is_control()).take(40).collect(),
                        [$($word),+].join(", "),
                    )),
                }
            }
        }
    };
}

words!(SiteSort: SiteId = "site_id", NextDueAt = "next_due_at", LastRunAt = "last_run_at",
    Level = "level", BatchCode = "batch_code", CreatedAt = "created_at");
words!(SiteState: Due = "due", Waiting = "waiting", GivenUp = "given_up", Disabled = "disabled",
    Never = "never", Failing = "failing", Well = "well");

/// Which sites are listed: those that meet each condition given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteFilter {
    /// Only of this app.
    pub app: Option<String>,
    /// How they stand with the job of this name.
    pub job: Option<String>,
    /// Of those that were never visited by `job`, only sites of these apps:
    /// those that have it. Empty: of any.
    pub job_apps: Vec<String>,
    /// Only those that stand so.
    pub state: Option<SiteState>,
    /// Only those at this level.
    pub level: Option<u32>,
    /// Only those whose id begins so, or whose address contains this;
    /// whatever the case of its letters.
    pub text: Option<String>,
    /// In which order.
    pub sort: SiteSort,
    /// The other way round.
    pub descending: bool,
    /// Behind the page before.
    pub cursor: Option<SiteCursor>,
    /// Most rows, 1 to 10,000.
    pub limit: i64,
}

/// Where a page ends. As a text it is opaque to clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteCursor {
    /// The order of the list.
    pub(super) sort: SiteSort,
    /// The number by which the last row has its place.
    pub(super) key: i64,
    /// The last row's number.
    pub(super) seq: i64,
    /// The last row's site.
    pub(super) site_id: String,
    /// The last row's job.
    pub(super) job: String,
}

impl std::fmt::Display for SiteCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = (self.sort, self.key, self.seq, &self.site_id, &self.job);
        let json = serde_json::to_vec(&fields).map_err(|_| std::fmt::Error)?;
        write!(f, "s{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl SiteCursor {
    /// Reads a cursor; `None` when it is none of this list.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix('s')?;
        let bytes = (text.len() <= LONGEST_CURSOR).then(|| URL_SAFE_NO_PAD.decode(encoded))?;
        let (sort, key, seq, site_id, job): (SiteSort, i64, i64, String, String) =
            serde_json::from_slice(&bytes.ok()?).ok()?;
        let plain = |text: &str| !text.contains('\0');
        (plain(&site_id) && plain(&job)).then_some(Self {
            sort,
            key,
            seq,
            site_id,
            job,
        })
    }
}

/// A site of a list, and how it stands with a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SiteItem {
    /// The site.
    #[serde(flatten)]
    pub site: SiteRow,
    /// How it stands: with the job that was asked for, or with one by which
    /// it is listed; null where it was not visited or no job was asked for.
    pub status: Option<StatusRow>,
}

impl SiteItem {
    /// How it stands; `None` where that is not known without a job.
    pub fn state(&self, now: Timestamp) -> Option<SiteState> {
        let status = self.status.as_ref();
        match status {
            _ if !self.site.enabled => Some(SiteState::Disabled),
            None => None,
            Some(status) if status.given_up_at.is_some() => Some(SiteState::GivenUp),
            Some(status) if status.next_due_at.is_none_or(|at| at <= now) => Some(SiteState::Due),
            Some(_) => Some(SiteState::Waiting),
        }
    }
}

/// A page of sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePage {
    /// The sites, in the order asked for.
    pub items: Vec<SiteItem>,
    /// Cursor of the next page.
    pub next: Option<SiteCursor>,
}

impl SiteFilter {
    /// Whether the list is one of `poll_status`.
    pub(super) fn is_of_visits(&self) -> bool {
        let sorted = matches!(
            self.sort,
            SiteSort::NextDueAt | SiteSort::LastRunAt | SiteSort::Level
        );
        let state = matches!(
            self.state,
            Some(
                SiteState::Due
                    | SiteState::Waiting
                    | SiteState::GivenUp
                    | SiteState::Failing
                    | SiteState::Well
            )
        );
        sorted || state || self.level.is_some()
    }

    /// Where a page of `sites` that ends with this row ends.
    pub(super) fn after_site(&self, row: &SiteRow) -> SiteCursor {
        SiteCursor {
            sort: self.sort,
            key: match self.sort {
                SiteSort::BatchCode => row.batch_code.into(),
                _ => row.seq,
            },
            seq: row.seq,
            site_id: row.site_id.clone(),
            job: String::new(),
        }
    }

    /// Where a page of `poll_status` that ends with this row ends.
    pub(super) fn after_status(&self, row: &StatusRow) -> SiteCursor {
        let millis = |at: Option<Timestamp>| at.map_or(0, Timestamp::millis);
        SiteCursor {
            sort: self.sort,
            key: match self.sort {
                SiteSort::NextDueAt => millis(row.next_due_at),
                SiteSort::LastRunAt => millis(row.last_run_at),
                SiteSort::Level => row.level.into(),
                SiteSort::BatchCode => row.batch_code.into(),
                SiteSort::SiteId | SiteSort::CreatedAt => row.seq,
            },
            seq: row.seq,
            site_id: row.site_id.clone(),
            job: row.job_name.clone(),
        }
    }

    /// Whether these conditions go together.
    ///
    /// # Errors
    /// The name of a field and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.cursor.as_ref().is_some_and(|at| at.sort != self.sort) {
            let message = "of a list in another order; take next of the page before";
            return Err(("cursor", message.to_owned()));
        }
        if self.state == Some(SiteState::Never) && self.job.is_none() {
            let message = "never visited by which job? Name one".to_owned();
            return Err(("state", message));
        }
        if self.state == Some(SiteState::Never) && self.is_of_visits() {
            let message = "sites that were never visited have no level and no times".to_owned();
            return Err(("state", message));
        }
        if self.state == Some(SiteState::GivenUp) && self.sort == SiteSort::NextDueAt {
            let message = "sites that are given up are never due: sort by last_run_at".to_owned();
            return Err(("sort", message));
        }
        if self.sort == SiteSort::CreatedAt && self.is_of_visits() {
            let message =
                "goes with no state but disabled and never, and with no level: sort by site_id"
                    .to_owned();
            return Err(("sort", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_others_are_refused() {
        let cursor = SiteCursor {
            sort: SiteSort::LastRunAt,
            key: -5,
            seq: i64::MAX,
            site_id: "a:b@c".into(),
            job: "default".into(),
        };
        assert_eq!(SiteCursor::parse(&cursor.to_string()), Some(cursor));
        let long = format!("s{}", "A".repeat(5000));
        for wrong in ["", "s", "b1f", "s!!", "sWzFd", &long] {
            assert_eq!(SiteCursor::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let field = |filter: SiteFilter| filter.check().err().map(|(field, _)| field);
        let base = SiteFilter::default;
        assert_eq!(field(base()), None);
        let never = SiteFilter {
            state: Some(SiteState::Never),
            ..base()
        };
        assert_eq!(field(never.clone()), Some("state"));
        let job = SiteFilter {
            job: Some("default".into()),
            ..never
        };
        assert_eq!(field(job.clone()), None);
        let level = SiteFilter {
            level: Some(1),
            ..job
        };
        assert_eq!(field(level), Some("state"));
        let given_up = SiteFilter {
            state: Some(SiteState::GivenUp),
            ..base()
        };
        let failing = SiteFilter {
            state: Some(SiteState::Failing),
            sort: SiteSort::NextDueAt,
            ..base()
        };
        assert_eq!(field(failing), None);
        assert_eq!(field(given_up.clone()), None);
        for sort in [SiteSort::NextDueAt, SiteSort::CreatedAt] {
            let filter = SiteFilter {
                sort,
                ..given_up.clone()
            };
            assert_eq!(field(filter), Some("sort"));
        }
        let cursor = SiteCursor {
            sort: SiteSort::Level,
            key: 0,
            seq: 0,
            site_id: String::new(),
            job: String::new(),
        };
        let other = SiteFilter {
            cursor: Some(cursor),
            ..base()
        };
        assert_eq!(field(other), Some("cursor"));
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for sort in SiteSort::ALL {
            assert_eq!(sort.as_str().parse(), Ok(*sort));
        }
        for state in SiteState::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
        }
        let error = "dead".parse::<SiteState>().unwrap_err().to_string();
        assert!(
            error.ends_with("due, waiting, given_up, disabled, never, failing, well"),
            "{error}"
        );
    }
}
