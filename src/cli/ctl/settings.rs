//! `highwater ctl settings`: the settings in force, and values set by control.

use super::CtlOutput;
use super::client::Client;
use super::process::{Reloaded, tell_reloaded};
use crate::cli::audit::one_line;
use crate::cli::failure::Failure;
use crate::cli::output;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Lists the settings in force and where they come from, or changes them.
///
/// A value set here wins over the environment and the file, until the server
/// ends, it is forgotten, or `highwater ctl reload --reset`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  highwater ctl settings
  highwater ctl settings batches.poll_interval
  highwater ctl settings ledgers.trace
  highwater ctl settings set batches.poll_interval=2s ledgers.trace.connections=4
  highwater ctl settings forget batches.poll_interval")]
pub(super) struct SettingsArgs {
    #[command(subcommand)]
    command: Option<SettingsCommand>,
    /// Only this key, or those below it.
    #[arg(value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    output: CtlOutput,
}

#[derive(Debug, Subcommand)]
enum SettingsCommand {
    Set(SetArgs),
    Forget(ForgetArgs),
}

/// Sets values: all of them or none.
#[derive(Debug, Args)]
struct SetArgs {
    /// Key and value, as in `batches.poll_interval=2s`.
    #[arg(value_name = "KEY=VALUE", required = true)]
    changes: Vec<String>,
    #[command(flatten)]
    output: CtlOutput,
}

/// Forgets values set before: all of them or none.
#[derive(Debug, Args)]
struct ForgetArgs {
    /// Keys, as in `batches.poll_interval`.
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
    #[command(flatten)]
    output: CtlOutput,
}

#[derive(Debug, Deserialize)]
struct SettingList {
    items: Vec<Setting>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Setting {
    key: String,
    value: String,
    origin: String,
    place: Option<String>,
}

impl SettingsArgs {
    /// Refuses what makes no sense, whatever the server.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match &self.command {
            Some(SettingsCommand::Set(args)) => args.set().map(drop),
            _ => Ok(()),
        }
    }
}

impl SetArgs {
    fn set(&self) -> Result<Map<String, Value>, Failure> {
        let mut set = Map::new();
        for change in &self.changes {
            let Some((key, value)) = change.split_once('=').filter(|(key, _)| !key.is_empty())
            else {
                return Err(Failure::Usage(format!(
                    "\"{change}\" is no KEY=VALUE, as in batches.poll_interval=2s"
                )));
            };
            if set.insert(key.to_owned(), value.into()).is_some() {
                return Err(Failure::Usage(format!("{key} is set twice")));
            }
        }
        Ok(set)
    }
}

pub(super) async fn run(args: &SettingsArgs, client: &Client) -> Result<(), Failure> {
    match &args.command {
        None => list(args, client).await,
        Some(SettingsCommand::Set(args)) => {
            let body = json!({ "set": args.set()? });
            change(client, "change settings", body, &args.output).await
        }
        Some(SettingsCommand::Forget(args)) => {
            let body = json!({ "forget": args.keys });
            change(client, "forget settings", body, &args.output).await
        }
    }
}

async fn change(
    client: &Client,
    asked: &str,
    body: Value,
    output: &CtlOutput,
) -> Result<(), Failure> {
    let path = ["settings"];
    let (changed, raw): (Reloaded, _) =
        client.send(asked, Method::PATCH, &path, Some(body)).await?;
    if output.is_json() {
        return output::print_json(&raw);
    }
    tell_reloaded(&changed)
}

async fn list(args: &SettingsArgs, client: &Client) -> Result<(), Failure> {
    let (mut list, raw): (SettingList, _) =
        client.get("list the settings", &["settings"], &[]).await?;
    let Some(key) = &args.key else {
        return if args.output.is_json() {
            output::print_json(&raw)
        } else {
            output::print(table(&list.items))
        };
    };
    list.items.retain(|setting| {
        let rest = setting.key.strip_prefix(key.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    if list.items.is_empty() {
        return Err(Failure::Failed(format!(
            "{} has no setting \"{key}\"; `highwater ctl settings` lists those it has",
            client.server()
        )));
    }
    if args.output.is_json() {
        return output::print_json(&json!({ "items": list.items, "next": null }));
    }
    output::print(table(&list.items))
}

fn table(settings: &[Setting]) -> String {
    let mut table = output::table(&["key", "value", "origin"]);
    for setting in settings {
        let origin = match &setting.place {
            Some(place) => format!("{} ({place})", setting.origin),
            None => setting.origin.clone(),
        };
        table.add_row([&setting.key, &setting.value, &origin].map(|text| one_line(text)));
    }
    output::lines(&mut table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(changes: &[&str]) -> Result<Map<String, Value>, Failure> {
        let changes = changes.iter().map(ToString::to_string).collect();
        let output = CtlOutput {
            output: output::OutputArgs::default(),
            json: false,
        };
        SetArgs { changes, output }.set()
    }

    #[test]
    fn values_may_hold_equals_signs_and_be_empty() {
        let set = set(&["a.b=x=y", "c="]).unwrap();
        assert_eq!(Value::Object(set), json!({"a.b": "x=y", "c": ""}));
    }

    #[test]
    fn what_is_no_key_and_value_is_refused() {
        for wrong in [&["a"][..], &["=x"], &["a=1", "a=2"]] {
            assert!(matches!(set(wrong), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }
}
