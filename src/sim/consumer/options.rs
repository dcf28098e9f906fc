//! What a simulated consumer can be told, also on the command line.

use crate::sim::behaviour::{duration_text, parse_share};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// The options of a simulated consumer.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct ConsumerOptions {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Threads that answer requests.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub workers: usize,
    /// Changes what is drawn by shares.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Calls that are remembered, the newest.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub keep: usize,
    /// Remember the `data` of events too.
    #[arg(long)]
    pub keep_data: bool,
    /// How it answers.
    #[command(flatten)]
    pub knobs: ConsumerKnobs,
}

/// How a consumer answers; changeable while it runs.
///
/// In JSON (`POST /sim/knobs`) times are texts such as `"20ms"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct ConsumerKnobs {
    /// Share of calls that fail.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub fail: f64,
    /// Calls whose body holds this text fail.
    #[arg(long, value_name = "TEXT")]
    pub fail_on: Option<String>,
    /// Status of calls that fail.
    #[arg(long, default_value_t = 500, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(300..=599))]
    pub fail_status: u16,
    /// Share of calls that are taken and never answered.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub hang: f64,
    /// How long an answer takes.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s", value_name = "TIME")]
    #[serde(with = "duration_text")]
    pub latency: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            workers: 1,
            seed: 0,
            keep: 100_000,
            keep_data: false,
            knobs: ConsumerKnobs::default(),
        }
    }
}

impl Default for ConsumerKnobs {
    fn default() -> Self {
        Self {
            fail: 0.0,
            fail_on: None,
            fail_status: 500,
            hang: 0.0,
            latency: Duration::ZERO,
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    parse_share(text)
        .ok_or_else(|| format!("\"{text}\" is no share; expected a number from 0 to 1"))
}
