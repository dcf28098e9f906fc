//! A notice of sites that no job visits.

use super::format::{counted, cut};
use super::job_card::sites_href;
use crate::http::unvisited::AppWithoutJob;
use maud::{Markup, html};

/// Most apps named that no job is for.
const MOST_APPS: usize = 20;

/// Sites that no job visits, in a notice: of the app that is asked for, or of all.
pub(super) fn unvisited(apps: &[AppWithoutJob], asked: Option<&str>) -> Markup {
    let told = |app: &&AppWithoutJob| asked.is_none_or(|asked| asked == app.app);
    let apps: Vec<&AppWithoutJob> = apps.iter().filter(told).collect();
    html! {
        @if !apps.is_empty() {
            section.notice.warn {
                h2 { span aria-hidden="true" { "⊘ " } "Sites that nothing visits" }
                p { "No job of their app is configured." }
                ul { @for app in apps.iter().take(MOST_APPS) {
                    li { a href=(sites_href(&[("app", &app.app)])) { (cut(&app.app, 80)) } ": " (counted(app.sites, "site", "sites")) }
                } }
                @if apps.len() > MOST_APPS { p.note { "and " (counted(apps.len() - MOST_APPS, "more app", "more apps")) } }
            }
        }
    }
}
