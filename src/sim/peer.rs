//! A simulated peer that runs: an actix-web server on a thread of its own, so
//! that any test, runtime or benchmark can start one.

use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer, web};
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Idle connections are dropped after this, as most web servers do.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// A running peer; stops when dropped.
pub(super) struct Peer {
    addr: SocketAddr,
    server: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

type Started = io::Result<(SocketAddr, ServerHandle)>;

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
        let (report, started) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(listen, workers, routes, begin, &report))?;
        let (addr, server) = started
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the simulator's thread ended at once")))?;
        Ok(Self {
            addr,
            server,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        // The command is sent here; its outcome is the end of the thread.
        drop(self.server.stop(false));
        if thread.join().is_err() {
            tracing::warn!(server.address = %self.addr, "a simulated peer panicked");
        }
    }
}

fn serve(
    listen: SocketAddr,
    workers: usize,
    routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
    begin: impl FnOnce(),
    report: &mpsc::Sender<Started>,
) {
    let system = actix_web::rt::System::new();
    system.block_on(async {
        let (addr, server) = match bind(listen, workers, routes) {
            Ok(bound) => bound,
            Err(error) => {
                // When nobody waits for the report, nobody wants the server.
                drop(report.send(Err(error)));
                return;
            }
        };
        begin();
        if report.send(Ok((addr, server.handle()))).is_ok()
            && let Err(error) = server.await
        {
            tracing::warn!(server.address = %addr, error = %error, "a simulated peer ended with an error");
        }
    });
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
        .map_err(|error| {
            let text = format!("cannot listen on {listen}: {error}; choose another address");
            io::Error::new(error.kind(), text)
        })?;
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
