//! Answers and what became of them.

use crate::time::Timestamp;
use reqwest::Response;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::error::Error;
use std::time::Duration;

/// Reads to the end; `false` when there is more than `most`, of which `most`
/// bytes are read then.
pub(crate) async fn read_within(
    response: &mut Response,
    into: &mut Vec<u8>,
    most: usize,
) -> reqwest::Result<bool> {
    if let Some(length) = response.content_length() {
        into.reserve(usize::try_from(length).unwrap_or(usize::MAX).min(most));
    }
    while let Some(chunk) = response.chunk().await? {
        let room = most - into.len();
        into.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the connection was made and then ended, or was ended already, before
/// an answer began. What the peer sent was not HTTP is another matter.
pub(crate) fn ended_early(error: &reqwest::Error) -> bool {
    error.is_request()
        && !error.is_connect()
        && !error.is_timeout()
        && !sources(error).any(|cause| {
            cause
                .downcast_ref::<hyper::Error>()
                .is_some_and(hyper::Error::is_parse)
        })
}

/// What lies behind an error, outermost first.
pub(crate) fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| <dyn Error>::source(*cause))
}

/// What lies behind an error, the two innermost causes: the outer ones say
/// "error sending request" and may hold an address of 65,000 characters.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    let mut causes: Vec<String> = sources(error).map(ToString::to_string).collect();
    causes.dedup();
    match causes.as_slice() {
        [] => "no cause given".to_owned(),
        [.., outer, inner] if !outer.contains(inner.as_str()) => format!("{outer}: {inner}"),
        [.., inner] => inner.clone(),
    }
}

/// `Retry-After` in seconds or as an HTTP date, counted from `now`, at most
/// `longest`; a date gone by is zero.
pub(crate) fn retry_after(
    headers: &HeaderMap,
    now: Timestamp,
    longest: Duration,
) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        value.parse().map_or(longest, Duration::from_secs)
    } else {
        http_date(value)?.since(now)
    };
    Some(wait.min(longest))
}

/// Reads the one form of date that HTTP still allows to be sent, as in
/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(value: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, date) = value.split_once(", ")?;
    let mut parts = date.split(' ');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let (time, zone) = (parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    if zone != "GMT" || parts.next().is_some() {
        return None;
    }
    Timestamp::parse(&format!("{year}-{month:02}-{day}T{time}Z"))
}
