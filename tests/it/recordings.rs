//! Every recorded exchange with a real ledger that carries batch statuses,
//! played to the real client: it reads the answer as recorded, and asks as
//! recorded wherever the recorded request is one that it would send.

mod refusals;

use self::refusals::REFUSALS;
use crate::replay::{Act, Replay, Seen, ask, ok_json};
use highwater::flows::batches::{LedgerStatus, StatusReport};
use highwater::ledgers::{LedgerKind, connect};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Recordings of status 200 in each folder, sequences included.
const ANSWERED: [(&str, usize); 2] = [("sawtooth", 48), ("splinter", 52)];

/// Recordings in each folder whose request our client would send just so, or,
/// on Sawtooth, by POST instead of GET and the other way round.
const OURS: [(&str, usize); 2] = [("sawtooth", 54), ("splinter", 45)];

pub(crate) fn recordings() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recordings")
}

/// Whether a recording is of a websocket.
pub(crate) fn is_stream(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.starts_with("ws_") || name.contains("_ws_")
}

/// The recordings of a folder, as `folder/name` and content.
fn read(folder: &str) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = std::fs::read_dir(recordings().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // Streams have a test of their own: `recorded_streams`.
        .filter(|path| !is_stream(path))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let stem = name
                .strip_suffix(".json")
                .unwrap_or_else(|| panic!("{folder}/{name} is no recording this test can read"));
            let content = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            (format!("{folder}/{stem}"), content)
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// The headers of a recorded message: an object or a list of pairs.
fn headers(message: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    match &message["headers"] {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), text(v))).collect(),
        Value::Array(pairs) => pairs
            .iter()
            .map(|pair| (text(&pair[0]), text(&pair[1])))
            .collect(),
        other => panic!("headers of another kind: {other}"),
    }
}

/// A recorded answer as bytes on the wire.
fn wire(response: &Value) -> Vec<u8> {
    let status_line = response["status_line"].as_str().map_or_else(
        || {
            let reason = response["reason"].as_str().unwrap();
            format!("HTTP/1.1 {} {reason}", response["status"])
        },
        str::to_owned,
    );
    let mut wire = format!("{status_line}\r\n");
    for (name, value) in headers(response) {
        wire.push_str(&format!("{name}: {value}\r\n"));
    }
    wire.push_str("\r\n");
    wire.push_str(response["body"].as_str().unwrap());
    wire.into_bytes()
}

/// What a recorded request asked for, in the client's terms.
struct Question {
    service_id: String,
    batch_ids: Vec<String>,
    wait: Option<u64>,
    token: Option<String>,
    /// Whether our client would ask so.
    ours: bool,
}

fn question(kind: LedgerKind, request: &Value) -> Question {
    let headers = headers(request);
    let header = |name: &str| {
        let found = headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    };
    let path = request["path"].as_str().unwrap();
    let (route, query) = path.split_once('?').unwrap_or((path, ""));
    let (service_id, ids_name, mut ours) = match kind {
        LedgerKind::Sawtooth => (String::new(), "id", route == "/batch_statuses"),
        LedgerKind::Splinter => {
            let parts: Vec<&str> = route.split('/').collect();
            let ours = parts.len() == 5 && parts[4] == "batch_statuses";
            (format!("{}::{}", parts[2], parts[3]), "ids", ours)
        }
    };
    let mut ids = None;
    let mut wait = None;
    for (name, value) in query.split('&').filter_map(|part| part.split_once('=')) {
        if name == ids_name && ids.is_none() {
            ids = Some(value.split(',').map(str::to_owned).collect::<Vec<_>>());
        } else if name == "wait" && wait.is_none() {
            wait = value
                .parse()
                .ok()
                .filter(|seconds| (1..1_000).contains(seconds));
            ours &= wait.is_some();
        } else {
            ours = false;
        }
    }
    ours &= !query.ends_with("&wait");
    match request["method"].as_str().unwrap() {
        "GET" => {}
        "POST" if kind == LedgerKind::Sawtooth => {
            ours &= header("content-type") == Some("application/json") && ids.is_none();
            ids = serde_json::from_str(request["body"].as_str().unwrap_or("")).ok();
        }
        _ => ours = false,
    }
    let token = header("authorization").and_then(|value| value.strip_prefix("Bearer Cylinder:"));
    if kind == LedgerKind::Splinter {
        ours &= header("splinterprotocolversion") == Some("1");
        ours &= token.is_some() || header("authorization").is_none();
    }
    let mut batch_ids = ids.unwrap_or_default();
    let plain =
        |id: &String| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    ours &= !batch_ids.is_empty() && batch_ids.iter().all(plain);
    if batch_ids.is_empty() {
        batch_ids.push("ab".repeat(64));
    }
    Question {
        service_id,
        batch_ids,
        wait,
        token: token.map(str::to_owned),
        ours,
    }
}

/// An answer's entries: id, status word in lower case, transactions at fault as
/// (id, message, extended data), each once.
type Expected = Vec<(String, String, BTreeSet<(String, String, String)>)>;

/// Reads an answer the slow and simple way.
fn expected(kind: LedgerKind, body: &Value) -> Expected {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let entries = match kind {
        LedgerKind::Sawtooth => &body["data"],
        LedgerKind::Splinter => body,
    };
    entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let (word, transactions) = match kind {
                LedgerKind::Sawtooth => (&entry["status"], &entry["invalid_transactions"]),
                LedgerKind::Splinter => {
                    (&entry["status"]["statusType"], &entry["status"]["message"])
                }
            };
            let word = text(word).to_lowercase();
            let at_fault = transactions
                .as_array()
                .unwrap()
                .iter()
                .map(|one| match kind {
                    LedgerKind::Sawtooth => (
                        text(&one["id"]),
                        text(&one["message"]),
                        text(&one["extended_data"]),
                    ),
                    LedgerKind::Splinter => {
                        let data = one["error_data"].as_array().map_or(0, Vec::len);
                        assert_eq!(data, 0, "no recording has error_data");
                        (
                            text(&one["transaction_id"]),
                            text(&one["error_message"]),
                            String::new(),
                        )
                    }
                });
            let at_fault = if word == "invalid" {
                at_fault.collect()
            } else {
                BTreeSet::new()
            };
            (text(&entry["id"]), word, at_fault)
        })
        .collect()
}

/// What the client made of an answer, in the same terms.
fn told(reports: &[StatusReport]) -> Expected {
    reports
        .iter()
        .map(|report| {
            let mut at_fault = BTreeSet::new();
            let word = match &report.status {
                LedgerStatus::Pending => "pending",
                LedgerStatus::Valid => "valid",
                LedgerStatus::Committed => "committed",
                LedgerStatus::Unknown => "unknown",
                LedgerStatus::Invalid(transactions) => {
                    for one in transactions {
                        let one = one.clone();
                        let new = at_fault.insert((one.id, one.message, one.extended_data));
                        assert!(new, "an entry is given twice: {transactions:?}");
                    }
                    assert!(!at_fault.is_empty(), "invalid without a reason");
                    "invalid"
                }
            };
            (report.batch_id.clone(), word.to_owned(), at_fault)
        })
        .collect()
}

/// The ids that a request asks for, wherever it has them.
fn ids_asked(kind: LedgerKind, seen: &Seen) -> Vec<String> {
    if seen.method == "POST" {
        return serde_json::from_slice(&seen.body).unwrap();
    }
    let name = match kind {
        LedgerKind::Sawtooth => "?id=",
        LedgerKind::Splinter => "?ids=",
    };
    let (_, ids) = seen.target.split_once(name).unwrap();
    let ids = ids.split('&').next().unwrap();
    ids.split(',').map(str::to_owned).collect()
}

/// Checks a request of ours against the recorded one.
fn check_request(name: &str, kind: LedgerKind, question: &Question, recorded: &Value, seen: &Seen) {
    assert_eq!(ids_asked(kind, seen), question.batch_ids, "{name}");
    let few = kind == LedgerKind::Splinter || question.batch_ids.len() <= 15;
    assert_eq!(seen.method, if few { "GET" } else { "POST" }, "{name}");
    if seen.method == recorded["method"].as_str().unwrap() {
        assert_eq!(seen.target, recorded["path"].as_str().unwrap(), "{name}");
    } else {
        let wait = question.wait.map(|seconds| format!("wait={seconds}"));
        let wait = wait.unwrap_or_default();
        assert!(seen.target.starts_with("/batch_statuses"), "{name}");
        assert!(seen.target.ends_with(&wait), "{name}");
    }
    for (header, value) in headers(recorded) {
        let header = header.to_ascii_lowercase();
        let same = ["authorization", "splinterprotocolversion"].contains(&header.as_str());
        if same {
            assert_eq!(seen.header(&header), [value.as_str()], "{name}");
        }
    }
    let content_type: &[&str] = if few { &[] } else { &["application/json"] };
    assert_eq!(seen.header("content-type"), content_type, "{name}");
    assert_eq!(seen.header("accept-encoding"), ["gzip"], "{name}");
    if question.token.is_none() {
        assert!(seen.header("authorization").is_empty(), "{name}");
    }
}

/// Plays one exchange; returns whether its request is one of ours.
async fn play(name: &str, kind: LedgerKind, exchange: &Value) -> bool {
    let replay = Replay::start(vec![Act::SendAndClose(wire(&exchange["response"]))]).await;
    let question = question(kind, &exchange["request"]);
    let mut settings = replay.settings(kind);
    settings.wait = question.wait.map(Duration::from_secs);
    settings.ids_per_request = 1_000;
    settings.token = question.token.clone().map(Into::into);
    let ledger = connect(&settings).unwrap();
    let ids: Vec<&str> = question.batch_ids.iter().map(String::as_str).collect();
    let fitting = ledger.fits(&question.service_id, &ids);
    if name.ends_with("508_ids_url_too_long") {
        assert_eq!((fitting, ids.len()), (507, 508), "{name}");
    } else {
        assert_eq!(fitting, ids.len(), "{name}");
    }

    let answer = ask(ledger.as_ref(), &question.service_id, &ids[..fitting]).await;
    let refusal = REFUSALS.iter().find(|(known, ..)| *known == name);
    match (exchange["response"]["status"].as_u64(), refusal) {
        (Some(200), None) => {
            let body = exchange["response"]["body"].as_str().unwrap();
            let body = serde_json::from_str(body).unwrap();
            let reports = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(told(&reports), expected(kind, &body), "{name}");
        }
        (Some(status), Some((_, word, says))) if status != 200 => {
            let error = answer.expect_err(name);
            assert_eq!(error.word(), *word, "{name}: {error}");
            assert!(error.to_string().contains(says), "{name}: {error}");
        }
        _ => panic!("{name}: no expectation for this recording; add one to REFUSALS"),
    }
    let seen = replay.seen();
    assert_eq!(seen.len(), 1, "{name}: one request a call");
    let ours = question.ours && fitting == ids.len();
    if ours {
        check_request(name, kind, &question, &exchange["request"], &seen[0]);
    }
    ours
}

/// Plays a sequence: entries of answers over time, or counts of them.
async fn play_sequence(name: &str, steps: &[Value]) {
    for step in steps {
        let body = match (&step["batch_info"], &step["counts_over_all_130"]) {
            (Value::Null, Value::Object(counts)) => {
                let mut entries = Vec::new();
                for (word, count) in counts {
                    for at in 0..count.as_u64().unwrap() {
                        entries.push(serde_json::json!({
                            "id": format!("{word}-{at}"),
                            "status": {"statusType": word, "message": []},
                        }));
                    }
                }
                assert_eq!(entries.len(), 130, "{name}");
                Value::Array(entries)
            }
            (info @ Value::Object(_), Value::Null) => Value::Array(vec![info.clone()]),
            _ => panic!("{name}: no expectation for a step like {step}"),
        };
        let replay = Replay::start(vec![Act::Send(ok_json(&body.to_string()))]).await;
        let ledger = connect(&replay.settings(LedgerKind::Splinter)).unwrap();
        let reports = ask(ledger.as_ref(), "btXBt-Rb4VS::a000", &["ab"])
            .await
            .unwrap();
        assert_eq!(
            told(&reports),
            expected(LedgerKind::Splinter, &body),
            "{name}"
        );
    }
}

#[tokio::test]
async fn every_recorded_exchange_is_read_and_asked_as_recorded() {
    let mut answered: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ours: BTreeMap<&str, usize> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    for (folder, kind) in [
        ("sawtooth", LedgerKind::Sawtooth),
        ("splinter", LedgerKind::Splinter),
    ] {
        for (name, content) in read(folder) {
            if let Value::Array(steps) = &content {
                play_sequence(&name, steps).await;
                *answered.entry(folder).or_default() += 1;
                continue;
            }
            *ours.entry(folder).or_default() += usize::from(play(&name, kind, &content).await);
            if content["response"]["status"] == 200 {
                *answered.entry(folder).or_default() += 1;
            } else {
                refused.insert(name);
            }
        }
    }
    let listed: BTreeSet<String> = REFUSALS
        .iter()
        .map(|(name, ..)| (*name).to_owned())
        .collect();
    assert_eq!(refused, listed, "an expectation without its recording");
    assert_eq!(
        answered,
        BTreeMap::from(ANSWERED),
        "a recording is missing, or new"
    );
    // Else the check of what we ask has been defeated.
    assert_eq!(ours, BTreeMap::from(OURS));
}
