//! Configurations of the replica flow: what a person writes, and what they are told.

use super::*;
use crate::flows::replicas::DatasetName;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const ISSUE: &str = r#"
[[datasets]]
name = "prices"
history = { changes = 100000, bytes = "64MiB", age = "24h" }
seed_listen = "127.0.0.1:8790"

[[datasets]]
name = "ours"
source = "batches"

[[replicas]]
name = "prices"
upstream = "http://127.0.0.1:8781"
dataset = "prices"
poll_interval = "1s"
chunk = 1000

[[replicas]]
name = "others"
upstreams = ["http://a:1", "http://b:2/v1/replicas/prices"]
dataset = "v2.prices"
protocol = "seed"
audit_interval = "never"
"#;

const SECRET: &str = "hunter2-hunter2-hunter2";

fn try_parse(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment: Vec<_> = environment.iter().map(owned).collect();
    let base = Path::new("/base");
    parse(text, "hw.toml", base, environment, LoadOptions::default())
}

fn loaded(text: &str, environment: &[(&str, &str)]) -> Loaded {
    try_parse(text, environment).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> String {
    match try_parse(text, &[]) {
        Ok(loaded) => panic!("accepted: {:?}", loaded.settings.replicas),
        Err(errors) => errors.to_string(),
    }
}

fn name(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

#[test]
fn the_datasets_and_replicas_of_the_issue_work() {
    let settings = loaded(ISSUE, &[]).settings;
    assert_eq!(settings.replication, ReplicationSettings::default());
    let [prices, ours] = &settings.datasets[..] else {
        panic!("{:?}", settings.datasets);
    };
    let expected = DatasetSettings {
        name: name("prices"),
        source: None,
        history: HistorySettings::default(),
        token: None,
        seed_listen: Some(([127, 0, 0, 1], 8790).into()),
    };
    assert_eq!(*prices, expected);
    assert_eq!(ours.source, Some(DatasetSource::Batches));
    let [prices, others] = &settings.replicas[..] else {
        panic!("{:?}", settings.replicas);
    };
    let expected = ReplicaSettings {
        name: name("prices"),
        upstreams: vec!["http://127.0.0.1:8781".parse().unwrap()],
        dataset: name("prices"),
        protocol: ReplicaProtocol::Highwater,
        poll_interval: Duration::from_secs(1),
        watch: Duration::from_secs(30),
        chunk: 1000,
        ranges: 4,
        timeout: Duration::from_secs(30),
        token: None,
        history: HistorySettings::default(),
        audit_interval: Some(Duration::from_secs(24 * 3600)),
    };
    assert_eq!(*prices, expected);
    assert_eq!(others.dataset, name("v2.prices"));
    assert_eq!(others.protocol, ReplicaProtocol::Seed);
    assert_eq!(others.audit_interval, None);
    let places: Vec<&str> = others.upstreams.iter().map(url::Url::as_str).collect();
    assert_eq!(places, ["http://a:1/", "http://b:2/v1/replicas/prices"]);
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let text = r#"[replication]
max_modifications = 20000
max_value_bytes = "8MiB"
max_watch = "1h"
[[datasets]]
name = "a"
source = "jobs"
seed_listen = "0.0.0.0:8790"
[[datasets]]
name = "a"
history = { changes = 0, bytes = "1KiB", age = "0s" }
seed_listen = "127.0.0.1:8780"
[[datasets]]
name = "b/c"
history = 5
[[replicas]]
name = "r"
[[replicas]]
name = "s"
upstream = "http://u:p@h"
dataset = "a b"
protocol = "http"
ranges = 65
audit_interval = "off"
[[replicas]]
name = "t"
upstream = "http://h"
upstreams = ["http://h"]
[[replicas]]
name = "u"
upstreams = ["http://h", "ftp://h", 5]
[[replicas]]
name = "v"
upstreams = ["http://h", "http://h/"]
polling = 1
"#;
    let told = errors(text);
    for expected in [
        "hw.toml:2:21: replication.max_modifications: max_modifications (20000) is above max_chunk (10000)",
        "replication.max_value_bytes: max_value_bytes (8388608) is above max_chunk_bytes (4194304)",
        "replication.max_watch: \"1h\" is too long; expected 1s to 10m",
        "datasets[0].source: \"jobs\" is not known; expected \"batches\" or \"sites\" or \"events\"",
        "datasets[0].seed_listen: \"0.0.0.0:8790\" is open to other machines, and the seed's wire knows no token; expected an address of loopback, e.g. \"127.0.0.1:8790\"",
        "datasets[1].name: \"a\" is the name of datasets[0] already",
        "datasets[1].history.changes: 0 is out of range",
        "datasets[1].history.bytes: \"1KiB\" is out of range",
        "datasets[1].history.age: \"0s\" is too short",
        "datasets[1].seed_listen: \"127.0.0.1:8780\" is http.listen already",
        "datasets[2].name: \"b/c\" is not a name",
        "datasets[2].history: 5 is not a table; expected { changes = 100000",
        "replicas[0].upstream: missing; expected where the dataset is published",
        "replicas[1].upstream: the address holds a user or password",
        "replicas[1].dataset: \"a b\" is not the name of a dataset",
        "replicas[1].protocol: \"http\" is not known; expected \"highwater\" or \"seed\"",
        "replicas[1].ranges: 65 is out of range; expected 1 to 64",
        "or \"never\"",
        "replicas[2].upstreams: upstream is written as well; keep one of the two",
        "replicas[3].upstreams[1]: \"ftp://h\" is neither http nor https",
        "replicas[3].upstreams[2]: 5 is not a text",
        "replicas[4].upstreams: \"http://h/\" is there twice",
        "replicas[4].polling: unknown key",
    ] {
        assert!(told.contains(expected), "{expected}\n\n{told}");
    }
    assert!(!told.contains("u:p"), "{told}");
}

#[test]
fn what_the_wire_of_the_seed_cannot_keep_closed_is_refused() {
    let both = "[[datasets]]\nname='a'\nseed_listen='127.0.0.1:1'\n[[datasets]]\nname='b'\nseed_listen='127.0.0.1:1'";
    let told = errors(both);
    assert!(
        told.contains(
            "datasets[1].seed_listen: \"127.0.0.1:1\" is datasets[0].seed_listen already"
        ),
        "{told}"
    );
    let any_port = both.replace(":1'", ":0'");
    loaded(&any_port, &[]);
    let token = ("HIGHWATER_DATASETS__A__TOKEN", SECRET);
    let told = try_parse(&any_port, &[token]).unwrap_err().to_string();
    assert!(
        told.contains("asks for a token, and the seed's wire knows none") && !told.contains(SECRET),
        "{told}"
    );
}

#[test]
fn what_the_rest_of_the_configuration_leaves_no_room_for_is_refused() {
    let twice = "[[datasets]]\nname='a'\nsource='batches'\n[[datasets]]\nname='b'\nsource='batches'\n[[datasets]]\nname='c'\nsource='sites'";
    let told = errors(twice);
    assert!(
        told.contains("datasets[1].source: \"batches\" is the source of datasets[0] already"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(errors("[replication]\nmax_watchers = 1501").contains("expected 1 to 1500"));

    // The read token would be no use.
    let seed = "[[datasets]]\nname='a'\nseed_listen='127.0.0.1:8780'\n";
    let elsewhere = seed.replace("8780", "8790");
    let read = ("HIGHWATER_HTTP__READ_TOKEN", SECRET);
    let told = try_parse(&elsewhere, &[read]).unwrap_err().to_string();
    assert!(
        told.contains("datasets[0].seed_listen: http.read_token_file is set"),
        "{told}"
    );
    // Who listens on every address has the port on each.
    let tokens = [
        ("HIGHWATER_HTTP__INTAKE_TOKEN", SECRET),
        ("HIGHWATER_HTTP__CONTROL_TOKEN", "another-hunter2-another"),
    ];
    for every in ["0.0.0.0:8780", "[::]:8780"] {
        let http = format!("http.listen = \"{every}\"\n");
        let told = try_parse(&format!("{http}{seed}"), &tokens).unwrap_err();
        let expected = format!(
            "\"127.0.0.1:8780\" is http.listen (\"{every}\", which takes this port on every address) already"
        );
        assert!(told.to_string().contains(&expected), "{told}");
        loaded(&format!("{http}{elsewhere}"), &tokens);
    }
}

#[test]
fn a_replica_that_would_not_follow_what_it_says_is_refused() {
    let replica = |more: &str| format!("[[replicas]]\nname='r'\n{more}\n");
    let other = replica("upstream='http://h/v1/datasets/x'\ndataset='y'");
    let told = errors(&other);
    assert!(
        told.contains(
            "replicas[0].dataset: \"y\" is not what is followed: the address names \"x\" itself"
        ),
        "{told}"
    );
    for fine in [
        other.replace("'y'", "'x'"),
        replica("upstreams=['http://h/v1/datasets/x','http://g']\ndataset='y'"),
        replica("upstream='http://h/v1/replicas/r'"),
        replica("upstream='http://127.0.0.1:8780/v1/replicas/other'"),
        replica("upstream='http://127.0.0.1:8780/v1/datasets/r'"),
    ] {
        loaded(&fine, &[]);
    }
    for own in ["127.0.0.1", "localhost", "[::1]"] {
        let own = format!("upstream='http://{own}:8780/v1/replicas/r'");
        let told = errors(&replica(&own));
        assert!(
            told.contains("is the replica itself, on this node"),
            "{told}"
        );
    }
}

#[test]
fn doubts_are_told_by_a_check() {
    let warnings = |text: &str, environment: &[(&str, &str)]| {
        let warnings = loaded(text, environment).warnings;
        let told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        told
    };
    let nothing: [String; 0] = [];
    let plain = "[[datasets]]\nname='a'\n[[replicas]]\nname='r'\nupstream='http://h'\n";
    assert_eq!(warnings(plain, &[]), nothing);

    let short = plain.replace("name='a'", "name='a'\nhistory={changes=9999,bytes='64KiB'}");
    let told = warnings(&short, &[]);
    assert!(
        told.len() == 2
            && told[0].contains("datasets[0].history.changes: 9999 modifications are less than")
            && told[1].contains("datasets[0].history.bytes: 65536 bytes are less than"),
        "{told:?}"
    );
    let seed = format!("{plain}protocol='seed'\nranges=2\nwatch='5s'\n");
    let told = warnings(&seed, &[]);
    assert!(
        told.len() == 2
            && told[0]
                .contains("replicas[0].ranges: ranges means nothing with protocol = \"seed\"")
            && told[1].contains("replicas[0].watch: watch means nothing"),
        "{told:?}"
    );
    let token = ("HIGHWATER_DATASETS__A__TOKEN", SECRET);
    let told = warnings(plain, &[token]);
    assert!(
        told.len() == 1 && told[0].contains("reading takes a token, and there is no intake token"),
        "{told:?}"
    );
    let intake = ("HIGHWATER_HTTP__INTAKE_TOKEN", "another-hunter2-another");
    assert_eq!(warnings(plain, &[token, intake]), nothing);
}

#[test]
fn control_sets_limits_and_neither_what_is_published_nor_from_where() {
    let first = loaded(ISSUE, &[]);
    let control = |key: &str, value: &str| {
        first.with_control(BTreeMap::from([(key.to_owned(), value.to_owned())]))
    };
    let changed = control("replicas.prices.chunk", "5").unwrap();
    assert_eq!(changed.settings.replicas[0].chunk, 5);
    control("datasets.prices.history.changes", "5").unwrap();
    control("replication.sweep_interval", "5s").unwrap();
    for closed in [
        "datasets.prices.name",
        "datasets.prices.source",
        "datasets.prices.seed_listen",
        "datasets.prices.token",
        "replicas.prices.upstream",
        "replicas.prices.upstreams",
        "replicas.prices.dataset",
        "replicas.prices.protocol",
        "replicas.prices.token_file",
    ] {
        let told = control(closed, "x").unwrap_err().to_string();
        assert!(
            told.contains("control") && !told.contains("unknown"),
            "{told}"
        );
    }
}

#[test]
fn a_reload_tells_what_was_added_removed_and_changed() {
    let tokens = [
        ("HIGHWATER_DATASETS__OURS__TOKEN", SECRET),
        ("HIGHWATER_REPLICAS__OTHERS__TOKEN", SECRET),
    ];
    let old = loaded(ISSUE, &[]);
    let new = ISSUE
        .replace("name = \"prices\"", "name = \"rates\"")
        .replace("chunk = 1000", "chunk = 10");
    let new = loaded(&format!("replication.max_watchers = 5\n{new}"), &tokens);
    let told = diff(&old.settings, &new.settings);
    assert_eq!(told.sections, ["replication"]);
    assert_eq!(told.datasets_added, ["rates"]);
    assert_eq!(told.datasets_removed, ["prices"]);
    assert_eq!(told.datasets_changed, ["ours"]);
    assert_eq!(told.replicas_added, ["rates"]);
    assert_eq!(told.replicas_removed, ["prices"]);
    assert_eq!(told.replicas_changed, ["others"]);
    assert_eq!(
        told.secrets,
        ["datasets.ours.token", "replicas.others.token"]
    );
    let before = old.keys().map(|(key, entry)| (key, entry.value.clone()));
    let keys = changed_keys(&before.collect(), &new, &told);
    for key in ["datasets.prices", "replicas.rates", "datasets.ours.token"] {
        assert!(keys.iter().any(|told| told == key), "{keys:?}");
    }
    assert!(!format!("{:?}", new.settings).contains("hunter2"));
    assert!(!dump(&new).contains("hunter2"));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_replica_panics_and_every_dump_is_read_again(
            key in "(upstream|upstreams|dataset|protocol|watch|chunk|ranges|history|history.(changes|bytes|age)|audit_interval|timeout)",
            value in "(\"[ -~]{0,12}\"|'(http://h|never|seed|1h|1MiB)'|[0-9.]{1,4}|\\[('http://h/a'|'x'|1)?\\]|\\{ ?(changes|bytes) = ('1MiB'|1) ?\\}|\\{\\})",
        ) {
            let text = format!("[[replicas]]\nname='a'\nupstream='http://h'\n{key} = {value}\n");
            match try_parse(&text, &[]) {
                Ok(first) => {
                    let dumped = dump(&first);
                    let second = try_parse(&dumped, &[]);
                    prop_assert!(second.is_ok(), "{}\n{}", dumped, second.unwrap_err());
                    prop_assert_eq!(first.settings.replicas, second.unwrap().settings.replicas);
                }
                Err(errors) => prop_assert!(!errors.errors().is_empty()),
            }
        }
    }
}
