//! The listening server, bounded in every direction.

use super::followers::Followers;
use super::state::{Http, HttpState};
use super::{host, routes};
use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Compress, DefaultHeaders, Next, from_fn};
use actix_web::{App, Error, HttpServer, web};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Most connections of one worker.
const CONNECTIONS_PER_WORKER: usize = 1024;
/// How long the head of a request may take to arrive; the body's limit is
/// [`super::body`]'s, and actix refuses heads over 128 KiB.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a closing connection may take.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What pages may load and where forms may go: only what this server serves.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Builds the server of pages, API and metrics on `listener`; it answers once
/// it is awaited, and stops when told to by its handle: signals are left to
/// the composition root. Call it on the runtime that outlives the server,
/// where the database's work is done.
///
/// # Errors
/// The listener cannot be used, or there is no tokio runtime here.
pub fn server(
    state: HttpState,
    listener: std::net::TcpListener,
    workers: usize,
) -> std::io::Result<Server> {
    server_with(state, Followers::none(), listener, workers)
}

/// As [`server`], with the Followers of this server. Without them, pages, API and
/// metrics tell of a replica what its rows say, and nothing of its upstreams and
/// its pace; and orders to replicas are refused.
///
/// # Errors
/// As [`server`].
pub fn server_with(
    state: HttpState,
    followers: Followers,
    listener: std::net::TcpListener,
    workers: usize,
) -> std::io::Result<Server> {
    let runtime = Handle::try_current().map_err(std::io::Error::other)?;
    let shutdown = state.settings.borrow().server.shutdown_timeout;
    let http = web::Data::new(Http::new(state, runtime).with_followers(followers));
    let server = HttpServer::new(move || app(http.clone()))
        .workers(workers.max(1))
        .max_connections(CONNECTIONS_PER_WORKER)
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(shutdown.as_secs().max(1))
        .disable_signals()
        .listen(listener)?
        .run();
    Ok(server)
}

/// The application of one worker.
pub(super) fn app(
    http: web::Data<Http>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    App::new()
        .app_data(http)
        .configure(routes::configure)
        .wrap(from_fn(host::guard))
        .wrap(
            DefaultHeaders::new()
                .add(("Content-Security-Policy", CONTENT_SECURITY_POLICY))
                .add(("X-Content-Type-Options", "nosniff"))
                .add(("Referrer-Policy", "same-origin")),
        )
        .wrap(Compress::default())
        .wrap(from_fn(log_access))
}

/// One debug line a request; the path only, since a query may hold anything.
async fn log_access(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let method = request.method().clone();
    let path = super::shown_path::shown_path(request.path()).into_owned();
    let answer = next.call(request).await;
    let status = match &answer {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    tracing::debug!(
        http.request.method = %method,
        url.path = %path,
        http.response.status_code = status.as_u16(),
        http.elapsed_us = started.elapsed().as_micros() as u64,
        "answered"
    );
    answer
}
