//! `highwater events retry`, `skip`, `pause`, `resume` and `replay`: orders to
//! subscriptions, each with a reason and recorded in the audit.

use crate::cli::audit;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::config::Loaded;
use crate::flows::events::{SubscriptionName, read_reason};
use crate::store::{AuditOutcome, NewAudit, Store, SubscriptionOrderError};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

/// Has a halted subscription try its event anew, with all its tries.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater events retry claims --reason 'the consumer is back'")]
pub(in crate::cli) struct RetryArgs {
    #[command(flatten)]
    to: ToArgs,
}

/// Skips an open event: it counts as done with, and is never processed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater events skip claims --reason 'a test of theirs'          the one it is halted on
  highwater events skip claims 4711 --reason 'a test of theirs'")]
pub(in crate::cli) struct SkipArgs {
    #[command(flatten)]
    to: ToArgs,
    /// The event, by its number in the order of recording; left out: the one on
    /// which the subscription is halted.
    #[arg(value_name = "ARRIVAL")]
    arrival: Option<i64>,
}

/// Has a subscription process nothing until it is resumed; it goes on recording.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater events pause claims --reason 'the consumer is being moved'")]
pub(in crate::cli) struct PauseArgs {
    #[command(flatten)]
    to: ToArgs,
}

/// Has a paused subscription go on; where it is halted too, it tries that event
/// anew.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater events resume claims --reason 'the consumer was moved'")]
pub(in crate::cli) struct ResumeArgs {
    #[command(flatten)]
    to: ToArgs,
}

/// Has the events from a block on judged and processed again, with the same ids.
///
/// Skipped ones, and those of abandoned blocks, stay as they are. At most 500,000
/// events are replayed at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater events replay claims --from-block 4711 --reason 'the consumer lost a day'")]
pub(in crate::cli) struct ReplayArgs {
    #[command(flatten)]
    to: ToArgs,
    /// The first block.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    from_block: i64,
}

#[derive(Debug, Args)]
struct ToArgs {
    /// Name of the subscription.
    #[arg(value_name = "SUBSCRIPTION", value_parser = super::subscription)]
    subscription: SubscriptionName,
    /// Why: 1 to 1000 characters; kept in the audit, and of a skip with the event.
    #[arg(long, value_name = "WHY", value_parser = read_reason)]
    reason: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// The same shape as orders have over HTTP.
#[derive(Debug, Default, Serialize)]
struct Done {
    subscription: String,
    arrival: Option<i64>,
    events: Option<i64>,
}

pub(super) async fn retry(args: &RetryArgs, loaded: &Loaded) -> Result<(), Failure> {
    let (name, store) = opened(&args.to, loaded).await?;
    let done = store.retry_subscription(name).await;
    let done = done.map(|arrival| args.to.of_event(arrival));
    told(
        &args.to,
        &store,
        loaded,
        "subscriptions.retry",
        json!({}),
        done,
    )
    .await
}

pub(super) async fn skip(args: &SkipArgs, loaded: &Loaded) -> Result<(), Failure> {
    let (name, store) = opened(&args.to, loaded).await?;
    let done = store.skip_event(name, args.arrival, &args.to.reason).await;
    let done = done.map(|arrival| args.to.of_event(arrival));
    let details = json!({ "arrival": args.arrival });
    told(
        &args.to,
        &store,
        loaded,
        "subscriptions.skip",
        details,
        done,
    )
    .await
}

pub(super) async fn pause(args: &PauseArgs, loaded: &Loaded) -> Result<(), Failure> {
    let (name, store) = opened(&args.to, loaded).await?;
    let done = store.pause_subscription(name, &args.to.reason).await;
    let done = done.map(|()| args.to.done());
    told(
        &args.to,
        &store,
        loaded,
        "subscriptions.pause",
        json!({}),
        done,
    )
    .await
}

pub(super) async fn resume(args: &ResumeArgs, loaded: &Loaded) -> Result<(), Failure> {
    let (name, store) = opened(&args.to, loaded).await?;
    let done = store.resume_subscription(name).await;
    let done = done.map(|()| args.to.done());
    told(
        &args.to,
        &store,
        loaded,
        "subscriptions.resume",
        json!({}),
        done,
    )
    .await
}

pub(super) async fn replay(args: &ReplayArgs, loaded: &Loaded) -> Result<(), Failure> {
    let (name, store) = opened(&args.to, loaded).await?;
    let done = store.replay_subscription(name, args.from_block).await;
    let done = done.map(|events| Done {
        events: Some(events),
        ..args.to.done()
    });
    let details = json!({ "from_block": args.from_block });
    told(
        &args.to,
        &store,
        loaded,
        "subscriptions.replay",
        details,
        done,
    )
    .await
}

impl ToArgs {
    fn done(&self) -> Done {
        Done {
            subscription: self.subscription.to_string(),
            ..Done::default()
        }
    }

    fn of_event(&self, arrival: i64) -> Done {
        Done {
            arrival: Some(arrival),
            ..self.done()
        }
    }
}

async fn opened<'a>(to: &'a ToArgs, loaded: &Loaded) -> Result<(&'a str, Store), Failure> {
    let store = context::open(loaded).await?;
    super::check_name(&store, loaded, to.subscription.as_str()).await?;
    Ok((to.subscription.as_str(), store))
}

/// Records and tells what came of an order.
async fn told(
    to: &ToArgs,
    store: &Store,
    loaded: &Loaded,
    action: &str,
    mut details: Value,
    done: Result<Done, SubscriptionOrderError>,
) -> Result<(), Failure> {
    details["reason"] = to.reason.clone().into();
    if let Ok(Done {
        arrival, events, ..
    }) = &done
    {
        if let Some(arrival) = arrival {
            details["arrival"] = (*arrival).into();
        }
        if let Some(events) = events {
            details["events"] = (*events).into();
        }
    }
    let row = NewAudit {
        who: audit::operator(),
        action: action.to_owned(),
        target: to.subscription.to_string(),
        details: Some(details),
        outcome: match &done {
            Ok(_) => AuditOutcome::Done,
            Err(SubscriptionOrderError::Store(_)) => AuditOutcome::Failed,
            Err(_) => AuditOutcome::Refused,
        },
        problem: done.as_ref().err().map(ToString::to_string),
    };
    audit::record(store, row).await;
    let done = done.map_err(|error| match error {
        SubscriptionOrderError::Store(error) => Failure::Store(error),
        refused => Failure::Failed(refused.to_string()),
    })?;
    if !super::is_configured(loaded, to.subscription.as_str()) {
        note(&format_args!(
            "warning: subscription \"{}\" is not in the configuration; no server runs it",
            to.subscription
        ));
    }
    if to.output.is_json() {
        return output::print_json(&done);
    }
    let name = &done.subscription;
    match (action, done.arrival, done.events) {
        ("subscriptions.skip", Some(arrival), _) => {
            output::print(format_args!("event {arrival} of {name} is skipped"))
        }
        (_, Some(arrival), _) => output::print(format_args!("{name} tries event {arrival} anew")),
        (_, None, Some(events)) => {
            let events = usize::try_from(events).unwrap_or(0);
            let events = output::count(events, "event is", "events are");
            output::print(format_args!("{events} open again in {name}"))
        }
        ("subscriptions.pause", ..) => output::print(format_args!("{name} is paused")),
        _ => output::print(format_args!("{name} goes on")),
    }
}
