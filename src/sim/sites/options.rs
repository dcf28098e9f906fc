//! What simulated sites can be told at their start, also on the command line.

use super::behaviour::{Flap, Mix};
use crate::sim::Span;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Most sites of a simulator.
const MOST_SITES: u32 = 10_000_000;

/// The options of simulated sites.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct SitesOptions {
    /// How many sites there are; their numbers begin with 0.
    #[arg(value_name = "SITES", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_SITES)))]
    pub count: u32,
    /// Which shares of them behave how.
    #[command(flatten)]
    pub mix: Mix,
    /// How long every answer takes, as in 5ms..50ms, drawn for each visit.
    #[arg(long, default_value = "0s", value_name = "FROM..TO")]
    pub latency: Span,
    /// What slow sites take besides, drawn for each visit.
    #[arg(long, default_value = "500ms..3s", value_name = "FROM..TO")]
    pub slow_for: Span,
    /// How long a flapping site works before it fails as long: a number of
    /// visits, as in 5, or a time, as in 30s.
    #[arg(long, default_value = "5", value_name = "VISITS|TIME")]
    pub flap: Flap,
    /// Seconds in the Retry-After of a 429.
    #[arg(long, default_value_t = 1, value_name = "SECONDS")]
    pub retry_after: u64,
    /// Changes how behaviours and times are drawn.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Hosts that the sites are spread over: 127.0.0.1, 127.0.0.2 and so on,
    /// on one port.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=254))]
    pub hosts: u8,
    /// Threads that answer requests.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub workers: usize,
    /// How many visits of a site and path are kept, the newest.
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub keep_visits: u16,
}

impl SitesOptions {
    /// So many healthy sites, and defaults.
    pub fn of(count: u32) -> Self {
        Self {
            count,
            mix: Mix::default(),
            latency: Span::default(),
            slow_for: Span::new(Duration::from_millis(500), Duration::from_secs(3)),
            flap: Flap::Visits(5),
            retry_after: 1,
            seed: 0,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            hosts: 1,
            workers: 1,
            keep_visits: 16,
        }
    }

    /// Checks what no option can check alone.
    ///
    /// # Errors
    /// There are no sites or too many, the shares are more than all sites, or
    /// the hosts cannot be had at the address to listen on.
    pub fn check(&self) -> Result<(), SitesProblem> {
        if !(1..=MOST_SITES).contains(&self.count) {
            return Err(SitesProblem::Count(self.count));
        }
        let sum = self.mix.sum();
        // Written shares such as 0.7 + 0.2 + 0.1 do not add up to 1 exactly.
        if sum.is_nan() || sum > 1.0 + 1e-9 {
            return Err(SitesProblem::Shares(sum));
        }
        let ip = self.listen.ip();
        let holds_hosts = ip == Ipv4Addr::LOCALHOST || ip == Ipv4Addr::UNSPECIFIED;
        if self.hosts != 1 && (self.hosts == 0 || self.hosts == u8::MAX || !holds_hosts) {
            return Err(SitesProblem::Hosts(self.hosts, self.listen));
        }
        Ok(())
    }

    /// The addresses that need a listener of their own besides `listen`.
    pub(super) fn more_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let last = if self.listen.ip().is_unspecified() {
            1
        } else {
            self.hosts
        };
        (2..=last).map(|host| IpAddr::from([127, 0, 0, host]))
    }

    /// The address under which a site is reached that listens on `bound`.
    pub(super) fn address(&self, site: u32, bound: SocketAddr) -> SocketAddr {
        let host = site % u32::from(self.hosts.max(1));
        let ip = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() || self.hosts > 1 => {
                IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + host))
            }
            ip => ip,
        };
        SocketAddr::new(ip, bound.port())
    }
}

/// An option that cannot be understood, or does not fit the others.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SitesProblem {
    /// No sites, or too many.
    #[error("{0} sites cannot be played; expected 1 to {MOST_SITES}")]
    Count(u32),
    /// The shares are more than all sites.
    #[error("the shares of behaviours add up to {0:.3}; expected 1 at most")]
    Shares(f64),
    /// Hosts that cannot be had.
    #[error("{0} hosts cannot be had at {1}; expected 1 host, or 1 to 254 on 127.0.0.1 or 0.0.0.0")]
    Hosts(u8, SocketAddr),
    /// Not a turn of flapping.
    #[error(
        "\"{0}\" is no turn of flapping; expected a number of visits or a time, as in 5 or 30s"
    )]
    Flap(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: SitesOptions,
    }

    fn parse(args: &[&str]) -> Result<SitesOptions, String> {
        Command::try_parse_from([&["sites"], args].concat())
            .map(|command| command.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn no_options_give_the_defaults() {
        assert_eq!(parse(&["1000"]).unwrap(), SitesOptions::of(1000));
    }

    #[test]
    fn the_command_line_is_understood() {
        let options = parse(&[
            "20",
            "--healthy=0.7",
            "--slow=0.2",
            "--dead=0.1",
            "--slow-for=1s..2s",
            "--flap=30s",
            "--hosts=4",
        ])
        .unwrap();
        assert_eq!(options.check(), Ok(()));
        assert_eq!((options.mix.slow, options.mix.dead), (0.2, 0.1));
        assert_eq!(options.slow_for.at(0.5), Duration::from_millis(1500));
        assert_eq!(options.flap, Flap::Time(Duration::from_secs(30)));
        let bound = "127.0.0.1:80".parse().unwrap();
        let hosts: Vec<String> = (0..5)
            .map(|site| options.address(site, bound).ip().to_string())
            .collect();
        let expected = [
            "127.0.0.1",
            "127.0.0.2",
            "127.0.0.3",
            "127.0.0.4",
            "127.0.0.1",
        ];
        assert_eq!(hosts, expected);
    }

    #[test]
    fn mistakes_are_named() {
        for (args, words) in [
            (&[][..], "<SITES>"),
            (&["0"], "1..=10000000"),
            (&["5", "--slow=2"], "from 0 to 1"),
            (&["5", "--flap=often"], "as in 5 or 30s"),
            (&["5", "--hosts=255"], "1..=254"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        for (args, words) in [
            (&["5", "--slow=0.7", "--dead=0.7"][..], "add up to 1.4"),
            (&["5", "--hosts=2", "--listen=[::1]:0"], "[::1]:0"),
        ] {
            let error = parse(args).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
