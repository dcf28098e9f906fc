//! `highwater sim sites`: simulated sites until they are told to stop.

use super::handle::{SitesHandle, SitesStats};
use super::options::SitesOptions;
use super::server::SitesSim;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// Plays sites until SIGINT or SIGTERM: what `highwater sim sites` does.
/// Writes the import file, if one is wanted (over one that is there); prints
/// the address when it listens, a line of statistics a second where standard
/// error is a terminal, and what was counted at the end. Needs a tokio runtime
/// with signals and I/O.
///
/// # Errors
/// The options do not fit together, the address is taken or not allowed, the
/// file cannot be written, a signal handler cannot be set, or standard output
/// is closed.
pub async fn run_sites(
    options: SitesOptions,
    app_id: &str,
    sites_file: Option<&Path>,
) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let sites = SitesSim::start(options)?;
    if let Some(file) = sites_file {
        write_file(&sites, app_id, file).map_err(|error| {
            let text = format!("cannot write {}: {error}", file.display());
            io::Error::new(error.kind(), text)
        })?;
    }
    let last = sites.count() - 1;
    writeln!(
        io::stdout(),
        "{} simulated sites listening: {} to {}\n\
         counted so far: GET http://{}/sim/stats",
        sites.count(),
        sites.site_url(0),
        sites.site_url(last),
        sites.addr()
    )?;
    let shows = io::stderr().is_terminal();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut before = SitesStats::default();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = ticks.tick(), if shows => {}
        }
        let stats = sites.stats();
        let line = line(&stats, stats.visits - before.visits);
        // In place of the line before. When nobody sees it, nobody misses it.
        drop(write!(io::stderr(), "\r\x1b[K{line}"));
        before = stats;
    }
    if shows {
        drop(writeln!(io::stderr()));
    }
    let stats = sites.stats();
    sites.stop();
    writeln!(io::stdout(), "{}", summary(&stats))
}

fn write_file(sites: &SitesHandle, app_id: &str, file: &Path) -> io::Result<()> {
    sites.write_import(app_id, &mut BufWriter::new(File::create(file)?))
}

fn line(stats: &SitesStats, last_second: u64) -> String {
    format!(
        "{last_second} visits/s, {} under way, {}",
        stats.under_way,
        summary(stats)
    )
}

fn summary(stats: &SitesStats) -> String {
    format!(
        "{} visits: {} ok, {} failed, {} too many, {} closed, {} abandoned; {} overlapped",
        stats.visits,
        stats.ok,
        stats.failed,
        stats.too_many,
        stats.closed,
        stats.abandoned,
        stats.overlaps.count
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_the_rate_and_what_came_of_the_visits() {
        let stats = SitesStats {
            visits: 10,
            under_way: 1,
            ok: 6,
            failed: 1,
            closed: 2,
            ..SitesStats::default()
        };
        assert_eq!(
            line(&stats, 4),
            "4 visits/s, 1 under way, 10 visits: 6 ok, 1 failed, 0 too many, 2 closed, \
             0 abandoned; 0 overlapped"
        );
    }
}
