//! The list of sites, and the page of one.

use super::super::testing::Fixture;
use super::jobs::{has, minutes, run, sites};
use crate::time::Timestamp;

/// The ids of a list, in its order.
fn listed(page: &str) -> Vec<&str> {
    let cells = page.split("<th scope=\"row\"><a href=\"/sites/").skip(1);
    cells.map(|cell| cell.split('"').next().unwrap()).collect()
}

#[actix_web::test]
async fn the_list_filters_and_sorts() {
    let fixture = sites().await;
    let get = async |query: &str| fixture.get(&format!("/sites?{query}")).await.text();
    let all = get("app=&job=&state=&level=&text=").await;
    assert_eq!(listed(&all), ["alpha", "bravo", "charlie", "delta", "echo"]);
    let turned = get("descending=true").await;
    assert_eq!(listed(&turned)[0], "echo");
    for (query, expected) in [
        ("state=due", vec!["bravo"]),
        ("state=given_up", vec!["charlie"]),
        ("state=failing", vec!["bravo"]),
        ("state=well&job=sync", vec!["alpha"]),
        ("state=disabled", vec!["echo"]),
        ("state=never&job=sync", vec!["delta"]),
        ("level=0&job=sync", vec!["alpha", "bravo"]),
        ("text=BRA", vec!["bravo"]),
        ("text=delta.example", vec!["delta"]),
        ("sort=next_due_at", vec!["bravo", "alpha"]),
        ("app=app:org.example.app&text=echo", vec!["echo"]),
        ("app=org.example.other", vec![]),
    ] {
        assert_eq!(listed(&get(query).await), expected, "{query}");
    }
    has(
        &get("app=org.example.other").await,
        &["No sites match", "(not configured)"],
    );
    has(
        &get("job=sync&app=org.example.app&state=given_up").await,
        &["highwater sites revive --all --app org.example.app --job sync"],
    );
    has(
        &get("level=1").await,
        &[
            "<option value=\"0\">0</option>",
            "<option value=\"1\" selected>1</option>",
        ],
    );
    let of_sync = get("job=sync&sort=batch_code").await;
    has(
        &of_sync,
        &[
            "well",
            "failing",
            "given up",
            "never visited",
            "disabled",
            "timeout: no answer within &lt;10s&gt;",
            "aria-sort=\"ascending\"",
            "3 failed",
        ],
    );
}

#[actix_web::test]
async fn wrong_queries_are_named() {
    let fixture = sites().await;
    for (query, field) in [
        ("state=dead", "state"),
        ("level=-1", "level"),
        ("sort=age", "sort"),
        ("cursor=x", "cursor"),
        ("state=never", "state"),
        ("text=%00", "text"),
        ("colour=red", "colour"),
    ] {
        let page = fixture.get(&format!("/sites?{query}")).await;
        assert_eq!(page.status, 400, "{query}");
        has(
            &page.text(),
            &["The query cannot be read", &format!("<code>{field}</code>")],
        );
    }
}

#[actix_web::test]
async fn a_long_list_has_pages() {
    let fixture = Fixture::new().await;
    run(
        &fixture,
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 150) \
         INSERT INTO sites (site_id, app_id, url) \
         SELECT printf('s%03d', n), 'org.example.app', '<no address>' FROM n",
    );
    let first = fixture.get("/sites?text=s&sort=created_at").await.text();
    assert_eq!(listed(&first).len(), 100);
    has(&first, &["&lt;no address&gt;"]);
    let next = first.split("rel=\"next\" href=\"").nth(1).unwrap();
    let next = next.split('"').next().unwrap().replace("&amp;", "&");
    let second = fixture.get(&next).await.text();
    assert_eq!(listed(&second).len(), 50);
    assert_eq!(listed(&second)[0], "s101");
    has(&second, &["← First page"]);
    assert!(!second.contains("Next →"));
    has(
        &fixture.get("/sites/s001").await.text(),
        &["no address", "nothing visits this site"],
    );
}

#[actix_web::test]
async fn a_site_says_how_it_stands_when_it_is_visited_next_and_why() {
    let fixture = sites().await;
    let page = async |site: &str| fixture.get(&format!("/sites/{site}")).await.text();
    has(
        &page("alpha").await,
        &[
            "level 0 (2 hour), 0 of 12 failures",
            "success: 2 hour after the last visit",
            "412 ms",
            "&quot;version&quot;: &quot;5.70&quot;",
            "1 earlier version",
            "&quot;version&quot;: &quot;5.69&quot;",
            "north",
            "<dd>1000</dd>",
        ],
    );
    has(
        &page("bravo").await,
        &[
            "level 0 (2 hour), 3 of 12 failures",
            "failed 3 times at this level: 2 hour after the last visit",
            "due since",
            "timeout: no answer within &lt;10s&gt;",
            "</span> timeout</span>",
        ],
    );
    has(
        &page("charlie").await,
        &[
            "past the last of 2 levels",
            "<code>highwater sites revive --job sync charlie</code>",
            "App: Example",
        ],
    );
    has(
        &page("delta").await,
        &[
            "never visited</span> due at once<",
            "due at once, by highwater poll alone",
        ],
    );
    has(
        &page("echo").await,
        &["disabled: it is not visited until it is enabled"],
    );
    run(
        &fixture,
        "UPDATE poll_status SET level = 1, count = 0 WHERE site_id = 'bravo'",
    );
    let words = "failed 12 times at level 0: 1 day after the last visit, from now on";
    has(
        &page("bravo").await,
        &["level 1 (1 day), 0 of 30 failures", words],
    );
    let missing = fixture.get("/sites/zulu").await;
    assert_eq!(missing.status, 404);
    has(&missing.text(), &["There is no such site"]);
    assert_eq!(fixture.get("/sites/a%00b").await.status, 404);
}

#[actix_web::test]
async fn a_host_that_asked_to_be_left_alone_is_waited_for() {
    let fixture = sites().await;
    let until = Timestamp::now().plus(minutes(180));
    run(
        &fixture,
        &format!(
            "INSERT INTO host_pauses (host, until_at) VALUES ('alpha.example', '{}')",
            until.to_sql_text()
        ),
    );
    let page = fixture.get("/sites/alpha").await.text();
    has(
        &page,
        &[
            "Its host asked to be left alone",
            &until.to_string(),
            "in 2 h 59 min",
        ],
    );
}
