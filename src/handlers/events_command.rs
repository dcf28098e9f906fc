//! The handler `[subscriptions.handler.command]`: a program is run for each
//! event, which comes on its standard input as a CloudEvent. Exit code 0 is
//! success.

use super::cloud_event::document;
use super::command::{said, why_not_started};
use super::process::{self, RunError};
use crate::config::EventCommand;
use crate::flows::events::{EventHandler, OpenEvent, SubscriptionName};
use futures_util::future::BoxFuture;
use std::os::unix::process::ExitStatusExt as _;

/// Runs a program for each event.
#[derive(Clone, Debug)]
pub struct EventCommands {
    settings: EventCommand,
}

impl EventCommands {
    /// A handler with these settings.
    ///
    /// # Errors
    /// No program is named.
    pub fn new(settings: EventCommand) -> Result<Self, String> {
        if settings.args.is_empty() {
            return Err("args of [subscriptions.handler.command] names no program".to_owned());
        }
        Ok(Self { settings })
    }

    async fn run(
        &self,
        subscription: &SubscriptionName,
        event: &OpenEvent,
        attempt: u32,
    ) -> Result<(), String> {
        let Some((program, args)) = self.settings.args.split_first() else {
            return Err("no program is named".to_owned());
        };
        let mut input = document(subscription, event, attempt);
        input.push('\n');
        let limit = self.settings.timeout;
        // What it writes to standard output is read and thrown away.
        match process::run(program, args, input.as_bytes(), limit, 0).await {
            Ok(ended) if ended.status.success() => Ok(()),
            Ok(ended) => {
                let how = match (ended.status.code(), ended.status.signal()) {
                    (Some(code), _) => format!("exit code {code}"),
                    (None, Some(signal)) => format!("signal {signal}"),
                    (None, None) => ended.status.to_string(),
                };
                Err(format!(
                    "\"{program}\" ended with {how}{}",
                    said(&ended.complaint)
                ))
            }
            Err(RunError::Start(error)) => Err(format!(
                "\"{program}\" cannot be started: {}; see args of [subscriptions.handler.command]",
                why_not_started(&error)
            )),
            Err(RunError::Timeout(complaint)) => Err(format!(
                "\"{program}\" was killed: it did not end within {} (timeout of [subscriptions.handler.command]){}",
                humantime::format_duration(limit),
                said(&complaint)
            )),
            Err(RunError::Lost(error)) => Err(format!(
                "it cannot be known how \"{program}\" ended: {error}"
            )),
        }
    }
}

impl EventHandler for EventCommands {
    fn handle<'a>(
        &'a self,
        subscription: &'a SubscriptionName,
        event: &'a OpenEvent,
        attempt: u32,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.run(subscription, event, attempt))
    }
}
