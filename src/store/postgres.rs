//! Connections to PostgreSQL, plain or over TLS.

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use rustls_platform_verifier::BuilderVerifierExt;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long connecting may take, where the address does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the other side may be silent before it is asked for a sign of life,
/// and how long what was sent may go unacknowledged.
const SILENCE: Duration = Duration::from_secs(15);

/// Connects and opens a session in `schema`.
///
/// With `sslmode=require` in the address the connection is encrypted, and the
/// server's certificate is verified against the system's authorities; without,
/// it is plain.
pub(super) async fn establish(url: &str, session: &str) -> ConnectionResult<AsyncPgConnection> {
    let mut config: tokio_postgres::Config = url.parse().map_err(bad)?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    // A database that vanished without a word is noticed.
    config
        .tcp_user_timeout(SILENCE)
        .keepalives_idle(SILENCE)
        .keepalives_interval(SILENCE / 3)
        .keepalives_retries(3);
    let mut conn = if config.get_ssl_mode() == SslMode::Require {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(bad)?
            .with_no_client_auth();
        let connect = config.connect(MakeRustlsConnect::new(tls));
        let (client, connection) = connect.await.map_err(bad)?;
        AsyncPgConnection::try_from_client_and_connection(client, connection).await?
    } else {
        let connect = config.connect(NoTls);
        let (client, connection) = connect.await.map_err(bad)?;
        AsyncPgConnection::try_from_client_and_connection(client, connection).await?
    };
    conn.batch_execute(session)
        .await
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

/// An error with its causes, which is where the useful words are.
fn bad(error: impl std::error::Error) -> ConnectionError {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        words = format!("{words}: {next}");
        cause = next.source();
    }
    ConnectionError::BadConnection(words)
}
