//! Which server is to be controlled, and with which token.

use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::note;
use crate::config::{self, Loaded};
use clap::Args;
use secrecy::SecretString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use url::{Host, Url};

/// The token itself, where no file is named.
const TOKEN_VARIABLE: &str = "HIGHWATER_CTL_TOKEN";

/// Which server.
#[derive(Debug, Args)]
pub(in crate::cli) struct ServerArgs {
    /// The server [default: `http.listen` of the configuration].
    #[arg(long, global = true, value_name = "URL", env = "HIGHWATER_CTL_SERVER")]
    server: Option<String>,
    /// File whose first line is the control token [default:
    /// `http.control_token_file` of the configuration].
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HIGHWATER_CTL_TOKEN_FILE"
    )]
    token_file: Option<PathBuf>,
}

/// A server, and what opens it.
pub(super) struct Place {
    pub(super) base: Url,
    pub(super) token: SecretString,
}

impl Place {
    /// Finds both: what is named, else what the configuration says, which is
    /// not read when both are named.
    ///
    /// # Errors
    /// One of them is nowhere, or makes no sense.
    pub(super) fn find(args: &ServerArgs, named: Option<&Path>) -> Result<Self, Failure> {
        let token = match &args.token_file {
            Some(path) => Some(config::token_file(path).map_err(Failure::Usage)?),
            None => from_environment()?,
        };
        let server = args.server.as_deref().map(server_url).transpose()?;
        let (server, token) = match (server, token) {
            (Some(base), Some(token)) => return Ok(Self { base, token }),
            found => found,
        };
        let loaded = context::load(named).inspect_err(|failure| {
            if matches!(failure, Failure::Config(_)) {
                note(
                    &"the configuration cannot be read; --server and --token-file together do without it",
                );
            }
        })?;
        let listen = loaded.settings.http.listen;
        Ok(Self {
            base: server.map_or_else(|| listening(listen), Ok)?,
            token: token.map_or_else(|| configured(&loaded), Ok)?,
        })
    }
}

fn from_environment() -> Result<Option<SecretString>, Failure> {
    let Some(token) = std::env::var_os(TOKEN_VARIABLE).filter(|token| !token.is_empty()) else {
        return Ok(None);
    };
    config::check_token(&token.to_string_lossy())
        .map(Some)
        .map_err(|problem| Failure::Usage(format!("{TOKEN_VARIABLE} {problem}")))
}

fn configured(loaded: &Loaded) -> Result<SecretString, Failure> {
    if let Some(token) = &loaded.settings.http.control_token {
        return Ok(token.clone());
    }
    let key = "http.control_token_file";
    let mut warnings = loaded.warnings.iter();
    let missing = warnings.find(|warning| warning.key.as_deref() == Some(key));
    Err(Failure::Usage(match missing {
        Some(missing) => format!("no control token: {missing}"),
        None => format!(
            "no control token is configured: set {key} and reload the server, or name the file \
             with --token-file"
        ),
    }))
}

fn server_url(text: &str) -> Result<Url, Failure> {
    let wrong = |why: &str| {
        Failure::Usage(format!(
            "--server \"{text}\" {why}; expected a URL as in http://127.0.0.1:8780"
        ))
    };
    let url = Url::parse(text).map_err(|error| wrong(&format!("is no URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("is no HTTP address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::Usage(
            "--server takes no user and no password; the token comes from --token-file".to_owned(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has a query or a fragment"));
    }
    Ok(url)
}

/// Where to reach a server that listens here: one that listens everywhere
/// listens on loopback too.
fn listening(listen: SocketAddr) -> Result<Url, Failure> {
    if listen.port() == 0 {
        return Err(Failure::Usage(
            "http.listen has port 0, which is another one at each start: name the server with \
             --server"
                .to_owned(),
        ));
    }
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let address = SocketAddr::new(ip, listen.port());
    Url::parse(&format!("http://{address}"))
        .map_err(|error| Failure::Usage(format!("http.listen {listen}: {error}")))
}

pub(super) fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_reached_on_loopback() {
        let url = |listen: &str| listening(listen.parse().unwrap()).map(|url| url.to_string());
        assert_eq!(url("0.0.0.0:8780").unwrap(), "http://127.0.0.1:8780/");
        assert_eq!(url("[::]:8780").unwrap(), "http://[::1]:8780/");
        assert_eq!(url("10.0.0.3:80").unwrap(), "http://10.0.0.3/");
        assert!(matches!(url("127.0.0.1:0"), Err(Failure::Usage(_))));
    }

    #[test]
    fn only_addresses_of_servers_are_taken() {
        for wrong in [
            "localhost:8780",
            "ftp://h",
            "http://",
            "http://u:p@h",
            "http://h/?a",
            "",
        ] {
            assert!(
                matches!(server_url(wrong), Err(Failure::Usage(_))),
                "{wrong}"
            );
        }
        assert!(server_url("https://h/behind/a/proxy/").is_ok());
    }
}
