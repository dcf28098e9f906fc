//! Texts with places to fill in: `{site_id}`, `{app_id}` and `{label:NAME}`;
//! `{{` and `}}` stand for braces.

use crate::flows::sites::Visit;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

/// Everything but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The text of a template for a visit; `escape` is applied to what is filled in.
///
/// # Errors
/// Says which place is not known, or which label the site lacks.
pub(super) fn fill(
    template: &str,
    visit: &Visit,
    escape: fn(&str) -> String,
) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        if from.starts_with("{{") || from.starts_with("}}") {
            let (doubled, after) = from.split_at(2);
            filled.push_str(&doubled[1..]);
            rest = after;
            continue;
        }
        let inside = from
            .strip_prefix('{')
            .and_then(|inside| inside.split_once('}'));
        let Some((name, after)) = inside else {
            return Err(
                "a brace that stands alone in a template: write {{ or }} for the brace itself"
                    .to_owned(),
            );
        };
        filled.push_str(&escape(&value(name, visit)?));
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn value(name: &str, visit: &Visit) -> Result<String, String> {
    match name {
        "site_id" => return Ok(visit.site.site_id.clone()),
        "app_id" => return Ok(visit.job.app.to_string()),
        _ => {}
    }
    let label = name.strip_prefix("label:").ok_or_else(|| {
        format!("{{{name}}} is not known: expected {{site_id}}, {{app_id}} or {{label:NAME}}")
    })?;
    let labels: Map<String, Value> = serde_json::from_str(&visit.site.labels)
        .map_err(|_| "the site's labels are no JSON object: correct them".to_owned())?;
    match labels.get(label) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Bool(flag)) => Ok(flag.to_string()),
        _ => Err(format!(
            "the site has no label \"{label}\" that can be filled in: give it one, or leave {{label:{label}}} out of the job"
        )),
    }
}

/// For paths and queries.
pub(super) fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// For what stands between the quotes of a JSON text.
pub(super) fn json_escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted
        .strip_prefix('"')
        .and_then(|quoted| quoted.strip_suffix('"'))
        .unwrap_or_default()
        .to_owned()
}

/// For headers and other texts: nothing is changed.
pub(super) fn as_it_is(text: &str) -> String {
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::testing_peer::visit_of;
    use super::*;

    #[test]
    fn what_is_filled_in_is_escaped_and_the_rest_is_not() {
        let visit = visit_of("https://site.example");
        let path = fill(
            "/ü/{site_id}?r={label:region}&{{}}",
            &visit,
            percent_encoded,
        );
        assert_eq!(path.unwrap(), "/ü/site%3A7?r=north%20%26%20west&{}");
        let text = fill("{app_id} {label:size}", &visit, as_it_is);
        assert_eq!(text.unwrap(), "org.example 3");
        for (template, expected) in [
            ("{label:none}", "no label \"none\""),
            ("{site}", "is not known"),
            ("{", "a brace"),
            ("a}", "a brace"),
        ] {
            let told = fill(template, &visit, as_it_is).unwrap_err();
            assert!(told.contains(expected), "{told}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_template_panics(template in "[{}a-z:_é ]{0,40}", labels in "[{}\":a-z0-9]{0,10}") {
            let mut visit = visit_of("");
            visit.site.labels = labels;
            drop(fill(&template, &visit, json_escaped));
        }
    }
}
