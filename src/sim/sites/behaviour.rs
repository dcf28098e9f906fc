//! How simulated sites behave, and what each visit is answered.

use super::options::SitesProblem;
use crate::sim::ParseOptionError;
use crate::sim::behaviour::parse_share;
use crate::sim::hash;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How a site behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteBehaviour {
    /// Answers 200.
    Healthy,
    /// Answers 200 after a while.
    Slow,
    /// Works for a while and answers 500 for a while, in turns.
    Flapping,
    /// Takes the request and hangs up without a word.
    Dead,
    /// Answers 500.
    Failing,
    /// Answers 429 with `Retry-After`.
    Limited,
}

impl SiteBehaviour {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Healthy,
        Self::Slow,
        Self::Flapping,
        Self::Dead,
        Self::Failing,
        Self::Limited,
    ];

    /// The word in JSON, and the option on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::Flapping => "flapping",
            Self::Dead => "dead",
            Self::Failing => "failing",
            Self::Limited => "limited",
        }
    }
}

impl fmt::Display for SiteBehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a visit was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteAnswer {
    /// 200 with `{"ok":true,"site":n}`; below `/{n}/info` also with `info`, an
    /// object with the site's name and version.
    Ok,
    /// 500.
    Fail,
    /// 429.
    TooMany,
    /// The connection was closed without an answer.
    Close,
}

/// Which shares of the sites behave how. What the shares leave over is healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::Args)]
pub struct Mix {
    /// Share of sites that answer at once; what the shares leave over does so
    /// too.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub healthy: f64,
    /// Share of sites that answer after the time of --slow-for.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub slow: f64,
    /// Share of sites that work and fail in turns, see --flap.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub flapping: f64,
    /// Share of sites that hang up without an answer.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub dead: f64,
    /// Share of sites that answer 500.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub failing: f64,
    /// Share of sites that answer 429 with Retry-After.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub limited: f64,
}

impl Mix {
    /// Every site behaves like this.
    pub fn all(behaviour: SiteBehaviour) -> Self {
        let mut mix = Self::default();
        let share = match behaviour {
            SiteBehaviour::Healthy => &mut mix.healthy,
            SiteBehaviour::Slow => &mut mix.slow,
            SiteBehaviour::Flapping => &mut mix.flapping,
            SiteBehaviour::Dead => &mut mix.dead,
            SiteBehaviour::Failing => &mut mix.failing,
            SiteBehaviour::Limited => &mut mix.limited,
        };
        *share = 1.0;
        mix
    }

    /// How a site behaves: drawn from its number and the seed.
    pub fn behaviour(&self, site: u32, seed: u64) -> SiteBehaviour {
        let drawn = hash::share(hash::draw(u128::from(site), seed));
        let mut sum = 0.0;
        [
            (SiteBehaviour::Slow, self.slow),
            (SiteBehaviour::Flapping, self.flapping),
            (SiteBehaviour::Dead, self.dead),
            (SiteBehaviour::Failing, self.failing),
            (SiteBehaviour::Limited, self.limited),
        ]
        .into_iter()
        .find_map(|(behaviour, share)| {
            sum += share;
            (drawn < sum).then_some(behaviour)
        })
        .unwrap_or(SiteBehaviour::Healthy)
    }

    /// All shares added up.
    pub(super) fn sum(&self) -> f64 {
        self.healthy + self.slow + self.flapping + self.dead + self.failing + self.limited
    }
}

/// How long a flapping site works before it fails as long, and so on; each
/// begins somewhere else in its turn. Written `5` for visits, `30s` for time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flap {
    /// So many visits, of each path below the site.
    Visits(u32),
    /// For so long.
    Time(Duration),
}

impl Flap {
    /// Whether the site works at its visit `number` (from 0), `elapsed` after
    /// the start.
    pub(super) fn works(self, site: u32, seed: u64, number: u32, elapsed: Duration) -> bool {
        let (length, passed) = match self {
            Self::Visits(length) => (u128::from(length), u128::from(number)),
            Self::Time(length) => (length.as_millis(), elapsed.as_millis()),
        };
        let length = length.max(1);
        let offset = u128::from(hash::draw(u128::from(site), !seed)) % (2 * length);
        ((passed + offset) / length).is_multiple_of(2)
    }
}

impl fmt::Display for Flap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Visits(visits) => write!(f, "{visits}"),
            Self::Time(time) => write!(f, "{}", humantime::format_duration(*time)),
        }
    }
}

impl FromStr for Flap {
    type Err = SitesProblem;

    fn from_str(text: &str) -> Result<Self, SitesProblem> {
        let visits = text.parse().ok().map(Self::Visits);
        visits
            .or_else(|| humantime::parse_duration(text).ok().map(Self::Time))
            .filter(|flap| !matches!(flap, Self::Visits(0) | Self::Time(Duration::ZERO)))
            .ok_or_else(|| SitesProblem::Flap(text.to_owned()))
    }
}

fn share(text: &str) -> Result<f64, ParseOptionError> {
    parse_share(text).ok_or_else(|| ParseOptionError::Share(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn mix() -> Mix {
        Mix {
            healthy: 0.5,
            slow: 0.1,
            flapping: 0.1,
            dead: 0.1,
            failing: 0.05,
            limited: 0.05,
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_sites_and_another_seed_others() {
        let drawn =
            |seed| -> Vec<SiteBehaviour> { (0..1_000).map(|n| mix().behaviour(n, seed)).collect() };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        // What earlier runs drew stays: sites files and reports refer to it.
        let first: Vec<&str> = drawn(0)[..8].iter().map(|b| b.as_str()).collect();
        assert_eq!(first, FIRST_OF_SEED_0);
    }

    const FIRST_OF_SEED_0: [&str; 8] = [
        "healthy", "slow", "healthy", "healthy", "flapping", "dead", "healthy", "limited",
    ];

    #[test]
    fn shares_are_met_and_what_they_leave_over_is_healthy() {
        let mut counts = BTreeMap::new();
        for site in 0..100_000 {
            *counts.entry(mix().behaviour(site, 3)).or_insert(0_u32) += 1;
        }
        for (behaviour, expected) in [
            (SiteBehaviour::Healthy, 60_000),
            (SiteBehaviour::Slow, 10_000),
            (SiteBehaviour::Flapping, 10_000),
            (SiteBehaviour::Dead, 10_000),
            (SiteBehaviour::Failing, 5_000),
            (SiteBehaviour::Limited, 5_000),
        ] {
            let difference = counts[&behaviour].abs_diff(expected);
            assert!(difference < 600, "{behaviour}: {counts:?}");
        }
        for behaviour in SiteBehaviour::ALL {
            assert_eq!(Mix::all(behaviour).behaviour(17, 5), behaviour);
        }
    }

    #[test]
    fn a_flapping_site_works_and_fails_in_turns_of_the_same_length() {
        let turns = |works: Vec<bool>| -> Vec<usize> {
            works.chunk_by(|a, b| a == b).map(<[bool]>::len).collect()
        };
        let by_visits = (0..40)
            .map(|number| Flap::Visits(5).works(9, 1, number, Duration::ZERO))
            .collect();
        let by_time = (0..40)
            .map(|second| {
                let flap = Flap::Time(Duration::from_secs(5));
                flap.works(9, 1, 0, Duration::from_secs(second))
            })
            .collect();
        for works in [by_visits, by_time] {
            let turns = turns(works);
            assert!(turns.len() >= 8, "{turns:?}");
            let whole = &turns[1..turns.len() - 1];
            assert!(whole.iter().all(|length| *length == 5), "{turns:?}");
        }
    }

    #[test]
    fn turns_are_read_as_visits_or_time_and_refused_when_neither() {
        assert_eq!("5".parse(), Ok(Flap::Visits(5)));
        assert_eq!("30s".parse(), Ok(Flap::Time(Duration::from_secs(30))));
        for text in ["0", "0s", "often", ""] {
            let error = text.parse::<Flap>().unwrap_err().to_string();
            assert!(error.contains(&format!("\"{text}\"")), "{error}");
        }
    }
}
