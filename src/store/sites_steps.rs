//! How sites enter a job, and how their due times are corrected and spaced: in
//! steps of some thousand rows, each a transaction of its own under the lease
//! of the range, so that no statement runs long and other writers come in
//! between. Each step leaves the rows right; whoever was ended in between
//! begins again, and finds what is left.

use super::changes::as_json;
use super::connection::{in_transaction, on_backend};
use super::leases::{HeldLease, LeaseStake, held_lease};
use super::sites_due::{JobRange, OF_JOB, later, numbered, of_range};
use super::sites_schedule::{NEW_SITE, Seq};
use super::{Store, StoreError};
use crate::flows::sites::RetryPolicy;
use crate::time::Timestamp;
use diesel::sql_types::{BigInt, Integer, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use std::time::{Duration, Instant};

/// Most rows that one step changes.
pub const MOST_IN_A_STEP: i64 = 2_000;

/// By how much a time may lie ahead and still pass for one of a running clock:
/// times are kept to the millisecond, and clocks are corrected in small steps.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// What the clock said, and when it was read: visits go on while rows are
/// corrected, so what is looked at later is judged by a later time.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    /// What it said.
    pub now: Timestamp,
    /// When it was read.
    pub read: Instant,
}

impl ClockReading {
    /// The clock says `now` at this moment.
    pub fn just_read(now: Timestamp) -> Self {
        let read = Instant::now();
        Self { now, read }
    }

    /// The latest time that a clock which runs on may show by now.
    fn latest(self) -> Timestamp {
        self.now.plus(self.read.elapsed()).plus(CLOCK_STEP)
    }
}

/// What is wrong with rows of a range, and the statements that make it right.
/// All may use `$5` (the clock as it was read), `$6` (the latest time that is
/// not ahead) and `$7` (that, and `delay`); the condition calls the row `p`,
/// the statements work on `poll_status` alone.
struct Correction {
    wrong: String,
    statements: Vec<String>,
    delay: Duration,
}

/// A time so many milliseconds after `$5`, by row number `n`.
fn spaced(sqlite: bool, step_ms: f64) -> String {
    if sqlite {
        format!(
            "strftime('%Y-%m-%d %H:%M:%f', $5, '+' || round(n * {step_ms:.6} / 1000.0, 3) || ' seconds')"
        )
    } else {
        format!("($5::timestamp(3) + n * interval '{step_ms:.6} milliseconds')::timestamp(3)")
    }
}

/// Inside a transaction: an error when the lease is not held any more.
macro_rules! under_lease {
    ($conn:expr, $sqlite:expr, $stake:expr) => {
        let held: Vec<HeldLease> = diesel::sql_query(held_lease($sqlite))
            .bind::<Text, _>(&$stake.name)
            .bind::<BigInt, _>($stake.epoch)
            .load($conn)
            .await?;
        if held.is_empty() {
            return Err(StoreError::LeaseLost($stake.name.clone()));
        }
    };
}

impl Store {
    /// Makes the sites that a job has never seen, of those behind this row of
    /// `sites`, known to it, due from `from` on, one `step` after the other.
    /// Answers how many there were.
    ///
    /// # Errors
    /// The database is out of reach, or the lease is lost; what was done stays.
    pub async fn initialise_sites(
        &self,
        range: &JobRange,
        stake: &LeaseStake,
        after: i64,
        from: Timestamp,
        step: Duration,
    ) -> Result<usize, StoreError> {
        let due = spaced(self.is_sqlite(), step.as_secs_f64() * 1000.0);
        let (mut after, mut number, mut added) = (after, 0_i64, 0);
        loop {
            let rows: Vec<Seq> = {
                let sql = format!(
                    "SELECT s.seq FROM sites s WHERE {NEW_SITE} AND s.seq > $5 ORDER BY s.seq LIMIT $6"
                );
                let mut lent = self.reader().await?;
                let sqlite = lent.is_sqlite();
                on_backend!(lent, conn => {
                    of_range!(sqlite, sql, range)
                        .bind::<BigInt, _>(after)
                        .bind::<BigInt, _>(MOST_IN_A_STEP)
                        .load(conn)
                        .await
                })?
            };
            let Some(last) = rows.last().map(|row| row.seq) else {
                return Ok(added);
            };
            let sql = format!(
                "INSERT INTO poll_status (site_id, job_name, app_id, batch_code, enabled, next_due_at) \
                 SELECT site_id, $2, app_id, batch_code, enabled, {due} FROM (\
                 SELECT s.site_id, s.app_id, s.batch_code, s.enabled, \
                 row_number() OVER (ORDER BY s.seq) - 1 + $6 AS n FROM sites s \
                 WHERE {NEW_SITE} AND s.seq > $7 AND s.seq <= $8) AS fresh \
                 WHERE TRUE ORDER BY n ON CONFLICT (site_id, job_name) DO NOTHING"
            );
            let (store, range, stake) = (self.clone(), range.clone(), stake.clone());
            added += Self::detached(async move {
                let mut lent = store.writer().await?;
                let sqlite = lent.is_sqlite();
                in_transaction!(lent, conn => {
                    under_lease!(conn, sqlite, stake);
                    let added = of_range!(sqlite, sql, range)
                        .bind::<SqlTimestamp, _>(from)
                        .bind::<BigInt, _>(number)
                        .bind::<BigInt, _>(after)
                        .bind::<BigInt, _>(last)
                        .execute(conn)
                        .await?;
                    Ok::<_, StoreError>(added)
                })
            })
            .await?;
            after = last;
            number += i64::try_from(rows.len()).unwrap_or(MOST_IN_A_STEP);
        }
    }

    /// Mends rows of a range that differ from their site: an application may
    /// enable, disable, remove or replace a site at the moment in which it is
    /// made known to a job. Answers how many.
    ///
    /// # Errors
    /// The database is out of reach, or the lease is lost; what was done stays.
    pub async fn mend_standings(
        &self,
        range: &JobRange,
        stake: &LeaseStake,
    ) -> Result<usize, StoreError> {
        let alone = "NOT EXISTS (SELECT 1 FROM sites s WHERE s.site_id = p.site_id \
             AND s.app_id = p.app_id AND s.batch_code = p.batch_code)";
        let differs = "EXISTS (SELECT 1 FROM sites s WHERE s.site_id = p.site_id \
             AND s.enabled <> p.enabled)";
        let correction = Correction {
            wrong: format!("({differs} OR {alone})"),
            statements: vec![
                "UPDATE poll_status SET enabled = s.enabled FROM sites s \
                 WHERE s.site_id = poll_status.site_id AND s.enabled <> poll_status.enabled"
                    .to_owned(),
                format!(
                    "DELETE FROM poll_status WHERE {}",
                    alone.replace("p.", "poll_status.")
                ),
            ],
            delay: Duration::ZERO,
        };
        let any = ClockReading::just_read(Timestamp::default());
        self.correct(range, stake, correction, any).await
    }

    /// Brings due times that lie later than the policy allows, with this part of
    /// the period as delay, to where it has them (of a site that was never
    /// visited: now); before that, last visits that lie ahead (the clock was set
    /// back) to now. A visit that began since the clock was read does not lie
    /// ahead, nor one that does by less than a second. Due times that lie earlier
    /// are found when they come up. Answers how many were corrected.
    ///
    /// # Errors
    /// The database is out of reach, or the lease is lost; what was done stays.
    pub async fn correct_due_times(
        &self,
        range: &JobRange,
        stake: &LeaseStake,
        policy: &RetryPolicy,
        delay: f64,
        clock: ClockReading,
    ) -> Result<usize, StoreError> {
        let sqlite = self.is_sqlite();
        // Each is wrong in its own way, and is made right by what is set.
        let mut ways = vec![
            ("last_run_at = $5".to_owned(), "last_run_at > $6".to_owned()),
            (
                "next_due_at = $5".to_owned(),
                "given_up_at IS NULL AND last_run_at IS NULL \
                 AND (next_due_at IS NULL OR next_due_at > $7)"
                    .to_owned(),
            ),
        ];
        let last = policy.levels().len() - 1;
        for (number, level) in policy.levels().iter().enumerate() {
            let is = if number == last { ">=" } else { "=" };
            let due = later(sqlite, "last_run_at", level.period);
            let latest = later(sqlite, "last_run_at", level.period.mul_f64(1.0 + delay));
            ways.push((
                format!("next_due_at = {due}"),
                format!(
                    "level {is} {number} AND given_up_at IS NULL AND last_run_at IS NOT NULL \
                     AND (next_due_at IS NULL OR next_due_at > {latest})"
                ),
            ));
        }
        let wrong: Vec<String> = ways.iter().map(|(_, wrong)| format!("({wrong})")).collect();
        let correction = Correction {
            wrong: format!("({})", wrong.join(" OR ")),
            statements: ways
                .into_iter()
                .map(|(set, wrong)| format!("UPDATE poll_status SET {set} WHERE {wrong}"))
                .collect(),
            delay: policy.level(0).period.mul_f64(delay),
        };
        self.correct(range, stake, correction, clock).await
    }

    /// Finds wrong rows, in their order, and makes them right, step by step.
    /// Nothing is locked while they are looked for. Answers how many.
    async fn correct(
        &self,
        range: &JobRange,
        stake: &LeaseStake,
        correction: Correction,
        clock: ClockReading,
    ) -> Result<usize, StoreError> {
        let find = format!(
            "SELECT p.seq FROM poll_status p WHERE {OF_JOB} AND {} AND p.seq > $8 \
             ORDER BY p.seq LIMIT $9",
            correction.wrong
        );
        let among = if self.is_sqlite() {
            "SELECT value FROM json_each($8)"
        } else {
            "SELECT value::bigint FROM json_array_elements_text($8::json)"
        };
        let of_job = OF_JOB.replace("p.", "poll_status.");
        let statements: Vec<String> = correction
            .statements
            .iter()
            .map(|sql| format!("{sql} AND {of_job} AND poll_status.seq IN ({among})"))
            .collect();
        let delay = correction.delay;
        let (mut after, mut corrected) = (i64::MIN, 0);
        loop {
            let rows: Vec<Seq> = {
                let mut lent = self.reader().await?;
                let sqlite = lent.is_sqlite();
                let latest = clock.latest();
                on_backend!(lent, conn => {
                    of_range!(sqlite, find, range)
                        .bind::<SqlTimestamp, _>(clock.now)
                        .bind::<SqlTimestamp, _>(latest)
                        .bind::<SqlTimestamp, _>(latest.plus(delay))
                        .bind::<BigInt, _>(after)
                        .bind::<BigInt, _>(MOST_IN_A_STEP)
                        .load(conn)
                        .await
                })?
            };
            let Some(last) = rows.last().map(|row| row.seq) else {
                return Ok(corrected);
            };
            let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
            let seqs = as_json(&seqs)?;
            let (store, range, stake) = (self.clone(), range.clone(), stake.clone());
            let statements = statements.clone();
            Self::detached(async move {
                let mut lent = store.writer().await?;
                let sqlite = lent.is_sqlite();
                in_transaction!(lent, conn => {
                    under_lease!(conn, sqlite, stake);
                    for sql in &statements {
                        // What was found may have been visited since.
                        let latest = clock.latest();
                        of_range!(sqlite, sql, range)
                            .bind::<SqlTimestamp, _>(clock.now)
                            .bind::<SqlTimestamp, _>(latest)
                            .bind::<SqlTimestamp, _>(latest.plus(delay))
                            .bind::<Text, _>(&seqs)
                            .execute(conn)
                            .await?;
                    }
                    Ok::<_, StoreError>(())
                })
            })
            .await?;
            after = last;
            corrected += rows.len();
        }
    }

    /// Spaces what was due before `from` one `step` after the other, from `from`
    /// on, in the order it became due. Answers how many.
    ///
    /// # Errors
    /// The database is out of reach, or the lease is lost; what was done stays.
    pub async fn space_overdue_sites(
        &self,
        range: &JobRange,
        stake: &LeaseStake,
        from: Timestamp,
        step: Duration,
    ) -> Result<usize, StoreError> {
        let due = spaced(self.is_sqlite(), step.as_secs_f64() * 1000.0);
        // What is spaced is not due before `from` any more: the next step finds
        // those behind it.
        let sql = format!(
            "UPDATE poll_status SET next_due_at = {due} FROM (SELECT first.seq, \
             row_number() OVER (ORDER BY first.next_due_at, first.seq) - 1 + $6 AS n FROM \
             (SELECT p.seq, p.next_due_at FROM poll_status p WHERE {OF_JOB} AND p.enabled \
             AND p.next_due_at IS NOT NULL AND p.next_due_at < $5 \
             ORDER BY p.next_due_at, p.seq LIMIT $7) AS first) AS o \
             WHERE poll_status.seq = o.seq AND poll_status.next_due_at < $5"
        );
        let mut number = 0_i64;
        loop {
            let (store, range, stake) = (self.clone(), range.clone(), stake.clone());
            let sql = sql.clone();
            let spaced = Self::detached(async move {
                let mut lent = store.writer().await?;
                let sqlite = lent.is_sqlite();
                in_transaction!(lent, conn => {
                    under_lease!(conn, sqlite, stake);
                    let spaced = of_range!(sqlite, sql, range)
                        .bind::<SqlTimestamp, _>(from)
                        .bind::<BigInt, _>(number)
                        .bind::<BigInt, _>(MOST_IN_A_STEP)
                        .execute(conn)
                        .await?;
                    Ok::<_, StoreError>(spaced)
                })
            })
            .await?;
            number += i64::try_from(spaced).unwrap_or(MOST_IN_A_STEP);
            if i64::try_from(spaced).is_ok_and(|spaced| spaced < MOST_IN_A_STEP) {
                return Ok(usize::try_from(number).unwrap_or(usize::MAX));
            }
        }
    }
}
