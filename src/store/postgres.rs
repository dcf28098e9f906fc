//! Connections to PostgreSQL, plain or over TLS.

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use rustls_platform_verifier::BuilderVerifierExt;
use std::sync::Arc;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connects and opens a session in `schema`.
///
/// With `sslmode=require` in the address the connection is encrypted, and the
/// server's certificate is verified against the system's authorities; without,
/// it is plain.
pub(super) async fn establish(url: &str, session: &str) -> ConnectionResult<AsyncPgConnection> {
    let config: tokio_postgres::Config = url.parse().map_err(bad)?;
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
        AsyncPgConnection::establish(url).await?
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
