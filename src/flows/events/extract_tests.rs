//! What hooks are sent, and what is made of it.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn fields() -> Fields {
    Fields {
        key: Some("/payload/key".to_owned()),
        ..Fields::default()
    }
}

fn extraction(fields: &Fields) -> Extraction<'_> {
    Extraction {
        fields,
        event_name: "CLAIM",
        by_ordinal: false,
        max_events: 3,
        max_event_bytes: 2000,
    }
}

fn extract(body: &str) -> Result<Vec<Heard>, ExtractProblem> {
    extraction(&fields()).extract(body.as_bytes())
}

/// The one event of a body.
fn one(body: &str) -> Heard {
    let mut heard = extract(body).unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!(heard.len(), 1);
    heard.remove(0)
}

fn told(fields: &Fields, body: &str) -> String {
    let problem = extraction(fields).extract(body.as_bytes()).unwrap_err();
    problem.to_string()
}

#[test]
fn one_event_and_a_list_of_them_are_taken_as_they_came() {
    let event =
        r#"{ "blockNumber": 17, "transactionId": "t1", "payload": {"key": "k", "n": 1.50} }"#;
    let heard = one(&format!(" {event}\n"));
    assert_eq!(heard.block, Some(17));
    assert_eq!(
        (heard.tx_id.as_str(), heard.key.as_deref()),
        ("t1", Some("k"))
    );
    assert_eq!((heard.event_name.as_str(), heard.rank), ("CLAIM", 0));
    assert_eq!(heard.payload, event);
    assert_eq!(heard.event_id.len(), 32);
    let list = extract(&format!("[{event} , {{\"blockNumber\":\"18\"}}]")).unwrap();
    assert_eq!(list[0], heard);
    assert_eq!((list[1].block, list[1].tx_id.as_str()), (Some(18), ""));
    assert_eq!(extract("[]").unwrap(), []);
}

#[test]
fn a_cloud_event_carries_its_event_as_data() {
    let event = r#"{"blockNumber": 1,  "transactionId":"t"}"#;
    let cloud =
        format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{event}}}"#);
    assert_eq!(one(&cloud), one(event));
    let problem = extract(&cloud.replace("1,", "-1,")).unwrap_err();
    assert!(
        problem.to_string().starts_with("/data/blockNumber: -1 "),
        "{problem}"
    );
    let problem = extract(&cloud.replace(event, "\"text\"")).unwrap_err();
    assert!(
        problem
            .to_string()
            .starts_with("/data: \"text\" is not an event")
    );
    // Not every event with such a member is an envelope.
    let own = r#"{"specversion":"1.0","blockNumber":1,"data":{}}"#;
    assert_eq!(one(own).payload, own);
}

#[test]
fn the_ordinal_is_the_identity_where_there_is_one_and_the_rank_where_it_orders() {
    let fields = Fields {
        ordinal: Some("/n".to_owned()),
        ..Fields::default()
    };
    let mut extraction = extraction(&fields);
    let body = br#"[{"blockNumber":1,"n":"007"},{"blockNumber":1,"n":7}]"#;
    let heard = extraction.extract(body).unwrap();
    assert_eq!((heard[0].event_id.as_str(), heard[0].rank), ("7", 0));
    assert_eq!(heard[0].event_id, heard[1].event_id);
    extraction.by_ordinal = true;
    assert_eq!(extraction.extract(body).unwrap()[0].rank, 7);
    assert!(told(&fields, r#"{"blockNumber":1}"#).starts_with("/n: missing; expected the ordinal"));
}

#[test]
fn what_is_no_event_is_told_with_place_value_and_what_is_expected() {
    let fields = Fields {
        timestamp: Some("/at".to_owned()),
        event_name: Some("/name".to_owned()),
        ..fields()
    };
    let long = "x".repeat(257);
    for (body, expected) in [
        ("{", "the body is not JSON: EOF"),
        ("5", ": 5 is not an event; expected an object"),
        (r#"[{"blockNumber":1},null]"#, "[1]: null is not an event"),
        ("{}", "/blockNumber: missing; expected the block"),
        (r#"{"blockNumber":null}"#, "/blockNumber: missing"),
        (
            r#"[{"blockNumber":1},{"blockNumber":-5}]"#,
            "[1]/blockNumber: -5 is not the block; expected a whole number from 0",
        ),
        (
            r#"{"blockNumber":1.5}"#,
            "/blockNumber: 1.5 is not the block",
        ),
        (
            r#"{"blockNumber":9223372036854775808}"#,
            "/blockNumber: 9223372036854775808 is not",
        ),
        (
            r#"{"blockNumber":"seventeen"}"#,
            "/blockNumber: \"seventeen\" is not the block",
        ),
        (r#"{"blockNumber":"+1"}"#, "/blockNumber: \"+1\" is not"),
        (r#"{"blockNumber":""}"#, "/blockNumber: \"\" is not"),
        (r#"{"blockNumber":[1]}"#, "/blockNumber: a list is not"),
        (
            &format!(r#"{{"blockNumber":1,"transactionId":"{long}"}}"#),
            "at most 256 characters",
        ),
        (
            r#"{"blockNumber":1,"transactionId":"a\u0000"}"#,
            "without NUL",
        ),
        (
            r#"{"blockNumber":1,"transactionId":{}}"#,
            "/transactionId: an object is not a transaction id; expected a text",
        ),
        (
            r#"{"blockNumber":1,"payload":{"key":true}}"#,
            "/payload/key: true is not a key",
        ),
        (
            r#"{"blockNumber":1,"name":[]}"#,
            "/name: a list is not a name",
        ),
        (
            r#"{"blockNumber":1,"at":"yesterday"}"#,
            "/at: \"yesterday\" is not a time; expected RFC 3339",
        ),
        (r#"{"blockNumber":1,"at":-1}"#, "/at: -1 is not a time"),
        (
            "[1,2,3,4]",
            "the body carries 4 events; send at most 3 a call",
        ),
        (
            &format!(
                r#"[{{"blockNumber":1}},{{"blockNumber":1,"x":"{}"}}]"#,
                "y".repeat(2000)
            ),
            "event 1 has 2024 bytes; expected at most 2000",
        ),
    ] {
        let told = told(&fields, body);
        assert!(told.contains(expected), "{body}: {told}");
    }
    let not_utf8 = extraction(&fields).extract(b"\"\xff\"").unwrap_err();
    assert!(matches!(not_utf8, ExtractProblem::NotJson(_)));
    let deep = "[".repeat(100_000);
    assert!(matches!(extract(&deep), Err(ExtractProblem::NotJson(_))));
}

#[test]
fn times_come_in_three_forms() {
    let fields = Fields {
        timestamp: Some("/at".to_owned()),
        ..Fields::default()
    };
    let time = |at: &str| {
        let body = format!(r#"{{"blockNumber":1,"at":{at}}}"#);
        extraction(&fields).extract(body.as_bytes()).unwrap()[0]
            .occurred_at
            .map(|time| time.to_string())
    };
    for at in [
        "1769860800",
        "1769860800000",
        "\"1769860800\"",
        "\"2026-01-31T12:00:00Z\"",
        "\"2026-01-31T14:30:00+02:30\"",
        "\"2026-01-31T07:00:00.000-05:00\"",
    ] {
        assert_eq!(
            time(at).as_deref(),
            Some("2026-01-31T12:00:00.000Z"),
            "{at}"
        );
    }
    assert_eq!(
        time("1769860800.25").as_deref(),
        Some("2026-01-31T12:00:00.250Z")
    );
    assert_eq!(time("null"), None);
}

/// The same document with its members in another order.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let members = map.iter().rev();
            let members =
                members.map(|(key, value)| format!("{} : {}", json!(key), reversed(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(" , "))
        }
        other => other.to_string(),
    }
}

proptest! {
    #[test]
    fn no_body_panics(body in any::<Vec<u8>>(), json in "[\\[\\]{}\",:\\\\ 1a-]{0,40}") {
        for body in [body, json.into_bytes()] {
            drop(extraction(&fields()).extract(&body));
        }
    }

    #[test]
    fn a_redelivery_is_known_again_whatever_the_order_of_its_members(
        block in 0..i64::MAX, tx in "[a-f0-9]{0,64}", members in prop::collection::btree_map("[a-z\\\\\"ü]{1,6}", ".{0,12}", 0..8),
    ) {
        let event = json!({"blockNumber": block, "transactionId": tx, "payload": members});
        let (first, again) = (one(&event.to_string()), one(&reversed(&event)));
        prop_assert_eq!(first.block, Some(block));
        prop_assert_eq!(&first.tx_id, &tx);
        prop_assert_eq!(&first.event_id, &again.event_id);
        let other = json!({"blockNumber": block, "transactionId": tx, "payload": members, "more": 1});
        prop_assert_ne!(first.event_id, one(&other.to_string()).event_id);
    }

    #[test]
    fn a_block_that_is_a_text_is_the_same_block(block in 0..i64::MAX) {
        let (number, text) = (json!({"blockNumber": block}), json!({"blockNumber": block.to_string()}));
        prop_assert_eq!(one(&number.to_string()).block, one(&text.to_string()).block);
    }
}
