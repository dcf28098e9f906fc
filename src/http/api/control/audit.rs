//! `GET /v1/control/audit`: what operators did or tried to do.

use crate::http::api::batches::{check_text, read_query};
use crate::http::problem::{Answer, FieldError, Problem};
use crate::http::state::Http;
use crate::store::{AuditFilter, AuditRow};
use actix_web::{HttpRequest, web};
use serde::{Deserialize, Serialize};

/// Rows of a page, where none are asked for.
const DEFAULT_LIMIT: i64 = 100;
/// Most rows of a page.
const MOST_ROWS: i64 = 1000;

/// Query of `GET /v1/control/audit`; absent filters let all pass.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Only this action, as in services.stop.
    pub action: Option<String>,
    /// Only what was done to this.
    pub target: Option<String>,
    /// Only what this one did, as listed.
    pub who: Option<String>,
    /// Rows of a page, 1 to 1000. Default 100.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000)]
    pub limit: Option<String>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// Answer of `GET /v1/control/audit`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AuditList {
    /// The rows, newest first.
    pub items: Vec<AuditRow>,
    /// Cursor of the next page; null on the last one.
    pub next: Option<String>,
}

/// What operators did or tried to do, newest first.
#[utoipa::path(get, path = "/v1/control/audit", tag = "control", params(AuditQuery), responses(
    (status = 200, description = "A page of the audit", body = AuditList),
    (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The control token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "No control token is configured", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "Too many wrong tokens", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn list_audit(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<web::Json<AuditList>> {
    let (filter, limit, cursor) = parse(read_query(&request)?)?;
    let page = http
        .database(move |store| async move { store.list_audit(&filter, limit, cursor).await })
        .await?;
    Ok(web::Json(AuditList {
        items: page.rows,
        next: page.next.map(|id| format!("a{id:x}")),
    }))
}

fn parse(query: AuditQuery) -> Answer<(AuditFilter, i64, Option<i64>)> {
    let mut errors = Vec::new();
    for (name, value) in [
        ("action", &query.action),
        ("target", &query.target),
        ("who", &query.who),
    ] {
        if let Some(Err(message)) = value.as_deref().map(check_text) {
            errors.push(FieldError::new(name, message));
        }
    }
    let limit = query.limit.map_or(Some(DEFAULT_LIMIT), |limit| {
        limit.parse().ok().filter(|n| (1..=MOST_ROWS).contains(n))
    });
    if limit.is_none() {
        let message = format!("not a number from 1 to {MOST_ROWS}");
        errors.push(FieldError::new("limit", message));
    }
    let cursor = query.cursor.as_deref().map(read_cursor);
    if cursor == Some(None) {
        let message = "not a cursor of this list; take next of the page before";
        errors.push(FieldError::new("cursor", message));
    }
    match limit {
        Some(limit) if errors.is_empty() => {
            let filter = AuditFilter {
                action: query.action,
                target: query.target,
                who: query.who,
            };
            Ok((filter, limit, cursor.flatten()))
        }
        _ => Err(Problem::invalid_query(errors).into()),
    }
}

fn read_cursor(cursor: &str) -> Option<i64> {
    let digits = cursor.strip_prefix('a')?;
    let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| i64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_parameter_is_named() {
        let refusal = parse(AuditQuery {
            action: Some("a\n".into()),
            limit: Some("1001".into()),
            cursor: Some("b1".into()),
            ..AuditQuery::default()
        })
        .unwrap_err();
        let fields: Vec<_> = refusal.0.errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, ["action", "limit", "cursor"]);
        assert_eq!(refusal.0.status, 400);
        let (_, limit, cursor) = parse(AuditQuery {
            cursor: Some("aff".into()),
            ..AuditQuery::default()
        })
        .unwrap();
        assert_eq!((limit, cursor), (DEFAULT_LIMIT, Some(255)));
    }
}
