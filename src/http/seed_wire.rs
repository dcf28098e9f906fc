//! A dataset with the seed's own wire, at the root of an address of its own:
//! `GET /info`, `GET /fetch` with a body, `POST /insert`.
//!
//! Followers of that wire believe that a diff is whole and that a chunk has all
//! that was asked for. So a long diff is put together here, and what cannot be
//! answered whole is refused with a problem: a follower that reads no problem
//! stops, and loses nothing in silence. The wire knows no token; the address is
//! of this machine alone, and what a browser sends for another page is refused.

use super::body::{parse_json, read_bytes};
use super::datasets::{Datasets, check_modifications, count};
use super::host::foreign;
use super::problem::{Answer, Problem, Refusal};
use crate::config::{DatasetSettings, ReplicationSettings, Settings};
use crate::flows::replicas::{
    Chunk, Content, ContentKind, Contents, DatasetName, Entry, FetchError, Fetched, Fetching, Info,
    Modification, Next, PublishRequest, Since, check_key,
};
use crate::store::StoreError;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Server, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::{Next as NextService, from_fn};
use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer, ResponseError, web};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Most connections.
const CONNECTIONS: usize = 256;
/// Longest body of `/fetch`: three numbers.
const FETCH_BODY: usize = 1024;
/// Bytes of a whole diff, at most: a follower that is further behind begins anew.
const MOST_DIFF_BYTES: usize = 64 << 20;
/// How long the head of a request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What is served at an address; cheap to clone. The settings in force say which
/// dataset that is, so an address may pass from one to another.
#[derive(Clone)]
pub struct SeedWire {
    /// The address, as the settings have it (`seed_listen`).
    pub listen: SocketAddr,
    /// With port 0, which is another one each time: the dataset.
    pub only: Option<DatasetName>,
    /// What is served, and who publishes.
    pub datasets: Datasets,
    /// Settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Whether the server is draining.
    pub draining: watch::Receiver<bool>,
    /// Where the store's connections live.
    pub runtime: Handle,
}

/// `{"Update":["k","v"]}` and `{"Delete":"k"}`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum SeedModification {
    Update((String, String)),
    Delete(String),
}

/// Answer of `/fetch`.
#[derive(Serialize)]
struct SeedFetched {
    head: i64,
    entries: Vec<SeedModification>,
    diff: Vec<SeedModification>,
    db_len: u64,
}

/// Builds the server on `listener`; it answers once it is awaited, and stops when
/// told to by its handle.
///
/// # Errors
/// The listener cannot be used.
pub fn seed_server(wire: SeedWire, listener: std::net::TcpListener) -> std::io::Result<Server> {
    let wire = web::Data::new(wire);
    let server = HttpServer::new(move || app(wire.clone()))
        .workers(1)
        .max_connections(CONNECTIONS)
        .client_request_timeout(HEAD_TIMEOUT)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?
        .run();
    Ok(server)
}

/// The application.
pub(super) fn app(
    wire: web::Data<SeedWire>,
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
        .app_data(wire)
        .route("/info", web::get().to(info))
        .route("/fetch", web::get().to(fetch))
        .route("/insert", web::post().to(insert))
        .default_service(web::to(|request: HttpRequest| async move {
            let problem = Problem::new(
                StatusCode::NOT_FOUND,
                "not-found",
                "There is nothing here",
                format!(
                    "{} is not of the seed's wire: GET /info, GET /fetch and POST /insert are",
                    request.path().chars().take(100).collect::<String>()
                ),
            );
            Err::<&str, Refusal>(problem.into())
        }))
        .wrap(from_fn(no_browser))
}

/// Refuses what a browser sends for a page of somebody else's: nothing here asks
/// for a token, and browsers reach this machine's own addresses.
async fn no_browser(
    request: ServiceRequest,
    next: NextService<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let of_a_page = request.headers().contains_key(header::ORIGIN);
    let problem = if of_a_page {
        Some(Problem::new(
            StatusCode::FORBIDDEN,
            "no-browsers",
            "The seed's wire is not for browsers",
            "the request has the header Origin, which pages in browsers send; send it without",
        ))
    } else {
        foreign(&request).map(|host| Problem::misdirected(&host))
    };
    match problem {
        None => next.call(request).await,
        Some(problem) => Ok(request.into_response(Refusal(problem).error_response())),
    }
}

async fn info(wire: web::Data<SeedWire>) -> Answer<web::Json<(i64, u64)>> {
    let name = wire.dataset()?.name;
    let content = content(&name);
    let read = wire
        .datasets
        .read(&wire.runtime, move |contents| async move {
            contents.info(&content, None).await
        });
    let Info { head, len, .. } = counted(&name, "seed-info", read.await)?;
    Ok(web::Json((head, len)))
}

async fn fetch(
    wire: web::Data<SeedWire>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    let body = read_bytes(&request, payload, FETCH_BODY).await?;
    let (begin, end, head): (u64, u64, i64) = parse_json(&body)?;
    let settings = wire.settings.borrow().replication.clone();
    check_range(begin, end, &settings)?;
    let name = wire.dataset()?.name;
    let content = content(&name);
    let read = wire
        .datasets
        .read(&wire.runtime, move |contents| async move {
            let whole = fetch_whole(&*contents, &content, (begin, end), head).await?;
            let cut = matches!(whole.next, Some(Next::Index(next)) if next < end);
            let asked = usize::try_from(end.saturating_sub(begin)).unwrap_or(usize::MAX);
            if cut && whole.entries.len() < asked {
                return Ok(None);
            }
            let body = SeedFetched {
                head: whole.head,
                entries: whole
                    .entries
                    .into_iter()
                    .map(Modification::Update)
                    .map(out)
                    .collect(),
                diff: whole.diff.into_iter().map(out).collect(),
                db_len: whole.len,
            };
            serde_json::to_vec(&body)
                .map(Some)
                .map_err(|error| StoreError::Internal(error.to_string()).into())
        });
    let body = counted(&name, "seed-fetch", read.await)?;
    let Some(body) = body else {
        return Err(chunk_too_large(format!(
            "the entries {begin} to {end} are larger than {} bytes (replication.max_chunk_bytes); ask for fewer",
            settings.max_chunk_bytes
        ))
        .into());
    };
    count(ContentKind::Dataset, &name, "seed-fetch", Ok(body.len()));
    Ok(HttpResponse::Ok()
        .content_type(header::ContentType::json())
        .body(body))
}

async fn insert(
    wire: web::Data<SeedWire>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    if *wire.draining.borrow() {
        return Err(Problem::draining().into());
    }
    let settings = wire.settings.borrow().clone();
    let DatasetSettings { name, source, .. } = wire.dataset()?;
    if let Some(source) = source {
        return Err(Problem::read_only(&name, source.as_str()).into());
    }
    if settings.http.intake_token.is_some() {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "intake-token-needed",
            "Sending in takes a token",
            format!(
                "http.intake_token_file is set, and the seed's wire knows no token; send it to POST /v1/datasets/{name}/entries"
            ),
        )
        .into());
    }
    let body = read_bytes(&request, payload, settings.http.max_body_bytes).await?;
    let sent: Vec<SeedModification> = parse_json(&body)?;
    drop(body);
    let mut modifications = Vec::with_capacity(sent.len());
    for (index, modification) in sent.into_iter().enumerate() {
        modifications.push(taken(index, modification)?);
    }
    if modifications.is_empty() {
        return Ok(HttpResponse::Ok().finish());
    }
    check_modifications(&modifications, &settings.replication)?;
    let published = (wire.datasets.publish)(PublishRequest {
        dataset: name.clone(),
        modifications,
        if_head: None,
        idempotency: None,
    });
    let published = published.await;
    let outcome = match &published {
        Ok(_) => Ok(0),
        Err(_) => Err("refused"),
    };
    count(ContentKind::Dataset, &name, "seed-insert", outcome);
    published?;
    Ok(HttpResponse::Ok().finish())
}

impl SeedWire {
    /// The dataset that is served here now.
    fn dataset(&self) -> Answer<DatasetSettings> {
        let settings = self.settings.borrow();
        let mut datasets = settings.datasets.iter();
        let found = datasets.find(|dataset| {
            let only = self.only.as_ref();
            dataset.seed_listen == Some(self.listen)
                && only.is_none_or(|name| *name == dataset.name)
        });
        // It was just removed, and this server is about to stop.
        found.cloned().ok_or_else(|| {
            let problem = Problem::new(
                StatusCode::NOT_FOUND,
                "dataset-not-found",
                "There is no such dataset",
                "no dataset has this address any more (seed_listen)",
            );
            problem.into()
        })
    }
}

fn content(name: &DatasetName) -> Content {
    Content {
        kind: ContentKind::Dataset,
        name: name.clone(),
    }
}

/// What was read, or the problem, which is counted.
fn counted<T>(name: &DatasetName, request: &'static str, read: Result<T, FetchError>) -> Answer<T> {
    read.map_err(|error| {
        let problem: Box<Problem> = error.into();
        count(ContentKind::Dataset, name, request, Err(problem.name()));
        problem.into()
    })
}

fn check_range(begin: u64, end: u64, settings: &ReplicationSettings) -> Answer<()> {
    if end < begin || end > i64::MAX as u64 {
        let problem = Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid-range",
            "The range makes no sense",
            format!(
                "[{begin}, {end}, …] is no range; expected [begin, end, head], end not before begin"
            ),
        );
        return Err(problem.into());
    }
    let most = settings.max_chunk as u64;
    if end - begin > most {
        let asked = end - begin;
        return Err(chunk_too_large(format!(
            "{asked} entries are asked for; expected at most {most} at a time (replication.max_chunk)"
        ))
        .into());
    }
    Ok(())
}

fn chunk_too_large(detail: String) -> Box<Problem> {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "chunk-too-large",
        "The chunk is too large",
        detail,
    )
}

/// Entries at a head, with the whole diff up to it: pages of it are put together.
async fn fetch_whole(
    contents: &dyn Contents,
    content: &Content,
    (begin, end): (u64, u64),
    head: i64,
) -> Result<Fetched, FetchError> {
    let mut since = Since {
        epoch: None,
        head,
        from: None,
    };
    let (mut diff, mut bytes) = (Vec::new(), 0);
    loop {
        let fetching = Fetching {
            chunk: Chunk::Index { begin, end },
            since: Some(since.clone()),
        };
        let mut page = contents.fetch(content, &fetching).await?;
        bytes += page.diff.iter().map(Modification::bytes).sum::<usize>();
        diff.append(&mut page.diff);
        if page.head >= page.latest {
            page.diff = crate::flows::replicas::compact(diff);
            return Ok(page);
        }
        if bytes > MOST_DIFF_BYTES {
            // As if history were shorter: there is no other word for it here.
            return Err(FetchError::Stale(contents.info(content, None).await?));
        }
        if page.head <= since.head {
            let why = format!("a diff from head {} leads nowhere", since.head);
            return Err(StoreError::Internal(why).into());
        }
        since.head = page.head;
        since.epoch = Some(page.epoch);
    }
}

/// As the seed's wire has it, where values are strings: a text is itself, any
/// other JSON is its text.
fn out(modification: Modification) -> SeedModification {
    match modification {
        Modification::Delete(key) => SeedModification::Delete(key),
        Modification::Update(Entry { key, value }) => {
            let text = serde_json::from_str::<String>(&value);
            SeedModification::Update((key, text.unwrap_or(value)))
        }
    }
}

/// As it is kept: a value is a JSON text.
fn taken(index: usize, modification: SeedModification) -> Answer<Modification> {
    let taken = match modification {
        SeedModification::Delete(key) => Modification::Delete(key),
        SeedModification::Update((key, text)) => Modification::Update(Entry {
            key,
            value: serde_json::Value::String(text).to_string(),
        }),
    };
    check_key(taken.key()).map_err(|problem| {
        let error = super::problem::FieldError::new(format!("[{index}]"), problem.0);
        Refusal::from(Problem::invalid_fields(vec![error], 1))
    })?;
    Ok(taken)
}
