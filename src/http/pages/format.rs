//! How pages write numbers, times, states and ids.

use crate::time::Timestamp;
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::time::Duration;

/// What a state means to a person; its shape tells it without colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warn,
    Bad,
    Quiet,
}

impl Tone {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Quiet => "quiet",
        }
    }
}

/// A state: shape, word, colour.
pub(super) fn badge(tone: Tone, shape: &str, word: &str) -> Markup {
    html! {
        span.badge.(tone.class()) { span.shape aria-hidden="true" { (shape) } " " (word) }
    }
}

/// A batch status.
pub(super) fn status_badge(status: &str) -> Markup {
    let (tone, shape) = match status {
        "pending" => (Tone::Quiet, "○"),
        "valid" => (Tone::Quiet, "◐"),
        "committed" => (Tone::Good, "●"),
        "invalid" => (Tone::Bad, "✕"),
        "lost" => (Tone::Warn, "▽"),
        "refused" => (Tone::Warn, "⊘"),
        _ => (Tone::Quiet, "·"),
    };
    badge(tone, shape, status)
}

/// A count with thousands separators.
pub(super) fn thousands(count: impl TryInto<i128>) -> String {
    let count: i128 = count.try_into().unwrap_or_default();
    let digits = count.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if count < 0 {
        text.push('−');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 batch`, `2 batches`.
pub(super) fn counted(count: impl TryInto<i128>, one: &str, many: &str) -> String {
    let count: i128 = count.try_into().unwrap_or_default();
    format!(
        "{} {}",
        thousands(count),
        if count == 1 { one } else { many }
    )
}

/// A duration in its largest unit, or the two largest under ten.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..600 => format!("{} min {} s", seconds / 60, seconds % 60),
        600..3600 => format!("{} min", seconds / 60),
        3600..36_000 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        36_000..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", thousands(seconds / 86_400)),
    }
}

/// A duration of messages, in the unit that suits it.
pub(super) fn short_span(seconds: f64) -> String {
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 0.01 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds >= 0.001 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds >= 0.000_000_5 {
        format!("{:.0} µs", seconds * 1e6)
    } else {
        // No measure is as exact as "0 µs" says.
        "0 s".to_owned()
    }
}

/// A time relative to now, exact in its title.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> Markup {
    let words = if at > now && at.since(now) < Duration::from_secs(1) {
        "now".to_owned()
    } else if at > now {
        format!("in {}", span(at.since(now)))
    } else if now.since(at) < Duration::from_secs(1) {
        "just now".to_owned()
    } else {
        format!("{} ago", span(now.since(at)))
    };
    html! { time datetime=(at) title=(at) { (words) } }
}

/// A time relative to now, or a dash.
pub(super) fn ago_or_dash(at: Option<Timestamp>, now: Timestamp) -> Markup {
    match at {
        Some(at) => ago(at, now),
        None => html! { span.none { "–" } },
    }
}

/// An id short enough for a table; whole in its title.
pub(super) fn short_id(id: &str) -> Markup {
    let length = id.chars().count();
    let shown = if length <= 24 {
        id.to_owned()
    } else {
        let head: String = id.chars().take(12).collect();
        let tail: String = id.chars().skip(length - 6).collect();
        format!("{head}…{tail}")
    };
    html! { code title=(id) { @if id.is_empty() { "(empty)" } @else { (shown) } } }
}

/// Text cut where it is too long for a page.
pub(super) fn cut(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Percent-encodes a part of a path or a query.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Address of a batch's page.
pub(super) fn batch_href(ledger: &str, service_id: &str, batch_id: &str) -> String {
    let mut href = format!("/batches/{}/{}", encode(ledger), encode(batch_id));
    if !service_id.is_empty() {
        href.push_str("?service_id=");
        href.push_str(&encode(service_id));
    }
    href
}

/// Address of a list of batches, by the filters that are not empty.
pub(super) fn list_href(filters: &[(&str, &str)]) -> String {
    let mut href = String::from("/batches");
    for (name, value) in filters.iter().filter(|(_, value)| !value.is_empty()) {
        href.push(if href.contains('?') { '&' } else { '?' });
        href.push_str(name);
        href.push('=');
        href.push_str(&encode(value));
    }
    href
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567_u64), "1,234,567");
        assert_eq!(thousands(-1000), "−1,000");
        assert_eq!(counted(1, "batch", "batches"), "1 batch");
        for (seconds, text) in [
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3599, "59 min"),
            (7300, "2 h 1 min"),
            (86_400, "24 h"),
            (864_000, "10 d"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
        assert_eq!(short_span(0.0), "0 s");
        assert_eq!(short_span(0.000_012), "12 µs");
        assert_eq!(short_span(0.001_5), "1.5 ms");
        assert_eq!(short_span(0.06), "60 ms");
    }

    #[test]
    fn ids_are_cut_by_characters_and_links_are_encoded() {
        let id = "ä".repeat(30);
        assert!(short_id(&id).into_string().contains("…"));
        assert_eq!(
            batch_href("a/b", "c::d", "x?"),
            "/batches/a%2Fb/x%3F?service_id=c%3A%3Ad"
        );
        assert_eq!(
            list_href(&[("ledger", "l"), ("status", "")]),
            "/batches?ledger=l"
        );
    }
}
