//! What may enter: sites are checked wherever they come in, except by SQL.

use super::names::{AppName, check_label_name, check_site_id, check_site_url};
use super::shard::BATCH_CODES;
use crate::store::NewSite;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Most characters of a site's labels, as JSON.
const LABELS: usize = 16_384;
/// Stands where a site's id stands in a path of the API.
const RESERVED: &str = "revive";
/// Most mistakes named of one site.
const MOST_MISTAKES: usize = 20;

/// A site as applications and operators write it: an object in JSON, a line
/// of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteEntry {
    /// Its id, distinct over all apps: 1 to 256 letters, digits and any of `. _ - : @ +`.
    #[schema(min_length = 1, max_length = 256)]
    pub site_id: String,
    /// The app whose jobs visit it, with or without `app:` in front.
    #[serde(default)]
    #[schema(required)]
    pub app_id: Option<String>,
    /// Its address: http or https, without credentials and fragment.
    #[schema(min_length = 1, max_length = 2048)]
    pub url: String,
    /// Its batch code, 0 to 10000; drawn at random where it is left out.
    #[serde(default)]
    #[schema(value_type = Option<u16>, minimum = 0, maximum = 10_000)]
    pub batch_code: Option<i64>,
    /// Whether it is visited; a new one is unless it says no, a known one
    /// stays as it is where this is left out, and over HTTP without the control
    /// token.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Its labels: texts, numbers and flags by name; a known site keeps its
    /// own where this is left out.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub labels: Option<Map<String, Value>>,
}

/// What is wrong with a site: fields, and what is expected of them.
pub type SiteMistakes = Vec<(String, String)>;

impl SiteEntry {
    /// The site that is meant; of the app `default` where it names none.
    ///
    /// # Errors
    /// Every mistake, as the name of the field (`site_id`, `labels.NAME`) and
    /// what is wrong with it.
    pub fn check(self, default: Option<&AppName>) -> Result<NewSite, SiteMistakes> {
        let mut mistakes = Vec::new();
        let mut wrong = |field: &str, message: String| mistakes.push((field.to_owned(), message));
        if self.site_id.is_empty() {
            wrong("site_id", "missing or empty: what is it called?".to_owned());
        } else if let Err(problem) = check_site_id(&self.site_id) {
            wrong("site_id", problem.to_string());
        } else if self.site_id == RESERVED {
            wrong("site_id", format!("no site can be called \"{RESERVED}\""));
        }
        let app = match (&self.app_id, default) {
            (Some(text), _) => AppName::parse(text)
                .map_err(|problem| wrong("app_id", problem.to_string()))
                .ok(),
            (None, Some(app)) => Some(app.clone()),
            (None, None) => {
                wrong(
                    "app_id",
                    "missing or empty: whose jobs visit it?".to_owned(),
                );
                None
            }
        };
        // The parser passes over these; requests and databases would not.
        if self.url.is_empty() {
            let message = "missing or empty: expected an address as https://site.example/path";
            wrong("url", message.to_owned());
        } else if self
            .url
            .chars()
            .any(|c| c.is_control() || c.is_whitespace())
        {
            wrong("url", "holds blanks or control characters".to_owned());
        } else if let Err(problem) = check_site_url(&self.url) {
            wrong("url", problem.to_string());
        }
        let code = self.batch_code.map(|code| {
            u16::try_from(code)
                .ok()
                .filter(|code| BATCH_CODES.contains(code))
        });
        if let (Some(None), Some(given)) = (code, self.batch_code) {
            let most = BATCH_CODES.end();
            wrong("batch_code", format!("{given} is not from 0 to {most}"));
        }
        if let Some(labels) = &self.labels {
            check_labels(labels, &mut wrong);
        }
        match app {
            Some(app_id) if mistakes.is_empty() => Ok(NewSite {
                site_id: self.site_id,
                app_id,
                url: self.url,
                batch_code: code.flatten(),
                enabled: self.enabled,
                labels: self.labels.map(|labels| Value::Object(labels).to_string()),
            }),
            _ => {
                mistakes.truncate(MOST_MISTAKES);
                Err(mistakes)
            }
        }
    }
}

fn check_labels(labels: &Map<String, Value>, wrong: &mut impl FnMut(&str, String)) {
    for (name, value) in labels {
        if let Err(problem) = check_label_name(name) {
            wrong("labels", problem.to_string());
            continue;
        }
        let field = format!("labels.{name}");
        match value {
            Value::String(text) if text.chars().any(char::is_control) => {
                wrong(&field, "holds control characters".to_owned());
            }
            Value::String(_) | Value::Number(_) | Value::Bool(_) => {}
            Value::Null | Value::Array(_) | Value::Object(_) => {
                wrong(
                    &field,
                    "expected a text, a number, true or false".to_owned(),
                );
            }
        }
    }
    let length = Value::Object(labels.clone()).to_string().chars().count();
    if length > LABELS {
        let message = format!("{length} characters as JSON; at most {LABELS}");
        wrong("labels", message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(value: Value) -> SiteEntry {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_sound_site_is_taken_as_it_is() {
        let site = entry(json!({
            "site_id": "s1", "app_id": "app:org.civicrm.myapp", "url": "https://s1.example/civi",
            "batch_code": 10_000, "labels": {"region": "eu", "size": 3, "paid": true},
        }))
        .check(None)
        .unwrap();
        assert_eq!(site.app_id.as_str(), "org.civicrm.myapp");
        assert_eq!(site.batch_code, Some(10_000));
        assert_eq!(site.enabled, None);
        assert_eq!(
            site.labels.as_deref(),
            Some("{\"paid\":true,\"region\":\"eu\",\"size\":3}")
        );
    }

    #[test]
    fn the_default_app_stands_in_for_none() {
        let app = AppName::parse("a.b").unwrap();
        let nobody = || entry(json!({"site_id": "s", "url": "http://s.example"}));
        assert_eq!(nobody().check(Some(&app)).unwrap().app_id, app);
        assert_eq!(nobody().check(None).unwrap_err()[0].0, "app_id");
    }

    #[test]
    fn what_is_missing_is_said_to_be_missing() {
        let mistakes = SiteEntry::default().check(None).unwrap_err();
        let told: Vec<String> = mistakes
            .into_iter()
            .map(|(field, message)| format!("{field}: {message}"))
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        site_id: missing or empty: what is it called?
        app_id: missing or empty: whose jobs visit it?
        url: missing or empty: expected an address as https://site.example/path
        ");
    }

    #[test]
    fn every_mistake_is_named() {
        let mistakes = entry(json!({
            "site_id": "a/b", "app_id": "a b", "url": "ftp://x.example", "batch_code": 10_001,
            "labels": {"a b": 1, "list": [1], "odd": "a\u{0}b", "long": "x".repeat(20_000)},
        }))
        .check(None)
        .unwrap_err();
        let fields: Vec<&str> = mistakes.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "site_id",
                "app_id",
                "url",
                "batch_code",
                "labels",
                "labels.list",
                "labels.odd",
                "labels"
            ]
        );
    }
}
