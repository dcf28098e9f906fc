//! Saved states: shown, warned about, and hostile text in them shown as text.

use super::super::testing::{Fixture, state_status};
use crate::store::{SavedState, StateWrite};
use crate::watchdog::StateStatus;
use std::time::Duration;

#[actix_web::test]
async fn a_state_that_is_not_saved_or_was_set_aside_is_told_everywhere() {
    let fixture = Fixture::new().await;
    let calm = fixture.get("/services").await.text();
    assert!(calm.contains("Saved states") && calm.contains("1,234"));
    assert!(!calm.contains("Set aside") && !calm.contains("not saved"));

    *fixture.states.lock().unwrap() = vec![StateStatus {
        unsaved: true,
        failures: 3,
        problem: Some("the disk is <full>".into()),
        ..state_status()
    }];
    for n in 0..3 {
        let decide = move |former: Option<&SavedState>| {
            Ok(StateWrite {
                value: format!("\"<value {n}>\""),
                unreadable: former.map(|_| "it is <odd>".to_owned()),
            })
        };
        fixture
            .store
            .save_state("scheduler", 9, decide)
            .await
            .unwrap();
    }
    // What was set aside is read anew a second later at the earliest.
    let begun = std::time::Instant::now();
    let list = loop {
        let list = fixture.get("/v1/states").await.json();
        if list["aside"].as_array().unwrap().len() == 2 {
            break list;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{list}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(list["items"][0]["problem"], "the disk is <full>");
    assert_eq!(list["aside"][0]["problem"], "it is <odd>");
    assert!(
        list["aside"][0].get("value").is_none(),
        "states stay inside"
    );
    let page = fixture.get("/services").await.text();
    for words in [
        "not saved",
        "the disk is &lt;full&gt;",
        "Set aside",
        "it is &lt;odd&gt;",
    ] {
        assert!(page.contains(words), "lacks {words}:\n{page}");
    }
    let ready = fixture.get("/readyz").await.json();
    let warnings = ready["warnings"].to_string();
    for words in [
        "the state of service scheduler was not saved, 3 times in a row",
        "2 saved states of service scheduler could not be read",
        "highwater states drop scheduler",
    ] {
        assert!(warnings.contains(words), "lacks {words}: {warnings}");
    }
    assert_eq!(ready["ready"], true, "{ready}");
}
