//! A server on a free port that answers as it is told, and remembers what it
//! was asked.

use highwater::config::{LedgerRole, LedgerSettings};
use highwater::flows::batches::{BatchError, StatusReport};
use highwater::ledgers::{Ledger, LedgerError, LedgerKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the server does when asked.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends these bytes and keeps the connection.
    Send(Vec<u8>),
    /// Sends these bytes and closes the connection.
    SendAndClose(Vec<u8>),
    /// Closes the connection.
    Close,
    /// Sends these bytes and then nothing more.
    Hang(Vec<u8>),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// All values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(known, _)| known == name);
        same.map(|(_, value)| value.as_str()).collect()
    }
}

/// The server; ends when dropped.
pub(crate) struct Replay {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Replay {
    /// Starts; request n is answered by act n, those after the last by the last.
    pub(crate) async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn({
            let (seen, connections, acts) = (seen.clone(), connections.clone(), Arc::new(acts));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(stream, seen.clone(), acts.clone()));
                }
            }
        });
        Self {
            address,
            seen,
            connections,
            accepting,
        }
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Settings of a ledger at this server, with the defaults of its kind.
    pub(crate) fn settings(&self, kind: LedgerKind) -> LedgerSettings {
        LedgerSettings {
            name: "replayed".to_owned(),
            kind,
            url: format!("http://{}", self.address).parse().unwrap(),
            role: LedgerRole::Primary,
            connections: 8,
            ids_per_request: match kind {
                LedgerKind::Sawtooth => 500,
                LedgerKind::Splinter => 100,
            },
            timeout: Duration::from_secs(10),
            wait: None,
            max_response_bytes: 8 << 20,
            stream: false,
            token: None,
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>, acts: Arc<Vec<Act>>) {
    while let Some(request) = read_request(&mut stream).await {
        let act = {
            let mut seen = seen.lock().unwrap();
            seen.push(request);
            acts[(seen.len() - 1).min(acts.len() - 1)].clone()
        };
        // A client that has seen enough hangs up; that is for the test to judge.
        let going_on = match act {
            Act::Send(bytes) => stream.write_all(&bytes).await.is_ok(),
            Act::SendAndClose(bytes) => {
                stream.write_all(&bytes).await.ok();
                stream.shutdown().await.ok();
                false
            }
            Act::Close => false,
            Act::Hang(bytes) => {
                stream.write_all(&bytes).await.ok();
                std::future::pending().await
            }
        };
        if !going_on {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = bytes.split_off(head_end);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen {
        method,
        target,
        headers,
        body,
    })
}

/// An answer of status 200 with a body of JSON.
pub(crate) fn ok_json(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Asks once and takes the ledger's error out of the flow's.
pub(crate) async fn ask(
    ledger: &dyn Ledger,
    service_id: &str,
    batch_ids: &[&str],
) -> Result<Vec<StatusReport>, LedgerError> {
    match ledger.get_batch_statuses(service_id, batch_ids).await {
        Ok(reports) => Ok(reports),
        Err(BatchError::Ledger(error)) => Err(error),
        Err(other) => panic!("not an error of the ledger: {other}"),
    }
}
