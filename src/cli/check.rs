//! `highwater check`: every mistake in a configuration at once.

use super::context;
use super::failure::Failure;
use super::output::{self, OutputArgs, note};
use crate::config::{
    self, DatabaseLocation, EventHandlerSettings, Finding, HandlerSettings, LoadOptions, Relevance,
    Settings, SourceSettings,
};
use crate::handlers::Listeners;
use clap::Args;
use serde::Serialize;
use std::path::Path;

/// Finds every mistake in the configuration.
///
/// Reads the file, the environment and the token files; touches neither the
/// database nor a ledger. In a program with Rust code for jobs it also says
/// what code is lacking. Exit code 0: it can be used (warnings go to standard
/// error); 2: it cannot.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater check
  highwater check --config new.toml && systemctl reload highwater
  highwater check --output json")]
pub(super) struct CheckArgs {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    file: String,
    ok: bool,
    errors: &'a [Finding],
    warnings: &'a [Finding],
}

pub(super) fn run(
    args: &CheckArgs,
    named: Option<&Path>,
    listeners: &Listeners,
) -> Result<(), Failure> {
    let file = context::config_file(named)?;
    let result = context::load_with(&file, listeners, LoadOptions::default());
    let (errors, warnings) = match &result {
        Ok(loaded) => (&[][..], loaded.warnings.as_slice()),
        Err(errors) => (errors.errors(), errors.warnings()),
    };
    if args.output.is_json() {
        output::print_json(&Report {
            file: file.display().to_string(),
            ok: errors.is_empty(),
            errors,
            warnings,
        })?;
        return if errors.is_empty() {
            Ok(())
        } else {
            Err(Failure::SaidWrong)
        };
    }
    for warning in warnings {
        note(&format_args!("warning: {warning}"));
    }
    let loaded = result?;
    output::print(format_args!(
        "{}: can be used\n{}",
        file.display(),
        summary(&loaded.settings)
    ))
}

fn summary(settings: &Settings) -> String {
    let database = match &settings.database.location {
        location @ DatabaseLocation::Sqlite(_) => location.to_string(),
        DatabaseLocation::Postgres(url) => format!("{url}, schema {}", settings.database.schema),
    };
    let mut table = output::table(&["ledger", "kind", "url", "role", "token"]);
    for ledger in &settings.ledgers {
        table.add_row([
            ledger.name.as_str(),
            ledger.kind.as_str(),
            ledger.url.as_str(),
            match ledger.role {
                config::LedgerRole::Primary => "primary",
                config::LedgerRole::Fallback => "fallback",
            },
            if ledger.token.is_some() { "yes" } else { "no" },
        ]);
    }
    let mut summary = format!("database {database}\nhttp     {}", settings.http.listen);
    if !settings.ledgers.is_empty() {
        summary.push_str("\n\n");
        summary.push_str(&output::lines(&mut table));
    }
    if !settings.jobs.is_empty() {
        let mut table = output::table(&["app", "job", "retry", "batches", "handler"]);
        for job in &settings.jobs {
            table.add_row([
                job.key.app.as_str(),
                &job.key.name,
                &job.retry.to_string(),
                &job.batches.to_string(),
                match job.handler {
                    HandlerSettings::Http(_) => "http",
                    HandlerSettings::Civicrm(_) => "civicrm",
                    HandlerSettings::Command(_) => "command",
                    HandlerSettings::Code(_) => "code",
                },
            ]);
        }
        summary.push_str("\n\n");
        summary.push_str(&output::lines(&mut table));
    }
    if !settings.subscriptions.is_empty() {
        let mut table = output::table(&["subscription", "source", "relevance", "handler"]);
        for subscription in &settings.subscriptions {
            table.add_row([
                subscription.name.as_str(),
                &match &subscription.source {
                    SourceSettings::Gateway(asked) => format!("gateway {}", asked.gateway),
                    SourceSettings::Ledger(asked) => format!("ledger {}", asked.ledger),
                    SourceSettings::Hook => "hook".to_owned(),
                },
                match subscription.relevance {
                    Relevance::All => "all",
                    Relevance::Known(_) => "known",
                },
                match subscription.handler {
                    EventHandlerSettings::Http(_) => "http",
                    EventHandlerSettings::Command(_) => "command",
                    EventHandlerSettings::Table => "table",
                    EventHandlerSettings::Code(_) => "code",
                },
            ]);
        }
        summary.push_str("\n\n");
        summary.push_str(&output::lines(&mut table));
    }
    summary
}
