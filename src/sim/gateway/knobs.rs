//! What a gateway does with its subscribers; changeable while it runs.

use crate::sim::behaviour::{duration_text, parse_share};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a gateway does with its subscribers; changeable while it runs.
///
/// In JSON (`POST /sim/knobs`) times are texts such as `"20ms"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayKnobs {
    /// Share of events that are sent twice.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub duplicates: f64,
    /// Share of blocks whose events are sent in another order.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub reorder: f64,
    /// Share of events that are sent late: after events of later blocks.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub late: f64,
    /// After how many later blocks; where the chain rests or the subscription
    /// ends, sooner.
    #[arg(long, default_value_t = 2, value_name = "BLOCKS")]
    pub late_by: u32,
    /// Events of one call at most; from 2 on calls carry lists.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub list: usize,
    /// Calls to one subscriber at a time: of one block, unless
    /// `overlap_blocks` is set; one at a time where calls carry lists.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub concurrency: usize,
    /// Calls of a block begin before those of the block before are answered.
    #[arg(long)]
    pub overlap_blocks: bool,
    /// How it is out of order: none, unavailable (503), hangup or hang. It
    /// sends nothing meanwhile.
    #[arg(long, value_enum, default_value_t = Outage::None)]
    pub outage: Outage,
    /// Seconds in the Retry-After of a 503 or a refusal.
    #[arg(long, value_name = "SECONDS")]
    pub retry_after: Option<u64>,
    /// Status with which subscriptions are refused.
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(400..=599))]
    pub refuse: Option<u16>,
    /// Takes subscriptions and sends nothing.
    #[arg(long)]
    pub mute: bool,
    /// The chain does not grow by itself.
    #[arg(long)]
    pub rest: bool,
    /// How long the answer to a subscription takes.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s", value_name = "TIME")]
    #[serde(with = "duration_text")]
    pub latency: Duration,
    /// How long a call may take.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s", value_name = "TIME")]
    #[serde(with = "duration_text")]
    pub call_timeout: Duration,
    /// Tries after which a call that is not answered 2xx is given up; without it
    /// calls are sent again until they are.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub give_up_after: Option<u32>,
}

/// How a gateway is out of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// Not at all.
    #[default]
    None,
    /// Answers 503.
    Unavailable,
    /// Ends connections without an answer.
    Hangup,
    /// Never answers.
    Hang,
}

impl Default for GatewayKnobs {
    fn default() -> Self {
        Self {
            duplicates: 0.0,
            reorder: 0.0,
            late: 0.0,
            late_by: 2,
            list: 1,
            concurrency: 1,
            overlap_blocks: false,
            outage: Outage::None,
            retry_after: None,
            refuse: None,
            mute: false,
            rest: false,
            latency: Duration::ZERO,
            call_timeout: Duration::from_secs(10),
            give_up_after: None,
        }
    }
}

impl GatewayKnobs {
    /// Whether subscribers are sent anything.
    pub(super) fn sends(&self) -> bool {
        !self.mute && self.outage == Outage::None
    }
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    parse_share(text)
        .ok_or_else(|| format!("\"{text}\" is no share; expected a number from 0 to 1"))
}
