//! The pages of subscriptions and of events.

use super::super::testing::Fixture;
use super::jobs::{has, run};
use crate::config::{SourceSettings, SubscriptionSettings};
use crate::flows::events::SubscriptionName;
use crate::time::Timestamp;

/// A server with subscriptions `claims`, `quiet` and, in the database only, `gone`.
async fn fixture() -> Fixture {
    let fixture = Fixture::with(|settings| {
        let name = |name: &str| SubscriptionName::parse(name).unwrap();
        let named = |text: &str| SubscriptionSettings::new(name(text), SourceSettings::Hook);
        settings.subscriptions = vec![named("claims"), named("quiet")];
    })
    .await;
    rows(&fixture);
    fixture
}

/// `claims` is halted on its second event of four; `gone` has one.
pub(super) fn rows(fixture: &Fixture) {
    let now = Timestamp::now().to_sql_text();
    let hour = format!("{}:00:00.000", &now[..13]);
    let event = |arrival: i64, block: i64, tx: &str, decision: &str, more: &str| {
        format!(
            "INSERT INTO events (subscription, block, tx_id, event_id, arrival, event_name, payload, \
             received_at, decision, event_key) VALUES ('claims', {block}, '{tx}', '{arrival}', {arrival}, \
             'CHANGED', '{{\"n\":12345678901234567890.10,\"text\":\"<script>alert(1)</script>\"}}', \
             '{now}', '{decision}', 'k&<{arrival}>'); \
             UPDATE events SET {more} WHERE subscription = 'claims' AND arrival = {arrival};"
        )
    };
    let decided = format!("decided_at = '{now}'");
    let sql = [
        event(1, 6, "t/1", "relevant", &format!("{decided}, attempts = 1, processed_at = '{now}'")),
        event(
            2,
            7,
            "t 2?",
            "relevant",
            &format!("{decided}, attempts = 5, last_error = 'answered <503>', late = 1"),
        ),
        event(3, 7, "", "pending", "rank = 1"),
        event(4, 9, "t4", "irrelevant", &decided),
        format!(
            "INSERT INTO subscriptions (name, last_arrival, highest_block, second_block, \
             position_block, position_rank, position_arrival, last_event_at, halted_arrival, \
             halted_at, halt_error) VALUES ('claims', 4, 9, 7, 6, 0, 1, '{now}', 2, '{now}', \
             'answered <503>'); \
             INSERT INTO subscriptions (name, last_arrival, highest_block, last_event_at, paused_at, \
             pause_reason) VALUES ('gone', 1, 1, '{now}', '{now}', 'it was <moved>'); \
             INSERT INTO event_counts VALUES ('claims', '{hour}', 'relevant', 2), \
             ('claims', '{hour}', 'processed', 1), ('claims', '{hour}', 'pending', 1), \
             ('claims', '{hour}', 'irrelevant', 1)"
        ),
    ]
    .concat();
    run(fixture, &sql);
}

#[actix_web::test]
async fn subscriptions_are_told_with_what_holds_them_up() {
    let fixture = fixture().await;
    let page = fixture.get("/subscriptions").await;
    assert_eq!(page.status, 200);
    let text = page.text();
    has(
        &text,
        &[
            "aria-current=\"page\">Events</a>",
            "halted",
            "answered &lt;503&gt;",
            "highwater events retry --reason 'WHY' claims",
            "highwater events skip --reason 'WHY' claims 2",
            "href=\"/subscriptions/claims/events/2\"",
            "1 processed",
            "1 not processed yet",
            "not configured",
            "Paused <time",
            "it was &lt;moved&gt;",
            "No event in the last 48 hours",
        ],
    );
    let status = fixture.get("/").await.text();
    has(
        &status,
        &[
            "headline bad",
            "1 of 2 subscriptions is halted",
            "subscription claims is halted on event 2",
        ],
    );
}

#[actix_web::test]
async fn without_subscriptions_the_page_says_what_to_do() {
    let fixture = Fixture::new().await;
    let page = fixture.get("/subscriptions").await.text();
    has(&page, &["No subscription is configured"]);
    let status = fixture.get("/").await.text();
    assert!(!status.contains("<h2>Events</h2>"), "{status}");
}

#[actix_web::test]
async fn one_subscription_lists_its_events_by_filters_and_pages() {
    let fixture = fixture().await;
    let listed = async |query: &str| {
        let page = fixture.get(&format!("/subscriptions/claims?{query}")).await;
        assert_eq!(page.status, 200, "{query}: {}", page.text());
        let text = page.text();
        let cells =
            text.split("<th class=\"num\" scope=\"row\"><a href=\"/subscriptions/claims/events/");
        let ids = cells
            .skip(1)
            .map(|cell| cell.split('"').next().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    for (query, expected) in [
        ("decision=&block=&tx_id=&open=", vec!["4", "3", "2", "1"]),
        ("open=true", vec!["3", "2"]),
        ("decision=irrelevant", vec!["4"]),
        ("decision=skipped", vec![]),
        ("block=7", vec!["3", "2"]),
        ("tx_id=t%2F1", vec!["1"]),
        ("limit=2", vec!["4", "3"]),
    ] {
        assert_eq!(listed(query).await, expected, "{query}");
    }
    let first = fixture.get("/subscriptions/claims?limit=2").await.text();
    let (_, next) = first.split_once("rel=\"next\" href=\"").unwrap();
    let next = next.split('"').next().unwrap().replace("&amp;", "&");
    let older = fixture.get(&next).await.text();
    has(&older, &["/events/2\"", "/events/1\"", "← Newest"]);
    has(
        &first,
        &[
            "What holds it up",
            "k&amp;&lt;4&gt;",
            "<option value=\"pending\">pending</option>",
        ],
    );
}

#[actix_web::test]
async fn an_event_is_told_with_its_story_and_as_it_came() {
    let fixture = fixture().await;
    let page = fixture.get("/subscriptions/claims/events/2").await.text();
    has(
        &page,
        &[
            "Why not now",
            "The subscription is halted on it",
            "highwater events skip --reason 'WHY' claims 2",
            "Recorded as arrival 2 in block 7; late",
            "tried 5 times; what went wrong last: answered &lt;503&gt;",
            "&quot;n&quot;: 12345678901234567890.10,",
            "&lt;script&gt;alert(1)&lt;/script&gt;",
            "href=\"/subscriptions/claims?tx_id=t%202%3F\"",
        ],
    );
    assert!(!page.contains("<script>alert"), "{page}");
    let behind = fixture.get("/subscriptions/claims/events/3").await.text();
    has(&behind, &["halted on event 2", "without a transaction"]);
    let done = fixture.get("/subscriptions/claims/events/4").await.text();
    assert!(!done.contains("Why not now"), "{done}");
}

#[actix_web::test]
async fn what_is_not_there_is_told_as_a_page() {
    let fixture = fixture().await;
    for (path, status, words) in [
        (
            "/subscriptions/nobody",
            404,
            "There is no such subscription",
        ),
        ("/subscriptions/a%20b", 404, "There is no such subscription"),
        (
            "/subscriptions/claims/events/99",
            404,
            "There is no such event",
        ),
        (
            "/subscriptions/claims/events/x",
            404,
            "There is no such event",
        ),
        (
            "/subscriptions/nobody/events/1",
            404,
            "There is no such subscription",
        ),
        (
            "/subscriptions/claims?decision=maybe",
            400,
            "<code>decision</code>",
        ),
        ("/subscriptions/claims?block=-1", 400, "<code>block</code>"),
        (
            "/subscriptions/claims?colour=red",
            400,
            "<code>colour</code>",
        ),
    ] {
        let page = fixture.get(path).await;
        assert_eq!(page.status, status, "{path}");
        has(&page.text(), &[words]);
    }
}

#[actix_web::test]
async fn a_large_event_is_cut_with_a_link_to_all_of_it() {
    let fixture = fixture().await;
    let large = format!("\"{}\"", "x".repeat(50_000));
    run(
        &fixture,
        &format!("UPDATE events SET payload = '{large}' WHERE arrival = 3"),
    );
    let page = fixture.get("/subscriptions/claims/events/3").await.text();
    assert!(page.len() < 40_000, "{}", page.len());
    has(
        &page,
        &["50,002 bytes", "/v1/subscriptions/claims/events/3"],
    );
    run(
        &fixture,
        "UPDATE events SET payload = 'null' WHERE arrival = 3",
    );
    let page = fixture.get("/subscriptions/claims/events/3").await.text();
    has(&page, &["past its retention"]);
}
