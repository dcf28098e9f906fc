//! Retry policies: `20min (x6); 1hour (x24); 1day (x30)` (seed
//! `site-polling.md`, "Prepare cron configuration").

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Units and their length in seconds; a month is 30 days, a year 365.
const UNITS: [(&str, u64); 7] = [
    ("sec", 1),
    ("min", 60),
    ("hour", 3600),
    ("day", 86_400),
    ("week", 7 * 86_400),
    ("month", 30 * 86_400),
    ("year", 365 * 86_400),
];

/// Longest period: 100 years.
const LONGEST: u64 = 100 * 365 * 86_400;
/// Most failures at a level: what the databases can hold.
const MOST_FAILURES: u32 = u32::MAX >> 1;
/// Most levels of a policy.
const MOST_LEVELS: usize = 100;
/// Longest expression.
const MOST_CHARACTERS: usize = 4096;

/// When a site is visited again after failures, level by level; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    levels: Vec<Level>,
}

/// One level of a retry policy: `20min (x6)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Least time between two visits; whole seconds, not 0.
    pub period: Duration,
    /// Failures in a row at this level that lead to the next; not 0.
    pub count: u32,
}

/// Why an expression is no retry policy, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}, at character {}: write levels as \"20min (x6); 1hour (x24)\"", place + 1)]
pub struct RetryProblem {
    /// Characters before the mistake.
    pub place: usize,
    /// What is wrong.
    pub message: String,
}

impl RetryPolicy {
    /// A policy of these levels; `None` for what no expression says: no level
    /// or more than 100, a period that is not of whole seconds from 1 to 100
    /// years, a count of 0 or above 2147483647.
    pub fn new(levels: Vec<Level>) -> Option<Self> {
        let sound = |level: &Level| {
            level.period.subsec_nanos() == 0
                && (1..=LONGEST).contains(&level.period.as_secs())
                && (1..=MOST_FAILURES).contains(&level.count)
        };
        let number = (1..=MOST_LEVELS).contains(&levels.len());
        (number && levels.iter().all(sound)).then_some(Self { levels })
    }

    /// The levels; at least one.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The level with this number; one above the last stands at the last.
    pub fn level(&self, number: usize) -> Level {
        self.levels[number.min(self.levels.len() - 1)]
    }
}

/// `1 hour (x48); 1 day (x90)`.
impl Default for RetryPolicy {
    fn default() -> Self {
        let level = |seconds, count| Level {
            period: Duration::from_secs(seconds),
            count,
        };
        Self {
            levels: vec![level(3600, 48), level(86_400, 90)],
        }
    }
}

/// As an expression; each period in the longest unit that holds it whole.
impl fmt::Display for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, level) in self.levels.iter().enumerate() {
            let seconds = level.period.as_secs();
            let whole = |unit: &&(&str, u64)| seconds.is_multiple_of(unit.1);
            let (unit, length) = UNITS.iter().rev().find(whole).unwrap_or(&UNITS[0]);
            let between = if index == 0 { "" } else { "; " };
            write!(f, "{between}{} {unit} (x{})", seconds / length, level.count)?;
        }
        Ok(())
    }
}

impl FromStr for RetryPolicy {
    type Err = RetryProblem;

    fn from_str(text: &str) -> Result<Self, RetryProblem> {
        let mut scan = Scan {
            text: text.chars().collect(),
            place: 0,
        };
        if scan.text.len() > MOST_CHARACTERS {
            return Err(scan.problem(format!("longer than {MOST_CHARACTERS} characters")));
        }
        let mut levels = Vec::new();
        loop {
            scan.skip_spaces();
            match scan.peek() {
                None => break,
                Some(';') => scan.place += 1,
                Some(_) => {
                    if levels.len() == MOST_LEVELS {
                        return Err(scan.problem(format!("more than {MOST_LEVELS} levels")));
                    }
                    levels.push(scan.level()?);
                    scan.skip_spaces();
                    if scan.peek().is_some_and(|c| c != ';') {
                        return Err(scan.expected("\";\" before the next level"));
                    }
                }
            }
        }
        if levels.is_empty() {
            return Err(RetryProblem {
                place: 0,
                message: "there is no level".to_owned(),
            });
        }
        Ok(Self { levels })
    }
}

struct Scan {
    text: Vec<char>,
    place: usize,
}

impl Scan {
    fn peek(&self) -> Option<char> {
        self.text.get(self.place).copied()
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.place += 1;
        }
    }

    fn problem(&self, message: String) -> RetryProblem {
        RetryProblem {
            place: self.place,
            message,
        }
    }

    fn expected(&self, what: &str) -> RetryProblem {
        let found = self.peek().map_or_else(
            || "the end".to_owned(),
            |c| format!("\"{}\"", c.escape_debug()),
        );
        self.problem(format!("expected {what}, found {found}"))
    }

    /// A whole number from 1 to `most`.
    fn number(&mut self, what: &str, most: u64) -> Result<u64, RetryProblem> {
        self.skip_spaces();
        let start = self.place;
        let mut value: u64 = 0;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            value = value.saturating_mul(10).saturating_add(u64::from(digit));
            self.place += 1;
        }
        if self.place == start {
            return Err(self.expected(what));
        }
        let wrong = |message| RetryProblem {
            place: start,
            message,
        };
        match value {
            0 => Err(wrong(format!("{what} is 0"))),
            value if value > most => Err(wrong(format!("{what} is above {most}"))),
            value => Ok(value),
        }
    }

    fn character(&mut self, wanted: char, what: &str) -> Result<(), RetryProblem> {
        self.skip_spaces();
        match self.peek() {
            Some(found) if found.eq_ignore_ascii_case(&wanted) => {
                self.place += 1;
                Ok(())
            }
            _ => Err(self.expected(what)),
        }
    }

    fn level(&mut self) -> Result<Level, RetryProblem> {
        let start = self.place;
        let number = self.number("the period's number", LONGEST)?;
        self.skip_spaces();
        let unit_at = self.place;
        let mut unit = String::new();
        while let Some(c) = self.peek().filter(char::is_ascii_alphabetic) {
            unit.push(c.to_ascii_lowercase());
            self.place += 1;
        }
        let Some((_, length)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let units: Vec<&str> = UNITS.iter().map(|(name, _)| *name).collect();
            let message = if unit.is_empty() {
                format!("expected a unit ({})", units.join(", "))
            } else {
                unit.truncate(20); // ASCII
                match unit.strip_suffix('s').filter(|one| units.contains(one)) {
                    // The seed writes "2 hour", and so does a policy.
                    Some(one) => {
                        format!("\"{unit}\" is no unit: write \"{number} {one}\", without the s")
                    }
                    None => format!("\"{unit}\" is no unit ({})", units.join(", ")),
                }
            };
            return Err(RetryProblem {
                place: unit_at,
                message,
            });
        };
        let seconds = number.saturating_mul(*length);
        if seconds > LONGEST {
            return Err(RetryProblem {
                place: start,
                message: "the period is longer than 100 years".to_owned(),
            });
        }
        self.character('(', "the count in \"(xN)\"")?;
        self.character('x', "\"x\" and the count")?;
        let count = self.number("the count", u64::from(MOST_FAILURES))?;
        self.character(')', "\")\" after the count")?;
        Ok(Level {
            period: Duration::from_secs(seconds),
            count: u32::try_from(count).unwrap_or(u32::MAX),
        })
    }
}
