//! `highwater check`: every mistake in a configuration at once.

use super::context;
use super::failure::Failure;
use super::output::{self, OutputArgs, note};
use crate::config::{
    self, DatabaseLocation, DatasetSource, EventHandlerSettings, Finding, HandlerSettings,
    LoadOptions, Relevance, ReplicaProtocol, Settings, SourceSettings,
};
use crate::handlers::Listeners;
use clap::Args;
use comfy_table::Table;
use serde::Serialize;
use std::path::Path;
use url::Url;

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
    for mut table in content_tables(settings) {
        summary.push_str("\n\n");
        summary.push_str(&output::lines(&mut table));
    }
    summary
}

/// Datasets and replicas, where there are any.
fn content_tables(settings: &Settings) -> Vec<Table> {
    let token = |given: bool| if given { "yes" } else { "no" };
    let mut datasets = output::table(&["dataset", "source", "token"]);
    for dataset in &settings.datasets {
        datasets.add_row([
            dataset.name.as_str(),
            dataset.source.map_or("sent in", DatasetSource::as_str),
            token(dataset.token.is_some()),
        ]);
    }
    let mut replicas = output::table(&["replica", "dataset", "upstreams", "protocol", "token"]);
    for replica in &settings.replicas {
        let upstreams: Vec<&str> = replica.upstreams.iter().map(Url::as_str).collect();
        replicas.add_row([
            replica.name.as_str(),
            replica.dataset.as_str(),
            &upstreams.join(" "),
            match replica.protocol {
                ReplicaProtocol::Highwater => "highwater",
                ReplicaProtocol::Seed => "seed",
            },
            token(replica.token.is_some()),
        ]);
    }
    let tables = [datasets, replicas].into_iter();
    tables.filter(|table| table.row_count() > 0).collect()
}
