//! The sites of the demo: some hundreds that answer, are slow, fail in turns
//! or for good; and two of which the story tells.

use crate::flows::sites::AppName;
use crate::sim::{Flap, Mix, SiteBehaviour, SitesHandle, SitesOptions, Span};
use crate::store::{NewSite, StatusRow, Store, StoreError};
use crate::time::Timestamp;
use std::time::Duration;

/// How many there are.
const COUNT: u32 = 500;
/// Their app, as in config/demo.toml.
pub(super) const APP: &str = "org.example.shop";
/// The job of which the story tells.
pub(super) const JOB: &str = "sync_activities";

/// Both of the story's sites begin to fail after so long.
const FAIL: Duration = Duration::from_secs(8);
/// One of them works again after so long: it is at the second level then.
const MEND: Duration = Duration::from_secs(65);

/// What they are played with.
pub(super) fn options() -> SitesOptions {
    SitesOptions {
        mix: Mix {
            slow: 0.06,
            flapping: 0.06,
            dead: 0.03,
            failing: 0.04,
            ..Mix::default()
        },
        latency: Span::new(Duration::from_millis(10), Duration::from_millis(80)),
        slow_for: Span::new(Duration::from_millis(300), Duration::from_millis(1500)),
        flap: Flap::Time(Duration::from_secs(50)),
        ..SitesOptions::of(COUNT)
    }
}

/// Puts the sites into the database.
///
/// # Errors
/// The database cannot be written, or does not take them.
pub(super) async fn import(sites: &SitesHandle, store: &Store) -> Result<usize, String> {
    let app_id = AppName::parse(APP).map_err(|problem| problem.to_string())?;
    let new = (0..sites.count())
        .map(|site| NewSite {
            site_id: sites.site_id(site),
            app_id: app_id.clone(),
            url: sites.site_url(site),
            batch_code: None,
            enabled: None,
            labels: None,
        })
        .collect();
    let imported = store.import_sites(new).await;
    let imported = imported.map_err(|error: StoreError| error.to_string())?;
    match imported.refused.first() {
        Some(refused) => Err(refused.reason.clone()),
        None => Ok(imported.added),
    }
}

/// How the sites stand with the story's job, in a few words; `None` before the
/// first is visited.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn count(store: &Store) -> Result<Option<String>, StoreError> {
    let jobs = store.summarize_jobs(&[], Timestamp::now()).await?;
    let job = jobs.get(&(APP.to_owned(), JOB.to_owned()));
    Ok(job
        .filter(|job| job.well + job.failing + job.given_up > 0)
        .map(|job| {
            format!(
                "sites: {} well, {} failing, {} given up",
                job.well, job.failing, job.given_up
            )
        }))
}

/// What happens to the story's two sites: both fail, one recovers, the other
/// is given up.
pub(super) struct SitesStory<'a> {
    sites: &'a SitesHandle,
    mended: u32,
    lost: u32,
    /// What was told last.
    told: Step,
}

/// Steps of the story, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Well,
    Failing,
    Mended,
    Recovered,
    GivenUp,
}

impl<'a> SitesStory<'a> {
    /// A story of two sites that would always answer; `None` where there are
    /// not so many.
    pub(super) fn new(sites: &'a SitesHandle) -> Option<Self> {
        let mut healthy =
            (1..sites.count()).filter(|site| sites.behaviour(*site) == SiteBehaviour::Healthy);
        Some(Self {
            sites,
            mended: healthy.next()?,
            lost: healthy.next()?,
            told: Step::Well,
        })
    }

    /// What is to be told after `elapsed`, if anything; and has it happen.
    /// What the server did about it is told when it stands in the database.
    ///
    /// # Errors
    /// The database is out of reach.
    pub(super) async fn go_on(
        &mut self,
        elapsed: Duration,
        store: &Store,
    ) -> Result<Option<String>, StoreError> {
        let standing = match self.told {
            Step::Mended => self.standing(self.mended, store).await?,
            Step::Recovered => self.standing(self.lost, store).await?,
            Step::Well | Step::Failing | Step::GivenUp => None,
        };
        let next = next_step(self.told, elapsed, standing.as_ref());
        if next == self.told {
            return Ok(None);
        }
        self.told = next;
        let mended = self.sites.site_id(self.mended);
        let lost = self.sites.site_id(self.lost);
        Ok(match next {
            Step::Well => None,
            Step::Failing => {
                for site in [self.mended, self.lost] {
                    self.sites.set_behaviour(site, Some(SiteBehaviour::Failing));
                }
                Some(format!(
                    "{mended} and {lost} begin to fail: after three failures they are visited less often"
                ))
            }
            Step::Mended => {
                self.sites.set_behaviour(self.mended, None);
                Some(format!(
                    "{mended} works again, which its next visit will find; {lost} does not"
                ))
            }
            Step::Recovered => Some(format!(
                "{mended} was visited and has recovered: it is back at the first level, every 15 seconds"
            )),
            Step::GivenUp => Some(format!(
                "{lost} is given up after five failures: listed, and not visited until revived"
            )),
        })
    }

    /// How a site stands with the story's job.
    async fn standing(&self, site: u32, store: &Store) -> Result<Option<StatusRow>, StoreError> {
        let detail = store.site(&self.sites.site_id(site)).await?;
        let jobs = detail.map(|detail| detail.jobs).unwrap_or_default();
        Ok(jobs
            .into_iter()
            .map(|job| job.status)
            .find(|status| status.job_name == JOB))
    }
}

/// The step that is reached; `standing` is that of the site whose turn it is.
fn next_step(told: Step, elapsed: Duration, standing: Option<&StatusRow>) -> Step {
    match told {
        Step::Well if elapsed >= FAIL => Step::Failing,
        Step::Failing if elapsed >= MEND => Step::Mended,
        Step::Mended if standing.is_some_and(|s| s.last_outcome.as_deref() == Some("success")) => {
            Step::Recovered
        }
        Step::Recovered if standing.is_some_and(|s| s.given_up_at.is_some()) => Step::GivenUp,
        told => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_sites_fail_and_most_do_not() {
        let options = options();
        let of = |behaviour| {
            (0..COUNT)
                .filter(|site| options.mix.behaviour(*site, options.seed) == behaviour)
                .count()
        };
        assert!(of(SiteBehaviour::Healthy) > 350);
        for behaviour in [
            SiteBehaviour::Slow,
            SiteBehaviour::Flapping,
            SiteBehaviour::Dead,
            SiteBehaviour::Failing,
        ] {
            assert!(of(behaviour) > 5, "{behaviour}");
        }
    }

    #[test]
    fn time_alone_does_not_say_that_the_server_did_something() {
        let late = Duration::from_secs(600);
        assert_eq!(next_step(Step::Well, Duration::ZERO, None), Step::Well);
        assert_eq!(next_step(Step::Well, FAIL, None), Step::Failing);
        assert_eq!(next_step(Step::Failing, FAIL, None), Step::Failing);
        assert_eq!(next_step(Step::Failing, MEND, None), Step::Mended);
        for waits in [Step::Mended, Step::Recovered, Step::GivenUp] {
            assert_eq!(next_step(waits, late, None), waits);
        }
    }
}
