//! A small chart of a job's outcomes over time: SVG made here, no script.

use super::format::{counted, thousands};
use crate::store::{OUTCOME_BUCKET, OUTCOMES_SHOWN, OutcomeBucket};
use crate::time::Timestamp;
use maud::{Markup, html};
use std::fmt::Write as _;

/// Units of the drawing from top to bottom.
const HEIGHT: f64 = 60.0;
/// Units of the drawing for each bucket, and the part of them that is drawn.
const STEP: f64 = 5.0;
const BAR: f64 = 4.0;
/// A bar of few visits among many stays visible.
const LEAST: f64 = 1.5;

/// The chart: the last 24 hours, oldest on the left, failures on top of
/// successes. `name` distinguishes the charts of a page.
pub(super) fn outcomes(name: &str, buckets: &[OutcomeBucket], now: Timestamp) -> Markup {
    let visits = |bucket: &OutcomeBucket| bucket.successes + bucket.failures;
    let successes: i64 = buckets.iter().map(|bucket| bucket.successes).sum();
    let failures: i64 = buckets.iter().map(|bucket| bucket.failures).sum();
    let peak = buckets.iter().map(visits).max().unwrap_or(0);
    if peak <= 0 {
        return html! { p.empty { "No visit in the last 24 hours." } };
    }
    let bars = OUTCOMES_SHOWN.as_secs() / OUTCOME_BUCKET.as_secs();
    let width = bars as f64 * STEP;
    let (good, bad) = paths(buckets, peak, bars, now);
    let (title, desc) = (format!("chart-{name}-title"), format!("chart-{name}-desc"));
    html! {
        figure.chart {
            svg viewBox={ "0 0 " (width) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                aria-labelledby={ (title) " " (desc) } {
                title id=(title) { "Visits of the last 24 hours, ten minutes a bar" }
                desc id=(desc) {
                    (counted(successes, "visit", "visits")) " went well and " (thousands(failures))
                    " failed; at most " (thousands(peak)) " in ten minutes."
                }
                path.base d={ "M0 " (HEIGHT) "H" (width) } {}
                path.success d=(good) {}
                path.failure d=(bad) {}
            }
            figcaption {
                span { "24 h ago" }
                span.key { span.mark.success aria-hidden="true" {} " " (thousands(successes)) " well  "
                    span.mark.failure aria-hidden="true" {} " " (thousands(failures)) " failed  · at most " (thousands(peak)) " in 10 min" }
                span { "now" }
            }
        }
    }
}

/// Outlines of all bars: of the successes, and of the failures above them.
fn paths(buckets: &[OutcomeBucket], peak: i64, bars: u64, now: Timestamp) -> (String, String) {
    let (mut good, mut bad) = (String::new(), String::new());
    let height = |count: i64| {
        let share = count as f64 / peak as f64 * (HEIGHT - LEAST);
        if count > 0 { share.max(LEAST) } else { 0.0 }
    };
    for bucket in buckets {
        let back = now.since(bucket.bucket_at).as_secs() / OUTCOME_BUCKET.as_secs();
        let Some(place) = bars.checked_sub(back + 1) else {
            continue;
        };
        let x = place as f64 * STEP;
        let (success, failure) = (height(bucket.successes), height(bucket.failures));
        let base = HEIGHT - success;
        bar(&mut good, x, HEIGHT, success);
        bar(&mut bad, x, base, failure);
    }
    (good, bad)
}

fn bar(path: &mut String, x: f64, bottom: f64, height: f64) {
    if height > 0.0 {
        // Writing to a string cannot fail.
        write!(path, "M{x} {bottom:.1}h{BAR}v-{height:.1}h-{BAR}z").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn bucket(now: Timestamp, minutes: u64, successes: i64, failures: i64) -> OutcomeBucket {
        OutcomeBucket {
            bucket_at: now.minus(Duration::from_secs(minutes * 60)),
            successes,
            failures,
        }
    }

    #[test]
    fn bars_stand_where_their_time_is_and_few_failures_stay_visible() {
        let now = Timestamp::from_millis(1_795_245_931_007);
        let buckets = [
            bucket(now, 1440, 9, 9),
            bucket(now, 1439, 10, 0),
            bucket(now, 5, 1000, 1),
        ];
        let (good, bad) = paths(&buckets, 1001, 144, now);
        assert_eq!(good, "M0 60.0h4v-1.5h-4zM715 60.0h4v-58.4h-4z");
        assert_eq!(bad, "M715 1.6h4v-1.5h-4z", "not above the top");
    }

    #[test]
    fn a_job_without_visits_says_so() {
        let page = outcomes("a", &[], Timestamp::default()).into_string();
        assert_eq!(
            page,
            "<p class=\"empty\">No visit in the last 24 hours.</p>"
        );
    }
}
