//! Forms that a value can have: each takes what was written and gives the
//! typed value, or says what was written and what is expected.

use super::scalar::Scalar;
use super::settings::{DatabaseLocation, PostgresUrl};
use bytesize::ByteSize;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use url::Url;

/// A value, or what is wrong with it.
pub(super) type Parsed<T> = Result<T, String>;

/// Days in a bound.
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A span of time as people write it, within bounds.
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> impl Fn(&Scalar) -> Parsed<Duration> {
    move |written| {
        let parsed = match written {
            Scalar::Text(text) => humantime::parse_duration(text.trim()).ok(),
            _ => None,
        };
        let Some(value) = parsed else {
            return Err(format!(
                "{written} is not a duration; expected e.g. \"5s\", \"500ms\", \"1h 30m\""
            ));
        };
        if bounds.contains(&value) {
            return Ok(value);
        }
        let what = if value < *bounds.start() {
            "short"
        } else {
            "long"
        };
        Err(format!(
            "{written} is too {what}; expected {} to {}",
            humantime::format_duration(*bounds.start()),
            humantime::format_duration(*bounds.end()),
        ))
    }
}

/// A number of bytes, as a number or as people write it, within bounds.
pub(super) fn size(bounds: RangeInclusive<ByteSize>) -> impl Fn(&Scalar) -> Parsed<usize> {
    move |written| {
        let parsed = match written {
            Scalar::Text(text) => ByteSize::from_str(text.trim()).ok(),
            Scalar::Integer(number) => u64::try_from(*number).ok().map(ByteSize::b),
            _ => None,
        };
        let Some(value) = parsed else {
            return Err(format!(
                "{written} is not a size; expected e.g. \"8MiB\", \"500kB\", 65536"
            ));
        };
        match usize::try_from(value.as_u64()) {
            Ok(bytes) if bounds.contains(&value) => Ok(bytes),
            _ => Err(format!(
                "{written} is out of range; expected {} to {}",
                bounds.start(),
                bounds.end()
            )),
        }
    }
}

/// A whole number within bounds; `why` explains them where they need it.
pub(super) fn count<T: TryFrom<u64>>(
    bounds: RangeInclusive<u64>,
    why: &'static str,
) -> impl Fn(&Scalar) -> Parsed<T> {
    move |written| {
        let Scalar::Integer(number) = written else {
            return Err(format!(
                "{written} is not a whole number; expected {} to {}",
                bounds.start(),
                bounds.end()
            ));
        };
        u64::try_from(*number)
            .ok()
            .filter(|number| bounds.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| {
                let why = if why.is_empty() {
                    String::new()
                } else {
                    format!(" ({why})")
                };
                format!(
                    "{written} is out of range; expected {} to {}{why}",
                    bounds.start(),
                    bounds.end()
                )
            })
    }
}

/// One of a few words.
pub(super) fn word<T: Copy, const N: usize>(
    words: [(&'static str, T); N],
) -> impl Fn(&Scalar) -> Parsed<T> {
    move |written| {
        let found = words
            .iter()
            .find(|(word, _)| matches!(written, Scalar::Text(text) if text == word));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let allowed: Vec<String> = words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            format!("{written} is not known; expected {}", allowed.join(" or "))
        })
    }
}

/// Yes or no.
pub(super) fn flag(written: &Scalar) -> Parsed<bool> {
    match written {
        Scalar::Boolean(flag) => Ok(*flag),
        _ => Err(format!("{written} is neither; expected true or false")),
    }
}

/// A share, from 0 (none) to 1 (all).
pub(super) fn share(written: &Scalar) -> Parsed<f64> {
    let number = match written {
        Scalar::Integer(number) => number.to_string().parse().ok(),
        Scalar::Text(text) | Scalar::Other(text) => text.trim().parse::<f64>().ok(),
        Scalar::Boolean(_) => None,
    };
    number
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| {
            format!("{written} is not a share; expected 0.0 (none) to 1.0 (all), e.g. 0.1")
        })
}

/// A path as it is written, seen from the configuration's folder, without the
/// `.` in it that says nothing.
pub(super) fn joined(base: &Path, path: &str) -> PathBuf {
    base.join(path).components().collect()
}

/// A path, relative to the configuration's folder.
pub(super) fn file(base: &Path) -> impl Fn(&Scalar) -> Parsed<PathBuf> {
    move |written| match written {
        Scalar::Text(text) if !text.is_empty() && !text.contains('\0') => Ok(joined(base, text)),
        _ => Err(format!(
            "{written} is not a path; expected the path of a file, relative to the configuration's folder"
        )),
    }
}

/// A name that is an identity: it stands in rows, addresses, metrics and
/// names of environment variables.
pub(super) fn name(written: &Scalar) -> Parsed<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match written {
        Scalar::Text(text)
            if text.len() <= 64
                && text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text.chars().all(plain) =>
        {
            Ok(text.clone())
        }
        _ => Err(format!(
            "{written} is not a name; expected a letter, then up to 63 letters, digits, \"-\" or \"_\""
        )),
    }
}

/// A PostgreSQL identifier that needs no quotes.
pub(super) fn identifier(written: &Scalar) -> Parsed<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match written {
        Scalar::Text(text)
            if (1..=63).contains(&text.len())
                && !text.starts_with(|c: char| c.is_ascii_digit())
                && !text.starts_with("pg_")
                && text.chars().all(plain) =>
        {
            Ok(text.clone())
        }
        _ => Err(format!(
            "{written} is not a schema name; expected up to 63 lower case letters, digits or \"_\", starting with neither a digit nor \"pg_\""
        )),
    }
}

/// Address and port to listen on.
pub(super) fn socket_address(written: &Scalar) -> Parsed<SocketAddr> {
    let parsed = match written {
        Scalar::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| {
        format!(
            "{written} is not an IP address and port; expected e.g. \"127.0.0.1:8780\", \"[::1]:8780\""
        )
    })
}

/// Filter directives of `tracing`.
pub(super) fn log_filter(written: &Scalar) -> Parsed<String> {
    let example = "expected e.g. \"info\", \"warn,highwater::ledgers=debug\"";
    let text = match written {
        // The parser of tracing-subscriber panics on some other characters.
        Scalar::Text(text) if text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) => text,
        _ => return Err(format!("{written} is not a log filter; {example}")),
    };
    // A lone word is taken for the name of a module, and lets nothing through
    // where it was meant for a level.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let lone = text.split(',').map(str::trim).find(|part| {
        let known = levels.iter().any(|level| level.eq_ignore_ascii_case(part))
            || part.parse::<u8>().is_ok_and(|level| level <= 5);
        !part.is_empty() && !known && part.bytes().all(|b| b.is_ascii_alphabetic())
    });
    if let Some(lone) = lone {
        let levels = levels.join(", ");
        return Err(format!(
            "{written} is not a log filter: {lone:?} is no level; levels are {levels}; for a module write {lone}=info"
        ));
    }
    tracing_subscriber::EnvFilter::builder()
        .with_regex(false)
        .parse(text)
        .map(|_| text.clone())
        .map_err(|error| format!("{written} is not a log filter ({error}); {example}"))
}

/// Base address of a ledger.
pub(super) fn ledger_url(written: &Scalar) -> Parsed<Url> {
    let example = "expected e.g. \"http://127.0.0.1:8008\"";
    let instead = "put the ledger's token in a file and name that with token_file";
    http_url(written, instead, example)
}

/// Address that traces are posted to.
pub(super) fn otlp_url(written: &Scalar) -> Parsed<Url> {
    let example = "expected e.g. \"http://127.0.0.1:4318/v1/traces\"";
    let instead = "a token is sent by the variable OTEL_EXPORTER_OTLP_TRACES_HEADERS";
    http_url(written, instead, example)
}

/// An http address. What holds an `@` may hold a password and is not repeated.
pub(super) fn http_url(written: &Scalar, instead: &str, example: &str) -> Parsed<Url> {
    let shown = match written {
        Scalar::Text(text) if text.contains('@') => "\"***\"".to_owned(),
        other => other.to_string(),
    };
    let Scalar::Text(text) = written else {
        return Err(format!("{shown} is not an address; {example}"));
    };
    let url = Url::parse(text)
        .map_err(|error| format!("{shown} is not an address ({error}); {example}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{shown} is neither http nor https; {example}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "the address holds a user or password; {instead}; {example}"
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{shown} has a query or fragment; {example}"));
    }
    Ok(url)
}

/// Address of the database. A PostgreSQL address may hold a password and is
/// never repeated.
pub(super) fn database_url(base: &Path) -> impl Fn(&Scalar) -> Parsed<DatabaseLocation> {
    const EXPECTED: &str = "expected \"sqlite://FILE\", relative to the configuration's folder or with a leading \"/\", or \"postgres://USER@HOST:PORT/DATABASE\"";
    move |written| {
        let Scalar::Text(text) = written else {
            return Err(format!("{written} is not a database address; {EXPECTED}"));
        };
        if let Some(path) = text.strip_prefix("sqlite://") {
            if path.is_empty() || path.contains(['?', '#', '\0']) || path.contains(":memory:") {
                return Err(format!(
                    "{written} does not name a file (no options, not in memory); {EXPECTED}"
                ));
            }
            return Ok(DatabaseLocation::Sqlite(joined(base, path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return match Url::parse(text) {
                Ok(_) => Ok(DatabaseLocation::Postgres(PostgresUrl::new(text))),
                Err(error) => Err(format!(
                    "the PostgreSQL address (not shown, it may hold a password) makes no sense: {error}; {EXPECTED}"
                )),
            };
        }
        let shown = if text.contains(['@', '=']) {
            "\"***\"".to_owned()
        } else {
            written.to_string()
        };
        Err(format!("{shown} is not a database address; {EXPECTED}"))
    }
}
