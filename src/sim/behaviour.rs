//! What can go wrong at a simulated ledger, and how often.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One way in which a ledger misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Answers 500 with the ledger's own error body.
    Fail,
    /// Takes the request and never answers.
    Hang,
    /// Answers 200 with something that is no list of statuses.
    Garbage,
    /// Announces a whole answer, sends half of it and hangs up.
    HalfBody,
    /// Adds a batch to the answer that was not asked for.
    ForeignId,
    /// Leaves the first batch out of the answer.
    MissingId,
    /// Pads the answer with blanks to `oversize_bytes`.
    Oversize,
    /// Answers 401.
    Unauthorized,
    /// Answers 404 as for a service that is not there.
    NotFound,
    /// Answers 429, with `Retry-After` where `retry_after` is set.
    TooMany,
    /// Takes the request and hangs up without a word.
    Close,
    /// Answers 302 and points elsewhere.
    Redirect,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 12] = [
        Self::Fail,
        Self::Hang,
        Self::Garbage,
        Self::HalfBody,
        Self::ForeignId,
        Self::MissingId,
        Self::Oversize,
        Self::Unauthorized,
        Self::NotFound,
        Self::TooMany,
        Self::Close,
        Self::Redirect,
    ];

    /// The word on the command line and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Hang => "hang",
            Self::Garbage => "garbage",
            Self::HalfBody => "half_body",
            Self::ForeignId => "foreign_id",
            Self::MissingId => "missing_id",
            Self::Oversize => "oversize",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::TooMany => "too_many",
            Self::Close => "close",
            Self::Redirect => "redirect",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A fault that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseFaultError {
    /// No such fault.
    #[error("\"{0}\" is no fault; expected one of {list}", list = Fault::ALL.map(Fault::as_str).join(", "))]
    Word(String),
    /// Not a share.
    #[error("\"{0}\" is no share of requests; expected a number from 0 to 1, as in hang:0.1")]
    Share(String),
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|fault| fault.as_str() == word)
            .ok_or_else(|| ParseFaultError::Word(word.to_owned()))
    }
}

/// A fault and the share of requests that meet it, written `hang:0.1`, or
/// `hang` for all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultShare {
    /// What goes wrong.
    pub fault: Fault,
    /// How often: 0 never, 1 always.
    pub share: f64,
}

impl FromStr for FaultShare {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (word, share) = match text.split_once(':') {
            Some((word, share)) => (
                word,
                parse_share(share).ok_or_else(|| ParseFaultError::Share(share.to_owned()))?,
            ),
            None => (text, 1.0),
        };
        Ok(Self {
            fault: word.parse()?,
            share,
        })
    }
}

/// Reads a number from 0 to 1.
pub(super) fn parse_share(text: &str) -> Option<f64> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
}

/// How a ledger, or one of its services, behaves; changeable while it runs.
///
/// In JSON (`POST /sim/behaviour`) times are texts such as `"20ms"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// How long every answer takes.
    #[serde(with = "duration_text")]
    pub latency: Duration,
    /// What is added to the latency at most, evenly spread.
    #[serde(with = "duration_text")]
    pub jitter: Duration,
    /// Share of requests that meet each fault; where they add up to more than
    /// 1, the first ones win.
    pub faults: BTreeMap<Fault, f64>,
    /// Seconds in the `Retry-After` of a 429; none by default, as recorded.
    pub retry_after: Option<u64>,
    /// Size of an oversized answer in bytes; 11 MiB by default.
    pub oversize_bytes: usize,
    /// Sawtooth: the validator is gone. What is in flight gets 503 code 18 at
    /// once; what comes later hangs until the validator is back, or until the
    /// validator timeout and then gets 503 code 17. Means the whole ledger, not
    /// one service.
    pub validator_gone: bool,
    /// Sawtooth: most ids in a request, as a proxy before it may allow; more
    /// get 413. 0 for any number.
    pub most_ids: usize,
    /// Sawtooth: ids that are refused though their shape is right; a request
    /// with one of them gets 400 code 60.
    pub refused_ids: Vec<String>,
    /// What is committed is not sent on open streams.
    pub lose_events: bool,
    /// Sawtooth: the newest block is sent upon `subscribe`, as recorded.
    pub repeat_latest: bool,
    /// Sawtooth: streams flag forks where there are none, at 9 to 10 and so on,
    /// as recorded.
    pub false_forks: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            faults: BTreeMap::new(),
            retry_after: None,
            oversize_bytes: 11 << 20,
            validator_gone: false,
            most_ids: 0,
            refused_ids: Vec::new(),
            lose_events: false,
            repeat_latest: true,
            false_forks: true,
        }
    }
}

impl Behaviour {
    /// This behaviour with a fault for a share of the requests.
    #[must_use]
    pub fn with(mut self, fault: Fault, share: f64) -> Self {
        self.faults.insert(fault, share);
        self
    }

    /// A behaviour where every request meets one fault.
    pub fn always(fault: Fault) -> Self {
        Self::default().with(fault, 1.0)
    }

    /// Which fault, if any, a request meets that drew a number from 0 to 1.
    pub(super) fn fault_at(&self, drawn: f64) -> Option<Fault> {
        let mut sum = 0.0;
        self.faults.iter().find_map(|(fault, share)| {
            sum += share;
            (drawn < sum).then_some(*fault)
        })
    }

    /// How long an answer takes whose request drew a number from 0 to 1.
    pub(super) fn delay_at(&self, drawn: f64) -> Duration {
        if self.jitter.is_zero() {
            self.latency
        } else {
            self.latency
                .saturating_add(self.jitter.mul_f64(drawn.clamp(0.0, 1.0)))
        }
    }
}

/// Durations in JSON as people write them.
pub(in crate::sim) mod duration_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::borrow::Cow;
    use std::time::Duration;

    pub(in crate::sim) fn serialize<S: Serializer>(
        value: &Duration,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(in crate::sim) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Duration, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        humantime::parse_duration(&text)
            .map_err(|error| D::Error::custom(format!("\"{text}\" is no duration: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_refused() {
        let share: FaultShare = "hang:0.25".parse().unwrap();
        assert_eq!((share.fault, share.share), (Fault::Hang, 0.25));
        assert_eq!("fail".parse::<FaultShare>().unwrap().share, 1.0);
        assert!(matches!(
            "hang:2".parse::<FaultShare>(),
            Err(ParseFaultError::Share(_))
        ));
        let error = "hung".parse::<FaultShare>().unwrap_err().to_string();
        assert!(error.contains("\"hung\"") && error.contains("half_body"));
    }

    #[test]
    fn shares_are_met_in_turn() {
        let behaviour = Behaviour::default()
            .with(Fault::Fail, 0.5)
            .with(Fault::Hang, 0.25);
        assert_eq!(behaviour.fault_at(0.49), Some(Fault::Fail));
        assert_eq!(behaviour.fault_at(0.5), Some(Fault::Hang));
        assert_eq!(behaviour.fault_at(0.75), None);
    }

    #[test]
    fn json_has_readable_times() {
        let behaviour: Behaviour =
            serde_json::from_str(r#"{"latency":"20ms","faults":{"half_body":1}}"#).unwrap();
        assert_eq!(behaviour.latency, Duration::from_millis(20));
        assert_eq!(behaviour.fault_at(0.9), Some(Fault::HalfBody));
        let text = serde_json::to_string(&behaviour).unwrap();
        assert_eq!(serde_json::from_str::<Behaviour>(&text).unwrap(), behaviour);
        assert!(serde_json::from_str::<Behaviour>(r#"{"latencie":"1s"}"#).is_err());
    }
}
