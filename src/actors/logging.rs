//! Logging: keeps the process's log as the settings say.
//!
//! In: settings. Out: filter, format and outputs of the log. Settings are
//! applied off the actor's thread, since a log file may wait for its disk. On
//! failure (a file that can no longer be opened): the log stays as it was, and
//! the service ends with the error, which the services page shows; the watchdog
//! builds it again after a pause, and it tries again.

use super::follow_settings;
use crate::config::LogSettings;
use crate::watchdog::{LookupError, ServiceContext, SettingsReader};
use actix::fut::wrap_future;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context};
use std::sync::Arc;

/// Changes the log of the process; what cannot be changed says why.
pub type ApplyLog = Arc<dyn Fn(&LogSettings) -> Result<(), String> + Send + Sync>;

/// What a Logging is built from.
#[derive(Clone)]
pub struct LoggingParts {
    /// Applies them; the same ones twice change nothing.
    pub apply: ApplyLog,
}

/// Applies log settings.
pub struct Logging {
    context: ServiceContext,
    parts: LoggingParts,
    settings: SettingsReader<LogSettings>,
    /// Settings are being applied; one at a time, so that the last one wins.
    applying: bool,
    /// Others came meanwhile.
    changed: bool,
}

impl Logging {
    /// A service that applies these settings, and each later change.
    ///
    /// # Errors
    /// The watchdog does not know what it asks for.
    pub fn new(context: ServiceContext, parts: LoggingParts) -> Result<Self, LookupError> {
        Ok(Self {
            settings: context.settings()?,
            context,
            parts,
            applying: false,
            changed: false,
        })
    }

    fn apply(&mut self, ctx: &mut Context<Self>) {
        self.context.progress();
        self.changed = self.applying;
        if self.applying {
            return;
        }
        self.applying = true;
        let (settings, apply) = (self.settings.current(), self.parts.apply.clone());
        let task = self
            .context
            .runtime()
            .spawn_blocking(move || apply(&settings));
        ctx.spawn(wrap_future::<_, Self>(task).map(|result, logging, ctx| {
            logging.applying = false;
            match result.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(()) if logging.changed => logging.apply(ctx),
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(error = %error, "the log stays as it was; tried again");
                    logging.context.ends_with(error);
                    ctx.stop();
                }
            }
        }));
    }
}

impl Actor for Logging {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let reader = self.settings.clone();
        follow_settings(ctx, &reader, |logging: &mut Self, _, ctx| {
            logging.apply(ctx);
        });
        // What changed while there was no Logging, or could not be applied.
        self.apply(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, parse};
    use crate::watchdog::{Keeper, Registration, Sentinel, WatchdogQuery};
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::Duration;
    use tokio::sync::mpsc;

    fn settings(filter: &str) -> LogSettings {
        let text = format!("log.filter = '{filter}'");
        let options = LoadOptions::default();
        let loaded = parse(&text, "t.toml", Path::new("/"), [], options);
        loaded.unwrap().settings.log
    }

    /// A watchdog that runs the service alone.
    fn start(apply: ApplyLog) -> (WatchdogQuery, Sentinel) {
        let (query, _orders) = WatchdogQuery::new(tokio::runtime::Handle::current());
        let parts = LoggingParts { apply };
        let service = Registration::<Logging>::new("logging")
            .settings(settings("info"))
            .built_by(move |context| Logging::new(context, parts.clone()));
        query.register(service, Keeper::Root).unwrap();
        query.start_all();
        let sentinel = Sentinel::start(&query);
        (query, sentinel)
    }

    #[actix::test]
    async fn each_change_is_applied_off_the_actors_thread_and_the_last_one_wins() {
        let (tell, mut told) = mpsc::unbounded_channel();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let apply: ApplyLog = Arc::new(move |settings| {
            // Waits until it is opened, which is when the sender is gone.
            gate.lock().unwrap().recv().unwrap_or_default();
            tell.send(settings.filter.clone()).unwrap();
            Ok(())
        });
        let (query, sentinel) = start(apply);
        // The first one hangs at a slow disk meanwhile; nobody else does.
        for filter in ["warn", "debug", "trace"] {
            query.update_settings("logging", settings(filter)).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(open);
        while told.recv().await.unwrap() != "trace" {}
        query.update_settings("logging", settings("error")).unwrap();
        assert_eq!(told.recv().await.unwrap(), "error");
        sentinel.stop();
        query.stop_threads();
    }

    #[actix::test]
    async fn what_cannot_be_applied_ends_the_service_with_the_error_and_is_tried_again() {
        let works = Arc::new(Mutex::new(false));
        let (tell, mut told) = mpsc::unbounded_channel();
        let apply: ApplyLog = Arc::new({
            let works = works.clone();
            move |_| {
                tell.send(()).unwrap();
                if *works.lock().unwrap() {
                    Ok(())
                } else {
                    Err("no such folder".to_owned())
                }
            }
        });
        let (query, sentinel) = start(apply);
        told.recv().await.unwrap();
        let shown = || query.status("logging").unwrap().last_error;
        while shown().is_none_or(|error| error != "no such folder") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        *works.lock().unwrap() = true;
        while told.try_recv().is_ok() {}
        let limit = Duration::from_secs(30);
        let tried_again = tokio::time::timeout(limit, told.recv()).await;
        tried_again.unwrap().unwrap();
        sentinel.stop();
        query.stop_threads();
    }
}
