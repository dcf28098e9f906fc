//! `highwater ctl services|start|stop|restart`.

use super::CtlOutput;
use super::client::Client;
use crate::cli::audit::one_line;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::time::Timestamp;
use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a service may take to come to the state asked for: longer than the
/// default deadline after which one that does not listen is cut off.
const SETTLE: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Lists services, or shows one with its intercoms.
#[derive(Debug, Args)]
pub(super) struct ServicesArgs {
    /// Only this one, in full.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    output: CtlOutput,
}

/// Starts a service that is stopped or failed; its former ends are forgotten.
#[derive(Debug, Args)]
pub(super) struct StartArgs {
    #[command(flatten)]
    service: ServiceArgs,
}

/// Stops a service until it is started, or the server ends.
#[derive(Debug, Args)]
pub(super) struct StopArgs {
    #[command(flatten)]
    service: ServiceArgs,
}

/// Stops a service and builds it again.
#[derive(Debug, Args)]
pub(super) struct RestartArgs {
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Debug, Args)]
struct ServiceArgs {
    /// Name of the service, as listed by `highwater ctl services`.
    #[arg(value_name = "NAME")]
    name: String,
    /// Comes back at once, without waiting for the service.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    output: CtlOutput,
}

#[derive(Debug, Deserialize)]
struct ServiceList {
    items: Vec<Service>,
    #[serde(default)]
    lost_threads: Vec<LostThread>,
}

#[derive(Debug, Deserialize)]
struct LostThread {
    thread: String,
    service: String,
    since: Timestamp,
}

#[derive(Debug, Deserialize)]
struct Service {
    name: String,
    state: String,
    critical: bool,
    since: Timestamp,
    generation: u64,
    thread: String,
    depends_on: Vec<String>,
    waits_for: Option<String>,
    restarts: BTreeMap<String, u64>,
    last_error: Option<String>,
    intercoms: Vec<Intercom>,
}

#[derive(Debug, Deserialize)]
struct Intercom {
    from: String,
    message: String,
    open_handles: u64,
    messages: u64,
    failures: u64,
    in_flight: u64,
    propagation_mean_seconds: f64,
    propagation_stddev_seconds: f64,
    propagation_p50_seconds: f64,
    propagation_p99_seconds: f64,
}

pub(super) async fn list(args: &ServicesArgs, client: &Client) -> Result<(), Failure> {
    if let Some(name) = &args.name {
        let (service, raw) = look(client, name).await?;
        return show(&service, &raw, &args.output);
    }
    let (list, raw): (ServiceList, _) = client.get("list the services", &["services"], &[]).await?;
    if args.output.is_json() {
        return output::print_json(&raw);
    }
    let now = Timestamp::now();
    let mut table = output::table(&["name", "state", "since", "restarts", "last error"]);
    for service in &list.items {
        table.add_row([
            one_line(&service.name),
            one_line(&service.state),
            output::relative(service.since, now),
            restarts_of(service),
            one_line(service.last_error.as_deref().unwrap_or_default()),
        ]);
    }
    output::print(output::lines(&mut table))?;
    for lost in &list.lost_threads {
        output::note(&format_args!(
            "warning: thread {} is lost since {}: service {} blocks it",
            one_line(&lost.thread),
            lost.since,
            one_line(&lost.service)
        ));
    }
    Ok(())
}

pub(super) async fn start(args: &StartArgs, client: &Client) -> Result<(), Failure> {
    tell(&args.service, client, "start", "running").await
}

pub(super) async fn stop(args: &StopArgs, client: &Client) -> Result<(), Failure> {
    tell(&args.service, client, "stop", "stopped").await?;
    let name = &args.service.name;
    if look(client, name).await?.0.critical {
        output::note(&format_args!(
            "{name} is critical: the server does not do its work until `highwater ctl start {name}`"
        ));
    }
    Ok(())
}

pub(super) async fn restart(args: &RestartArgs, client: &Client) -> Result<(), Failure> {
    tell(&args.service, client, "restart", "running").await
}

async fn tell(
    args: &ServiceArgs,
    client: &Client,
    word: &str,
    wanted: &str,
) -> Result<(), Failure> {
    let name = &args.name;
    let asked = format!("{word} service \"{name}\"");
    let path = ["services", name, word];
    let mut seen: (Service, Value) = client.send(&asked, Method::POST, &path, None).await?;
    let begun = Instant::now();
    while !args.no_wait && seen.0.state != wanted {
        let state = one_line(&seen.0.state);
        if state == "failed" {
            let why = one_line(seen.0.last_error.as_deref().unwrap_or("no error was kept"));
            return Err(Failure::Failed(format!(
                "cannot {asked}: it has failed: {why}"
            )));
        }
        if begun.elapsed() >= SETTLE {
            return Err(Failure::Failed(format!(
                "{} took it on, but service \"{name}\" is not {wanted} after {} s: it is {state}",
                client.server(),
                SETTLE.as_secs()
            )));
        }
        sleep(LOOK).await;
        seen = look(client, name).await?;
    }
    if args.output.is_json() {
        return output::print_json(&seen.1);
    }
    output::print(format_args!(
        "{} is {}",
        one_line(&seen.0.name),
        one_line(&seen.0.state)
    ))
}

async fn look(client: &Client, name: &str) -> Result<(Service, Value), Failure> {
    let asked = format!("show service \"{name}\"");
    client.get(&asked, &["services", name], &[]).await
}

fn show(service: &Service, raw: &Value, output: &CtlOutput) -> Result<(), Failure> {
    if output.is_json() {
        return output::print_json(raw);
    }
    let mut table = output::table(&[]);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.add_row([name.to_owned(), one_line(&value)]);
        }
    };
    let since = output::relative(service.since, Timestamp::now());
    line("service", service.name.clone());
    line("state", service.state.clone());
    line("since", format!("{} ({since})", service.since));
    line(
        "critical",
        if service.critical { "yes" } else { "no" }.to_owned(),
    );
    line(
        "built",
        match service.generation {
            1 => "once".to_owned(),
            many => format!("{many} times"),
        },
    );
    line("thread", service.thread.clone());
    line("depends on", service.depends_on.join(", "));
    line("waits for", service.waits_for.clone().unwrap_or_default());
    line("restarts", restarts_of(service));
    line("last error", service.last_error.clone().unwrap_or_default());
    let mut text = output::lines(&mut table);
    if !service.intercoms.is_empty() {
        let mut table = output::table(&[
            "from",
            "message",
            "handles",
            "messages",
            "failures",
            "in flight",
            "mean",
            "stddev",
            "p50",
            "p99",
        ]);
        for line in &service.intercoms {
            table.add_row([
                one_line(&line.from),
                one_line(&line.message),
                line.open_handles.to_string(),
                line.messages.to_string(),
                line.failures.to_string(),
                line.in_flight.to_string(),
                span(line.propagation_mean_seconds),
                span(line.propagation_stddev_seconds),
                span(line.propagation_p50_seconds),
                span(line.propagation_p99_seconds),
            ]);
        }
        text.push_str("\n\n");
        text.push_str(&output::lines(&mut table));
    }
    output::print(text)
}

fn restarts_of(service: &Service) -> String {
    let restarts = service.restarts.iter();
    let told: Vec<String> = restarts
        .map(|(reason, count)| format!("{count} {}", one_line(reason)))
        .collect();
    told.join(", ")
}

/// A short time in the unit that suits it.
fn span(seconds: f64) -> String {
    if seconds <= 0.0 {
        "0".to_owned()
    } else if seconds < 0.001 {
        format!("{:.1}µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1}ms", seconds * 1e3)
    } else {
        format!("{seconds:.1}s")
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn times_on_the_way_are_told_in_their_unit() {
        let told = [0.0, 0.000_000_84, 0.000_061, 0.0123, 2.5].map(span);
        assert_eq!(told, ["0", "0.8µs", "61.0µs", "12.3ms", "2.5s"]);
    }
}
