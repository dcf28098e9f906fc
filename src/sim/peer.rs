//! What the simulated gateway and the simulated consumer have in common as
//! servers: their routes on a thread of its own, and the signals that end them.

use super::running::{Running, cannot_listen};
use actix_web::dev::Server;
use actix_web::{App, HttpServer, web};
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Idle connections are dropped after this, as most web servers do.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// A running peer; stops when dropped.
pub(super) struct Peer(Running);

impl Peer {
    /// Starts a peer; it listens when this returns. `begin` is called on its
    /// thread, within its runtime, to spawn what runs besides.
    ///
    /// # Errors
    /// The address is taken or not allowed, or no thread can be started.
    pub(super) fn start(
        name: &str,
        listen: SocketAddr,
        workers: usize,
        routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
        begin: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let bind = move || {
            let bound = bind(listen, workers, routes)?;
            begin();
            Ok(bound)
        };
        Ok(Self(Running::start("a simulated peer", name, bind)?))
    }

    /// Where it listens.
    pub(super) fn addr(&self) -> SocketAddr {
        self.0.addr()
    }
}

fn bind(
    listen: SocketAddr,
    workers: usize,
    routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
) -> io::Result<(SocketAddr, Server)> {
    let server = HttpServer::new(move || App::new().configure(routes.clone()))
        .workers(workers.max(1))
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(Duration::ZERO)
        .disable_signals()
        .bind(listen)
        .map_err(cannot_listen(listen))?;
    let addr = server.addrs().first().copied();
    let addr = addr.ok_or_else(|| io::Error::other("no address bound"))?;
    Ok((addr, server.run()))
}

/// The signals that end a simulator in the foreground.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Takes the signals from now on.
    ///
    /// # Errors
    /// A signal handler cannot be set.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for SIGINT or SIGTERM; meanwhile shows a line a second where
    /// standard error is a terminal.
    pub(super) async fn wait(mut self, line: impl Fn() -> String) {
        let shows = io::stderr().is_terminal();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = ticks.tick(), if shows => {
                    // In place of the line before. When nobody sees it, nobody misses it.
                    drop(write!(io::stderr(), "\r\x1b[K{}", line()));
                }
            }
        }
        if shows {
            drop(writeln!(io::stderr()));
        }
    }
}
