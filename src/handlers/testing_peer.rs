//! A peer for tests: answers each connection as it is told, and keeps what it
//! was asked.

use crate::flows::sites::{AppName, JobKey, SiteInfo, Visit};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is done with a connection once a request is here.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Bytes, then the end.
    Send(Vec<u8>),
    /// Bytes, then nothing.
    Hang(Vec<u8>),
}

/// A listening peer; the last act serves every further connection.
pub(super) struct Peer {
    /// Its address, without a slash at the end.
    pub(super) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// Listens on a free port.
    pub(super) async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        tokio::spawn(async move {
            let mut count = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let act = acts[count.min(acts.len() - 1)].clone();
                count += 1;
                tokio::spawn(answer(stream, act, heard.clone()));
            }
        });
        Self { url, asked }
    }

    /// All requests so far, head and body.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(mut stream: TcpStream, act: Act, heard: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !whole(&request) {
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    heard
        .lock()
        .unwrap()
        .push(String::from_utf8_lossy(&request).into_owned());
    match act {
        Act::Send(bytes) => {
            drop(stream.write_all(&bytes).await);
            drop(stream.shutdown().await);
        }
        Act::Hang(bytes) => {
            drop(stream.write_all(&bytes).await);
            std::future::pending::<()>().await;
        }
    }
}

fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |value| value.trim().parse().unwrap());
    body.len() >= length
}

/// An answer with a body and its length.
pub(super) fn reply(head: &str, body: impl AsRef<[u8]>) -> Act {
    let body = body.as_ref();
    let mut bytes = format!(
        "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    Act::Send(bytes)
}

/// `200 OK` with JSON.
pub(super) fn json(body: &str) -> Act {
    reply("200 OK\r\nContent-Type: application/json", body)
}

/// A first visit of a site at an address.
pub(super) fn visit_of(url: &str) -> Visit {
    Visit {
        job: JobKey::new(AppName::parse("org.example").unwrap(), "sync").unwrap(),
        site: SiteInfo {
            site_id: "site:7".to_owned(),
            url: url.to_owned(),
            labels: r#"{"region": "north & west", "size": 3}"#.to_owned(),
            batch_code: 42,
        },
        last_run_at: None,
        level: 0,
        count: 0,
    }
}
