//! `highwater ctl`: control over a running server, through its HTTP interface.
//!
//! | file | does |
//! |---|---|
//! | `place` | finds the server and its token |
//! | `client` | makes the calls, tells refusals |
//! | `services` | lists, starts, stops, restarts |
//! | `settings` | lists, sets, forgets |
//! | `process` | reload and shutdown |
//! | `audit` | what operators did |

mod audit;
mod client;
mod place;
mod process;
mod services;
mod settings;

use super::context;
use super::failure::Failure;
use super::output::OutputArgs;
use clap::{Args, Subcommand};
pub(super) use client::Client;
pub(super) use place::ServerArgs;
use std::path::Path;

/// Controls a running server.
///
/// The server is found by the configuration (`http.listen` and
/// `http.control_token_file`), or named with --server and --token-file. Every
/// call that changes something is recorded in the server's audit.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater ctl services
  highwater ctl restart fetcher_pool
  highwater ctl settings batches
  highwater ctl settings set batches.poll_interval=2s log.filter=debug
  highwater ctl reload --reset
  highwater ctl shutdown --wait
  highwater ctl services --server https://hw.example --token-file control.token

Environment: HIGHWATER_CTL_SERVER, HIGHWATER_CTL_TOKEN_FILE, and
HIGHWATER_CTL_TOKEN with the token itself, where no file is named.")]
pub(super) struct CtlArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Debug, Subcommand)]
enum CtlCommand {
    Services(services::ServicesArgs),
    Start(services::StartArgs),
    Stop(services::StopArgs),
    Restart(services::RestartArgs),
    Settings(settings::SettingsArgs),
    Reload(process::ReloadArgs),
    Shutdown(process::ShutdownArgs),
    Audit(audit::AuditArgs),
}

/// How results are printed.
#[derive(Debug, Args)]
struct CtlOutput {
    #[command(flatten)]
    output: OutputArgs,
    /// The same as --output json.
    #[arg(long)]
    json: bool,
}

impl CtlOutput {
    fn is_json(&self) -> bool {
        self.json || self.output.is_json()
    }
}

pub(super) fn run(args: &CtlArgs, named: Option<&Path>) -> Result<(), Failure> {
    if let CtlCommand::Settings(settings) = &args.command {
        settings.check()?;
    }
    let client = Client::new(&args.server, named)?;
    context::block_on(async {
        match &args.command {
            CtlCommand::Services(args) => services::list(args, &client).await,
            CtlCommand::Start(args) => services::start(args, &client).await,
            CtlCommand::Stop(args) => services::stop(args, &client).await,
            CtlCommand::Restart(args) => services::restart(args, &client).await,
            CtlCommand::Settings(args) => settings::run(args, &client).await,
            CtlCommand::Reload(args) => process::reload(args, &client).await,
            CtlCommand::Shutdown(args) => process::shutdown(args, &client).await,
            CtlCommand::Audit(args) => audit::list(args, &client).await,
        }
    })
}
