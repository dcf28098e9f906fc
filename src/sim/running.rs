//! The server of a simulator, on a thread of its own.

use actix_web::dev::{Server, ServerHandle};
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

/// A running server; stops when dropped.
pub(super) struct Running {
    /// What it plays, in log lines: `simulated sites`.
    what: &'static str,
    addr: SocketAddr,
    server: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

type Started = io::Result<(SocketAddr, ServerHandle)>;

impl Running {
    /// Starts a thread of this name, and on it the server that `bind` answers;
    /// it listens when this returns.
    ///
    /// # Errors
    /// Those of `bind`, or no thread can be started.
    pub(super) fn start(
        what: &'static str,
        name: &str,
        bind: impl FnOnce() -> io::Result<(SocketAddr, Server)> + Send + 'static,
    ) -> io::Result<Self> {
        let (report, started) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(what, bind, &report))?;
        let (addr, server) = started
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the simulator's thread ended at once")))?;
        Ok(Self {
            what,
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

impl Drop for Running {
    /// Stops at once: open requests are dropped, and the port is free then.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        // The command is sent here; its outcome is the end of the thread.
        drop(self.server.stop(false));
        if thread.join().is_err() {
            let what = self.what;
            tracing::warn!(server.address = %self.addr, "{what} panicked");
        }
    }
}

/// The thread: reports its address, serves until stopped.
fn serve(
    what: &str,
    bind: impl FnOnce() -> io::Result<(SocketAddr, Server)>,
    report: &mpsc::Sender<Started>,
) {
    let system = actix_web::rt::System::new();
    system.block_on(async {
        let (addr, server) = match bind() {
            Ok(bound) => bound,
            Err(error) => {
                // When nobody waits for the report, nobody wants the server.
                drop(report.send(Err(error)));
                return;
            }
        };
        if report.send(Ok((addr, server.handle()))).is_ok()
            && let Err(error) = server.await
        {
            tracing::warn!(server.address = %addr, error = %error, "{what} ended with an error");
        }
    });
}

/// The same error, naming the address on which nobody can listen.
pub(super) fn cannot_listen(address: SocketAddr) -> impl Fn(io::Error) -> io::Error {
    move |error| {
        let text = format!("cannot listen on {address}: {error}; choose another address");
        io::Error::new(error.kind(), text)
    }
}
