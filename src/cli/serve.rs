//! `highwater serve`: the server.

use super::context;
use super::failure::Failure;
use super::output::{self, note};
use crate::app::{self, Launch, Ready};
use crate::config::LoadOptions;
use crate::handlers::Listeners;
use clap::Args;
use std::path::Path;

/// Runs the server until SIGTERM or SIGINT.
///
/// A fresh database is migrated. SIGHUP reloads the configuration: a broken
/// file changes nothing and is reported. SIGTERM and SIGINT drain, a second one
/// quits at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater serve
  highwater serve --config /etc/highwater/highwater.toml
  HIGHWATER_HTTP__LISTEN=127.0.0.1:9000 highwater serve")]
pub(super) struct ServeArgs {}

pub(super) fn run(
    _: &ServeArgs,
    named: Option<&Path>,
    listeners: Listeners,
) -> Result<(), Failure> {
    let file = context::config_file(named)?;
    let known = listeners.clone();
    let load = move || {
        let options = LoadOptions {
            create_control_token: true,
        };
        context::load_with(&file, &known, options)
    };
    let loaded = load()?;
    for warning in &loaded.warnings {
        note(&format_args!("warning: {warning}"));
    }
    if let Some(made) = &loaded.created_control_token {
        note(&format_args!(
            "made {} with a new control token",
            made.display()
        ));
    }
    app::run(Launch {
        config: loaded,
        reload: Some(Box::new(load)),
        on_ready: Some(Box::new(|ready: Ready| {
            // Whoever started us on port 0 learns the address here.
            drop(output::print(format_args!(
                "listening on http://{}",
                ready.http_addr
            )));
        })),
        listeners,
    })?;
    Ok(())
}
