//! `highwater datasets put` and `delete`: what is published from a shell, in one
//! transaction and as one head, and recorded in the audit.

use crate::cli::audit;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs};
use crate::config::{Loaded, ReplicationSettings};
use crate::flows::events::read_reason;
use crate::flows::replicas::{
    DatasetName, Entry, Head, Modification, PublishError, PublishRequest, Published, check_key,
};
use crate::store::{AuditOutcome, NewAudit};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Most keys named in the audit; more are counted.
const NAMED: usize = 20;

/// Publishes values: each key has its value from the next head on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater datasets put prices eur/usd '{\"bid\":1.0843}'
  highwater datasets put prices eur/usd 1.0843 eur/gbp 0.8571
  highwater datasets put names en --text Highwater
  highwater datasets put prices eur/usd 1.0843 --if-head 41")]
pub(in crate::cli) struct PutArgs {
    #[command(flatten)]
    to: ToArgs,
    /// Keys, each with its value behind it: JSON, or with --text any text.
    #[arg(value_name = "KEY VALUE", required = true, num_args = 2..)]
    #[arg(allow_negative_numbers = true)]
    pairs: Vec<String>,
    /// Values are texts, and not JSON.
    #[arg(long)]
    text: bool,
}

/// Publishes that keys are gone; one that is not there is no mistake.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater datasets delete prices eur/gbp
  highwater datasets delete prices eur/gbp eur/sek --reason 'no longer quoted'")]
pub(in crate::cli) struct DeleteArgs {
    #[command(flatten)]
    to: ToArgs,
    /// Keys.
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
}

#[derive(Debug, Args)]
struct ToArgs {
    /// Name of the dataset.
    #[arg(value_name = "DATASET", value_parser = super::content_name)]
    dataset: DatasetName,
    /// Only if this is the head.
    #[arg(long, value_name = "HEAD", value_parser = clap::value_parser!(i64).range(0..))]
    if_head: Option<Head>,
    /// Why: 1 to 1000 characters; kept in the audit.
    #[arg(long, value_name = "WHY", value_parser = read_reason)]
    reason: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The same shape as publishing has over HTTP.
#[derive(Serialize)]
struct Done {
    epoch: String,
    head: Head,
}

impl PutArgs {
    /// Refuses what makes no sense, whatever the configuration.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.modifications().map(drop)
    }

    fn modifications(&self) -> Result<Vec<Modification>, Failure> {
        if !self.pairs.len().is_multiple_of(2) {
            let last = self.pairs.last().map_or("", String::as_str);
            return Err(Failure::Usage(format!(
                "the key {last:?} has no value; expected KEY VALUE, KEY VALUE …"
            )));
        }
        let pairs = self.pairs.chunks_exact(2);
        let modification = |pair: &[String]| match pair {
            [key, value] => Ok(Modification::Update(Entry {
                key: checked(key)?,
                value: self.value(key, value)?,
            })),
            _ => Err(Failure::Usage("expected KEY VALUE".to_owned())),
        };
        pairs.map(modification).collect()
    }

    fn value(&self, key: &str, text: &str) -> Result<String, Failure> {
        if self.text {
            return Ok(serde_json::Value::from(text).to_string());
        }
        // As it came: numbers keep all their digits.
        let read = serde_json::from_str::<&RawValue>(text);
        read.map(|value| value.get().to_owned()).map_err(|error| {
            Failure::Usage(format!(
                "the value of {key:?} is no JSON ({error}); quote a text as in '\"text\"', or give --text"
            ))
        })
    }
}

fn checked(key: &str) -> Result<String, Failure> {
    let checked = check_key(key).map_err(|problem| Failure::Usage(problem.to_string()));
    checked.map(|()| key.to_owned())
}

pub(super) async fn put(args: &PutArgs, loaded: &Loaded) -> Result<(), Failure> {
    let modifications = args.modifications()?;
    publish(&args.to, loaded, "datasets.put", modifications).await
}

pub(super) async fn delete(args: &DeleteArgs, loaded: &Loaded) -> Result<(), Failure> {
    let keys = args.keys.iter();
    let modifications: Result<Vec<Modification>, Failure> = keys
        .map(|key| checked(key).map(Modification::Delete))
        .collect();
    publish(&args.to, loaded, "datasets.delete", modifications?).await
}

async fn publish(
    to: &ToArgs,
    loaded: &Loaded,
    action: &str,
    modifications: Vec<Modification>,
) -> Result<(), Failure> {
    let name = &to.dataset;
    let Some(settings) = super::configured(loaded, name.as_str()) else {
        let known = super::known(loaded, &[]);
        return Err(Failure::Usage(format!(
            "no dataset \"{name}\" is configured ({known})"
        )));
    };
    if let Some(source) = settings.source {
        return Err(Failure::Failed(format!(
            "dataset \"{name}\" is what the table {} holds; change that, and it is published",
            source.as_str()
        )));
    }
    check(&modifications, &loaded.settings.replication)?;
    let store = context::open(loaded).await?;
    let keys: Vec<String> = modifications
        .iter()
        .take(NAMED)
        .map(|modification| modification.key().to_owned())
        .collect();
    let count = modifications.len();
    let request = PublishRequest {
        dataset: name.clone(),
        modifications,
        if_head: to.if_head,
        idempotency: None,
    };
    let history = BTreeMap::from([(name.clone(), settings.history.clone())]);
    let outcome = store.publish(vec![request], history).await;
    let outcome = match outcome {
        Ok(mut outcomes) => match outcomes.pop() {
            Some(outcome) => outcome.map_err(|error| refused(name, &error)),
            None => Err(Failure::Failed("nothing was published".to_owned())),
        },
        Err(error) => Err(Failure::Store(error)),
    };
    let mut details = json!({ "keys": keys, "modifications": count, "reason": to.reason });
    if let Ok(published) = &outcome {
        details["head"] = published.head.into();
    }
    let row = NewAudit {
        who: audit::operator(),
        action: action.to_owned(),
        target: name.to_string(),
        details: Some(details),
        outcome: match &outcome {
            Ok(_) => AuditOutcome::Done,
            Err(Failure::Store(_)) => AuditOutcome::Failed,
            Err(_) => AuditOutcome::Refused,
        },
        problem: outcome.as_ref().err().map(ToString::to_string),
    };
    audit::record(&store, row).await;
    told(to, count, &outcome?)
}

/// What one call may publish, as over HTTP.
fn check(modifications: &[Modification], settings: &ReplicationSettings) -> Result<(), Failure> {
    let (count, most) = (modifications.len(), settings.max_modifications);
    if count > most {
        return Err(Failure::Usage(format!(
            "{count} modifications; expected at most {most} (replication.max_modifications)"
        )));
    }
    for modification in modifications {
        let Modification::Update(entry) = modification else {
            continue;
        };
        let (bytes, most) = (entry.value.len(), settings.max_value_bytes);
        if bytes > most {
            return Err(Failure::Usage(format!(
                "the value of {:?} has {bytes} bytes; expected at most {most} (replication.max_value_bytes)",
                entry.key
            )));
        }
    }
    let bytes: usize = modifications.iter().map(Modification::bytes).sum();
    if bytes > settings.max_chunk_bytes {
        return Err(Failure::Usage(format!(
            "the modifications have {bytes} bytes; expected at most {} (replication.max_chunk_bytes)",
            settings.max_chunk_bytes
        )));
    }
    Ok(())
}

fn refused(name: &DatasetName, error: &PublishError) -> Failure {
    Failure::Failed(match error {
        PublishError::HeadMoved(head) => format!(
            "nothing was published: the head of \"{name}\" is {head}, and not that of --if-head"
        ),
        error => format!("nothing was published to \"{name}\": {error}"),
    })
}

fn told(to: &ToArgs, count: usize, published: &Published) -> Result<(), Failure> {
    if to.output.is_json() {
        return output::print_json(&Done {
            epoch: published.epoch.to_string(),
            head: published.head,
        });
    }
    let count = output::count(count, "modification", "modifications");
    output::print(format_args!(
        "{count} published: {} is at head {}",
        to.dataset, published.head
    ))
}
