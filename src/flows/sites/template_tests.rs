//! Templates, as configurations have them.

use super::template::{Template, as_it_is, json_escaped, percent_encoded};
use super::{AppName, JobKey, SiteInfo, Visit};
use proptest::prelude::*;

const LABELS: &str = r#"{"region":"North & \"West\"","size":7,"on":true,"list":[1],"gone":null,"dot":".","dots":".."}"#;

fn visit(labels: &str) -> Visit {
    Visit {
        job: JobKey::new(AppName::parse("org.app").unwrap(), "sync").unwrap(),
        site: SiteInfo {
            site_id: "a:b@c".to_owned(),
            url: "https://site.example".to_owned(),
            labels: labels.to_owned(),
            batch_code: 0,
        },
        last_run_at: None,
        level: 0,
        count: 0,
    }
}

fn template(text: &str) -> Template {
    Template::parse(text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn filled(text: &str, escape: fn(&str) -> String) -> Result<String, String> {
    template(text).fill(&visit(LABELS), escape)
}

fn problems(text: &str) -> String {
    let problems = Template::parse(text).unwrap_err();
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    told.join("\n")
}

#[test]
fn what_is_filled_in_is_escaped_and_the_rest_is_not() {
    assert_eq!(
        filled("/ü?s={site_id}&r={label:region}&{}", percent_encoded).unwrap(),
        "/ü?s=a%3Ab%40c&r=North%20%26%20%22West%22&{}"
    );
    assert_eq!(
        filled("{label:on} {site_id}", as_it_is).unwrap(),
        "true a:b@c"
    );
    assert_eq!(filled("", as_it_is).unwrap(), "");
}

#[test]
fn json_is_written_as_it_is() {
    let body =
        r#"{"in":{"r":"{label:region}","n":{label:size}},"none":{ },"app":{"id":"{app_id}"}}"#;
    let json: serde_json::Value =
        serde_json::from_str(&filled(body, json_escaped).unwrap()).unwrap();
    assert_eq!(json["in"]["r"], "North & \"West\"");
    assert_eq!(json["in"]["n"], 7);
    assert_eq!(json["app"]["id"], "org.app");
}

#[test]
fn braces_stand_for_themselves_and_doubled_ones_keep_a_name() {
    for (text, expected) in [
        ("{", "{"),
        ("a}}b{{c", "a}}b{{c"),
        ("{a b} {} {1}", "{a b} {} {1}"),
        (
            "{{site_id}} {{any}} {{label:x}}",
            "{site_id} {any} {label:x}",
        ),
        ("{{{site_id}}}", "{a:b@c}"),
        ("{{site_id}", "{a:b@c"),
        ("{site_id}}", "a:b@c}"),
        ("{{{{site_id}}}}", "{{a:b@c}}"),
    ] {
        assert_eq!(filled(text, as_it_is).unwrap(), expected, "{text}");
    }
    assert!(template("{{site_id}} {").is_plain());
    assert!(!template("x{app_id}").is_plain());
}

#[test]
fn labels_that_cannot_be_filled_in_are_named() {
    for (text, expected) in [
        ("{label:none}", "no label \"none\""),
        ("{label:gone}", "no label \"gone\""),
        ("{label:list}", "label \"list\" is a list"),
    ] {
        let told = filled(text, as_it_is).unwrap_err();
        assert!(told.contains(expected), "{told}");
    }
    let told = template("{label:a}{site_id}").fill(&visit("[]"), as_it_is);
    assert!(told.unwrap_err().contains("no JSON object"));
    // Nobody asks for the labels, nobody minds them.
    let none = template("{site_id}");
    assert_eq!(none.fill(&visit("[]"), as_it_is).unwrap(), "a:b@c");
}

#[test]
fn what_is_filled_in_is_no_step_in_a_path() {
    for path in [
        "/a/{label:dots}/b",
        "/a/{label:dot}",
        "{label:dots}",
        "/.{label:dot}/b",
        "/{label:dot}{label:dot}?x",
        "/%2e{label:dot}/",
        "/a\\{label:dots}\\b",
    ] {
        let told = template(path).fill_path(&visit(LABELS)).unwrap_err();
        assert!(told.contains("leads elsewhere"), "{path}: {told}");
    }
    for (path, expected) in [
        ("/a/../{site_id}", "/a/../a%3Ab%40c"),
        ("/a{label:dots}/{label:dots}b", "/a../..b"),
        ("/?back=/{label:dots}/", "/?back=/../"),
    ] {
        let filled = template(path).fill_path(&visit(LABELS)).unwrap();
        assert_eq!(filled, expected);
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    insta::assert_snapshot!(problems("ü{site}/{label:a b}/{label:}/{{{x}}}{ site_id }{Site-Id}{site_id"), @r#"
    {site} is not known: expected {site_id}, {app_id} or {label:NAME}, or {{site}} for {site} itself, at character 2
    "a b" is not a label's name: expected 1 to 64 letters, digits, ".", "_" and "-", e.g. region, at character 9
    "" is not a label's name: expected 1 to 64 letters, digits, ".", "_" and "-", e.g. region, at character 21
    {x} is not known: expected {site_id}, {app_id} or {label:NAME}, or {{x}} for {x} itself, at character 32
    { site_id } is not known: expected {site_id}, {app_id} or {label:NAME}, or {{ site_id }} for { site_id } itself, at character 37
    {Site-Id} is not known: expected {site_id}, {app_id} or {label:NAME}, or {{Site-Id}} for {Site-Id} itself, at character 48
    a name that nothing closes: expected } behind it, at character 57
    "#);
    assert!(problems("{label:a").contains("nothing closes"));
    assert!(problems("{app_id {site_id}").contains("nothing closes"));
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<i32>().prop_map(Into::into),
        "[a-z:_é ]{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[a-z_]{0,6}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in "[{}a-z:_é ]{0,40}", labels in "[{}\":a-z0-9]{0,10}") {
        if let Ok(template) = Template::parse(&text) {
            drop(template.fill_path(&visit(&labels)));
        }
    }

    #[test]
    fn any_json_comes_out_as_it_was(json in json()) {
        for text in [json.to_string(), format!("{json:#}")] {
            prop_assert_eq!(template(&text).fill(&visit(""), json_escaped).unwrap(), text);
        }
    }

    #[test]
    fn any_text_whose_names_have_doubled_braces_comes_out_as_it_was(
        texts in prop::collection::vec("[a-z\" ]{1,5}", 1..5), name in "[a-zA-Z_][a-z_]{0,8}",
    ) {
        let text = texts.join(&format!("{{{name}}}"));
        let doubled = texts.join(&format!("{{{{{name}}}}}"));
        prop_assert_eq!(template(&doubled).fill(&visit(""), percent_encoded).unwrap(), text);
    }

    #[test]
    fn what_is_filled_into_a_path_stays_one_piece(value in any::<String>()) {
        let labels = serde_json::json!({ "l": value }).to_string();
        match template("/a/{label:l}/b").fill_path(&visit(&labels)) {
            Ok(path) => {
                let middle = path.strip_prefix("/a/").unwrap().strip_suffix("/b").unwrap();
                prop_assert!(!middle.contains(['/', '?', '#', '&', '=']), "{}", middle);
                let back = percent_encoding::percent_decode_str(middle).decode_utf8().unwrap();
                prop_assert_eq!(back, value);
            }
            Err(_) => prop_assert!(value == "." || value == ".."),
        }
    }

    #[test]
    fn what_is_filled_into_json_is_read_as_it_was(value in any::<String>()) {
        let labels = serde_json::json!({ "l": value }).to_string();
        let text = template(r#"["{label:l}"]"#).fill(&visit(&labels), json_escaped).unwrap();
        let read: Vec<String> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read[0], &value);
    }
}
