//! Datasets and replicas as HTTP sees them: what is read, waited for and
//! published, and what of it has to be refused.

use super::problem::{FieldError, Problem};
use crate::config::ReplicationSettings;
use crate::flows::replicas::{
    ContentKind, Contents, DatasetName, FetchError, Heads, Info, Modification, PublishError,
    PublishRequest, Published, WatchError,
};
use actix_web::http::{StatusCode, header};
use futures_util::future::BoxFuture;
use std::future::Future;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Publishes modifications; see [`Datasets::publish`].
pub type Publisher = Arc<
    dyn Fn(PublishRequest) -> BoxFuture<'static, Result<Published, PublishError>> + Send + Sync,
>;

/// Seconds after which what is not there for the moment may be asked for again.
const RETRY_AFTER: &str = "2";

/// What the replica flow hands to HTTP; cheap to clone.
#[derive(Clone)]
pub struct Datasets {
    /// What is served.
    pub contents: Arc<dyn Contents>,
    /// Who waits for it to move.
    pub heads: Heads,
    /// Publishes; answered when it is durable.
    pub publish: Publisher,
}

impl Datasets {
    /// Reads on `runtime`, where the store's connections live, and writes the
    /// answer there, too: it may be large.
    pub(super) async fn read<T, F>(
        &self,
        runtime: &Handle,
        read: impl FnOnce(Arc<dyn Contents>) -> F + Send + 'static,
    ) -> Result<T, FetchError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, FetchError>> + Send + 'static,
    {
        let contents = self.contents.clone();
        let task = runtime.spawn(async move { read(contents).await });
        task.await.unwrap_or_else(|error| {
            let why = format!("a read of a dataset ended: {error}");
            Err(crate::store::StoreError::Internal(why).into())
        })
    }
}

/// Refuses what one request may not publish.
pub(super) fn check_modifications(
    modifications: &[Modification],
    settings: &ReplicationSettings,
) -> Result<(), Box<Problem>> {
    let count = modifications.len();
    if count > settings.max_modifications {
        return Err(too_large(format!(
            "{count} modifications; expected at most {} (replication.max_modifications): send fewer at a time",
            settings.max_modifications
        )));
    }
    for (index, modification) in modifications.iter().enumerate() {
        let Modification::Update(entry) = modification else {
            continue;
        };
        let bytes = entry.value.len();
        if bytes > settings.max_value_bytes {
            let most = settings.max_value_bytes;
            let message = format!(
                "the value of {bytes} bytes is too large; expected at most {most} (replication.max_value_bytes)"
            );
            let field = format!("[{index}].update[1]");
            return Err(too_large(format!("{field}: {message}"))
                .with_errors(vec![FieldError::new(field, message)]));
        }
    }
    let bytes: usize = modifications.iter().map(Modification::bytes).sum();
    if bytes > settings.max_chunk_bytes {
        return Err(too_large(format!(
            "the modifications have {bytes} bytes; expected at most {} (replication.max_chunk_bytes), so that followers get them in one answer: send fewer at a time",
            settings.max_chunk_bytes
        )));
    }
    Ok(())
}

fn too_large(detail: String) -> Box<Problem> {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "modifications-too-large",
        "Too many modifications, or one that is too large",
        detail,
    )
}

/// Counts a request for a content, and the bytes of its answer. Names are those
/// configured, so few.
pub(super) fn count(
    kind: ContentKind,
    name: &DatasetName,
    request: &'static str,
    answered: Result<usize, &str>,
) {
    let labels = |more: &[(&'static str, String)]| {
        let mut labels = vec![
            ("kind", kind.as_str().to_owned()),
            ("name", name.to_string()),
        ];
        labels.extend_from_slice(more);
        labels
    };
    let outcome = answered.err().unwrap_or("ok").to_owned();
    let of_request = labels(&[("request", request.to_owned()), ("outcome", outcome)]);
    metrics::counter!("highwater_dataset_requests_total", &of_request).increment(1);
    if let Ok(bytes) = answered {
        metrics::counter!("highwater_dataset_sent_bytes_total", &labels(&[]))
            .increment(bytes as u64);
    }
}

impl Problem {
    /// No dataset or replica of this name is configured.
    pub(super) fn content_not_found(kind: ContentKind, name: &str) -> Box<Self> {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        let word = kind.as_str();
        let title = match kind {
            ContentKind::Dataset => "There is no such dataset",
            ContentKind::Replica => "There is no such replica",
        };
        Self::new(
            StatusCode::NOT_FOUND,
            &format!("{word}-not-found"),
            title,
            format!("no {word} \"{shown}\" is configured: /v1/{word}s lists those there are"),
        )
    }

    /// The dataset is published from a table, and takes nothing in.
    pub(super) fn read_only(name: &DatasetName, source: &str) -> Box<Self> {
        Self::new(
            StatusCode::CONFLICT,
            "read-only",
            "The dataset takes nothing in",
            format!(
                "dataset \"{name}\" is what the table {source} holds; change that, and it is published"
            ),
        )
    }

    fn stale_head(info: &Info) -> Box<Self> {
        let problem = Self::new(
            StatusCode::GONE,
            "stale-head",
            "History does not reach the head",
            format!(
                "history reaches back to head {} of epoch {}, whose head is {}; fetch all entries anew",
                info.oldest_head, info.epoch, info.head
            ),
        );
        match serde_json::to_value(info) {
            Ok(info) => problem.with_member("info", info),
            Err(_) => problem,
        }
    }
}

impl From<FetchError> for Box<Problem> {
    fn from(error: FetchError) -> Self {
        match error {
            // It is configured; else nobody would have looked.
            FetchError::Missing => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no-copy-yet",
                "There is no content yet",
                "nothing was published yet, or the replica's first copy is not whole; ask again later",
            )
            .with_header(header::RETRY_AFTER, RETRY_AFTER.to_owned()),
            FetchError::Stale(info) => Problem::stale_head(&info),
            FetchError::Store(error) => error.into(),
        }
    }
}

impl From<WatchError> for Box<Problem> {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Full(waiting) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-watchers",
                "Too many wait already",
                format!(
                    "{waiting} followers wait for a head to move, and no more may (replication.max_watchers); poll …/info meanwhile"
                ),
            )
            .with_header(header::RETRY_AFTER, RETRY_AFTER.to_owned()),
            WatchError::Fetch(error) => error.into(),
        }
    }
}

impl From<PublishError> for Box<Problem> {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::HeadMoved(head) => Problem::new(
                StatusCode::CONFLICT,
                "head-moved",
                "The head has moved",
                format!("nothing was done: the head is {head}, and not the if_head of the request"),
            )
            .with_member("head", head.into()),
            PublishError::KeyReused => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The Idempotency-Key was used for another request",
                "nothing was done: another request had this Idempotency-Key; use a new key for each request, and the same one only to send it again",
            ),
            // The words may hold statements or addresses: they are for the log.
            PublishError::Away(why) => {
                tracing::warn!(error = %why, "nothing was published");
                Problem::database(
                    "the database is out of reach, or too much waits for it; send the request again, with the same Idempotency-Key where it has one".to_owned(),
                )
            }
            PublishError::Refused(why) => {
                tracing::warn!(error = %why, "nothing was published");
                Problem::database(
                    "the database refused a statement; the log says which and why".to_owned(),
                )
            }
        }
    }
}
