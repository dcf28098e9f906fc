//! Forms of the keys of `[[apps]]` and `[[jobs]]`.

use super::forms::{Parsed, http_url};
use super::scalar::Scalar;
use super::site_settings::CivicrmVersion;
use crate::flows::sites::{AppName, JobKey, RetryPolicy, Template};
use std::ops::RangeInclusive;
use std::sync::Arc;
use toml_edit::Item;
use url::Url;

/// Codes that an answer can have.
const STATUS: RangeInclusive<u16> = 100..=599;

/// The id of an app, with or without `app:`.
pub(super) fn app_id(written: &Scalar) -> Parsed<AppName> {
    let text = text(written)?;
    AppName::parse(&text).map_err(|problem| problem.to_string())
}

/// The name of a job.
pub(super) fn job_name(written: &Scalar) -> Parsed<Arc<str>> {
    let text = text(written)?;
    // What is wrong with a name does not depend on the app.
    AppName::parse("any")
        .and_then(|app| JobKey::new(app, &text))
        .map(|key| key.name)
        .map_err(|problem| problem.to_string())
}

/// A retry policy.
pub(super) fn retry(written: &Scalar) -> Parsed<RetryPolicy> {
    let text = text(written)?;
    text.parse()
        .map_err(|problem| format!("{written} is not a retry policy: {problem}"))
}

/// Address of an application.
pub(super) fn app_url(written: &Scalar) -> Parsed<Url> {
    let example = "expected e.g. \"https://app.example/\"";
    http_url(
        written,
        "name the app's keys with api_key_file and site_key_file",
        example,
    )
}

/// Any text.
pub(super) fn text(written: &Scalar) -> Parsed<String> {
    match written {
        Scalar::Text(text) => Ok(text.clone()),
        _ => Err(format!("{written} is not a text; expected one in quotes")),
    }
}

/// A text with something in it.
pub(super) fn some_text(written: &Scalar) -> Parsed<String> {
    let text = text(written)?;
    if text.trim().is_empty() {
        return Err(format!(
            "{written} is empty; expected a text, or leave the key out"
        ));
    }
    Ok(text)
}

/// A text in which `{site_id}` and its like are filled in.
pub(super) fn template(written: &Scalar) -> Parsed<String> {
    let text = text(written)?;
    check_template(&text)?;
    Ok(text)
}

/// Tells every mistake in a template.
pub(super) fn check_template(text: &str) -> Parsed<()> {
    let Err(problems) = Template::parse(text) else {
        return Ok(());
    };
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Err(told.join("; "))
}

/// The name of a user for basic authentication, which ends at a colon.
pub(super) fn user(written: &Scalar) -> Parsed<String> {
    let text = some_text(written)?;
    if text.contains(':') || text.contains(char::is_control) {
        return Err(format!(
            "{written} is not a user's name; expected one without \":\" and control characters"
        ));
    }
    Ok(text)
}

/// A header that is sent: its value is a template.
pub(super) fn sent_header(name: &str, value: &Item) -> Parsed<String> {
    let text = header(name, value)?;
    for (ours, instead) in [
        (
            "authorization",
            "name the secret with token_file, or user and password_file",
        ),
        ("proxy-authorization", "there is no proxy"),
        ("content-length", "it follows from the body"),
        ("transfer-encoding", "it follows from the body"),
        ("connection", "it is the connection's own"),
    ] {
        if name.eq_ignore_ascii_case(ours) {
            return Err(format!("this header does not stand here: {instead}"));
        }
    }
    check_template(&text)?;
    Ok(text)
}

/// The name and the value of a header.
pub(super) fn header(name: &str, value: &Item) -> Parsed<String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!(
            "{} is not a header's name; expected e.g. Accept",
            Scalar::from(name)
        ));
    }
    let written = Scalar::of_item(value);
    let text = text(&written)?;
    if text.contains(|c: char| c.is_control() && c != '\t') {
        return Err(format!(
            "{written} holds control characters, which no header takes"
        ));
    }
    Ok(text)
}

/// A JSON pointer (RFC 6901).
pub(super) fn json_pointer(written: &Scalar) -> Parsed<String> {
    let text = text(written)?;
    check_pointer(&text)?;
    Ok(text)
}

/// Says what is wrong with a JSON pointer.
pub(super) fn check_pointer(text: &str) -> Parsed<()> {
    let escapes = text
        .split('~')
        .skip(1)
        .all(|after| after.starts_with(['0', '1']));
    if (text.is_empty() || text.starts_with('/')) && escapes {
        return Ok(());
    }
    Err(format!(
        "{} is not a JSON pointer; expected e.g. \"/values/0/id\", with ~1 for / and ~0 for ~ in names, or \"\" for all of it",
        Scalar::from(text)
    ))
}

/// Codes of an answer: `"2xx"`, `"200"`, `"200-204, 304"`, or a number.
pub(super) fn status(written: &Scalar) -> Parsed<Vec<RangeInclusive<u16>>> {
    let wrong = |what: &str| {
        format!(
            "{what} is not a status; expected codes from 100 to 599, e.g. \"2xx\", \"200\", \"200-204, 304\""
        )
    };
    let text = match written {
        Scalar::Text(text) => text.clone(),
        Scalar::Integer(code) => code.to_string(),
        _ => return Err(wrong(&written.to_string())),
    };
    let mut ranges = Vec::new();
    for part in text.split(',').map(str::trim) {
        match codes(part).filter(|range| range.start() <= range.end()) {
            Some(range) => ranges.push(range),
            None => return Err(wrong(&Scalar::from(part).to_string())),
        }
    }
    Ok(ranges)
}

fn codes(part: &str) -> Option<RangeInclusive<u16>> {
    if let Some(class) = part.strip_suffix("xx").or_else(|| part.strip_suffix("XX")) {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some(class * 100..=class * 100 + 99);
    }
    let code = |text: &str| {
        text.trim()
            .parse()
            .ok()
            .filter(|code| STATUS.contains(code))
    };
    match part.split_once('-') {
        Some((first, last)) => Some(code(first)?..=code(last)?),
        None => code(part).map(|code| code..=code),
    }
}

/// Version of CiviCRM's API.
pub(super) fn civicrm_version(written: &Scalar) -> Parsed<CivicrmVersion> {
    match written {
        Scalar::Integer(4) => Ok(CivicrmVersion::V4),
        Scalar::Integer(3) => Ok(CivicrmVersion::V3),
        _ => Err(format!(
            "{written} is no version of CiviCRM's API; expected 4 or 3"
        )),
    }
}

/// An entity or action of CiviCRM's API, which stands in addresses.
pub(super) fn civicrm_word(written: &Scalar) -> Parsed<String> {
    let text = text(written)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if text.is_empty() || text.len() > 100 || !text.bytes().all(plain) {
        return Err(format!(
            "{written} is not a name of CiviCRM's API; expected letters, digits and \"_\", e.g. \"System\", \"check\""
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_classes_codes_and_ranges() {
        let read = |text: &str| status(&Scalar::from(text)).unwrap();
        assert_eq!(read("2xx"), [200..=299]);
        assert_eq!(read("200"), [200..=200]);
        assert_eq!(read("200-204"), [200..=204]);
        assert_eq!(
            read(" 2XX , 304,400 - 410"),
            [200..=299, 304..=304, 400..=410]
        );
        assert_eq!(status(&Scalar::Integer(204)).unwrap(), [204..=204]);
        for wrong in [
            "", "2x", "6xx", "0xx", "xx", "99", "600", "204-200", "200,", "200-", "-1", "2xx-3xx",
        ] {
            let told = status(&Scalar::from(wrong)).unwrap_err();
            assert!(told.contains("is not a status"), "{wrong}: {told}");
        }
        assert!(status(&Scalar::Integer(0)).is_err());
        assert!(status(&Scalar::Boolean(true)).is_err());
    }

    #[test]
    fn pointers_are_checked_as_the_rfc_has_them() {
        for fine in ["", "/", "/a/0", "/a~1b~0c", "/ü"] {
            assert_eq!(check_pointer(fine), Ok(()), "{fine}");
        }
        for wrong in ["a", "#/a", "/a~", "/a~2"] {
            assert!(check_pointer(wrong).is_err(), "{wrong}");
        }
    }
}
