//! Refusals that many routes share, for `/openapi.json`.

use crate::http::problem::PROBLEM_JSON;
use std::collections::BTreeMap;
use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

type Responses = BTreeMap<String, RefOr<Response>>;

fn problems<const N: usize>(told: [(u16, &str); N]) -> Responses {
    told.map(|(status, description)| {
        let schema = Some(Ref::from_schema_name("Problem"));
        let content = ContentBuilder::new().schema(schema).build();
        let response = ResponseBuilder::new()
            .description(description)
            .content(PROBLEM_JSON, content)
            .build();
        (status.to_string(), RefOr::T(response))
    })
    .into()
}

/// Of every route that needs the control token.
pub(in crate::http) struct OperatorRefusals;

impl IntoResponses for OperatorRefusals {
    fn responses() -> Responses {
        problems([
            (401, "The control token is needed"),
            (403, "No control token is configured"),
            (429, "Too many wrong tokens"),
        ])
    }
}

/// Of every route that changes rows.
pub(in crate::http) struct StoreRefusals;

impl IntoResponses for StoreRefusals {
    fn responses() -> Responses {
        let stopping = "The database is out of reach, or the server is stopping";
        problems([(503, stopping)])
    }
}

/// Of every route that does something to one site.
pub(in crate::http) struct SiteRefusals;

impl IntoResponses for SiteRefusals {
    fn responses() -> Responses {
        let mut all = problems([(404, "The site is not known")]);
        all.extend(StoreRefusals::responses());
        all
    }
}
