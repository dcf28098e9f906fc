//! Highwater with Rust code for a job: the same server, command line and
//! configuration as `highwater`, in a program of one's own.
//!
//! It needs a configuration in which the job's handler is `code`, say
//! `inventory.toml`:
//!
//! ```toml
//! [database]
//! url = "sqlite://inventory.db"
//!
//! [[apps]]
//! id = "org.example.inventory"
//! title = "Inventory"
//!
//! [[jobs]]
//! app = "org.example.inventory"           # the job is called "default"
//! retry = "20 min (x6); 1 hour (x24); 1 day (x30)"
//!
//! [jobs.handler.code]
//! timeout = "30s"                         # for the listeners of each event together
//! ```
//!
//! ```text
//! cargo run --example poll_listener -- check --config inventory.toml
//! cargo run --example poll_listener -- serve --config inventory.toml
//! ```
//!
//! To try it without sites of one's own, simulate some and import them first:
//!
//! ```text
//! cargo run -- sim sites 100 --app org.example.inventory --sites-file sites.ndjson
//! cargo run --example poll_listener -- sites import sites.ndjson --config inventory.toml
//! ```
//!
//! Sites are rows of table `sites`, which an application writes by SQL or over
//! HTTP. Each is visited when the retry policy says so, thousands at once if
//! need be: a listener that fails, panics or hangs is a failure of one visit of
//! one site and of nothing else.

use highwater::Highwater;
use highwater::handlers::{PollError, PollEvent, SiteRequest};
use serde_json::json;
use std::process::ExitCode;

fn main() -> ExitCode {
    Highwater::builder()
        // The job's work. Its name is what the job's app and name make of it.
        .on("app:org.example.inventory:job=default:poll", take_stock)
        // Before a visit; an error here prevents it, and counts as its failure.
        .on(
            "app:org.example.inventory:job=default:pre-poll",
            async |event| match event.label("tier") {
                Some("closed") => Err("the site is closed".into()),
                _ => Ok(()),
            },
        )
        // After each visit of every job, whatever came of it.
        .on("civi_cxn.post-poll", async |event| {
            if let Some(Err(error)) = event.outcome().map(|visited| &visited.result) {
                eprintln!("{} of {}: {error}", event.job(), event.site().site_id);
            }
            Ok(())
        })
        .run()
}

/// Asks the site for its first page and keeps how large it is.
async fn take_stock(event: PollEvent) -> Result<(), PollError> {
    let request = SiteRequest {
        max_response_bytes: 256 * 1024,
        ..SiteRequest::get(&event.site().url)
    };
    // A site that does not answer is the failure "timeout" or "unreachable".
    let answer = event.client().send(request).await?;
    if !answer.status.is_success() {
        return Err(format!("{} answered {}", event.site().url, answer.status).into());
    }
    event.set_result(json!({
        "bytes": answer.body.len(),
        "asked_as": event.app().title,
    }))
}
