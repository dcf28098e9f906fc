//! What a simulated gateway can be told at its start, also on the command line.

use super::knobs::{GatewayKnobs, share};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Most events of a block.
const MOST_EVENTS: u32 = 10_000;

/// The options of a simulated gateway.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct GatewayOptions {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Threads that answer requests and send events.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub workers: usize,
    /// Changes which events blocks hold, and what is drawn by shares.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Blocks that are there from the start; their numbers begin with 0.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub blocks: u32,
    /// Time between blocks; 0s: the chain grows when it is told to.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1s", value_name = "TIME")]
    pub block_every: Duration,
    /// Events of a block, as in 1-5.
    #[arg(long, default_value = "1-5", value_name = "FROM-TO")]
    pub events: Blocks,
    /// Share of blocks without events.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub empty: f64,
    /// Blocks without events, as in 100-5000; repeatable.
    #[arg(long = "empty-blocks", value_name = "FROM-TO")]
    pub empty_blocks: Vec<Blocks>,
    /// A name that events have; repeatable, events take turns by draw.
    #[arg(
        long = "event-name",
        value_name = "NAME",
        default_value = "CLAIM_STATUS_CHANGE"
    )]
    pub event_names: Vec<String>,
    /// Share of transactions that are relevant; GET /sim/known tells them.
    #[arg(long, value_parser = share, default_value = "1", value_name = "SHARE")]
    pub relevant: f64,
    /// Bytes that pad the payload of each event.
    #[arg(long, default_value_t = 0, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    pub padding: u32,
    /// Token that subscriptions must carry ("Bearer TOKEN"): 401 without.
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Events of which is recorded what was sent, those of the highest blocks.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub keep: usize,
    /// How it treats its subscribers.
    #[command(flatten)]
    pub knobs: GatewayKnobs,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            workers: 1,
            seed: 0,
            blocks: 0,
            block_every: Duration::from_secs(1),
            events: Blocks { from: 1, to: 5 },
            empty: 0.0,
            empty_blocks: Vec::new(),
            event_names: vec!["CLAIM_STATUS_CHANGE".to_owned()],
            relevant: 1.0,
            padding: 0,
            token: None,
            keep: 1_000_000,
            knobs: GatewayKnobs::default(),
        }
    }
}

impl GatewayOptions {
    /// A chain of so many blocks that grows when it is told to.
    pub fn resting(blocks: u32) -> Self {
        Self {
            blocks,
            block_every: Duration::ZERO,
            ..Self::default()
        }
    }

    /// Checks what no option can check alone.
    ///
    /// # Errors
    /// A block would hold too many events: what is allowed.
    pub fn check(&self) -> Result<(), String> {
        if self.events.to > i64::from(MOST_EVENTS) {
            return Err(format!(
                "{} events of a block are too many; expected at most {MOST_EVENTS}",
                self.events.to
            ));
        }
        Ok(())
    }
}

/// Numbers from one to another, both included, written `100-5000`, or `17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The first one, 0 or more.
    pub from: i64,
    /// The last one.
    pub to: i64,
}

impl Blocks {
    /// Whether a number is among them.
    pub fn contains(self, number: i64) -> bool {
        (self.from..=self.to).contains(&number)
    }
}

impl From<RangeInclusive<i64>> for Blocks {
    fn from(range: RangeInclusive<i64>) -> Self {
        Self {
            from: *range.start(),
            to: *range.end(),
        }
    }
}

impl FromStr for Blocks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let wrong = || format!("\"{text}\" is no range of numbers; expected e.g. 100-5000 or 17");
        let from: u32 = from.parse().map_err(|_| wrong())?;
        let to: u32 = to.parse().map_err(|_| wrong())?;
        if from > to {
            return Err(wrong());
        }
        Ok(Self {
            from: from.into(),
            to: to.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: GatewayOptions,
    }

    fn parse(args: &[&str]) -> Result<GatewayOptions, String> {
        Command::try_parse_from([&["gateway"], args].concat())
            .map(|command| command.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn no_options_give_the_defaults() {
        assert_eq!(parse(&[]).unwrap(), GatewayOptions::default());
    }

    #[test]
    fn the_command_line_is_understood_and_mistakes_are_named() {
        let options = parse(&[
            "--events=2-3",
            "--empty-blocks=7-9",
            "--empty-blocks=20",
            "--outage=unavailable",
            "--late=0.1",
        ])
        .unwrap();
        assert_eq!(options.events, Blocks::from(2..=3));
        assert_eq!(options.empty_blocks, [(7..=9).into(), (20..=20).into()]);
        assert_eq!(
            (options.knobs.late, options.knobs.outage),
            (0.1, super::super::Outage::Unavailable)
        );
        for (args, words) in [
            (["--events=5-2"], "e.g. 100-5000"),
            (["--late=2"], "from 0 to 1"),
            (["--refuse=200"], "400..=599"),
        ] {
            let error = parse(&args).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let many = parse(&["--events=1-10001"]).unwrap().check().unwrap_err();
        assert!(many.contains("at most 10000"), "{many}");
    }
}
