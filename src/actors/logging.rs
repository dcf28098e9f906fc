//! Logging: keeps the process's log as the settings say.
//!
//! In: settings. Out: filter, format and outputs of the log. Settings are
//! applied off the actor's thread, since a log file may wait for its disk. On
//! failure (a file that can no longer be opened): the log stays as it was, and
//! the service ends with the error, which the services page shows; the watchdog
//! builds it again after a pause, and it tries again.

use super::follow_settings;
use crate::config::LogSettings;
use crate::watchdog::{ServiceContext, SettingsReader};
use actix::fut::wrap_future;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context};
use std::sync::Arc;

/// Changes the log of the process; what cannot be changed says why.
pub type ApplyLog = Arc<dyn Fn(&LogSettings) -> Result<(), String> + Send + Sync>;

/// What a Logging is built from.
#[derive(Clone)]
pub struct LoggingParts {
    /// Settings.
    pub settings: SettingsReader<LogSettings>,
    /// Applies them; the same ones twice change nothing.
    pub apply: ApplyLog,
}

/// Applies log settings.
pub struct Logging {
    context: ServiceContext,
    parts: LoggingParts,
    /// Settings are being applied; one at a time, so that the last one wins.
    applying: bool,
    /// Others came meanwhile.
    changed: bool,
}

impl Logging {
    /// A service that applies these settings, and each later change.
    pub const fn new(context: ServiceContext, parts: LoggingParts) -> Self {
        Self {
            context,
            parts,
            applying: false,
            changed: false,
        }
    }

    fn apply(&mut self, ctx: &mut Context<Self>) {
        self.context.progress();
        self.changed = self.applying;
        if self.applying {
            return;
        }
        self.applying = true;
        let (settings, apply) = (self.parts.settings.current(), self.parts.apply.clone());
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
        let reader = self.parts.settings.clone();
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
    use crate::watchdog::{Keeper, Registration, SettingsUpdater, Watchdog};
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};
    use tokio::sync::mpsc;

    fn settings(filter: &str) -> LogSettings {
        let text = format!("log.filter = '{filter}'");
        let options = LoadOptions::default();
        let loaded = parse(&text, "t.toml", Path::new("/"), [], options);
        loaded.unwrap().settings.log
    }

    fn start(apply: ApplyLog, updater: &SettingsUpdater<LogSettings>) -> Watchdog {
        let watchdog = Watchdog::new(tokio::runtime::Handle::current());
        let parts = LoggingParts {
            settings: updater.reader(),
            apply,
        };
        let build = move |context| Logging::new(context, parts.clone());
        let registration = Registration::<Logging>::new("logging").built_by(build);
        watchdog.register(registration, &actix::Arbiter::current(), Keeper::Root);
        watchdog.start_all();
        watchdog
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
        let updater = SettingsUpdater::new(settings("info"));
        let _watchdog = start(apply, &updater);
        // The first one hangs at a slow disk meanwhile; nobody else does.
        for filter in ["warn", "debug", "trace"] {
            updater.update(settings(filter));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(open);
        while told.recv().await.unwrap() != "trace" {}
        updater.update(settings("error"));
        assert_eq!(told.recv().await.unwrap(), "error");
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
        let updater = SettingsUpdater::new(settings("info"));
        let watchdog = start(apply, &updater);
        told.recv().await.unwrap();
        let shown = || format!("{:?}", watchdog.status());
        while !shown().contains("no such folder") {
            watchdog.attend(Keeper::Root, Instant::now());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        *works.lock().unwrap() = true;
        let tried_again = async {
            loop {
                watchdog.attend(Keeper::Root, Instant::now());
                tokio::select! {
                    _ = told.recv() => break,
                    () = tokio::time::sleep(Duration::from_millis(10)) => {}
                }
            }
        };
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, tried_again).await.unwrap();
    }
}
