//! The keys of `[[replicas]]`.

use super::control::PUBLISHED;
use super::credentials::{Missing, token};
use super::dataset_settings::{ReplicaProtocol, ReplicaSettings, ReplicationSettings};
use super::datasets::{CHUNK, SHORTEST_LOOK, WATCH, history, warn_of_short_history};
use super::event_forms::Names;
use super::event_settings::SecretOf;
use super::forms::{DAY, Parsed, count, duration, http_url, word};
use super::reader::{Reader, own_name};
use super::scalar::Scalar;
use super::section::Section;
use super::settings::HttpSettings;
use crate::flows::replicas::DatasetName;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use toml_edit::TableLike;
use url::{Host, Url};

/// Most upstreams of a replica.
const MOST_UPSTREAMS: usize = 32;

/// Reads all replicas; `None` when something is wrong. `http` is where this node
/// serves, and `replication` what all of them share, where those are right.
pub(super) fn replicas<'d>(
    reader: &mut Reader<'d>,
    root: &'d dyn TableLike,
    base: &Path,
    http: Option<&HttpSettings>,
    replication: Option<&ReplicationSettings>,
) -> Option<Vec<ReplicaSettings>> {
    let mut names = Names::default();
    let replicas = reader.list(root, "replicas", own_name, |section| {
        let read = replica(section, base, &mut names)?;
        look_at(section, &read, http);
        if let Some(replication) = replication {
            warn_of_short_history(section, &read.history, replication);
        }
        Some(read)
    });
    replicas.into_iter().collect()
}

/// What does not mean what it says, or deserves a look, once all of a replica is
/// read.
fn look_at(s: &mut Section<'_, '_>, replica: &ReplicaSettings, http: Option<&HttpSettings>) {
    let name = &replica.name;
    if let Some(http) = http
        && let Some(url) = replica.upstreams.iter().find(|url| is_own(url, name, http))
    {
        let message = format!(
            "\"{url}\" is the replica itself, on this node (http.listen): it would follow what it has; expected where the dataset is published"
        );
        s.fault(&["upstream", "upstreams"], message);
    }
    if replica.protocol == ReplicaProtocol::Seed {
        for key in ["dataset", "ranges", "watch"] {
            if s.is_written(key) {
                let message = format!(
                    "{key} means nothing with protocol = \"seed\": an address of that wire has one dataset, which is copied as one range, and asked every poll_interval"
                );
                s.warn(&[key], message);
            }
        }
        return;
    }
    let named = |url: &Url| named(url).map(|(_, name)| name.to_owned());
    let all: Option<Vec<String>> = replica.upstreams.iter().map(named).collect();
    if let Some(all) = all
        && s.is_written("dataset")
        && !all.iter().any(|name| name == replica.dataset.as_str())
    {
        let message = format!(
            "\"{}\" is not what is followed: the address names \"{}\" itself; leave out dataset, or that part of the address",
            replica.dataset,
            all.join("\", \"")
        );
        s.fault(&["dataset"], message);
    }
}

/// What an address names by itself: `datasets` or `replicas`, and its name.
fn named(url: &Url) -> Option<(&str, &str)> {
    let (folder, name) = url.path().trim_end_matches('/').rsplit_once('/')?;
    let mut kinds = ["datasets", "replicas"].into_iter();
    let kind = kinds.find(|kind| folder.ends_with(&format!("/v1/{kind}")))?;
    (!name.is_empty()).then_some((kind, name))
}

/// Whether an address is that of this node's own copy.
fn is_own(url: &Url, name: &DatasetName, http: &HttpSettings) -> bool {
    let listen = http.listen;
    if named(url) != Some(("replicas", name.as_str()))
        || url.scheme() != "http"
        || url.port_or_known_default() != Some(listen.port())
    {
        return false;
    }
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::from(ip),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip),
        Some(Host::Domain("localhost")) => IpAddr::from([127, 0, 0, 1]),
        Some(Host::Domain(_)) | None => return false,
    };
    let (ip, own) = (ip.to_canonical(), listen.ip().to_canonical());
    ip == own || (ip.is_loopback() && (own.is_unspecified() || own.is_loopback()))
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
    let upstreams = upstreams?;
    Some(ReplicaSettings {
        // Where the address names what is followed, that is it.
        dataset: dataset?
            .or_else(|| {
                let (_, named) = upstreams.iter().find_map(named)?;
                DatasetName::parse(named)
            })
            .unwrap_or_else(|| name.clone()),
        name,
        upstreams,
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
