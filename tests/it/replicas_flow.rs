//! The replica flow as a whole, with real servers: what one publishes, another
//! has, whatever happens in between.

use crate::datasets_store::{name, open};
use crate::replicas_support::{
    Node, another, becomes, becomes_equal, bootstraps, client, entries, free_port, get, numbered,
    post, publish, requests, updates,
};
use crate::support::{
    Database, PATIENCE, batch_id, eventually, on_both_databases, service_id, tracking,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

on_both_databases!(
    a_replica_equals_its_dataset_and_can_be_followed_in_turn,
    a_history_that_is_too_short_means_a_new_bootstrap_by_itself,
    a_new_epoch_means_a_new_bootstrap_by_itself,
    an_idle_replica_asks_once_per_watch_timeout,
    a_reload_adds_and_removes_datasets_and_replicas,
    a_table_is_published_and_followed,
    the_wire_of_the_seed_is_served_and_followed,
    a_tampered_copy_is_put_right_by_an_audit,
);

const PRICES: &str = "[[datasets]]\nname = \"prices\"\n";

/// A replica called `prices` of another node.
fn replica(of: &Node, more: &str) -> String {
    let url = of.url();
    format!("[[replicas]]\nname = \"prices\"\nupstream = \"{url}\"\nchunk = 100\n{more}\n")
}

async fn a_replica_equals_its_dataset_and_can_be_followed_in_turn(database: &Database) {
    let (of_follower, of_third) = (another(database), another(database));
    let publisher = Node::new(database, "publisher", PRICES);
    let follower = Node::new(&of_follower, "follower", &replica(&publisher, ""));
    let chained = replica(&follower, "").replace(
        &format!("\"{}\"", follower.url()),
        &format!("\"{}/v1/replicas/prices\"", follower.url()),
    );
    let third = Node::new(&of_third, "third", &chained);

    let publishing = publisher.serve().await;
    assert_eq!(
        publish(&publishing, "prices", numbered(0..1000, "first")).await,
        1
    );
    let following = follower.serve().await;
    let chaining = third.serve().await;
    let there = (&publishing, "datasets/prices");
    let all = becomes_equal(there, (&following, "replicas/prices")).await;
    assert_eq!(all.len(), 1000);
    becomes(&following, "prices", "live").await;
    becomes_equal(there, (&chaining, "replicas/prices")).await;

    // Updates, deletes, insertions before all and behind all, in many heads.
    publish(&publishing, "prices", numbered(300..700, "second")).await;
    let deletes = (0..500).map(|n| json!({ "delete": format!("k{n:05}") }));
    publish(&publishing, "prices", deletes.collect()).await;
    for n in 0..50 {
        let ends = [("a first", json!(n)), ("z last", json!([n, null]))];
        publish(&publishing, "prices", updates(ends)).await;
    }
    let all = becomes_equal(there, (&following, "replicas/prices")).await;
    assert_eq!(all.len(), 502);
    assert_eq!(all["a first"], 49);
    becomes_equal(there, (&chaining, "replicas/prices")).await;
    let one = following.get("/v1/replicas/prices/entries/k00699").await;
    assert!(one.to_string().contains("second"), "{one}");
    // Applications read it by SQL.
    let seen = of_follower
        .texts("SELECT value FROM replica_entries WHERE replica = 'prices' AND key = 'z last'")
        .await;
    let seen: Value = serde_json::from_str(&seen[0]).unwrap();
    assert_eq!(seen, json!([49, null]));
    for at in [&of_follower, &of_third] {
        assert_eq!(bootstraps(at, "prices").await, json!({ "initial": 1 }));
    }
    for server in [chaining, following, publishing] {
        server.terminate().await;
    }
}

async fn a_history_that_is_too_short_means_a_new_bootstrap_by_itself(database: &Database) {
    let of_follower = another(database);
    let short = format!("{PRICES}history = {{ changes = 5 }}\n");
    let publisher = Node::new(database, "publisher", &short);
    let follower = Node::new(&of_follower, "follower", &replica(&publisher, ""));
    let publishing = publisher.serve().await;
    publish(&publishing, "prices", numbered(0..300, "first")).await;
    let following = follower.serve().await;
    let (there, here) = ("datasets/prices", "replicas/prices");
    becomes_equal((&publishing, there), (&following, here)).await;
    following.terminate().await;
    for n in 0..20 {
        publish(&publishing, "prices", updates([("a", json!(n))])).await;
    }
    publish(&publishing, "prices", vec![json!({ "delete": "k00007" })]).await;
    let following = follower.serve().await;
    becomes_equal((&publishing, there), (&following, here)).await;
    becomes(&following, "prices", "live").await;
    let counted = bootstraps(&of_follower, "prices").await;
    assert_eq!(counted, json!({ "initial": 1, "stale-head": 1 }));
    following.terminate().await;
    publishing.terminate().await;
}

async fn a_new_epoch_means_a_new_bootstrap_by_itself(database: &Database) {
    let of_follower = another(database);
    let publisher = Node::new(database, "publisher", PRICES);
    let follower = Node::new(&of_follower, "follower", &replica(&publisher, ""));
    let publishing = publisher.serve().await;
    publish(&publishing, "prices", numbered(0..300, "first")).await;
    let following = follower.serve().await;
    let (there, here) = ("datasets/prices", "replicas/prices");
    becomes_equal((&publishing, there), (&following, here)).await;
    // As `datasets new-epoch` does while the server runs: the wait ends by it.
    let store = open(database).await;
    store.new_epoch(&name("prices")).await.unwrap().unwrap();
    store.close();
    becomes_equal((&publishing, there), (&following, here)).await;
    publish(&publishing, "prices", numbered(100..400, "second")).await;
    becomes_equal((&publishing, there), (&following, here)).await;
    let counted = bootstraps(&of_follower, "prices").await;
    assert_eq!(counted, json!({ "initial": 1, "epoch": 1 }));
    following.terminate().await;
    publishing.terminate().await;
}

async fn an_idle_replica_asks_once_per_watch_timeout(database: &Database) {
    let of_follower = another(database);
    let publisher = Node::new(database, "publisher", PRICES);
    let idle = replica(&publisher, "watch = \"1s\"\npoll_interval = \"10ms\"\n");
    let follower = Node::new(&of_follower, "follower", &idle);
    let publishing = publisher.serve().await;
    publish(&publishing, "prices", numbered(0..300, "first")).await;
    let following = follower.serve().await;
    let (there, here) = ("datasets/prices", "replicas/prices");
    becomes_equal((&publishing, there), (&following, here)).await;
    let others = async || {
        let mut all = 0;
        for request in ["info", "fetch", "digests", "entry", "publish"] {
            all += requests(&publishing, "prices", request).await;
        }
        all
    };
    let watches = async || requests(&publishing, "prices", "watch").await;
    // From the end of one wait on.
    let before = watches().await;
    eventually(PATIENCE, "a wait ends", async || watches().await > before).await;
    let (begun, asked, watched) = (Instant::now(), others().await, watches().await);
    eventually(PATIENCE, "more waits end", async || {
        watches().await >= watched + 4
    })
    .await;
    let (took, ended) = (begun.elapsed(), watches().await - watched);
    assert_eq!(others().await, asked, "nothing but waits");
    let most = took.as_millis() / 1000 + 1;
    assert!(u128::from(ended) <= most, "{ended} requests in {took:?}");
    // And what changes is there at once, without a poll.
    let begun = Instant::now();
    publish(&publishing, "prices", updates([("a", json!(1))])).await;
    becomes_equal((&publishing, there), (&following, here)).await;
    println!("    a change was there after {:.0?}", begun.elapsed());
    following.terminate().await;
    publishing.terminate().await;
}

async fn a_reload_adds_and_removes_datasets_and_replicas(database: &Database) {
    let of_follower = another(database);
    let publisher = Node::new(database, "publisher", "");
    let follower = Node::new(&of_follower, "follower", "");
    let publishing = publisher.serve().await;
    let following = follower.serve().await;
    let (status, _) = get(&publishing, "/v1/datasets/prices").await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    publisher.configure(PRICES);
    publishing.hangup();
    eventually(PATIENCE, "the dataset is there", async || {
        let (status, _) = get(&publishing, "/v1/datasets/prices/info").await;
        status == StatusCode::OK
    })
    .await;
    publish(&publishing, "prices", numbered(0..300, "first")).await;
    follower.configure(&replica(&publisher, ""));
    following.hangup();
    let (there, here) = ("datasets/prices", "replicas/prices");
    becomes_equal((&publishing, there), (&following, here)).await;

    follower.configure("");
    following.hangup();
    eventually(PATIENCE, "the replica is gone", async || {
        let (status, _) = get(&following, "/v1/replicas/prices").await;
        let services = following.get("/v1/services").await;
        let mut services = services["items"].as_array().unwrap().iter();
        let runs = services.any(|service| service["name"] == "follower:prices");
        status == StatusCode::NOT_FOUND && !runs
    })
    .await;
    publish(&publishing, "prices", numbered(200..500, "second")).await;
    // Back again, it goes on where it was.
    follower.configure(&replica(&publisher, ""));
    following.hangup();
    becomes_equal((&publishing, there), (&following, here)).await;
    let counted = bootstraps(&of_follower, "prices").await;
    assert_eq!(counted, json!({ "initial": 1 }));

    publisher.configure("");
    publishing.hangup();
    eventually(PATIENCE, "the dataset is gone", async || {
        let (status, _) = get(&publishing, "/v1/datasets/prices/info").await;
        status == StatusCode::NOT_FOUND
    })
    .await;
    becomes(&following, "prices", "failing").await;
    let (_, kept) = entries(&following, here).await;
    assert_eq!(kept.len(), 500, "the copy stays readable");
    following.terminate().await;
    publishing.terminate().await;
}

async fn a_table_is_published_and_followed(database: &Database) {
    let of_follower = another(database);
    // A ledger that never answers: the batches stay as they are tracked.
    let ours = "[[ledgers]]\nname = \"main\"\nkind = \"splinter\"\nurl = \"http://127.0.0.1:1\"\n\n\
                [[datasets]]\nname = \"prices\"\nsource = \"batches\"\n";
    let publisher = Node::new(database, "publisher", ours);
    let follower = Node::new(&of_follower, "follower", &replica(&publisher, ""));
    let publishing = publisher.serve().await;
    let following = follower.serve().await;
    let batch = |n| ("main".to_owned(), service_id(n), batch_id(n));
    publishing.track(&tracking((0..200).map(batch))).await;
    let count = async || {
        let (status, info) = get(&following, "/v1/replicas/prices/info").await;
        (status == StatusCode::OK).then(|| info["len"].as_u64().unwrap())
    };
    eventually(PATIENCE, "all batches are copied", async || {
        count().await == Some(200)
    })
    .await;
    let key = format!("main/{}/{}", service_id(7), batch_id(7));
    let path = format!("/v1/replicas/prices/entries/{}", key.replace('/', "%2F"));
    let copied = following.get(&path).await;
    assert!(copied.to_string().contains(&batch_id(7)), "{copied}");

    // Whoever changes the table: it is followed.
    let gone = format!("DELETE FROM batches WHERE batch_id = '{}'", batch_id(7));
    database.run(&gone).await.unwrap();
    eventually(PATIENCE, "the batch is gone", async || {
        count().await == Some(199)
    })
    .await;
    let (status, answer) = post(
        &publishing,
        "/v1/datasets/prices/entries",
        &json!([{ "delete": key }]),
    )
    .await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    following.terminate().await;
    publishing.terminate().await;
}

async fn the_wire_of_the_seed_is_served_and_followed(database: &Database) {
    let of_follower = another(database);
    let port = free_port();
    let seed = format!("{PRICES}seed_listen = \"127.0.0.1:{port}\"\n");
    let publisher = Node::new(database, "publisher", &seed);
    let follows = format!(
        "[[replicas]]\nname = \"prices\"\nupstream = \"http://127.0.0.1:{port}\"\n\
         protocol = \"seed\"\nchunk = 7\npoll_interval = \"50ms\"\n"
    );
    let follower = Node::new(&of_follower, "follower", &follows);
    let publishing = publisher.serve().await;
    let insert = async |modifications: Vec<Value>| {
        let url = format!("http://127.0.0.1:{port}/insert");
        let call = client().post(url).json(&Value::from(modifications));
        let answer = call.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    };
    let update = |n: usize, word: &str| json!({ "Update": [format!("k{n:03}"), word] });
    insert((0..100).map(|n| update(n, "first")).collect()).await;
    let following = follower.serve().await;
    let same = async || {
        let (info, expected) = entries(&publishing, "datasets/prices").await;
        eventually(PATIENCE, "the copy equals", async || {
            let (status, ours) = get(&following, "/v1/replicas/prices/info").await;
            status == StatusCode::OK && ours["head"] == info["head"]
        })
        .await;
        let (_, copied) = entries(&following, "replicas/prices").await;
        assert!(copied == expected, "{copied:?}\nis not\n{expected:?}");
        expected
    };
    assert_eq!(same().await.len(), 100);
    insert(
        (0..60)
            .map(|n| json!({ "Delete": format!("k{n:03}") }))
            .collect(),
    )
    .await;
    insert((50..120).map(|n| update(n, "second")).collect()).await;
    let expected = same().await;
    assert_eq!(expected.len(), 70);
    assert_eq!(expected["k119"], "second");
    let counted = bootstraps(&of_follower, "prices").await;
    assert_eq!(counted, json!({ "initial": 1 }));
    following.terminate().await;
    publishing.terminate().await;
}

async fn a_tampered_copy_is_put_right_by_an_audit(database: &Database) {
    let of_follower = another(database);
    let publisher = Node::new(database, "publisher", PRICES);
    let audited = replica(&publisher, "audit_interval = \"1s\"\n");
    let follower = Node::new(&of_follower, "follower", &audited);
    let publishing = publisher.serve().await;
    publish(&publishing, "prices", numbered(0..1000, "first")).await;
    let following = follower.serve().await;
    let (there, here) = ("datasets/prices", "replicas/prices");
    let expected = becomes_equal((&publishing, there), (&following, here)).await;
    let tamper = "UPDATE dataset_entries SET value = '\"wrong\"' WHERE key = 'k00500'; \
                  DELETE FROM dataset_entries WHERE key = 'k00100'; \
                  UPDATE dataset_generations SET len = len - 1 WHERE live";
    of_follower.run(tamper).await.unwrap();
    let begun = Instant::now();
    eventually(PATIENCE, "both are put right", async || {
        let wrong = "SELECT count(*) AS value FROM replica_entries WHERE value = '\"wrong\"'";
        let there = "SELECT count(*) AS value FROM replica_entries WHERE key = 'k00100'";
        of_follower.number(wrong).await == 0 && of_follower.number(there).await == 1
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(30));
    let (_, copied) = entries(&following, here).await;
    assert!(copied == expected, "{copied:?}\nis not\n{expected:?}");
    let counted = bootstraps(&of_follower, "prices").await;
    assert_eq!(counted, json!({ "initial": 1 }), "no new bootstrap");
    following.terminate().await;
    publishing.terminate().await;
}
