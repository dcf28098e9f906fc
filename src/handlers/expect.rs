//! What an answer has to be, and words for what it is instead.

use super::client::SiteAnswer;
use crate::config::Expect;
use crate::flows::sites::{FailureKind, VisitError};
use crate::net::{Secrets, one_line};
use reqwest::header::{HeaderMap, LOCATION};
use serde_json::Value;
use std::ops::RangeInclusive;

/// Characters shown of what came.
const EXCERPT: usize = 160;

/// Checks an answer: status, headers, body, values, in this order.
///
/// # Errors
/// `Unexpected`, with what was expected and what came; or why the answer did
/// not come whole.
pub(super) fn check(
    expect: &Expect,
    answer: &SiteAnswer,
    json: Option<&Value>,
    secrets: &Secrets,
) -> Result<(), VisitError> {
    let code = answer.status.as_u16();
    if !expect.status.iter().any(|codes| codes.contains(&code)) {
        return Err(other_status(answer, &codes(&expect.status), secrets));
    }
    if let Some(cut) = &answer.cut {
        return Err(cut.clone());
    }
    for (name, part) in &expect.headers {
        check_header(&answer.headers, name, part, secrets)?;
    }
    check_body(expect, answer, secrets)?;
    for (pointer, expected) in &expect.json {
        check_value(pointer, expected, json, answer, secrets)?;
    }
    Ok(())
}

/// An answer with a status that was not expected.
pub(super) fn other_status(answer: &SiteAnswer, expected: &str, secrets: &Secrets) -> VisitError {
    let status = answer.status;
    if status.is_redirection()
        && let Some(location) = answer.headers.get(LOCATION)
    {
        let location = excerpt(location.as_bytes(), secrets);
        return unexpected(&format!(
            "status {} where {expected} was expected: redirected to {location}; redirects are not \
             followed, set the site's address to where it really is",
            status.as_u16()
        ));
    }
    unexpected(&format!(
        "status {} where {expected} was expected; {}",
        status.as_u16(),
        body_words(answer, secrets)
    ))
}

/// An answer that is not what the job expects.
pub(super) fn unexpected(detail: &str) -> VisitError {
    VisitError::new(FailureKind::Unexpected, detail)
}

/// What a body is, in a few words.
pub(super) fn body_words(answer: &SiteAnswer, secrets: &Secrets) -> String {
    let words = excerpt(&answer.body, secrets);
    if words.is_empty() {
        return "the body is empty".to_owned();
    }
    format!("the body begins: {words}")
}

/// The start of what came: on one line, without secrets.
pub(super) fn excerpt(bytes: &[u8], secrets: &Secrets) -> String {
    let text = String::from_utf8_lossy(bytes);
    one_line(&secrets.hide(&text), EXCERPT)
}

fn check_header(
    headers: &HeaderMap,
    name: &str,
    part: &str,
    secrets: &Secrets,
) -> Result<(), VisitError> {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    if values.iter().any(|value| value.contains(part)) {
        return Ok(());
    }
    if values.is_empty() {
        return Err(unexpected(&format!(
            "the header {name} was expected and is not there"
        )));
    }
    let came = excerpt(values.join(", ").as_bytes(), secrets);
    Err(unexpected(&format!(
        "the header {name} was expected to contain \"{part}\" and is \"{came}\""
    )))
}

fn check_body(expect: &Expect, answer: &SiteAnswer, secrets: &Secrets) -> Result<(), VisitError> {
    if expect.body_contains.is_none() && expect.body_lacks.is_none() {
        return Ok(());
    }
    let body = String::from_utf8_lossy(&answer.body);
    if let Some(part) = &expect.body_contains
        && !body.contains(part.as_str())
    {
        return Err(unexpected(&format!(
            "the body was expected to contain \"{part}\", in {} bytes; {}",
            answer.body.len(),
            body_words(answer, secrets)
        )));
    }
    if let Some(part) = &expect.body_lacks
        && body.contains(part.as_str())
    {
        let hidden = secrets.hide(&body);
        let place = hidden.split_once(part.as_str());
        let after = one_line(place.map_or("", |(_, after)| after), EXCERPT);
        return Err(unexpected(&format!(
            "the body was expected not to contain \"{part}\", which it does, and after it: {after}"
        )));
    }
    Ok(())
}

fn check_value(
    pointer: &str,
    expected: &Value,
    json: Option<&Value>,
    answer: &SiteAnswer,
    secrets: &Secrets,
) -> Result<(), VisitError> {
    let Some(json) = json else {
        return Err(unexpected(&format!(
            "JSON was expected, with {expected} at \"{pointer}\"; {}",
            body_words(answer, secrets)
        )));
    };
    match json.pointer(pointer) {
        Some(value) if equal(value, expected) => Ok(()),
        Some(value) => {
            let came = excerpt(value.to_string().as_bytes(), secrets);
            Err(unexpected(&format!(
                "{expected} was expected at \"{pointer}\", where {came} stands"
            )))
        }
        None => Err(unexpected(&format!(
            "{expected} was expected at \"{pointer}\", where nothing stands; {}",
            body_words(answer, secrets)
        ))),
    }
}

/// Numbers are equal whether or not they are written with a point.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || (one.is_f64() != other.is_f64() && one.as_f64() == other.as_f64())
        }
        _ => one == other,
    }
}

/// Codes as they are configured: `2xx, 304`.
fn codes(ranges: &[RangeInclusive<u16>]) -> String {
    let words: Vec<String> = ranges
        .iter()
        .map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) if first % 100 == 0 && *last == first + 99 => {
                format!("{}xx", first / 100)
            }
            (first, last) => format!("{first}-{last}"),
        })
        .collect();
    words.join(", ")
}
