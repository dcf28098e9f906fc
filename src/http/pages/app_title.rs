//! What an app is called (`title` and `url` of its `[[apps]]`).

use crate::config::Settings;
use maud::{Markup, html};

/// The app's title, which leads to its address where it has one; nothing where
/// no title of its own is configured.
pub(super) fn app_title(settings: &Settings, app: &str) -> Markup {
    let mut apps = settings.apps.iter();
    let Some(app) = apps.find(|known| known.id.as_str() == app) else {
        return html! {};
    };
    if app.title == app.id.as_str() && app.url.is_none() {
        return html! {};
    }
    let url = app.url.as_ref();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
    html! {
        p.kind { "App: "
            @match url {
                Some(url) => a href=(url) rel="noreferrer noopener" { (app.title) },
                None => (app.title),
            }
        }
    }
}
