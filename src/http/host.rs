//! Which `Host` is answered. A server that asks for no token trusts whoever
//! reaches its loopback address, and a browser reaches it for any web page
//! whose name is made to mean that address (DNS rebinding). Such a request
//! carries the page's name as its `Host`, and is refused.

use super::problem::{Problem, Refusal};
use super::state::Http;
use crate::config::HttpSettings;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use std::net::IpAddr;

/// Refuses requests for another machine's name where tokens do not.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let refused = request
        .app_data::<web::Data<Http>>()
        .is_some_and(|http| is_open(&http.settings().http))
        .then(|| foreign(&request))
        .flatten();
    match refused {
        None => next.call(request).await,
        Some(host) => {
            let refusal = Refusal(Problem::misdirected(&host));
            Ok(request.into_response(refusal.error_response()))
        }
    }
}

/// Whether something is open to whoever reaches a loopback address. Other
/// addresses are not open: the configuration asks for tokens there.
fn is_open(settings: &HttpSettings) -> bool {
    settings.listen.ip().is_loopback()
        && (settings.read_token.is_none() || settings.intake_token.is_none())
}

/// The request's `Host`, where it is not this machine's own. Browsers always
/// send one; what sends none is no browser.
pub(super) fn foreign(request: &ServiceRequest) -> Option<String> {
    request
        .headers()
        .get_all(header::HOST)
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .find(|host| !is_own(host))
        .map(|host| host.chars().take(200).collect())
}

fn is_own(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || port.starts_with(':') => name,
            _ => return false,
        },
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_own;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for own in [
            "localhost",
            "LOCALHOST:8780",
            "localhost.",
            "127.0.0.1",
            "127.3.2.1:80",
            "[::1]",
            "[::1]:8780",
        ] {
            assert!(is_own(own), "{own}");
        }
        for foreign in [
            "",
            "evil.example",
            "evil.example:8780",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "[::1].evil.example",
            "[::2]",
            "10.0.0.1",
            "0.0.0.0:8780",
        ] {
            assert!(!is_own(foreign), "{foreign}");
        }
    }
}
