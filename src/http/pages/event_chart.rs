//! Events by decision over time: SVG made here, no script.

use super::format::{counted, thousands};
use crate::http::subscription_figures::COUNTED;
use crate::store::EventCount;
use crate::time::Timestamp;
use maud::{Markup, html};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a bar is of.
const BUCKET_SECONDS: u64 = 3600;
/// Units of the drawing from top to bottom.
const HEIGHT: f64 = 60.0;
/// Units of the drawing for each hour, and the part of them that is drawn.
const STEP: f64 = 5.0;
const BAR: f64 = 4.0;
/// A piece of few events among many stays visible.
const LEAST: f64 = 1.5;

/// Pieces of a bar from bottom to top, and what a person reads.
const PIECES: [(&str, &str); 5] = [
    ("processed", "processed"),
    ("irrelevant", "irrelevant"),
    ("skipped", "skipped"),
    ("relevant", "not processed yet"),
    ("pending", "not decided yet"),
];

/// Events of an hour, by piece.
type Hour = [i64; PIECES.len()];

/// The chart: the last two days, oldest on the left. `name` distinguishes the
/// charts of a page.
pub(super) fn events(name: &str, counts: &[EventCount], now: Timestamp) -> Markup {
    let hours = COUNTED.as_secs() / BUCKET_SECONDS;
    let bars = bars(counts, hours, now);
    let sum = |hour: &Hour| hour.iter().sum::<i64>();
    let peak = bars.values().map(sum).max().unwrap_or(0);
    if peak <= 0 {
        return html! { p.empty { "No event in the last 48 hours." } };
    }
    let totals: Vec<(usize, i64)> = (0..PIECES.len())
        .map(|piece| (piece, bars.values().map(|hour| hour[piece]).sum()))
        .filter(|(_, total)| *total > 0)
        .collect();
    let all: i64 = totals.iter().map(|(_, total)| total).sum();
    let words: Vec<String> = totals
        .iter()
        .map(|(piece, total)| format!("{} {}", thousands(*total), PIECES[*piece].1))
        .collect();
    let width = hours as f64 * STEP;
    let paths = paths(&bars, peak);
    let (title, desc) = (format!("chart-{name}-title"), format!("chart-{name}-desc"));
    html! {
        figure.chart {
            svg viewBox={ "0 0 " (width) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                aria-labelledby={ (title) " " (desc) } {
                title id=(title) { "Events recorded in the last 48 hours, an hour a bar, by what was decided" }
                desc id=(desc) { (counted(all, "event", "events")) ": " (words.join(", ")) "; at most " (thousands(peak)) " in an hour." }
                path.base d={ "M0 " (HEIGHT) "H" (width) } {}
                @for (piece, _) in &totals { path class=(PIECES[*piece].0) d=(paths[*piece]) {} }
            }
            figcaption {
                span { "48 h ago" }
                span.key {
                    @for (piece, total) in &totals {
                        span.mark.(PIECES[*piece].0) aria-hidden="true" {} " " (thousands(*total)) " " (PIECES[*piece].1) "  "
                    }
                    "· at most " (thousands(peak)) " in an hour"
                }
                span { "now" }
            }
        }
    }
}

/// Events by the place of their hour, from the left.
fn bars(counts: &[EventCount], hours: u64, now: Timestamp) -> BTreeMap<u64, Hour> {
    let mut bars: BTreeMap<u64, Hour> = BTreeMap::new();
    for count in counts {
        let back = now.since(count.bucket_at).as_secs() / BUCKET_SECONDS;
        let Some(place) = hours.checked_sub(back + 1) else {
            continue;
        };
        let hour = bars.entry(place).or_default();
        let mut add = |word: &str, by: i64| {
            if let Some(piece) = PIECES.iter().position(|(name, _)| *name == word) {
                hour[piece] += by;
            }
        };
        add(&count.decision, count.count);
        if count.decision == "processed" {
            // They are counted as relevant, too.
            add("relevant", -count.count);
        }
    }
    for hour in bars.values_mut() {
        for piece in hour {
            *piece = (*piece).max(0);
        }
    }
    bars
}

/// The outlines of each piece, of all bars.
fn paths(bars: &BTreeMap<u64, Hour>, peak: i64) -> [String; PIECES.len()] {
    let mut paths: [String; PIECES.len()] = Default::default();
    for (place, hour) in bars {
        let x = *place as f64 * STEP;
        let shown = hour.iter().filter(|count| **count > 0).count() as f64;
        let room = HEIGHT - LEAST * shown;
        let mut bottom = HEIGHT;
        for (path, count) in paths.iter_mut().zip(hour) {
            if *count > 0 {
                let height = LEAST + *count as f64 / peak as f64 * room;
                // Writing to a string cannot fail.
                write!(path, "M{x} {bottom:.1}h{BAR}v-{height:.1}h-{BAR}z").unwrap_or_default();
                bottom -= height;
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn count(now: Timestamp, hours: u64, decision: &str, count: i64) -> EventCount {
        EventCount {
            bucket_at: now.minus(Duration::from_secs(hours * 3600)),
            decision: decision.to_owned(),
            count,
        }
    }

    #[test]
    fn processed_events_are_not_told_as_relevant_again() {
        let now = Timestamp::from_millis(1_795_245_931_007);
        let counts = [
            count(now, 48, "pending", 99),
            count(now, 47, "irrelevant", 1000),
            count(now, 0, "relevant", 10),
            count(now, 0, "processed", 9),
            count(now, 0, "pending", 2),
        ];
        let bars = bars(&counts, 48, now);
        assert_eq!(bars.keys().copied().collect::<Vec<_>>(), [0, 47]);
        assert_eq!(bars[&47], [9, 0, 0, 1, 2]);
        let paths = paths(&bars, 1000);
        assert!(paths[1].starts_with("M0 60.0h4v-60.0"), "{paths:?}");
        assert!(paths[0].starts_with("M235 60.0h4v-"), "{paths:?}");
        let chart = events("a", &counts, now).into_string();
        for words in [
            "9 processed",
            "1 not processed yet",
            "2 not decided yet",
            "1,000 irrelevant",
        ] {
            assert!(chart.contains(words), "lacks {words}: {chart}");
        }
    }

    #[test]
    fn a_subscription_without_events_says_so() {
        let page = events("a", &[], Timestamp::default()).into_string();
        assert!(page.contains("No event in the last 48 hours"), "{page}");
    }
}
