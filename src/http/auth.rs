//! Who may do what: bearer tokens, compared in constant time, as the settings
//! in force have them; a cookie for browsers, which opens pages and nothing else.

use super::problem::Problem;
use crate::config::HttpSettings;
use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// Name of the browsers' cookie.
const COOKIE: &str = "highwater_read";

/// What an endpoint asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing, ever.
    Open,
    /// The read token, where one is set.
    Read,
    /// As `Read`, and a browser is sent to the login page.
    Page,
    /// The intake token, where one is set.
    Intake,
    /// The control token, without which nobody may.
    Control,
}

impl Access {
    /// Name of the token that is asked for.
    pub(super) const fn token(self) -> &'static str {
        match self {
            Self::Intake => "intake",
            Self::Control => "control",
            Self::Open | Self::Read | Self::Page => "read",
        }
    }
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No token would do: none is configured.
    NoControlToken,
    /// It shows no token.
    Missing,
    /// It shows another token.
    Wrong,
}

impl Refused {
    /// What the client is told.
    pub(super) fn problem(self, access: Access) -> Box<Problem> {
        let token = access.token();
        match self {
            Self::NoControlToken => Problem::no_control_token(),
            Self::Missing => {
                Problem::unauthorized(format!("send Authorization: Bearer with the {token} token"))
            }
            Self::Wrong => Problem::unauthorized(format!("this is not the {token} token")),
        }
    }
}

/// Checks a request's token.
///
/// # Errors
/// It may not.
pub(super) fn authorize(
    settings: &HttpSettings,
    request: &HttpRequest,
    access: Access,
) -> Result<(), Refused> {
    let wanted = match access {
        Access::Open => return Ok(()),
        Access::Read | Access::Page => settings.read_token.as_ref(),
        Access::Intake => settings.intake_token.as_ref(),
        Access::Control => match &settings.control_token {
            Some(token) => Some(token),
            None => return Err(Refused::NoControlToken),
        },
    };
    let Some(wanted) = wanted else {
        return Ok(());
    };
    let reading = matches!(access, Access::Read | Access::Page);
    let shown = match bearer(request) {
        Some(token) => Some(token),
        // A cookie travels unasked: it may open what changes nothing.
        None if reading => cookie(request),
        None => None,
    };
    let shown = shown.ok_or(Refused::Missing)?;
    if matches(&shown, wanted) || is_control(settings, &shown) {
        Ok(())
    } else {
        Err(Refused::Wrong)
    }
}

/// Whether a token typed into the login form opens the pages.
pub(super) fn opens_pages(settings: &HttpSettings, token: &str) -> bool {
    match &settings.read_token {
        Some(wanted) => matches(token, wanted) || is_control(settings, token),
        None => true,
    }
}

/// Whether a request shows the secret of a hook, in its path or as bearer token;
/// `None` where it shows nothing at all.
pub(super) fn opens_hook(
    settings: &HttpSettings,
    request: &HttpRequest,
    in_path: Option<&str>,
    secret: &SecretString,
) -> Option<bool> {
    let bearer = bearer(request);
    if in_path.is_none() && bearer.is_none() {
        return None;
    }
    let by_path = in_path.is_some_and(|shown| matches(shown, secret));
    let by_token =
        bearer.is_some_and(|shown| matches(&shown, secret) || is_control(settings, &shown));
    Some(by_path || by_token)
}

/// Whether a request may read what a token of its own guards, which it shows, or
/// the control token.
///
/// # Errors
/// It may not.
pub(super) fn opens_content(
    settings: &HttpSettings,
    request: &HttpRequest,
    own: &SecretString,
) -> Result<(), Refused> {
    let shown = bearer(request).ok_or(Refused::Missing)?;
    if matches(&shown, own) || is_control(settings, &shown) {
        Ok(())
    } else {
        Err(Refused::Wrong)
    }
}

/// The `Set-Cookie` that keeps a browser logged in until it is closed.
pub(super) fn set_cookie(token: &str, secure: bool) -> String {
    let value = utf8_percent_encode(token, NON_ALPHANUMERIC);
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{secure}")
}

/// Tells a browser to forget the cookie.
pub(super) fn forget_cookie(headers: &mut HeaderMap) {
    let forgotten = format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    if let Ok(value) = HeaderValue::from_str(&forgotten) {
        headers.append(header::SET_COOKIE, value);
    }
}

fn is_control(settings: &HttpSettings, shown: &str) -> bool {
    settings
        .control_token
        .as_ref()
        .is_some_and(|control| matches(shown, control))
}

fn matches(shown: &str, wanted: &SecretString) -> bool {
    let wanted = wanted.expose_secret().as_bytes();
    !wanted.is_empty() && bool::from(shown.as_bytes().ct_eq(wanted))
}

fn bearer(request: &HttpRequest) -> Option<String> {
    let value = request
        .headers()
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim().to_owned())
}

fn cookie(request: &HttpRequest) -> Option<String> {
    request
        .headers()
        .get_all(header::COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == COOKIE).then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    const READ: &str = "read-token-0123456789";
    const INTAKE: &str = "intake-token-0123456789";
    const CONTROL: &str = "control-token-0123456789";

    fn settings(read: bool, intake: bool, control: bool) -> HttpSettings {
        let token = |set: bool, token: &str| set.then(|| SecretString::from(token));
        HttpSettings {
            read_token: token(read, READ),
            intake_token: token(intake, INTAKE),
            control_token: token(control, CONTROL),
            ..super::super::testing::settings().http
        }
    }

    fn status(settings: &HttpSettings, access: Access, token: Option<&str>) -> u16 {
        let mut request = TestRequest::get();
        if let Some(token) = token {
            request = request.insert_header(("Authorization", format!("Bearer {token}")));
        }
        match authorize(settings, &request.to_http_request(), access) {
            Ok(()) => 200,
            Err(refused) => refused.problem(access).status,
        }
    }

    #[test]
    fn the_matrix_of_tokens() {
        use Access::{Control, Intake, Open, Page, Read};
        let all = settings(true, true, true);
        for (access, token, expected) in [
            (Open, None, 200),
            (Read, None, 401),
            (Read, Some(READ), 200),
            (Read, Some(INTAKE), 401),
            (Read, Some(CONTROL), 200),
            (Page, Some(READ), 200),
            (Intake, None, 401),
            (Intake, Some(READ), 401),
            (Intake, Some(INTAKE), 200),
            (Intake, Some(CONTROL), 200),
            (Control, None, 401),
            (Control, Some(READ), 401),
            (Control, Some(INTAKE), 401),
            (Control, Some(CONTROL), 200),
            (Control, Some("control-token-012345678"), 401),
            (Read, Some(""), 401),
        ] {
            assert_eq!(
                status(&all, access, token),
                expected,
                "{access:?} {token:?}"
            );
        }
        let none = settings(false, false, false);
        for (access, expected) in [(Read, 200), (Page, 200), (Intake, 200), (Control, 403)] {
            assert_eq!(status(&none, access, None), expected, "{access:?}");
        }
        assert_eq!(status(&none, Control, Some(CONTROL)), 403);
    }

    #[test]
    fn the_cookie_opens_reading_only() {
        let all = settings(true, true, true);
        let request = |token: &str| {
            let cookie = set_cookie(token, true);
            assert!(cookie.ends_with("HttpOnly; SameSite=Strict; Secure"));
            let value = cookie.split(';').next().unwrap().to_owned();
            TestRequest::get()
                .insert_header(("Cookie", format!("theme=dark; {value}")))
                .to_http_request()
        };
        authorize(&all, &request(READ), Access::Page).unwrap();
        authorize(&all, &request(CONTROL), Access::Read).unwrap();
        authorize(&all, &request(INTAKE), Access::Read).unwrap_err();
        authorize(&all, &request(CONTROL), Access::Control).unwrap_err();
        authorize(&all, &request(CONTROL), Access::Intake).unwrap_err();
    }

    #[test]
    fn a_token_of_odd_characters_survives_the_cookie() {
        let odd = "päss; word=\"%20\" and more";
        let mut settings = settings(true, false, false);
        settings.read_token = Some(SecretString::from(odd));
        let value = set_cookie(odd, false);
        let request = TestRequest::get()
            .insert_header(("Cookie", value.split(';').next().unwrap()))
            .to_http_request();
        authorize(&settings, &request, Access::Page).unwrap();
    }
}
