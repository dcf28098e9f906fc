//! `GET /v1/sites` and `GET /v1/sites/{site_id}`.

use super::site_not_found;
use crate::flows::sites::{AppName, SiteReport, UnknownName, check_named, site_report};
use crate::http::api::batches::{check_text, read_query};
use crate::http::problem::{Answer, FieldError, Problem};
use crate::http::state::Http;
use crate::store::{SiteCursor, SiteFilter, SiteItem, SiteSort, SiteState};
use crate::time::Timestamp;
use actix_web::{HttpRequest, web};
use serde::{Deserialize, Serialize};

/// Rows of a page, where none are asked for.
const DEFAULT_LIMIT: i64 = 100;
/// Most rows of a page.
const MOST_ROWS: i64 = 1000;

/// Query of `GET /v1/sites`; absent filters let all pass.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SitesQuery {
    /// Only of this app.
    pub app: Option<String>,
    /// How they stand with the job of this name.
    pub job: Option<String>,
    /// Only those that stand so: `due` (visited before, and due again),
    /// `waiting`, `given_up`, `disabled`, `never` (visited, or revived since;
    /// needs `job`), `failing` (the last visit failed, and the site is not
    /// given up) or `well` (the last visit succeeded).
    pub state: Option<String>,
    /// Only those at this level of a job's retry policy.
    #[param(value_type = Option<u32>, minimum = 0)]
    pub level: Option<String>,
    /// Only those whose id begins so, or whose address contains this.
    pub text: Option<String>,
    /// `site_id`, `next_due_at`, `last_run_at`, `level`, `batch_code` or
    /// `created_at`. The default is `next_due_at` for what is due or waits,
    /// else `site_id`. Those of times and levels leave out sites
    /// without any, and list each job of a site.
    pub sort: Option<String>,
    /// `asc` (the default) or `desc`.
    pub order: Option<String>,
    /// Rows of a page, 1 to 1000. Default 100.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000)]
    pub limit: Option<String>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// Answer of `GET /v1/sites`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SiteList {
    /// Sites, in the order asked for.
    pub items: Vec<SiteItem>,
    /// Cursor of the next page; null on the last one.
    pub next: Option<String>,
}

/// Lists sites, and how they stand with a job.
#[utoipa::path(get, path = "/v1/sites", tag = "sites", params(SitesQuery), responses(
    (status = 200, description = "A page of sites", body = SiteList),
    (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "Nothing has the app or the job that is named; those known are named", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn list_sites(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<web::Json<SiteList>> {
    let mut filter = parse(read_query::<SitesQuery>(&request)?)?;
    let settings = http.settings();
    let listed = http
        .database(move |store| async move {
            let (app, job) = (filter.app.as_deref(), filter.job.as_deref());
            let named = check_named(&store, &settings, app, job).await?;
            match named {
                Ok(apps) => filter.job_apps = apps,
                Err(unknown) => return Ok(Err(unknown)),
            }
            store.list_sites(&filter, Timestamp::now()).await.map(Ok)
        })
        .await?;
    let page = listed.map_err(|UnknownName { field, message }| {
        Problem::invalid_fields(vec![FieldError::new(field, message)], 1)
    })?;
    Ok(web::Json(SiteList {
        items: page.items,
        next: page.next.map(|cursor| cursor.to_string()),
    }))
}

/// One site: how it stands with each job, its visits, what was learned, and
/// when it is visited next and why.
#[utoipa::path(get, path = "/v1/sites/{site_id}", tag = "sites",
    params(("site_id" = String, Path, description = "Site id")),
    responses(
        (status = 200, description = "The site", body = SiteReport),
        (status = 404, description = "The site is not known", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn show_site(
    http: web::Data<Http>,
    site_id: web::Path<String>,
) -> Answer<web::Json<SiteReport>> {
    if check_text(&site_id).is_err() {
        return Err(site_not_found(&site_id).into());
    }
    let (wanted, settings) = (site_id.clone(), http.settings());
    let found = http
        .database(
            |store| async move { site_report(&store, &settings, &wanted, Timestamp::now()).await },
        )
        .await?;
    match found {
        Some(report) => Ok(web::Json(report)),
        None => Err(site_not_found(&site_id).into()),
    }
}

/// Judges the parameters of a list.
fn parse(query: SitesQuery) -> Answer<SiteFilter> {
    let mut errors = Vec::new();
    for (field, text) in [("job", &query.job), ("text", &query.text)] {
        if let Some(Err(message)) = text.as_deref().map(check_text) {
            errors.push(FieldError::new(field, message));
        }
    }
    let mut wrong = |field: &str, message: String| errors.push(FieldError::new(field, message));
    let app = query.app.as_deref().and_then(|text| {
        AppName::parse(text)
            .map_err(|problem| wrong("app", problem.to_string()))
            .ok()
    });
    let state = query.state.as_deref().and_then(|word| {
        word.parse::<SiteState>()
            .map_err(|error| wrong("state", error.to_string()))
            .ok()
    });
    let level = query.level.as_deref().and_then(|text| {
        text.parse()
            .map_err(|_| wrong("level", "expected a whole number from 0".to_owned()))
            .ok()
    });
    let sort = match query.sort.as_deref().map(str::parse::<SiteSort>) {
        None => SiteSort::usual(state),
        Some(Ok(sort)) => sort,
        Some(Err(error)) => {
            wrong("sort", error.to_string());
            SiteSort::default()
        }
    };
    let descending = match query.order.as_deref() {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => {
            wrong("order", "expected asc or desc".to_owned());
            false
        }
    };
    let limit = match query.limit.as_deref().map(str::parse::<i64>) {
        None => DEFAULT_LIMIT,
        Some(Ok(limit)) if (1..=MOST_ROWS).contains(&limit) => limit,
        Some(_) => {
            let message = format!("expected a whole number from 1 to {MOST_ROWS}");
            wrong("limit", message);
            DEFAULT_LIMIT
        }
    };
    let cursor = query.cursor.as_deref().and_then(|text| {
        let read = SiteCursor::parse(text);
        if read.is_none() {
            let message = "not a cursor of this list; take next of the page before";
            wrong("cursor", message.to_owned());
        }
        read
    });
    let filter = SiteFilter {
        app: app.map(|app| app.as_str().to_owned()),
        job: query.job,
        job_apps: Vec::new(),
        state,
        level,
        text: query.text,
        sort,
        descending,
        cursor,
        limit,
    };
    if errors.is_empty()
        && let Err((field, message)) = filter.check()
    {
        errors.push(FieldError::new(field, message));
    }
    if errors.is_empty() {
        Ok(filter)
    } else {
        Err(Problem::invalid_query(errors).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_parameter_is_named() {
        let refusal = parse(SitesQuery {
            app: Some("a b".into()),
            job: Some("a\u{0}".into()),
            state: Some("dead".into()),
            level: Some("-1".into()),
            sort: Some("url".into()),
            order: Some("up".into()),
            limit: Some("0".into()),
            cursor: Some("x".into()),
            ..SitesQuery::default()
        })
        .unwrap_err();
        let fields: Vec<_> = refusal.0.errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "job", "app", "state", "level", "sort", "order", "limit", "cursor"
            ]
        );
        assert_eq!(refusal.0.status, 400);
    }

    #[test]
    fn parameters_that_do_not_go_together_are_refused() {
        let refusal = parse(SitesQuery {
            state: Some("never".into()),
            ..SitesQuery::default()
        })
        .unwrap_err();
        assert_eq!(refusal.0.errors[0].field, "state");
        let filter = parse(SitesQuery {
            app: Some("app:a.b".into()),
            order: Some("desc".into()),
            ..SitesQuery::default()
        })
        .unwrap();
        assert_eq!(filter.app.as_deref(), Some("a.b"));
        assert_eq!((filter.descending, filter.limit), (true, DEFAULT_LIMIT));
    }
}
