//! `highwater sim consumer`: a simulated consumer until it is told to stop.

use super::handle::ConsumerStats;
use super::options::ConsumerOptions;
use super::server::ConsumerSim;
use crate::sim::peer::Stop;
use std::io::{self, Write};

/// Plays a consumer until SIGINT or SIGTERM: what `highwater sim consumer`
/// does. Prints the address when it listens, a line of statistics a second
/// where standard error is a terminal, and what was counted at the end. Needs a
/// tokio runtime with signals and I/O.
///
/// # Errors
/// The address is taken or not allowed, a signal handler cannot be set, or
/// standard output is closed.
pub async fn run_consumer(options: ConsumerOptions) -> io::Result<()> {
    let stop = Stop::new()?;
    let consumer = ConsumerSim::start(options)?;
    writeln!(
        io::stdout(),
        "simulated consumer listening: events go to {}\n\
         what came: GET http://{}/sim/received",
        consumer.url(),
        consumer.addr()
    )?;
    stop.wait(|| summary(&consumer.stats())).await;
    let stats = consumer.stats();
    consumer.stop();
    writeln!(io::stdout(), "{}", summary(&stats))
}

fn summary(stats: &ConsumerStats) -> String {
    format!(
        "{} events came: {} taken, {} failed; {} calls were no events",
        stats.calls, stats.taken, stats.failed, stats.malformed
    )
}
