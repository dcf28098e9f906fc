//! One websocket to a ledger: connected within a time limit, with the polling
//! client's credentials; asked for signs of life; messages bounded.

use super::StreamLimits;
use super::error::StreamError;
use crate::ledgers::LedgerError;
use crate::ledgers::transport::{Transport, Upgrade};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use reqwest::header::HeaderMap;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

/// A plain or encrypted connection.
trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Wire for T {}

/// An open stream.
pub(super) struct Socket {
    stream: WebSocketStream<Box<dyn Wire>>,
    limits: StreamLimits,
    /// When something was heard, a pong included.
    heard_at: Instant,
    /// When the ledger is asked for a sign of life next.
    ping_at: Instant,
}

impl Socket {
    /// Connects to a route.
    ///
    /// # Errors
    /// The ledger is out of reach, too slow, or refuses; as for a request.
    pub(super) async fn connect(
        transport: &Transport,
        route: &str,
        limits: StreamLimits,
    ) -> Result<Self, LedgerError> {
        let upgrade = transport.upgrade(route);
        let after = upgrade.timeout;
        let opened = timeout(after, open(transport, &upgrade, route)).await;
        let stream = opened.map_err(|_| LedgerError::Timeout { after })??;
        let now = Instant::now();
        Ok(Self {
            stream,
            limits,
            heard_at: now,
            ping_at: now + limits.ping,
        })
    }

    /// The next message. May be dropped and asked again: nothing is lost.
    ///
    /// # Errors
    /// The connection ended, or nothing was heard for too long.
    pub(super) async fn next(&mut self) -> Result<String, StreamError> {
        loop {
            let silent_at = self.heard_at + self.limits.idle;
            tokio::select! {
                biased;
                message = self.stream.next() => {
                    if let Some(text) = self.take(message)? {
                        return Ok(text);
                    }
                }
                () = sleep_until(silent_at.min(self.ping_at)) => {
                    if Instant::now() >= silent_at {
                        return Err(StreamError::Silent(self.limits.idle));
                    }
                    self.ping_at = Instant::now() + self.limits.ping;
                    self.write(Message::Ping(bytes::Bytes::new())).await?;
                }
            }
        }
    }

    /// A message that has arrived already, if there is one.
    ///
    /// # Errors
    /// As [`Socket::next`].
    pub(super) fn ready(&mut self) -> Result<Option<String>, StreamError> {
        while let Some(message) = self.stream.next().now_or_never() {
            if let Some(text) = self.take(message)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection ended.
    pub(super) async fn send(&mut self, text: String) -> Result<(), StreamError> {
        self.write(Message::text(text)).await
    }

    /// Nobody listened for a while: that was not the ledger's silence.
    pub(super) fn listen_again(&mut self) {
        self.heard_at = Instant::now();
    }

    async fn write(&mut self, message: Message) -> Result<(), StreamError> {
        // A peer that reads nothing must not hold us up for ever.
        let sent = timeout(self.limits.idle, self.stream.send(message)).await;
        let sent = sent.map_err(|_| StreamError::Silent(self.limits.idle))?;
        sent.map_err(|error| StreamError::Ended(error.to_string()))
    }

    /// Takes note of what came; answers the text of a message.
    fn take(
        &mut self,
        message: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<Option<String>, StreamError> {
        let ended = |why: &str| Err(StreamError::Ended(why.to_owned()));
        let Some(message) = message else {
            return ended("without a close frame");
        };
        self.heard_at = Instant::now();
        self.ping_at = self.heard_at + self.limits.ping;
        match message {
            Ok(Message::Text(text)) => Ok(Some(text.as_str().to_owned())),
            // Pongs to pings of theirs are sent when we read on.
            Ok(Message::Ping(_) | Message::Pong(_)) => Ok(None),
            Ok(Message::Close(frame)) => match frame {
                Some(frame) => ended(&format!("close frame {}", u16::from(frame.code))),
                None => ended("close frame"),
            },
            Ok(Message::Binary(data)) => Err(StreamError::Malformed(format!(
                "{} bytes of binary data where text was expected",
                data.len()
            ))),
            Ok(Message::Frame(_)) => Ok(None),
            Err(tungstenite::Error::Capacity(error)) => Err(StreamError::Malformed(format!(
                "{error}; the limit is the ledger's max_response_bytes"
            ))),
            Err(error) => ended(&error.to_string()),
        }
    }
}

async fn open(
    transport: &Transport,
    upgrade: &Upgrade<'_>,
    route: &str,
) -> Result<WebSocketStream<Box<dyn Wire>>, LedgerError> {
    let unreachable = |detail: String| LedgerError::Unreachable {
        detail: transport.clean(&detail),
    };
    let url = Url::parse(&upgrade.url).map_err(|error| unreachable(error.to_string()))?;
    let host = url.host_str().unwrap_or_default();
    // An IPv6 address stands in brackets there.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(80);
    let tcp = TcpStream::connect((host, port))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    tcp.set_nodelay(true)
        .map_err(|error| unreachable(error.to_string()))?;
    let wire: Box<dyn Wire> = if upgrade.secure {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| unreachable(error.to_string()))?;
        let connector = tls().map_err(|error| unreachable(error.to_string()))?;
        let connected = connector.connect(name, tcp).await;
        Box::new(connected.map_err(|error| unreachable(error.to_string()))?)
    } else {
        Box::new(tcp)
    };
    let mut request = format!("ws{}", upgrade.url.trim_start_matches("http"))
        .into_client_request()
        .map_err(|error| unreachable(error.to_string()))?;
    copy(upgrade.headers, request.headers_mut());
    let most = transport.max_response_bytes();
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(most))
        .max_frame_size(Some(most));
    match client_async_with_config(request, wire, Some(config)).await {
        Ok((stream, _)) => Ok(stream),
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            Err(transport.refused(response.status(), response.headers(), body, route))
        }
        Err(tungstenite::Error::Io(error)) => Err(unreachable(error.to_string())),
        Err(error) => Err(LedgerError::Malformed {
            detail: transport.clean(&format!("no websocket: {error}")),
        }),
    }
}

fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        to.insert(name, value.clone());
    }
    let agent = concat!("highwater/", env!("CARGO_PKG_VERSION"));
    to.insert(
        reqwest::header::USER_AGENT,
        reqwest::header::HeaderValue::from_static(agent),
    );
}

/// TLS as the polling client has it: the system's authorities.
fn tls() -> Result<tokio_rustls::TlsConnector, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
}
