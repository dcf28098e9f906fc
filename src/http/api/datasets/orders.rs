//! Operators' orders to replicas: each with a reason, recorded, and told to the
//! Follower, which is on the server that holds the replica's lease.

use crate::config::ReplicaSettings;
use crate::flows::events::read_reason;
use crate::flows::replicas::{ContentKind, DatasetName, Holder, check_verify};
use crate::http::api::refusals::{OperatorRefusals, StoreRefusals};
use crate::http::audit::{Act, Done};
use crate::http::body::read_json;
use crate::http::followers::ReplicaOrder;
use crate::http::problem::{Answer, FieldError, Problem};
use crate::http::state::Http;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Body of an order to a replica.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplicaOrderBody {
    /// Why: 1 to 1000 characters; kept in the audit.
    #[schema(min_length = 1, max_length = 1000)]
    pub reason: String,
}

/// Answer of an order to a replica: it is taken on, and not carried out yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct ReplicaOrderDone {
    /// The replica.
    pub replica: String,
    /// `verify` or `bootstrap`.
    pub ordered: &'static str,
}

/// Has a replica compared with its upstream now; ranges that differ are put
/// right. `audited` of the replica says when that ended, and how many differed.
#[utoipa::path(post, path = "/v1/replicas/{name}/verify", tag = "replicas",
    params(("name" = String, Path, description = "Name of the replica")),
    request_body = ReplicaOrderBody, responses(
    (status = 202, description = "It is taken on", body = ReplicaOrderDone),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such replica", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "not-followed-here: another server follows the replica, or none does; cannot-verify: it follows by the seed's wire, or has no copy yet", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The reason is missing or too long", body = Problem, content_type = "application/problem+json"),
    OperatorRefusals, StoreRefusals,
), security(("token" = [])))]
pub(in crate::http) async fn verify_replica(
    http: web::Data<Http>,
    request: HttpRequest,
    name: web::Path<String>,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    order(&http, &request, &name, payload, ReplicaOrder::Verify).await
}

/// Begins a new bootstrap of a replica; its copy stays readable until the new one
/// takes its place.
#[utoipa::path(post, path = "/v1/replicas/{name}/bootstrap", tag = "replicas",
    params(("name" = String, Path, description = "Name of the replica")),
    request_body = ReplicaOrderBody, responses(
    (status = 202, description = "It is taken on", body = ReplicaOrderDone),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such replica", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "not-followed-here: another server follows the replica, or none does", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The reason is missing or too long", body = Problem, content_type = "application/problem+json"),
    OperatorRefusals, StoreRefusals,
), security(("token" = [])))]
pub(in crate::http) async fn bootstrap_replica(
    http: web::Data<Http>,
    request: HttpRequest,
    name: web::Path<String>,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    order(&http, &request, &name, payload, ReplicaOrder::Bootstrap).await
}

/// Reads what is ordered, tells the Follower and records it.
async fn order(
    http: &Http,
    request: &HttpRequest,
    name: &str,
    payload: web::Payload,
    order: ReplicaOrder,
) -> Answer<HttpResponse> {
    let limit = http.settings().http.max_body_bytes;
    let shown: String = name.chars().take(64).collect();
    let act = Act::of(request, order.action()).on(shown);
    let read = match known(http, name) {
        Ok(known) => match read_json::<ReplicaOrderBody>(request, payload, limit).await {
            Ok(body) => reason(&body).map(|reason| (known, reason)),
            Err(refusal) => Err(refusal),
        },
        Err(refusal) => Err(refusal),
    };
    let (replica, reason) = match read {
        Ok(read) => read,
        Err(refusal) => return Err(http.refuse(act, refusal).await),
    };
    let act = act.with(json!({ "reason": reason }));
    let followers = http.followers.clone();
    let acted = http
        .act(act, async move {
            let view = followers.view.borrow().clone();
            let name = replica.name.clone();
            let follower = view.replicas.get(&name);
            if order == ReplicaOrder::Verify {
                // Whoever has not read the rows yet knows of no copy, and looks first.
                let plan = follower.and_then(|of| of.plan.as_ref());
                let has_copy = plan.is_none_or(|plan| plan.head.is_some());
                check_verify(&replica, has_copy).map_err(|why| cannot_verify(&why.to_string()))?;
            }
            match follower.map_or(&Holder::Nobody, |of| &of.holder) {
                Holder::Here if (followers.order)(&name, order) => {}
                Holder::Other(holder) => return Err(not_here(&name, Some(holder))),
                Holder::Here | Holder::Nobody => return Err(not_here(&name, None)),
            }
            Ok(Done::from(ReplicaOrderDone {
                replica: name.to_string(),
                ordered: order.as_str(),
            }))
        })
        .await?;
    Ok(acted.respond(StatusCode::ACCEPTED))
}

/// Of the configuration; refused while the server is stopping.
fn known(http: &Http, name: &str) -> Answer<ReplicaSettings> {
    if *http.state.draining.borrow() {
        return Err(Problem::draining().into());
    }
    let settings = http.settings();
    match super::replica(&settings, name) {
        Some(replica) => Ok(replica.clone()),
        None => Err(Problem::content_not_found(ContentKind::Replica, name).into()),
    }
}

fn reason(body: &ReplicaOrderBody) -> Answer<String> {
    read_reason(&body.reason).map_err(|message| {
        let error = FieldError::new("reason", message);
        Problem::invalid_fields(vec![error], 1).into()
    })
}

fn cannot_verify(why: &str) -> Box<Problem> {
    Problem::new(
        StatusCode::CONFLICT,
        "cannot-verify",
        "The replica cannot be compared",
        why,
    )
}

fn not_here(name: &DatasetName, holder: Option<&str>) -> Box<Problem> {
    let detail = match holder {
        Some(holder) => {
            format!("replica \"{name}\" is followed by server \"{holder}\": send the order there")
        }
        None => format!(
            "replica \"{name}\" is followed by no server at this moment: send the order again soon, or start its service where it was stopped (`highwater ctl start follower:{name}`)"
        ),
    };
    Problem::new(
        StatusCode::CONFLICT,
        "not-followed-here",
        "The replica is not followed here",
        detail,
    )
}
