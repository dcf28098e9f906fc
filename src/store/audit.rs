//! The audit: what operators changed or tried to change, by whom, and how it
//! ended. Rows are only ever added, and pruned when they are old.

use super::connection::on_backend;
use super::schema::audit;
use super::{Store, StoreError};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// Most characters kept of `who` and `action`.
const NAME_CHARS: usize = 256;
/// Most characters kept of `target`: a whole batch key fits.
const TARGET_CHARS: usize = 2400;
/// Most characters kept of `problem`, and of `details` as JSON.
const TEXT_CHARS: usize = 4000;

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It was not allowed or made no sense; nothing changed.
    Refused,
    /// It was begun and did not succeed.
    Failed,
}

impl AuditOutcome {
    /// The word in the table: `done`, `refused` or `failed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// An action to record. Texts that are too long are cut when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAudit {
    /// Who acted, as far as is known: `command line (USER@HOST)`.
    pub who: String,
    /// What was to be done, dotted: `batches.revive`.
    pub action: String,
    /// What it was to be done to; `""` where there is no such thing.
    pub target: String,
    /// Whatever else tells what was asked for; no secrets.
    pub details: Option<Value>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Why it did not end as wished.
    pub problem: Option<String>,
}

/// A row of `audit`, as shown.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Serialize, utoipa::ToSchema)]
pub struct AuditRow {
    /// Grows with every row.
    pub id: i64,
    /// When, by the database's clock.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who acted.
    pub who: String,
    /// What was to be done.
    pub action: String,
    /// What to; `""` where there is no such thing.
    pub target: String,
    /// Whatever else tells what was asked for.
    #[serde(serialize_with = "as_json")]
    #[schema(value_type = Option<Object>)]
    pub details: Option<String>,
    /// `done`, `refused` or `failed`.
    pub outcome: String,
    /// Why it did not end as wished.
    pub problem: Option<String>,
}

fn as_json<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let value = text.as_ref().map(|text| {
        serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::String(text.clone()))
    });
    value.serialize(serializer)
}

/// Which rows are listed; every field given has to be met exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only this action.
    pub action: Option<String>,
    /// Only of this target.
    pub target: Option<String>,
    /// Only by this one.
    pub who: Option<String>,
}

/// A page of the audit.
#[derive(Clone, Debug)]
pub struct AuditPage {
    /// The rows, newest first.
    pub rows: Vec<AuditRow>,
    /// Cursor of the next page.
    pub next: Option<i64>,
}

#[derive(QueryableByName)]
struct Recorded {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

impl Store {
    /// Records an action; answers the row's id.
    ///
    /// # Errors
    /// The database is out of reach; nothing is recorded.
    pub async fn record_audit(&self, row: NewAudit) -> Result<i64, StoreError> {
        let store = self.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            let recorded: Recorded = on_backend!(lent, conn => {
                diesel::sql_query(
                    "INSERT INTO audit (who, action, target, details, outcome, problem) \
                     VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
                )
                .bind::<Text, _>(bounded(&row.who, NAME_CHARS))
                .bind::<Text, _>(bounded(&row.action, NAME_CHARS))
                .bind::<Text, _>(bounded(&row.target, TARGET_CHARS))
                .bind::<Nullable<Text>, _>(row.details.as_ref().map(bounded_json))
                .bind::<Text, _>(row.outcome.as_str())
                .bind::<Nullable<Text>, _>(
                    row.problem.as_deref().map(|text| bounded(text, TEXT_CHARS)),
                )
                .get_result(conn)
                .await
            })?;
            Ok(recorded.id)
        })
        .await
    }

    /// Lists what was recorded, newest first, at most `limit` rows (1 to
    /// 10,000); with a cursor, only what is older than the page before.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn list_audit(
        &self,
        filter: &AuditFilter,
        limit: i64,
        cursor: Option<i64>,
    ) -> Result<AuditPage, StoreError> {
        let mut lent = self.reader().await?;
        let limit = limit.clamp(1, 10_000);
        let mut rows = on_backend!(lent, conn => {
            let mut query = audit::table.into_boxed();
            if let Some(action) = &filter.action {
                query = query.filter(audit::action.eq(action));
            }
            if let Some(target) = &filter.target {
                query = query.filter(audit::target.eq(target));
            }
            if let Some(who) = &filter.who {
                query = query.filter(audit::who.eq(who));
            }
            if let Some(before) = cursor {
                query = query.filter(audit::id.lt(before));
            }
            query.order(audit::id.desc()).limit(limit + 1).load::<AuditRow>(conn).await
        })?;
        let mut next = None;
        if rows.len() > usize::try_from(limit).unwrap_or(usize::MAX) {
            rows.pop();
            next = rows.last().map(|row| row.id);
        }
        Ok(AuditPage { rows, next })
    }

    /// Deletes up to `step` rows recorded before `before`, oldest first.
    /// Answers how many.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn prune_audit(&self, before: Timestamp, step: i64) -> Result<usize, StoreError> {
        let store = self.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            // Two servers that choose the same rows delete them once: the
            // second finds them gone.
            Ok(on_backend!(lent, conn => {
                diesel::sql_query(
                    "DELETE FROM audit WHERE id IN \
                     (SELECT id FROM audit WHERE at < $1 ORDER BY at, id LIMIT $2)",
                )
                .bind::<SqlTimestamp, _>(before)
                .bind::<BigInt, _>(step)
                .execute(conn)
                .await
            })?)
        })
        .await
    }
}

/// The beginning of a text, without what PostgreSQL's TEXT cannot hold.
pub(super) fn bounded(text: &str, most: usize) -> String {
    let clean = |c| if c == '\0' { '\u{fffd}' } else { c };
    if text.chars().nth(most).is_none() {
        return text.chars().map(clean).collect();
    }
    let kept = text.chars().take(most.saturating_sub(1)).map(clean);
    kept.chain(['…']).collect()
}

/// JSON of at most [`TEXT_CHARS`]: what is longer is kept as the beginning of
/// its text, in an object that says so.
fn bounded_json(details: &Value) -> String {
    let text = details.to_string();
    if text.chars().nth(TEXT_CHARS).is_none() {
        return text;
    }
    // Each character of the beginning may need an escape of its own.
    json!({ "cut": bounded(&text, TEXT_CHARS / 2 - 20) }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_a_character_and_rid_of_nul() {
        assert_eq!(bounded("äöü", 3), "äöü");
        assert_eq!(bounded("äöüß", 3), "äö…");
        assert_eq!(bounded("a\0b", 9), "a\u{fffd}b");
    }

    #[test]
    fn details_that_are_too_long_stay_json() {
        let short = json!({ "ids": ["a"] });
        assert_eq!(bounded_json(&short), short.to_string());
        let long = json!({ "ids": vec!["\"\\"; 4000] });
        let kept = bounded_json(&long);
        assert!(kept.chars().count() <= TEXT_CHARS, "{}", kept.len());
        let read: Value = serde_json::from_str(&kept).unwrap();
        assert!(read["cut"].as_str().unwrap().starts_with("{\"ids\":["));
    }
}
