//! Any answer that is not 200, by what the caller does about it.
//!
//! Which status and body mean what was seen on the real ledgers; the exchanges
//! are in `tests/recordings`.

use super::{LedgerError, LedgerKind};
use crate::net::{Secrets, one_line, retry_after};
use crate::time::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LOCATION};
use secrecy::SecretString;
use serde::Deserialize;
use std::borrow::Cow;
use std::time::Duration;

/// Characters kept of a ledger's words.
const MAX_DETAIL: usize = 300;
/// Longest `Retry-After` believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// A target from this length on may be what an empty 400 is about: common
/// servers and proxies accept at least 8,000 bytes.
const LONG_TARGET: usize = 8_000;
/// Sawtooth's code of "Invalid Resource Id".
const SAWTOOTH_INVALID_ID: i64 = 60;

/// An answer that is not 200.
pub(super) struct Refusal<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    /// As much of the body as came within bounds.
    pub(super) body: &'a [u8],
    /// Length of the request's target.
    pub(super) target_len: usize,
}

/// `{"error": {"code", "message", "title"}}`
#[derive(Deserialize)]
struct SawtoothError<'a> {
    #[serde(borrow)]
    error: SawtoothWords<'a>,
}

#[derive(Deserialize)]
struct SawtoothWords<'a> {
    #[serde(default)]
    code: i64,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    #[serde(borrow, default)]
    title: Cow<'a, str>,
}

/// `{"message"}`, with more beside it that says nothing new.
#[derive(Deserialize)]
struct SplinterError<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
}

impl Refusal<'_> {
    /// Says what the answer means. `now` is what a `Retry-After` date is
    /// counted from; `secret` never shows in the words.
    pub(super) fn classify(
        &self,
        kind: LedgerKind,
        secret: Option<&SecretString>,
        now: Timestamp,
    ) -> LedgerError {
        let (words, code) = self.words(kind);
        let detail = clean(&words, secret);
        let status = self.status.as_u16();
        match status {
            401 | 403 => LedgerError::Unauthorized { status, detail },
            404 => LedgerError::NotFound { detail },
            413 | 414 | 431 => LedgerError::TooLarge { detail },
            429 => LedgerError::TooMany {
                retry_after: retry_after(self.headers, now, MAX_RETRY_AFTER),
            },
            400 if kind == LedgerKind::Sawtooth && code == Some(SAWTOOTH_INVALID_ID) => {
                LedgerError::RefusedIds { detail }
            }
            400 if self.is_about_length(kind, &words) => LedgerError::TooLarge { detail },
            500..=599 => LedgerError::Server { status, detail },
            300..=399 => LedgerError::Rejected {
                status,
                detail: clean(&self.redirect(), secret),
            },
            200..=299 => LedgerError::Malformed {
                detail: clean(
                    &format!("status {status} where 200 was expected: {words}"),
                    secret,
                ),
            },
            _ => LedgerError::Rejected { status, detail },
        }
    }

    /// The ledger's words and, on Sawtooth, its error code.
    fn words(&self, kind: LedgerKind) -> (String, Option<i64>) {
        match kind {
            LedgerKind::Sawtooth => {
                if let Ok(SawtoothError { error }) = serde_json::from_slice(self.body) {
                    let words = format!("{}: {} (code {})", error.title, error.message, error.code);
                    return (words, Some(error.code));
                }
            }
            LedgerKind::Splinter => {
                if let Ok(SplinterError { message }) = serde_json::from_slice(self.body) {
                    return (message.into_owned(), None);
                }
            }
        }
        let text = String::from_utf8_lossy(self.body);
        if text.trim().is_empty() {
            let reason = self.status.canonical_reason().unwrap_or("no words");
            return (format!("{reason} (empty answer)"), None);
        }
        (text.into_owned(), None)
    }

    /// Sawtooth's server says "Got more than 8190 bytes (8274) when reading
    /// Status line is too long."; Splinter's says nothing at all.
    fn is_about_length(&self, kind: LedgerKind, words: &str) -> bool {
        match kind {
            LedgerKind::Sawtooth => {
                words.starts_with("Got more than ") || words.contains("line is too long")
            }
            LedgerKind::Splinter => self.body.is_empty() && self.target_len >= LONG_TARGET,
        }
    }

    fn redirect(&self) -> String {
        let location = self.headers.get(LOCATION).map_or_else(
            || "an address it does not name".into(),
            |location| String::from_utf8_lossy(location.as_bytes()),
        );
        format!(
            "redirected to {location}; redirects are not followed, \
             set the ledger's url to where it really is"
        )
    }
}

/// A ledger's words as they may be shown: on one line, without control
/// characters, without the token, at most [`MAX_DETAIL`] characters.
pub(super) fn clean(words: &str, secret: Option<&SecretString>) -> String {
    one_line(&Secrets::from(secret).hide(words), MAX_DETAIL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderValue, RETRY_AFTER};

    fn classify(kind: LedgerKind, status: u16, headers: &HeaderMap, body: &str) -> LedgerError {
        Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.as_bytes(),
            target_len: 200,
        }
        .classify(kind, None, Timestamp::from_millis(784_111_777_000))
    }

    fn retry_after(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        match classify(LedgerKind::Splinter, 429, &headers, "") {
            LedgerError::TooMany { retry_after } => retry_after,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("99999999999999999999"), Some(MAX_RETRY_AFTER));
        // 784,111,777 s is 08:49:37.
        let minute = "Sun, 06 Nov 1994 08:50:37 GMT";
        assert_eq!(retry_after(minute), Some(Duration::from_secs(60)));
        let gone = "Sun, 06 Nov 1994 08:00:00 GMT";
        assert_eq!(retry_after(gone), Some(Duration::ZERO));
        let far = "Sun, 06 Nov 2094 08:00:00 GMT";
        assert_eq!(retry_after(far), Some(MAX_RETRY_AFTER));
        for odd in [
            "",
            "-1",
            "soon",
            "Sun, 06 Nov",
            "Sun, 99 Foo 1994 08:00:00 GMT",
        ] {
            assert_eq!(retry_after(odd), None, "{odd}");
        }
    }

    #[test]
    fn each_status_has_its_meaning() {
        let none = HeaderMap::new();
        let word = |status, body| classify(LedgerKind::Splinter, status, &none, body).word();
        for (status, expected) in [
            (204, "malformed"),
            (304, "rejected"),
            (400, "rejected"),
            (401, "unauthorized"),
            (403, "unauthorized"),
            (404, "not_found"),
            (405, "rejected"),
            (413, "too_large"),
            (414, "too_large"),
            (429, "too_many_requests"),
            (431, "too_large"),
            (500, "server_error"),
            (504, "server_error"),
        ] {
            assert_eq!(word(status, ""), expected, "{status}");
        }
    }

    #[test]
    fn a_redirect_names_its_target() {
        let mut headers = HeaderMap::new();
        headers.insert(
            LOCATION,
            HeaderValue::from_static("https://elsewhere.example/"),
        );
        let error = classify(LedgerKind::Sawtooth, 302, &headers, "");
        assert!(
            error.to_string().contains("https://elsewhere.example/"),
            "{error}"
        );
    }

    #[test]
    fn words_are_bounded_on_one_line_and_without_the_token() {
        let secret = SecretString::from("s3cr3t");
        let words = clean("  a\r\n\x1b[31m b\tTOKEN s3cr3t\0 ", Some(&secret));
        assert_eq!(words, "a [31m b TOKEN ***");
        let long = clean(&"é ".repeat(1_000), Some(&secret));
        assert!(long.chars().count() <= MAX_DETAIL + 1, "{long}");
        assert!(long.ends_with('…'));
        assert_eq!(clean("", None), "");
    }

    proptest::proptest! {
        #[test]
        fn any_words_become_one_bounded_line(words in "(?s).{0,400}") {
            let line = clean(&words, Some(&SecretString::from("x")));
            assert!(line.chars().count() <= MAX_DETAIL + 1);
            assert!(!line.chars().any(char::is_control));
            assert!(!line.contains('x'));
        }
    }
}
