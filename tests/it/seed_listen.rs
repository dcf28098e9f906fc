//! The addresses of the seed's wire: taken ones are told before anything begins,
//! and a reload hands them from one dataset to another.

use crate::life_support::{Db, Place, Server};
use crate::replicas_support::{client, free_port};
use highwater::app::{self, AppError, Launch};
use highwater::config::{self, LoadOptions};
use highwater::handlers::Listeners;
use highwater::store::Store;
use highwater::watchdog::OrderError;
use serde_json::{Value, json};
use std::net::TcpListener;

/// A dataset at an address of its own.
fn dataset(name: &str, port: u16) -> String {
    format!("[[datasets]]\nname = \"{name}\"\nseed_listen = \"127.0.0.1:{port}\"\n")
}

/// A dataset without one.
fn plain(name: &str) -> String {
    format!("[[datasets]]\nname = \"{name}\"\n")
}

async fn insert(port: u16, key: &str) {
    let url = format!("http://127.0.0.1:{port}/insert");
    let body = json!([{ "Update": [key, "1"] }]);
    let answer = client().post(url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
}

/// Head and entries of what is served at a port.
async fn info(port: u16) -> Value {
    let url = format!("http://127.0.0.1:{port}/info");
    let answer = client().get(url).send().await.unwrap();
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_passes_from_one_dataset_to_another_by_a_reload() {
    let place = Place::new(Db::Sqlite);
    let (first, second) = (free_port(), free_port());
    let both = |a: u16, b: u16| format!("{}{}", dataset("prices", a), dataset("rates", b));
    let server = Server::start_from_file(&place, &both(first, second));
    insert(first, "a").await;
    insert(first, "b").await;
    insert(second, "c").await;
    assert_eq!(info(first).await, json!([2, 2]));
    assert_eq!(info(second).await, json!([1, 1]));

    // Swapped.
    place.write(&both(second, first));
    server.query.reload(false).await.unwrap();
    assert_eq!(info(first).await, json!([1, 1]));
    assert_eq!(info(second).await, json!([2, 2]));

    // Renamed: another dataset, at the same address.
    place.write(&format!(
        "{}{}",
        dataset("prices", second),
        dataset("new", first)
    ));
    server.query.reload(false).await.unwrap();
    insert(first, "d").await;
    assert_eq!(info(first).await, json!([1, 1]));
    assert_eq!(info(second).await, json!([2, 2]));

    // Given up, and wanted again at once, each time.
    for _ in 0..3 {
        place.write(&format!("{}{}", plain("prices"), dataset("new", first)));
        server.query.reload(false).await.unwrap();
        place.write(&format!(
            "{}{}",
            dataset("prices", second),
            dataset("new", first)
        ));
        server.query.reload(false).await.unwrap();
        assert_eq!(info(second).await, json!([2, 2]));
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_refuses_the_reload_whole() {
    let place = Place::new(Db::Sqlite);
    let first = free_port();
    let server = Server::start_from_file(&place, &dataset("prices", first));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    place.write(&dataset("prices", port));
    let told = match server.query.reload(false).await {
        Err(OrderError::Refused(told)) => told.join("\n"),
        other => panic!("{other:?}"),
    };
    let expected = format!("datasets.prices.seed_listen: 127.0.0.1:{port} cannot be listened on");
    assert!(told.contains(&expected), "{told}");
    insert(first, "a").await;
    assert_eq!(info(first).await, json!([1, 1]));
    drop(taken);
    server.query.reload(false).await.unwrap();
    assert_eq!(info(port).await, json!([1, 1]));
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_is_told_by_its_key_before_anything_begins() {
    let place = Place::new(Db::Sqlite);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let replica = "[[replicas]]\nname = \"copy\"\nupstream = \"http://127.0.0.1:9\"\n";
    let text = format!(
        "{}[log]\nfilter = \"off\"\n{}{replica}",
        place.base(),
        dataset("prices", port)
    );
    let options = LoadOptions {
        create_control_token: true,
    };
    let config = config::parse(&text, "test.toml", place.path(), [], options).unwrap();
    let database = config.settings.database.clone();
    let launch = Launch {
        config,
        reload: None,
        on_ready: Some(Box::new(|_| panic!("it is not ready"))),
        listeners: Listeners::default(),
    };
    let run = std::thread::spawn(move || app::run(launch));
    let ended = tokio::task::spawn_blocking(move || run.join().unwrap());
    let error = ended.await.unwrap().unwrap_err();
    assert!(matches!(error, AppError::SeedListen { .. }), "{error}");
    let told = error.to_string();
    let expected = format!("datasets.prices.seed_listen: cannot listen on 127.0.0.1:{port}");
    assert!(told.starts_with(&expected), "{told}");
    let store = Store::open(&database).await.unwrap();
    assert_eq!(store.leases().await.unwrap().len(), 0);
    store.close();
}
