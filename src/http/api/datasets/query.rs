//! What is asked of a dataset or a replica, judged: each mistake names the
//! parameter, what was written and what is expected.

use crate::config::ReplicationSettings;
use crate::flows::replicas::{Chunk, Epoch, Fetching, Head, LONGEST_DATASET_KEY, Since};
use crate::http::problem::{Answer, FieldError, Problem};
use serde::Deserialize;
use std::time::Duration;

/// Entries of a chunk, where none are asked for.
const DEFAULT_LIMIT: u64 = 1000;
/// Most ranges that a content is cut into.
const MOST_SPLITS: u64 = 256;
/// Longest epoch, in bytes.
const LONGEST_EPOCH: usize = 64;
/// How long is waited, where it is not said.
const DEFAULT_WATCH: Duration = Duration::from_secs(30);
/// Longest Idempotency-Key.
pub(super) const LONGEST_IDEMPOTENCY_KEY: usize = 255;

/// Query of `…/info`.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct InfoQuery {
    /// Also keys that cut the content into so many even ranges, 1 to 256.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 256)]
    pub splits: Option<String>,
}

/// Query of `…/fetch`: a chunk by index (`begin` and `end`), or by key.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FetchQuery {
    /// By index: the first entry, from 0.
    #[param(value_type = Option<u64>)]
    pub begin: Option<String>,
    /// By index: behind the last entry.
    #[param(value_type = Option<u64>)]
    pub end: Option<String>,
    /// By key: entries behind this one; empty or left out: from the first on.
    pub after: Option<String>,
    /// By key: up to this one, included. Default: to the end.
    pub until: Option<String>,
    /// By key: so many at most; 0 asks for the diff alone. Default 1000.
    #[param(value_type = Option<u64>)]
    pub limit: Option<String>,
    /// The head that the follower has; left out: no diff is wanted.
    #[param(value_type = Option<i64>)]
    pub head: Option<String>,
    /// The epoch that its head is of.
    pub epoch: Option<String>,
    /// With a chunk by key: only modifications of keys behind this one, up to `after`.
    pub from: Option<String>,
}

/// Query of `…/watch`.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WatchQuery {
    /// The head that the follower has.
    #[param(value_type = i64, required = true)]
    pub head: Option<String>,
    /// The epoch that its head is of.
    pub epoch: Option<String>,
    /// Longest wait: seconds, or a time as in `1m 30s`. Default 30s; at most
    /// `replication.max_watch`.
    pub timeout: Option<String>,
}

/// Query of `…/digests`.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DigestsQuery {
    /// Entries behind this one; empty or left out: from the first on.
    pub after: Option<String>,
    /// Up to this one, included. Default: to the end.
    pub until: Option<String>,
    /// So many entries at most. Default and most: `replication.max_chunk`.
    #[param(value_type = Option<u64>, minimum = 1)]
    pub limit: Option<String>,
    /// Even ranges that they are cut into, 1 to 256. Default 1.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 256)]
    pub splits: Option<String>,
    /// The head that the follower has; left out: no diff is wanted.
    #[param(value_type = Option<i64>)]
    pub head: Option<String>,
    /// The epoch that its head is of.
    pub epoch: Option<String>,
}

/// What `…/watch` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Watching {
    pub(super) head: Head,
    pub(super) epoch: Option<Epoch>,
    pub(super) wait: Duration,
}

/// What `…/digests` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Digesting {
    pub(super) after: String,
    pub(super) until: Option<String>,
    pub(super) limit: u64,
    pub(super) splits: usize,
    pub(super) since: Option<(Epoch, Head)>,
}

/// Gathers what is wrong with the parameters.
#[derive(Default)]
struct Judge {
    errors: Vec<FieldError>,
}

impl Judge {
    fn wrong(&mut self, field: &str, message: impl Into<String>) {
        self.errors.push(FieldError::new(field, message));
    }

    fn number(&mut self, field: &str, text: Option<&str>, least: u64, most: u64) -> Option<u64> {
        let text = text?;
        let plain = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        let read = text.parse().ok().filter(|_| plain);
        let number = read.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let message = format!(
                "{} is no number that fits; expected {least} to {most}",
                shown(text)
            );
            self.wrong(field, message);
        }
        number
    }

    fn head(&mut self, text: Option<&str>) -> Option<Head> {
        let number = self.number("head", text, 0, i64::MAX as u64)?;
        i64::try_from(number).ok()
    }

    fn epoch(&mut self, text: Option<&str>) -> Option<Epoch> {
        let text = text?;
        if text.is_empty() || text.len() > LONGEST_EPOCH || text.contains(char::is_control) {
            let message = format!(
                "{} is no epoch; expected epoch of …/info, 1 to {LONGEST_EPOCH} bytes",
                shown(text)
            );
            self.wrong("epoch", message);
            return None;
        }
        Some(Epoch::told(text))
    }

    /// A key, which may be empty.
    fn key(&mut self, field: &str, text: Option<String>) -> Option<String> {
        let text = text?;
        if text.len() > LONGEST_DATASET_KEY || text.contains('\0') {
            let message = format!(
                "{} is no key; expected at most {LONGEST_DATASET_KEY} bytes, without NUL",
                shown(&text)
            );
            self.wrong(field, message);
            return None;
        }
        Some(text)
    }

    fn needs_head(&mut self, field: &str, given: bool, head: Option<&str>) {
        if given && head.is_none() {
            self.wrong(
                field,
                "it says what head is of, and there is none; send head as well, or leave this out",
            );
        }
    }

    fn end<T>(self, value: T) -> Answer<T> {
        if self.errors.is_empty() {
            Ok(value)
        } else {
            Err(Problem::invalid_query(self.errors).into())
        }
    }
}

/// A value as a message repeats it.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    if start.len() < text.len() {
        format!("{start:?}…")
    } else {
        format!("{start:?}")
    }
}

impl InfoQuery {
    pub(super) fn judge(self) -> Answer<Option<usize>> {
        let mut judge = Judge::default();
        let splits = judge.number("splits", self.splits.as_deref(), 1, MOST_SPLITS);
        judge.end(splits.map(|splits| splits as usize))
    }
}

impl FetchQuery {
    /// More entries than `max_chunk` are not answered at once, whoever asks.
    pub(super) fn judge(self, settings: &ReplicationSettings) -> Answer<Fetching> {
        let mut judge = Judge::default();
        let by_index = self.begin.is_some() || self.end.is_some();
        let most = settings.max_chunk as u64;
        let head = judge.head(self.head.as_deref());
        let epoch = judge.epoch(self.epoch.as_deref());
        judge.needs_head("epoch", self.epoch.is_some(), self.head.as_deref());
        judge.needs_head("from", self.from.is_some(), self.head.as_deref());
        let chunk = if by_index {
            for (field, given) in [
                ("after", self.after.is_some()),
                ("until", self.until.is_some()),
                ("limit", self.limit.is_some()),
                ("from", self.from.is_some()),
            ] {
                if given {
                    let message = "it belongs to a chunk by key, and begin and end ask for one by index; leave out one or the other";
                    judge.wrong(field, message);
                }
            }
            let highest = i64::MAX as u64;
            for (field, missing) in [("begin", self.begin.is_none()), ("end", self.end.is_none())] {
                if missing {
                    judge.wrong(field, "missing; a chunk by index has begin and end");
                }
            }
            let begin = judge.number("begin", self.begin.as_deref(), 0, highest);
            let end = judge.number("end", self.end.as_deref(), 0, highest);
            let (begin, end) = (begin.unwrap_or_default(), end.unwrap_or(highest));
            if end < begin {
                let message = format!("{end} is before begin ({begin}); expected at least that");
                judge.wrong("end", message);
            }
            let end = end.min(begin.saturating_add(most));
            Chunk::Index { begin, end }
        } else {
            let after = judge.key("after", self.after).unwrap_or_default();
            let until = until(&mut judge, self.until, &after);
            let limit = judge.number("limit", self.limit.as_deref(), 0, u64::MAX);
            Chunk::Key {
                after,
                until,
                limit: limit.unwrap_or(DEFAULT_LIMIT).min(most),
            }
        };
        let from = if by_index {
            None
        } else {
            judge.key("from", self.from)
        };
        let since = head.map(|head| Since { epoch, head, from });
        judge.end(Fetching { chunk, since })
    }
}

impl WatchQuery {
    pub(super) fn judge(self, settings: &ReplicationSettings) -> Answer<Watching> {
        let mut judge = Judge::default();
        if self.head.is_none() {
            judge.wrong("head", "missing; expected the head that is to move");
        }
        let head = judge.head(self.head.as_deref()).unwrap_or_default();
        let epoch = judge.epoch(self.epoch.as_deref());
        let wait = self.timeout.as_deref().and_then(|text| {
            let seconds = text.parse().ok().map(Duration::from_secs);
            let wait = seconds.or_else(|| humantime::parse_duration(text).ok());
            if wait.is_none() {
                let message = format!(
                    "{} is no time; expected seconds, e.g. 30, or e.g. 500ms",
                    shown(text)
                );
                judge.wrong("timeout", message);
            }
            wait
        });
        let wait = wait.unwrap_or(DEFAULT_WATCH).min(settings.max_watch);
        judge.end(Watching { head, epoch, wait })
    }
}

impl DigestsQuery {
    pub(super) fn judge(self, settings: &ReplicationSettings) -> Answer<Digesting> {
        let mut judge = Judge::default();
        let after = judge.key("after", self.after).unwrap_or_default();
        let until = until(&mut judge, self.until, &after);
        let most = settings.max_chunk as u64;
        let limit = judge.number("limit", self.limit.as_deref(), 1, u64::MAX);
        let splits = judge.number("splits", self.splits.as_deref(), 1, MOST_SPLITS);
        let head = judge.head(self.head.as_deref());
        let epoch = judge.epoch(self.epoch.as_deref());
        judge.needs_head("epoch", self.epoch.is_some(), self.head.as_deref());
        if self.head.is_some() && self.epoch.is_none() {
            judge.wrong("epoch", "missing; a head is of an epoch: send both");
        }
        judge.end(Digesting {
            after,
            until,
            limit: limit.unwrap_or(most).min(most),
            splits: splits.unwrap_or(1) as usize,
            since: epoch.zip(head),
        })
    }
}

/// The last key of a range, which is behind the first.
fn until(judge: &mut Judge, text: Option<String>, after: &str) -> Option<String> {
    let until = judge.key("until", text)?;
    if until.as_str() <= after {
        let message = format!(
            "{} is not behind after ({}); expected a greater key",
            shown(&until),
            shown(after)
        );
        judge.wrong("until", message);
    }
    Some(until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::read_query;
    use actix_web::test::TestRequest;

    fn read<T: serde::de::DeserializeOwned>(query: &str) -> Answer<T> {
        let request = TestRequest::get().uri(&format!("/?{query}"));
        read_query(&request.to_http_request())
    }

    fn settings() -> ReplicationSettings {
        ReplicationSettings {
            max_chunk: 50,
            ..ReplicationSettings::default()
        }
    }

    fn fetch(query: &str) -> Result<Fetching, Vec<String>> {
        let judged = read::<FetchQuery>(query).and_then(|query| query.judge(&settings()));
        judged.map_err(|refusal| {
            assert_eq!(refusal.0.status, 400);
            let errors = refusal.0.errors.iter();
            errors.map(|error| error.field.clone()).collect()
        })
    }

    #[test]
    fn chunks_by_index_and_by_key_are_read_and_bounded() {
        let by_key = |after: &str, until: Option<&str>, limit| Chunk::Key {
            after: after.to_owned(),
            until: until.map(str::to_owned),
            limit,
        };
        let since = |epoch: Option<&str>, from: Option<&str>| Since {
            epoch: epoch.map(Epoch::told),
            head: 7,
            from: from.map(str::to_owned),
        };
        for (query, chunk, diff) in [
            ("", by_key("", None, 50), None),
            ("begin=0&end=20", Chunk::Index { begin: 0, end: 20 }, None),
            (
                "begin=5&end=99&head=7",
                Chunk::Index { begin: 5, end: 55 },
                Some(since(None, None)),
            ),
            (
                "after=a%2Fb&until=c&limit=0&head=7&epoch=e&from=",
                by_key("a/b", Some("c"), 0),
                Some(since(Some("e"), Some(""))),
            ),
        ] {
            let expected = Fetching { chunk, since: diff };
            assert_eq!(fetch(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn every_mistake_names_its_parameter() {
        let long = "k".repeat(1025);
        for (query, fields) in [
            ("begin=1", &["end"][..]),
            ("end=1&after=a&limit=2", &["after", "limit", "begin"]),
            ("begin=2&end=1", &["end"]),
            ("begin=-1&end=x", &["begin", "end"]),
            ("limit=1.5&head=-1", &["head", "limit"]),
            ("epoch=e&from=a", &["epoch", "from"]),
            ("after=b&until=b", &["until"]),
            ("after=%00", &["after"]),
            (&format!("after={long}"), &["after"]),
            ("head=9223372036854775808", &["head"]),
            ("heads=1", &["heads"]),
        ] {
            assert_eq!(fetch(query).unwrap_err(), fields, "{query}");
        }
        let digests = |query: &str| {
            let query: DigestsQuery = read(query)?;
            query.judge(&settings())
        };
        assert!(digests("head=1").is_err() && digests("splits=0").is_err());
        let told = digests("limit=1000&splits=8&head=1&epoch=e");
        let told = told.unwrap_or_else(|refusal| panic!("{refusal}"));
        assert_eq!((told.limit, told.splits), (50, 8));
        assert_eq!(told.since, Some((Epoch::told("e"), 1)));
    }

    #[test]
    fn a_wait_is_bounded_by_the_settings() {
        let watch = |query: &str| {
            let query: WatchQuery = read(query)?;
            query.judge(&settings())
        };
        for (query, wait) in [
            ("head=1", 30_000),
            ("head=1&timeout=5", 5000),
            ("head=1&timeout=500ms", 500),
            ("head=1&timeout=1h", 60_000),
        ] {
            let told = watch(query).unwrap_or_else(|refusal| panic!("{refusal}"));
            assert_eq!(told.wait, Duration::from_millis(wait), "{query}");
        }
        assert!(watch("").is_err() && watch("head=1&timeout=soon").is_err());
    }
}
