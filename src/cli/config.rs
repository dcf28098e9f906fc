//! `highwater config`: the configuration in force.

use super::context;
use super::failure::Failure;
use super::output::{self, OutputArgs};
use crate::config;
use clap::{Args, Subcommand};
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    Dump(DumpArgs),
}

/// Prints every key with its effective value and where it comes from.
///
/// Secrets are left out, so that the output may be shown around.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater config dump
  highwater config dump | grep -v '# default'    what was changed
  highwater config dump --output json")]
pub(super) struct DumpArgs {
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(command: &ConfigCommand, named: Option<&Path>) -> Result<(), Failure> {
    let ConfigCommand::Dump(args) = command;
    let loaded = context::load(named)?;
    if args.output.is_json() {
        output::print_json(&loaded.entries)
    } else {
        output::print(config::dump(&loaded).trim_end())
    }
}
