//! The source of a subscription at a REST gateway: asks for blocks, then waits
//! until they are to be asked for again. The events come by the hook.

use super::GatewayProblem;
use super::client::RestClient;
use super::form::Form;
use crate::config::{GatewaySettings, GatewaySource, SubscriptionSettings};
use crate::flows::events::{
    Checkpoint, HeardSoFar, RenewReason, Sink, Source, SourceEnd, SourceState, Window,
    WindowSettings, WindowStep,
};
use futures_util::future::BoxFuture;
use std::time::Instant;

/// A subscription at a REST gateway.
pub(super) struct RestSource {
    subscription: String,
    gateway: String,
    windows: WindowSettings,
    form: Form,
    client: RestClient,
}

impl RestSource {
    pub(super) fn new(
        gateway: &GatewaySettings,
        subscription: &SubscriptionSettings,
        asked: &GatewaySource,
    ) -> Result<Self, GatewayProblem> {
        Ok(Self {
            subscription: subscription.name.to_string(),
            gateway: gateway.name.clone(),
            windows: WindowSettings {
                start_block: asked.start_block,
                window: asked.window,
                silence: subscription.silence,
            },
            form: Form::new(gateway, subscription, asked)?,
            client: RestClient::new(gateway, subscription)?,
        })
    }

    async fn subscribe(
        &self,
        from: i64,
        to: Option<i64>,
        sink: &dyn Sink,
    ) -> Result<(), SourceEnd> {
        sink.tell(SourceState::Connecting);
        self.client.post(self.form.body(from, to)).await?;
        tracing::info!(
            subscription.name = self.subscription,
            gateway.name = self.gateway,
            block.from = from,
            block.to = to,
            "subscribed at the gateway"
        );
        sink.tell(SourceState::Live {
            from: Some(from),
            to,
        });
        Ok(())
    }

    async fn renew(
        &self,
        why: RenewReason,
        remember: Option<String>,
        sink: &dyn Sink,
    ) -> SourceEnd {
        tracing::info!(
            subscription.name = self.subscription,
            gateway.name = self.gateway,
            subscription.renewal = why.as_str(),
            "the subscription is renewed"
        );
        if let Some(state) = remember
            && let Err(error) = sink.remember(state).await
        {
            return SourceEnd::Failed {
                why: format!("the next window could not be remembered: {error}"),
                retry_after: None,
            };
        }
        SourceEnd::Renew
    }
}

impl Source for RestSource {
    fn run<'a>(&'a self, checkpoint: Checkpoint, sink: &'a dyn Sink) -> BoxFuture<'a, SourceEnd> {
        Box::pin(async move {
            let refused = sink.refused().map(|refused| refused.block);
            let mut window = Window::with_refused(self.windows, &checkpoint, refused);
            loop {
                let heard = HeardSoFar {
                    highest_block: sink.highest_block(),
                    silent_for: sink.silent_for(),
                    refused: sink.refused(),
                };
                let now = Instant::now();
                match window.next(now, &heard) {
                    WindowStep::Subscribe { from, to } => {
                        window.asked(now);
                        if let Err(end) = self.subscribe(from, to, sink).await {
                            return end;
                        }
                        window.subscribed(Instant::now());
                    }
                    WindowStep::Wait { until } => tokio::time::sleep_until(until.into()).await,
                    WindowStep::Renew { why, remember } => {
                        if let Some(until) = window.passed(now, &heard, why) {
                            sink.passed(until);
                        }
                        return self.renew(why, remember, sink).await;
                    }
                }
            }
        })
    }

    fn place(&self) -> String {
        self.client.place()
    }
}
