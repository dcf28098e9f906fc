//! Traces: spans that go out by OpenTelemetry, and nowhere else.
//!
//! A span of a trace is a `tracing` span of target [`TRACE_TARGET`]. While no
//! endpoint is configured its call site is disabled: it costs one look at an
//! atomic. Lines never show it. Tracer and layer live as long as the process;
//! what is changed live is behind them: a switch, a share, a queue.

use super::export::{self, Queue};
use super::logging::LogError;
use crate::config::TraceSettings;
use arc_swap::ArcSwapOption;
use opentelemetry::propagation::{Injector, TextMapPropagator as _};
use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    Sampler, SamplingResult, SdkTracerProvider, ShouldSample, Span, SpanData, SpanProcessor,
};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::{self, Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Target of every span of a trace.
pub const TRACE_TARGET: &str = "highwater::trace";

/// The headers that make a request part of the trace that `span` belongs to
/// (W3C Trace Context); none while traces are not sent.
pub fn trace_headers(span: &tracing::Span) -> HeaderMap {
    let mut headers = Headers(HeaderMap::new());
    if !span.is_disabled() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
    }
    headers.0
}

/// A count as spans take it.
pub fn as_i64(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

struct Headers(HeaderMap);

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        // The state of a trace that has none is empty, and need not be said.
        if let (Ok(key), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(&value))
            && !value.is_empty()
        {
            self.0.insert(key, value);
        }
    }
}

/// What the layer of traces shares with whoever changes its settings.
pub(super) struct Traces {
    on: Arc<AtomicBool>,
    sample: Share,
    queue: Arc<ArcSwapOption<Queue>>,
    resource: Resource,
    provider: SdkTracerProvider,
}

impl Traces {
    /// Switched off.
    pub(super) fn new() -> Self {
        let instance = format!("{:032x}", rand::random::<u128>());
        let resource = Resource::builder()
            .with_service_name("highwater")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", instance),
                KeyValue::new("process.pid", i64::from(std::process::id())),
            ])
            .build();
        let sample = Share(Arc::new(AtomicU64::new(1.0_f64.to_bits())));
        let queue = Arc::new(ArcSwapOption::empty());
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_sampler(sample.clone())
            .with_span_processor(ToQueue(queue.clone()))
            .build();
        Self {
            on: Arc::default(),
            sample,
            queue,
            resource,
            provider,
        }
    }

    /// The layer that makes traces of spans.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("highwater"))
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(Switch(self.on.clone()))
    }

    /// Applies new settings; answers with the new exporter, or none, where that
    /// changed.
    pub(super) fn apply(
        &self,
        before: Option<&TraceSettings>,
        settings: Option<&TraceSettings>,
        runtime: &Handle,
    ) -> Result<Option<Option<JoinHandle<()>>>, LogError> {
        let Some(settings) = settings else {
            self.end();
            return Ok(before.is_some().then_some(None));
        };
        let changed = match before {
            Some(before) if before.endpoint == settings.endpoint => None,
            _ => {
                let (queue, exporter) = export::start(&settings.endpoint, &self.resource, runtime)?;
                self.queue.store(Some(Arc::new(queue)));
                Some(Some(exporter))
            }
        };
        self.sample.set(settings.sample);
        self.switch(true);
        Ok(changed)
    }

    /// Makes no more spans. The exporter sends what is queued, and ends.
    pub(super) fn end(&self) {
        self.switch(false);
        self.queue.store(None);
    }

    fn switch(&self, on: bool) {
        if self.on.swap(on, Ordering::Relaxed) != on {
            // Call sites remember whether anybody wants them.
            tracing::callsite::rebuild_interest_cache();
        }
    }
}

/// Lets spans of traces through, and nothing else, while it is on.
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        self.0.load(Ordering::Relaxed) && metadata.is_span() && metadata.target() == TRACE_TARGET
    }
}

impl<S> Filter<S> for Switch {
    fn enabled(&self, metadata: &Metadata<'_>, _: &layer::Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(if self.0.load(Ordering::Relaxed) {
            LevelFilter::INFO
        } else {
            LevelFilter::OFF
        })
    }
}

/// Which share of the traces is sampled, decided at the root of each.
#[derive(Clone, Debug)]
struct Share(Arc<AtomicU64>);

impl Share {
    fn set(&self, share: f64) {
        self.0.store(share.to_bits(), Ordering::Relaxed);
    }
}

impl ShouldSample for Share {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let sampler = match parent.filter(|parent| parent.has_active_span()) {
            Some(parent) if parent.span().span_context().is_sampled() => Sampler::AlwaysOn,
            Some(_) => Sampler::AlwaysOff,
            None => Sampler::TraceIdRatioBased(f64::from_bits(self.0.load(Ordering::Relaxed))),
        };
        sampler.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

/// Takes spans that ended to the queue of whichever exporter there is.
#[derive(Debug)]
struct ToQueue(Arc<ArcSwapOption<Queue>>);

impl SpanProcessor for ToQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled()
            && let Some(queue) = &*self.0.load()
        {
            queue.take(span);
        }
    }

    /// The queue is flushed by ending it.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.0.store(None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    fn with_traces(traces: &Traces, test: impl FnOnce()) {
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        tracing::subscriber::with_default(subscriber, test);
    }

    fn span() -> tracing::Span {
        tracing::info_span!(target: TRACE_TARGET, parent: None, "work")
    }

    #[test]
    fn spans_and_headers_are_there_only_while_traces_are_sent() {
        let traces = Traces::new();
        with_traces(&traces, || {
            assert!(span().is_disabled());
            assert!(trace_headers(&span()).is_empty());
            traces.switch(true);
            let root = span();
            let headers = trace_headers(&root);
            let parent = headers["traceparent"].to_str().unwrap();
            assert_eq!(headers.len(), 1, "{headers:?}");
            assert_eq!(
                (parent.len(), &parent[..3], &parent[52..]),
                (55, "00-", "-01")
            );
            let child = tracing::info_span!(target: TRACE_TARGET, parent: &root, "fetch");
            let of_child = trace_headers(&child);
            let of_child = of_child["traceparent"].to_str().unwrap();
            assert_eq!(of_child[..36], parent[..36], "the same trace");
            assert_ne!(of_child, parent, "another span");
            assert!(tracing::info_span!("something else").is_disabled());
            traces.end();
            assert!(span().is_disabled());
        });
    }

    #[test]
    fn the_share_is_decided_at_the_root_and_changed_live() {
        let traces = Traces::new();
        traces.switch(true);
        with_traces(&traces, || {
            let sampled = |share: f64| {
                traces.sample.set(share);
                let sampled = |_: &u32| {
                    let root = span();
                    let child = tracing::info_span!(target: TRACE_TARGET, parent: &root, "fetch");
                    let [root, child] = [&root, &child].map(|span| {
                        trace_headers(span)["traceparent"]
                            .as_bytes()
                            .ends_with(b"1")
                    });
                    assert_eq!(root, child, "a trace is whole or not there");
                    root
                };
                (0..1000).filter(sampled).count()
            };
            assert_eq!(sampled(0.0), 0);
            assert_eq!(sampled(1.0), 1000);
            let some = sampled(0.3);
            assert!((200..400).contains(&some), "{some}");
        });
    }
}
