//! HTTP to thousands of sites: one request per call, one deadline over
//! connecting, sending and reading, nothing followed, nothing unbounded.

use super::inward::points_inward;
use super::resolver::{InwardOnly, Resolver};
use crate::flows::sites::{FailureKind, LONGEST_PAUSE, VisitError, check_site_url};
use crate::net::{causes, ended_early, one_line, read_within, retry_after, sources};
use crate::telemetry::{TRACE_TARGET, trace_headers};
use crate::time::Timestamp;
use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Response, StatusCode};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span, field};
use url::{Host, Url};

/// Longest time to get connected, where the request's timeout allows more.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(5);
/// How often that is halved for requests with short timeouts: a client has one
/// time to connect, and so many clients are kept.
const CONNECT_TIMES: usize = 6;
/// How long an idle connection is kept: less than the 5 seconds after which
/// Apache closes it, so that a request seldom meets a connection that ends.
const KEEP_IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept of one host: as many as visit it at once in most
/// installations. A lower bound would open and close connections all the time
/// where many sites share a host; they are kept for [`KEEP_IDLE`] at most.
const IDLE_PER_HOST: usize = 64;
/// Characters shown of what others say.
const MAX_WORDS: usize = 300;

/// HTTP to sites, cheap to clone. One per process is enough and shares its
/// connections. Redirects are not followed, proxies of the environment not
/// used, and answers read within their bound (after decompression).
#[derive(Clone)]
pub struct SiteClient {
    inner: Arc<Clients>,
}

struct Clients {
    deny_private_networks: bool,
    /// By time to connect, each half of the one before.
    plain: [OnceLock<Client>; CONNECT_TIMES],
    /// The same with certificates, which a machine without HTTPS sites need
    /// neither have nor load.
    secure: [OnceLock<Client>; CONNECT_TIMES],
}

/// A request to a site.
#[derive(Clone, Debug)]
pub struct SiteRequest {
    /// Method.
    pub method: Method,
    /// Address, any text: it is checked as a site's address is.
    pub url: String,
    /// Headers beside `User-Agent`, `Accept-Encoding` and `traceparent`.
    pub headers: HeaderMap,
    /// Body, if there is one.
    pub body: Option<Bytes>,
    /// Time limit over connecting, sending and reading. At most half of it, and
    /// 5 seconds, go to connecting.
    pub timeout: Duration,
    /// Largest body read, in bytes, decompressed.
    pub max_response_bytes: usize,
}

/// An answer of a site.
#[derive(Clone, Debug)]
pub struct SiteAnswer {
    /// Status; any, a redirect too.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, decompressed.
    pub body: Vec<u8>,
    /// Why the body is not whole. Only from status 400 on, where the status
    /// holds whether or not its explanation arrives.
    pub cut: Option<VisitError>,
    /// How long the host asks to be left alone (`Retry-After`, in seconds or as
    /// a date): read from status 400 on, at most a day.
    pub retry_after: Option<Duration>,
}

impl SiteRequest {
    /// A GET without headers, a time limit of 10 seconds, at most 1 MiB read.
    pub fn get(url: &str) -> Self {
        Self {
            method: Method::GET,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: None,
            timeout: Duration::from_secs(10),
            max_response_bytes: 1024 * 1024,
        }
    }
}

impl SiteClient {
    /// A client. With `deny_private_networks`, addresses that point inward are
    /// refused, whether they stand in a URL or a name resolves to them.
    pub fn new(deny_private_networks: bool) -> Self {
        Self {
            inner: Arc::new(Clients {
                deny_private_networks,
                plain: Default::default(),
                secure: Default::default(),
            }),
        }
    }

    /// Sends a request and reads the answer, whatever its status.
    ///
    /// # Errors
    /// - `Denied`: the text is no address of a site, or points inward.
    /// - `Unreachable`: no connection, or it ended before the answer was whole.
    /// - `Timeout`: no whole answer in time.
    /// - `Unexpected`: the answer is not HTTP, or larger than the bound.
    /// - `Handler`: this machine cannot speak HTTPS.
    pub async fn send(&self, request: SiteRequest) -> Result<SiteAnswer, VisitError> {
        let url = check_site_url(&request.url)
            .map_err(|problem| VisitError::new(FailureKind::Denied, &problem.to_string()))?;
        let span = tracing::info_span!(
            target: TRACE_TARGET,
            "request",
            otel.kind = "client",
            http.request.method = request.method.as_str(),
            // Without its query, which may hold what is nobody's business.
            url.full = request.url.split('?').next(),
            http.response.status_code = field::Empty,
            error = field::Empty,
            otel.status_code = field::Empty,
        );
        let result = self
            .exchange(url, request, &span)
            .instrument(span.clone())
            .await;
        if let Err(error) = &result {
            span.record("error", field::display(error));
            span.record("otel.status_code", "ERROR");
        }
        result
    }

    /// Sends a request, and again at once, up to `tries_more` times, where no
    /// whole answer came (`Unreachable`, `Timeout`). Each try has the whole
    /// time limit, so that all of them may take `1 + tries_more` times as long.
    ///
    /// # Errors
    /// Those of the last try, as for [`Self::send`].
    pub async fn send_again(
        &self,
        request: SiteRequest,
        tries_more: u32,
    ) -> Result<SiteAnswer, VisitError> {
        for _ in 0..tries_more {
            match self.send(request.clone()).await {
                Err(VisitError {
                    kind: FailureKind::Unreachable | FailureKind::Timeout,
                    ..
                }) => {}
                ended => return ended,
            }
        }
        self.send(request).await
    }

    async fn exchange(
        &self,
        url: Url,
        request: SiteRequest,
        span: &Span,
    ) -> Result<SiteAnswer, VisitError> {
        let SiteRequest { timeout, .. } = request;
        let deadline = Instant::now() + timeout;
        if self.inner.deny_private_networks {
            refuse_inward(&url)?;
        }
        let client = self.client(url.scheme() == "https", timeout)?;
        let mut outgoing = client
            .request(request.method, url)
            .headers(request.headers)
            .headers(trace_headers(span));
        if let Some(body) = request.body {
            outgoing = outgoing.body(body);
        }
        let mut response = timeout_at(deadline, outgoing.send())
            .await
            .map_err(|_| timed_out(timeout, "no answer"))?
            .map_err(|error| failed_to_send(&error, timeout))?;
        let status = response.status();
        span.record("http.response.status_code", i64::from(status.as_u16()));
        let refused = status.is_client_error() || status.is_server_error();
        let retry_after = refused
            .then(|| retry_after(response.headers(), Timestamp::now(), LONGEST_PAUSE))
            .flatten();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        let read = read_answer(&mut response, &mut body, request.max_response_bytes);
        let cut = match timeout_at(deadline, read).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => {
                let so_far = format!("no whole answer, {} bytes of it,", body.len());
                Some(timed_out(timeout, &so_far))
            }
        };
        match cut {
            Some(error) if !refused => Err(error),
            cut => Ok(SiteAnswer {
                status,
                headers,
                body,
                cut,
                retry_after,
            }),
        }
    }

    /// The client whose time to connect is the longest within half the timeout.
    fn client(&self, secure: bool, timeout: Duration) -> Result<&Client, VisitError> {
        let mut connect_timeout = MAX_CONNECT_TIME;
        let mut index = 0;
        while connect_timeout > timeout / 2 && index + 1 < CONNECT_TIMES {
            connect_timeout /= 2;
            index += 1;
        }
        let clients = if secure {
            &self.inner.secure
        } else {
            &self.inner.plain
        };
        if let Some(client) = clients[index].get() {
            return Ok(client);
        }
        // What cannot be built is tried again by the next visit.
        let built = self.build(secure, connect_timeout).map_err(|error| {
            let why = format!("no HTTP client can be built: {}", causes(&error));
            VisitError::new(FailureKind::Handler, &why)
        })?;
        Ok(clients[index].get_or_init(|| built))
    }

    fn build(&self, secure: bool, connect_timeout: Duration) -> reqwest::Result<Client> {
        let mut builder = Client::builder()
            .user_agent(concat!("highwater/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .http1_only()
            .gzip(true)
            .zstd(false)
            .tcp_nodelay(true)
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(KEEP_IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .dns_resolver(Resolver {
                outward_only: self.inner.deny_private_networks,
            });
        if !secure {
            builder = builder.tls_certs_only([]);
        }
        builder.build()
    }
}

/// Literals of addresses, which no resolver sees.
fn refuse_inward(url: &Url) -> Result<(), VisitError> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    if points_inward(address) {
        return Err(inward(&format!("{address} points inward")));
    }
    Ok(())
}

fn inward(what: &str) -> VisitError {
    VisitError::new(
        FailureKind::Denied,
        &format!("{what}, which sites.deny_private_networks forbids"),
    )
}

async fn read_answer(
    response: &mut Response,
    into: &mut Vec<u8>,
    most: usize,
) -> Result<(), VisitError> {
    // Of an answer that is too long anyway only the start is of use, and that
    // only where it explains a refusal.
    match read_within(response, into, most).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(VisitError::new(
            FailureKind::Unexpected,
            &format!("the answer is longer than max_response_bytes = {most}"),
        )),
        Err(error) => {
            let ended = sources(&error).any(|cause| cause.is::<hyper::Error>());
            let (kind, what) = if ended {
                (FailureKind::Unreachable, "was cut off")
            } else {
                (FailureKind::Unexpected, "cannot be read")
            };
            let words = one_line(&causes(&error), MAX_WORDS);
            let read = into.len();
            Err(VisitError::new(
                kind,
                &format!("the answer {what} after {read} bytes: {words}"),
            ))
        }
    }
}

fn failed_to_send(error: &reqwest::Error, timeout: Duration) -> VisitError {
    if let Some(denied) = sources(error).find_map(|cause| cause.downcast_ref::<InwardOnly>()) {
        return inward(&denied.to_string());
    }
    let words = one_line(&causes(error), MAX_WORDS);
    if error.is_builder() {
        VisitError::new(FailureKind::Denied, &format!("cannot be sent: {words}"))
    } else if error.is_connect() {
        VisitError::new(FailureKind::Unreachable, &format!("not connected: {words}"))
    } else if error.is_timeout() {
        timed_out(timeout, "no answer")
    } else if ended_early(error) {
        VisitError::new(
            FailureKind::Unreachable,
            &format!("the connection ended before an answer: {words}"),
        )
    } else {
        VisitError::new(
            FailureKind::Unexpected,
            &format!("the answer is not HTTP: {words}"),
        )
    }
}

fn timed_out(after: Duration, what: &str) -> VisitError {
    let after = humantime::format_duration(after);
    VisitError::new(FailureKind::Timeout, &format!("{what} within {after}"))
}
