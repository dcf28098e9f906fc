//! `highwater sim gateway`: a simulated gateway until it is told to stop.

use super::handle::GatewayStats;
use super::options::GatewayOptions;
use super::server::GatewaySim;
use crate::sim::peer::Stop;
use std::io::{self, Write};

/// Plays a gateway until SIGINT or SIGTERM: what `highwater sim gateway` does.
/// Prints the address when it listens, a line of statistics a second where
/// standard error is a terminal, and what was counted at the end. Needs a tokio
/// runtime with signals and I/O.
///
/// # Errors
/// The options do not fit together, the address is taken or not allowed, a
/// signal handler cannot be set, or standard output is closed.
pub async fn run_gateway(options: GatewayOptions) -> io::Result<()> {
    let stop = Stop::new()?;
    let gateway = GatewaySim::start(options)?;
    writeln!(
        io::stdout(),
        "simulated gateway listening: subscribe at {}\n\
         what was sent: GET http://{}/sim/chain",
        gateway.url(),
        gateway.addr()
    )?;
    stop.wait(|| summary(&gateway.stats())).await;
    let stats = gateway.stats();
    gateway.stop();
    writeln!(io::stdout(), "{}", summary(&stats))
}

fn summary(stats: &GatewayStats) -> String {
    format!(
        "{} blocks; {} subscriptions taken, {} refused, {} live; {} events sent, {} acknowledged; {} of {} calls failed",
        stats.blocks,
        stats.subscribed,
        stats.refused,
        stats.live,
        stats.events_sent,
        stats.events_acknowledged,
        stats.calls_failed,
        stats.calls
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_what_was_sent_and_taken() {
        let stats = GatewayStats {
            blocks: 10,
            subscribed: 2,
            live: 1,
            calls: 9,
            calls_failed: 2,
            events_sent: 9,
            events_acknowledged: 7,
            ..GatewayStats::default()
        };
        assert_eq!(
            summary(&stats),
            "10 blocks; 2 subscriptions taken, 0 refused, 1 live; 9 events sent, 7 acknowledged; 2 of 9 calls failed"
        );
    }
}
