//! The keys of `[[replicas]]`.

use super::control::PUBLISHED;
use super::credentials::{Missing, token};
use super::dataset_settings::{ReplicaProtocol, ReplicaSettings};
use super::datasets::{CHUNK, SHORTEST_LOOK, WATCH, history};
use super::event_forms::Names;
use super::event_settings::SecretOf;
use super::forms::{DAY, Parsed, count, duration, http_url, word};
use super::reader::{Reader, own_name};
use super::scalar::Scalar;
use super::section::Section;
use crate::flows::replicas::DatasetName;
use std::path::Path;
use std::time::Duration;
use toml_edit::TableLike;
use url::Url;

/// Most upstreams of a replica.
const MOST_UPSTREAMS: usize = 32;

/// Reads all replicas; `None` when something is wrong.
pub(super) fn replicas<'d>(
    reader: &mut Reader<'d>,
    root: &'d dyn TableLike,
    base: &Path,
) -> Option<Vec<ReplicaSettings>> {
    let mut names = Names::default();
    let replicas = reader.list(root, "replicas", own_name, |section| {
        replica(section, base, &mut names)
    });
    replicas.into_iter().collect()
}

fn replica(s: &mut Section<'_, '_>, base: &Path, names: &mut Names) -> Option<ReplicaSettings> {
    let name = names.read(s, "replicas", "a name, e.g. name = \"prices\"");
    for key in ["upstream", "dataset", "protocol"] {
        s.not_by_control(key, PUBLISHED);
    }
    let upstreams = upstreams(s);
    let dataset = s.optional("dataset", dataset_name);
    let protocols = [
        ("highwater", ReplicaProtocol::Highwater),
        ("seed", ReplicaProtocol::Seed),
    ];
    let protocol = s.get("protocol", "highwater", word(protocols));
    let poll_interval = s.get("poll_interval", "1s", duration(SHORTEST_LOOK..=DAY));
    let watch = s.get("watch", "30s", duration(WATCH));
    let chunk = s.get("chunk", 4000, count(CHUNK, ""));
    let ranges = s.get("ranges", 4, count(1..=64, ""));
    let limits = Duration::from_millis(100)..=Duration::from_secs(600);
    let timeout = s.get("timeout", "30s", duration(limits));
    let token = token(s, "token", "token_file", base, Missing::Refused);
    let history = history(s);
    let audit_interval = s.get("audit_interval", "24h", audit);
    let name = DatasetName::parse(&name?)?;
    Some(ReplicaSettings {
        dataset: dataset?.unwrap_or_else(|| name.clone()),
        name,
        upstreams: upstreams?,
        protocol: protocol?,
        poll_interval: poll_interval?,
        watch: watch?,
        chunk: chunk?,
        ranges: ranges?,
        timeout: timeout?,
        token: token.token.map(SecretOf),
        history: history?,
        audit_interval: audit_interval?,
    })
}

/// One address, or several with the one to prefer first.
fn upstreams(s: &mut Section<'_, '_>) -> Option<Vec<Url>> {
    let one = s.optional("upstream", upstream);
    let example = "a list of addresses, e.g. [\"http://a:8780\", \"http://b:8780\"]";
    let several = s.texts("upstreams", PUBLISHED, example, |text| {
        upstream(&Scalar::from(text)).map(drop)
    });
    match (one?, several?) {
        (Some(_), Some(_)) => {
            let message = "upstream is written as well; keep one of the two: upstreams is a list, with the one to prefer first";
            s.fault(&["upstreams", "upstream"], message.to_owned());
            None
        }
        (None, None) => {
            let message = "missing; expected where the dataset is published, e.g. upstream = \"http://127.0.0.1:8780\"";
            s.fault(&["upstream"], message.to_owned());
            None
        }
        (Some(url), None) => Some(vec![url]),
        (None, Some(texts)) => {
            let read = texts.iter().map(|text| upstream(&Scalar::from(&**text)));
            let urls: Vec<Url> = read.filter_map(Result::ok).collect();
            let repeated = urls.iter().enumerate().find(|(at, url)| {
                let mut before = urls.iter().take(*at);
                before.any(|other| other == *url)
            });
            if urls.is_empty() || urls.len() > MOST_UPSTREAMS {
                let message = format!("{} addresses; expected 1 to {MOST_UPSTREAMS}", urls.len());
                s.fault(&["upstreams"], message);
                return None;
            }
            if let Some((_, url)) = repeated {
                let message = format!("\"{url}\" is there twice; expected each address once");
                s.fault(&["upstreams"], message);
                return None;
            }
            Some(urls)
        }
    }
}

/// Where a dataset is published.
fn upstream(written: &Scalar) -> Parsed<Url> {
    let example = "expected e.g. \"http://127.0.0.1:8780\"";
    let instead = "put the token in a file and name that with token_file";
    http_url(written, instead, example)
}

/// The name of a dataset of another node.
fn dataset_name(written: &Scalar) -> Parsed<DatasetName> {
    let read = match written {
        Scalar::Text(text) => DatasetName::parse(text),
        _ => None,
    };
    read.ok_or_else(|| {
        format!(
            "{written} is not the name of a dataset; expected 1 to {} letters, digits, \".\", \"-\" or \"_\"",
            DatasetName::LONGEST
        )
    })
}

/// How long after an audit the next one begins, or that there is none.
fn audit(written: &Scalar) -> Parsed<Option<Duration>> {
    if matches!(written, Scalar::Text(text) if text == "never") {
        return Ok(None);
    }
    let bounds = Duration::from_secs(1)..=DAY * 365;
    let read = duration(bounds)(written);
    read.map(Some)
        .map_err(|told| format!("{told}, or \"never\""))
}
