//! The table of all routes: method, path, who may, and the handler. Routing,
//! authorisation, 405 answers and the test of `/openapi.json` read this table,
//! so that they cannot disagree.

use super::api::control;
use super::auth::{self, Access, Refused, authorize};
use super::problem::{Problem, Refusal};
use super::state::Http;
use super::{api, assets, health, metrics, openapi, pages};
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::guard::{self, GuardContext};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpRequest, HttpResponse, ResponseError, Route, web};

/// One route.
pub(super) struct Endpoint {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    handler: fn(Route) -> Route,
}

const fn get(path: &'static str, access: Access, handler: fn(Route) -> Route) -> Endpoint {
    Endpoint {
        method: Method::GET,
        path,
        access,
        handler,
    }
}

const fn post(path: &'static str, access: Access, handler: fn(Route) -> Route) -> Endpoint {
    Endpoint {
        method: Method::POST,
        path,
        access,
        handler,
    }
}

const fn patch(path: &'static str, access: Access, handler: fn(Route) -> Route) -> Endpoint {
    Endpoint {
        method: Method::PATCH,
        path,
        access,
        handler,
    }
}

const fn delete(path: &'static str, access: Access, handler: fn(Route) -> Route) -> Endpoint {
    Endpoint {
        method: Method::DELETE,
        path,
        access,
        handler,
    }
}

/// All routes.
pub(super) static ENDPOINTS: &[Endpoint] = &[
    get("/v1/batches", Access::Read, |r| {
        r.to(api::batches::list_batches)
    }),
    post("/v1/batches", Access::Intake, |r| r.to(api::intake::track)),
    post("/v1/batches/poll-now", Access::Intake, |r| {
        r.to(api::intake::poll_now)
    }),
    post("/v1/batches/revive", Access::Control, |r| {
        r.to(api::intake::revive)
    }),
    get("/v1/batches/{ledger}/{batch_id}", Access::Read, |r| {
        r.to(api::batches::show_batch)
    }),
    get("/v1/sites", Access::Read, |r| r.to(api::sites::list_sites)),
    post("/v1/sites", Access::Intake, |r| {
        r.to(api::sites::take_sites)
    }),
    // Before those of a site: no site is called so.
    post("/v1/sites/revive", Access::Control, |r| {
        r.to(api::sites::revive_sites)
    }),
    get("/v1/sites/{site_id}", Access::Read, |r| {
        r.to(api::sites::show_site)
    }),
    delete("/v1/sites/{site_id}", Access::Control, |r| {
        r.to(api::sites::remove_site)
    }),
    post("/v1/sites/{site_id}/enable", Access::Control, |r| {
        r.to(api::sites::enable_site)
    }),
    post("/v1/sites/{site_id}/disable", Access::Control, |r| {
        r.to(api::sites::disable_site)
    }),
    post("/v1/sites/{site_id}/revive", Access::Control, |r| {
        r.to(api::sites::revive_site)
    }),
    // They ask for the secret of the subscription's hook themselves.
    post("/v1/hooks/{subscription}", Access::Open, |r| {
        r.to(api::hooks::hook)
    }),
    post("/v1/hooks/{subscription}/{secret}", Access::Open, |r| {
        r.to(api::hooks::hook_with_secret)
    }),
    post("/v1/known", Access::Intake, |r| r.to(api::known::add_known)),
    get("/v1/subscriptions", Access::Read, |r| {
        r.to(api::subscriptions::list_subscriptions)
    }),
    get("/v1/subscriptions/{name}", Access::Read, |r| {
        r.to(api::subscriptions::show_subscription)
    }),
    get("/v1/subscriptions/{name}/events", Access::Read, |r| {
        r.to(api::subscriptions::list_events)
    }),
    get(
        "/v1/subscriptions/{name}/events/{arrival}",
        Access::Read,
        |r| r.to(api::subscriptions::show_event),
    ),
    post("/v1/subscriptions/{name}/retry", Access::Control, |r| {
        r.to(api::subscriptions::retry)
    }),
    post("/v1/subscriptions/{name}/skip", Access::Control, |r| {
        r.to(api::subscriptions::skip)
    }),
    post("/v1/subscriptions/{name}/pause", Access::Control, |r| {
        r.to(api::subscriptions::pause)
    }),
    post("/v1/subscriptions/{name}/resume", Access::Control, |r| {
        r.to(api::subscriptions::resume)
    }),
    post("/v1/subscriptions/{name}/replay", Access::Control, |r| {
        r.to(api::subscriptions::replay)
    }),
    get("/v1/datasets", Access::Read, |r| {
        r.to(api::datasets::list_datasets)
    }),
    // These ask for the token of the dataset themselves.
    get("/v1/datasets/{name}", Access::Open, |r| {
        r.to(api::datasets::show_dataset)
    }),
    post("/v1/datasets/{name}/entries", Access::Intake, |r| {
        r.to(api::datasets::publish)
    }),
    get("/v1/datasets/{name}/info", Access::Open, |r| {
        r.to(api::datasets::info)
    }),
    get("/v1/datasets/{name}/fetch", Access::Open, |r| {
        r.to(api::datasets::fetch)
    }),
    get("/v1/datasets/{name}/watch", Access::Open, |r| {
        r.to(api::datasets::watch)
    }),
    get("/v1/datasets/{name}/digests", Access::Open, |r| {
        r.to(api::datasets::digests)
    }),
    get("/v1/datasets/{name}/entries/{key}", Access::Open, |r| {
        r.to(api::datasets::entry)
    }),
    get("/v1/replicas", Access::Read, |r| {
        r.to(api::datasets::list_replicas)
    }),
    // These ask for the token of the replica themselves.
    get("/v1/replicas/{name}", Access::Open, |r| {
        r.to(api::datasets::show_replica)
    }),
    get("/v1/replicas/{name}/info", Access::Open, |r| {
        r.to(api::datasets::replica_info)
    }),
    get("/v1/replicas/{name}/fetch", Access::Open, |r| {
        r.to(api::datasets::replica_fetch)
    }),
    get("/v1/replicas/{name}/watch", Access::Open, |r| {
        r.to(api::datasets::replica_watch)
    }),
    get("/v1/replicas/{name}/digests", Access::Open, |r| {
        r.to(api::datasets::replica_digests)
    }),
    get("/v1/replicas/{name}/entries/{key}", Access::Open, |r| {
        r.to(api::datasets::replica_entry)
    }),
    post("/v1/replicas/{name}/verify", Access::Control, |r| {
        r.to(api::datasets::verify_replica)
    }),
    post("/v1/replicas/{name}/bootstrap", Access::Control, |r| {
        r.to(api::datasets::bootstrap_replica)
    }),
    get("/v1/ledgers", Access::Read, |r| {
        r.to(api::overview::list_ledgers)
    }),
    get("/v1/services", Access::Read, |r| {
        r.to(api::overview::list_services)
    }),
    get("/v1/jobs", Access::Read, |r| r.to(api::jobs::list_jobs)),
    get("/v1/jobs/{app}/{name}", Access::Read, |r| {
        r.to(api::jobs::show_job)
    }),
    get("/v1/control/services", Access::Control, |r| {
        r.to(control::services::list)
    }),
    get("/v1/control/services/{name}", Access::Control, |r| {
        r.to(control::services::show)
    }),
    post("/v1/control/services/{name}/start", Access::Control, |r| {
        r.to(control::services::start)
    }),
    post("/v1/control/services/{name}/stop", Access::Control, |r| {
        r.to(control::services::stop)
    }),
    post(
        "/v1/control/services/{name}/restart",
        Access::Control,
        |r| r.to(control::services::restart),
    ),
    get("/v1/control/settings", Access::Control, |r| {
        r.to(control::settings::list_settings)
    }),
    patch("/v1/control/settings", Access::Control, |r| {
        r.to(control::settings::change_settings)
    }),
    post("/v1/control/reload", Access::Control, |r| {
        r.to(control::process::reload)
    }),
    post("/v1/control/shutdown", Access::Control, |r| {
        r.to(control::process::shutdown)
    }),
    get("/v1/control/audit", Access::Control, |r| {
        r.to(control::audit::list_audit)
    }),
    get("/v1/states", Access::Read, |r| {
        r.to(api::states::list_states)
    }),
    get("/v1/resources", Access::Read, |r| {
        r.to(api::resources::list_resources)
    }),
    get("/livez", Access::Open, |r| r.to(health::livez)),
    get("/readyz", Access::Open, |r| r.to(health::readyz)),
    get("/metrics", Access::Read, |r| r.to(metrics::metrics)),
    get("/openapi.json", Access::Read, |r| {
        r.to(openapi::openapi_json)
    }),
    get("/", Access::Page, |r| r.to(pages::status)),
    get("/batches", Access::Page, |r| r.to(pages::batches)),
    get("/batches/{ledger}/{batch_id}", Access::Page, |r| {
        r.to(pages::batch)
    }),
    get("/jobs", Access::Page, |r| r.to(pages::jobs)),
    get("/jobs/{app}/{name}", Access::Page, |r| r.to(pages::job)),
    get("/sites", Access::Page, |r| r.to(pages::sites)),
    get("/sites/{site_id}", Access::Page, |r| r.to(pages::site)),
    get("/subscriptions", Access::Page, |r| {
        r.to(pages::subscriptions)
    }),
    get("/subscriptions/{name}", Access::Page, |r| {
        r.to(pages::subscription)
    }),
    get(
        "/subscriptions/{name}/events/{arrival}",
        Access::Page,
        |r| r.to(pages::event),
    ),
    get("/replicas", Access::Page, |r| r.to(pages::replicas)),
    get("/replicas/{name}", Access::Page, |r| r.to(pages::replica)),
    get("/datasets/{name}", Access::Page, |r| r.to(pages::dataset)),
    get("/services", Access::Page, |r| r.to(pages::services)),
    get("/login", Access::Open, |r| r.to(pages::login_form)),
    post("/login", Access::Open, |r| r.to(pages::login)),
    get("/assets/highwater.css", Access::Open, |r| r.to(assets::css)),
    get("/assets/highwater.js", Access::Open, |r| {
        r.to(assets::script)
    }),
    get("/assets/highwater.svg", Access::Open, |r| {
        r.to(assets::icon)
    }),
];

/// Registers all routes, and what answers where there is none.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    let mut done: Vec<&str> = Vec::new();
    for path in ENDPOINTS.iter().map(|endpoint| endpoint.path) {
        if done.contains(&path) {
            continue;
        }
        done.push(path);
        let mut resource = web::resource(path);
        for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.path == path) {
            let access = endpoint.access;
            let method = endpoint.method.clone();
            let route =
                web::route().guard(guard::fn_guard(move |context| answers(&method, context)));
            let route = (endpoint.handler)(route);
            resource = resource
                .route(route.wrap(from_fn(move |request, next| admit(access, request, next))));
        }
        resource = resource.default_service(web::to(move |request: HttpRequest| {
            let problem = method_not_allowed(path, &request);
            async move { Err::<&str, Refusal>(problem.into()) }
        }));
        config.service(resource);
    }
    config.default_service(web::to(|request: HttpRequest| async move {
        match pages::not_found(&request) {
            Some(page) => Ok(page),
            None => Err(Refusal::from(Problem::not_found(request.path()))),
        }
    }));
}

/// HEAD is answered wherever GET is.
fn answers(method: &Method, context: &GuardContext<'_>) -> bool {
    let asked = &context.head().method;
    asked == method || (asked == Method::HEAD && method == Method::GET)
}

fn method_not_allowed(path: &str, request: &HttpRequest) -> Box<Problem> {
    let mut allowed: Vec<&str> = Vec::new();
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.path == path) {
        allowed.push(endpoint.method.as_str());
        if endpoint.method == Method::GET {
            allowed.push("HEAD");
        }
    }
    Problem::method_not_allowed(
        request.method().as_str(),
        request.path(),
        allowed.join(", "),
    )
}

/// Lets a request through that may; sends browsers to the login page.
async fn admit(
    access: Access,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let refused = request.app_data::<web::Data<Http>>().and_then(|http| {
        let refused = authorize(&http.settings().http, request.request(), access).err()?;
        Some(turn_away(http, request.request(), access, refused))
    });
    match refused {
        None => next.call(request).await,
        // Answered here and not as an error: the headers of all answers are added on the way out.
        Some(response) => Ok(request.into_response(response)),
    }
}

fn turn_away(
    http: &Http,
    request: &HttpRequest,
    access: Access,
    refused: Refused,
) -> HttpResponse<BoxBody> {
    let limited = match refused {
        Refused::Wrong => http.wrong_token(request, access.token()).err(),
        Refused::Missing | Refused::NoControlToken => {
            if access == Access::Control && !request.method().is_safe() {
                http.no_token(request, refused);
            }
            None
        }
    };
    let mut response = match limited {
        Some(limited) => Refusal(limited).error_response(),
        None if access == Access::Page => pages::to_login(request),
        None => Refusal(refused.problem(access)).error_response(),
    };
    if access == Access::Page && refused == Refused::Wrong {
        // A browser would go on showing it, page after page.
        auth::forget_cookie(response.headers_mut());
    }
    response
}
