//! Gauges of jobs and their sites.

use super::{Exposition, OTHER};
use crate::http::jobs::{JobReport, JobState, Jobs, Severity};
use crate::time::Timestamp;

type Gauge = (&'static str, &'static str, fn(&JobReport, Timestamp) -> f64);

const GAUGES: [Gauge; 7] = [
    (
        "highwater_job_severity",
        "How much the job wants to be looked at: 0 not, 1 somebody should look, 2 it does not do what it is there for.",
        |job, _| match job.severity {
            Severity::None => 0.0,
            Severity::Look => 1.0,
            Severity::Bad => 2.0,
        },
    ),
    (
        "highwater_sites_due",
        "Enabled sites that are due for the job.",
        |job, _| job.due as f64,
    ),
    (
        "highwater_sites_oldest_due_seconds",
        "How long the oldest due site has been due; 0 when none is.",
        |job, now| {
            let age = job.oldest_due_at.map(|at| now.since(at).as_secs_f64());
            age.unwrap_or(0.0)
        },
    ),
    (
        "highwater_job_in_flight",
        "Visits of the job under way now, of this server.",
        |job, _| job.in_flight as f64,
    ),
    (
        "highwater_job_waiting",
        "Sites of the job that this server has read and that wait for a visit.",
        |job, _| job.waiting as f64,
    ),
    (
        "highwater_job_shards_held",
        "Shards of the job whose lease this server holds.",
        |job, _| job.shards.iter().filter(|shard| shard.held).count() as f64,
    ),
    (
        "highwater_job_paused_hosts",
        "Hosts of the job that asked to be left alone.",
        |job, _| job.paused_hosts as f64,
    ),
];

impl Exposition {
    /// Of configured jobs each; the sites of all others are summed.
    pub(super) fn jobs(&mut self, jobs: &Jobs, now: Timestamp) {
        let (configured, others): (Vec<&JobReport>, Vec<&JobReport>) =
            jobs.jobs.iter().partition(|job| job.configured);
        let named: Vec<(String, &JobReport)> = configured
            .into_iter()
            .map(|job| (format!("{}/{}", job.app, job.name), job))
            .collect();
        let sites = "highwater_sites";
        self.family(
            sites,
            "gauge",
            "Sites by job and how they stand with it: well, failing, never, given_up, disabled.",
        );
        for (name, job) in &named {
            for (state, count) in &job.sites {
                self.sample(sites, &[("job", name), ("state", state)], *count);
            }
        }
        if let Some(first) = others.first() {
            for state in first.sites.keys() {
                let counts = others.iter().filter_map(|job| job.sites.get(state));
                let sum: i64 = counts.sum();
                self.sample(sites, &[("job", OTHER), ("state", state)], sum);
            }
        }
        let states = "highwater_job_state";
        self.family(states, "gauge", "1 for the state that the job is in.");
        for (name, job) in &named {
            for state in JobState::ALL {
                let labels = [("job", name.as_str()), ("state", state.word())];
                self.sample(states, &labels, job.state == state);
            }
        }
        for (gauge, help, value) in GAUGES {
            self.family(gauge, "gauge", help);
            for (name, job) in &named {
                self.sample(gauge, &[("job", name)], value(job, now));
            }
        }
    }
}
