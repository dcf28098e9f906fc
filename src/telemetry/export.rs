//! Sends spans to an OTLP endpoint: a bounded queue, and a task that empties
//! it. Nobody waits for it, and what it cannot take or send is lost and counted.

use super::logging::LogError;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use std::future::Future;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use url::Url;

/// Most spans that wait to be sent.
const QUEUE: usize = 8192;
/// Most spans in one request.
const BATCH: usize = 512;
/// How long spans are gathered for one request.
const GATHER: Duration = Duration::from_secs(1);
/// Time limit of one request.
const EXPORT: Duration = Duration::from_secs(5);
/// How often, at most, it is logged that spans cannot be sent.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Where spans wait to be sent. Dropped, it is emptied and its exporter ends.
#[derive(Debug)]
pub(super) struct Queue(mpsc::Sender<SpanData>);

impl Queue {
    /// Takes a span, or loses it where the queue is full.
    pub(super) fn take(&self, span: SpanData) {
        if self.0.try_send(span).is_err() {
            lost(1);
        }
    }
}

/// Starts an exporter to `endpoint`; it ends after its queue.
pub(super) fn start(
    endpoint: &Url,
    resource: &Resource,
    runtime: &Handle,
) -> Result<(Queue, JoinHandle<()>), LogError> {
    let mut exporter = exporter(endpoint)?;
    exporter.set_resource(resource);
    let (sender, spans) = mpsc::channel(QUEUE);
    let endpoint = endpoint.to_string();
    let task = runtime.spawn(async move {
        let exporter = &exporter;
        let send = |batch| async move { exporter.export(batch).await };
        send_all(spans, &endpoint, send).await;
    });
    Ok((Queue(sender), task))
}

/// A client for `endpoint`; sends nothing yet.
pub(super) fn exporter(endpoint: &Url) -> Result<SpanExporter, LogError> {
    let failed = |detail: String| LogError::Traces {
        endpoint: endpoint.to_string(),
        detail,
    };
    let client = reqwest::Client::builder()
        .user_agent(concat!("highwater/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(EXPORT);
    let client = if endpoint.scheme() == "https" {
        client
    } else {
        // Plain HTTP needs no certificates.
        client.tls_certs_only([])
    };
    let client = client.build().map_err(|error| failed(error.to_string()))?;
    SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint.as_str())
        .with_timeout(EXPORT)
        .build()
        .map_err(|error| failed(error.to_string()))
}

/// Sends what comes until the queue is gone and empty.
async fn send_all<F>(
    mut spans: mpsc::Receiver<SpanData>,
    endpoint: &str,
    send: impl Fn(Vec<SpanData>) -> F,
) where
    F: Future<Output = OTelSdkResult>,
{
    let mut complaints = Complaints::default();
    let mut batch = Vec::new();
    while spans.recv_many(&mut batch, BATCH).await > 0 {
        let until = Instant::now() + GATHER;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                () = sleep_until(until) => break,
                more = spans.recv_many(&mut batch, room) => if more == 0 { break },
            }
        }
        let count = batch.len() as u64;
        let sent = timeout(EXPORT, send(std::mem::take(&mut batch))).await;
        let problem = match sent {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", EXPORT.as_secs())),
        };
        let Some(problem) = problem else { continue };
        lost(count);
        if let Some(spans) = complaints.add(count, Instant::now()) {
            tracing::warn!(
                traces.endpoint = endpoint,
                traces.spans_lost = spans,
                error = %problem,
                "traces are not taken; lost, and told at most once a minute"
            );
        }
    }
}

fn lost(spans: u64) {
    metrics::counter!("highwater_trace_spans_lost_total").increment(spans);
}

/// When to tell of spans that were lost.
#[derive(Default)]
struct Complaints {
    untold: u64,
    told: Option<Instant>,
}

impl Complaints {
    /// Counts lost spans; answers how many there are to tell of, if it is time.
    fn add(&mut self, spans: u64, now: Instant) -> Option<u64> {
        self.untold += spans;
        if self.told.is_some_and(|told| now < told + WARN_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
    use opentelemetry_sdk::error::OTelSdkError;
    use std::sync::Mutex;
    use std::time::SystemTime;

    fn span() -> SpanData {
        SpanData {
            span_context: SpanContext::empty_context(),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "work".into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: Status::Unset,
            instrumentation_scope: Default::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn spans_go_out_in_bounded_batches_and_the_rest_when_the_queue_ends() {
        let (sender, spans) = mpsc::channel(QUEUE);
        let queue = Queue(sender);
        for _ in 0..BATCH * 2 + 7 {
            queue.take(span());
        }
        drop(queue);
        let sent = Mutex::new(Vec::new());
        let begun = Instant::now();
        send_all(spans, "test", |batch: Vec<SpanData>| {
            sent.lock().unwrap().push(batch.len());
            std::future::ready(Ok(()))
        })
        .await;
        assert_eq!(*sent.lock().unwrap(), [BATCH, BATCH, 7]);
        assert_eq!(begun.elapsed(), Duration::ZERO, "the end waits for nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn one_span_waits_for_others_a_second_at_most() {
        let (sender, spans) = mpsc::channel(QUEUE);
        let queue = Queue(sender);
        queue.take(span());
        let (tell, mut told) = mpsc::unbounded_channel();
        let begun = Instant::now();
        let sending = tokio::spawn(send_all(spans, "test", move |batch: Vec<SpanData>| {
            tell.send((batch.len(), begun.elapsed())).unwrap();
            std::future::ready(Err(OTelSdkError::InternalFailure("down".to_owned())))
        }));
        assert_eq!(told.recv().await, Some((1, GATHER)));
        // An endpoint that is down is asked again all the same.
        queue.take(span());
        assert_eq!(told.recv().await.map(|(spans, _)| spans), Some(1));
        drop(queue);
        sending.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_hangs_is_given_up() {
        let (sender, spans) = mpsc::channel(QUEUE);
        Queue(sender).take(span());
        let begun = Instant::now();
        send_all(spans, "test", |_| std::future::pending()).await;
        assert_eq!(begun.elapsed(), EXPORT);
    }

    #[test]
    fn lost_spans_are_told_once_a_minute_with_all_that_gathered() {
        let mut complaints = Complaints::default();
        let begun = Instant::now();
        assert_eq!(complaints.add(3, begun), Some(3));
        assert_eq!(complaints.add(4, begun + WARN_EVERY / 2), None);
        assert_eq!(complaints.add(5, begun + WARN_EVERY), Some(9));
    }
}
