//! Points in time as Highwater stores and shows them: UTC, to the millisecond.
//!
//! One type serves the database (`TIMESTAMP` on PostgreSQL, text
//! `YYYY-MM-DD HH:MM:SS.SSS` on SQLite), JSON (RFC 3339) and pages, so that a
//! time never changes its precision on the way.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 00:00:00 UTC.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    diesel::expression::AsExpression,
    diesel::deserialize::FromSqlRow,
)]
#[diesel(sql_type = diesel::sql_types::Timestamp)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Reads the system clock.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// Takes milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// This point plus a duration; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating_millis(duration)))
    }

    /// This point minus a duration; saturates.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_millis(duration)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Text as SQLite stores it: `YYYY-MM-DD HH:MM:SS.SSS`.
    pub fn to_sql_text(self) -> String {
        let rfc = self.to_string();
        rfc.trim_end_matches('Z').replacen('T', " ", 1)
    }

    /// Reads what SQLite holds. The tables check the shape; a day that its
    /// month has not (30 February) counts as the 28th, and what is no time at
    /// all as 1970, so that one odd row never keeps the others from being read.
    pub fn from_sql_text(text: &str) -> Self {
        let shorter_month = || {
            let (month, rest) = (text.get(..8)?, text.get(10..)?);
            Self::parse(&format!("{month}28{rest}"))
        };
        Self::parse(text).or_else(shorter_month).unwrap_or_default()
    }

    /// Reads RFC 3339 and the SQL form; `None` when it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        humantime::parse_rfc3339_weak(text.trim())
            .ok()
            .map(Self::from)
    }
}

fn saturating_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(saturating_millis(after)),
            Err(before) => Self(-saturating_millis(before.duration())),
        }
    }
}

/// RFC 3339 with milliseconds and `Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // humantime writes the years 1970 to 9999; anything else is shown as the nearest of these.
        let millis = u64::try_from(self.0).unwrap_or(0).min(253_402_300_799_999);
        let time = UNIX_EPOCH + Duration::from_millis(millis);
        write!(f, "{}", humantime::format_rfc3339_millis(time))
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("\"{text}\" is not an RFC 3339 time")))
    }
}

mod sql {
    use super::Timestamp;
    use diesel::deserialize::{self, FromSql};
    use diesel::pg::{Pg, PgValue};
    use diesel::serialize::{self, IsNull, Output, ToSql};
    use diesel::sql_types;
    use diesel::sqlite::{Sqlite, SqliteValue};

    /// 2000-01-01, PostgreSQL's epoch, in milliseconds since 1970.
    const PG_EPOCH_MILLIS: i64 = 946_684_800_000;

    impl ToSql<sql_types::Timestamp, Sqlite> for Timestamp {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
            out.set_value(self.to_sql_text());
            Ok(IsNull::No)
        }
    }

    impl FromSql<sql_types::Timestamp, Sqlite> for Timestamp {
        fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
            let text = <String as FromSql<sql_types::Text, Sqlite>>::from_sql(value)?;
            Ok(Timestamp::from_sql_text(&text))
        }
    }

    impl ToSql<sql_types::Timestamp, Pg> for Timestamp {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
            let micros = self.0.saturating_sub(PG_EPOCH_MILLIS).saturating_mul(1000);
            ToSql::<sql_types::BigInt, Pg>::to_sql(&micros, &mut out.reborrow())
        }
    }

    impl FromSql<sql_types::Timestamp, Pg> for Timestamp {
        fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
            let micros = <i64 as FromSql<sql_types::BigInt, Pg>>::from_sql(value)?;
            Ok(Timestamp(
                micros.div_euclid(1000).saturating_add(PG_EPOCH_MILLIS),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        let time = Timestamp::from_millis(1_795_245_931_007);
        assert_eq!(time.to_string(), "2026-11-21T07:25:31.007Z");
        assert_eq!(time.to_sql_text(), "2026-11-21 07:25:31.007");
        assert_eq!(Timestamp::parse(&time.to_sql_text()), Some(time));
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn an_odd_time_in_the_database_is_still_read() {
        let read = |text| Timestamp::from_sql_text(text).to_sql_text();
        assert_eq!(read("2026-02-30 10:00:00"), "2026-02-28 10:00:00.000");
        assert_eq!(read("2026-19-39 10:00:00"), "1970-01-01 00:00:00.000");
        assert_eq!(read("é"), "1970-01-01 00:00:00.000");
    }

    #[test]
    fn arithmetic_saturates() {
        let time = Timestamp::from_millis(5);
        assert_eq!(time.since(Timestamp::from_millis(9)), Duration::ZERO);
        assert_eq!(time.plus(Duration::MAX).millis(), i64::MAX);
    }
}
