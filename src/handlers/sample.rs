//! What tests of handlers share.

use crate::flows::sites::{AppName, JobKey, SiteInfo, Visit};
use crate::time::Timestamp;

/// The job of the visit.
pub(super) fn job() -> JobKey {
    JobKey::new(AppName::parse("org.example").unwrap(), "sync").unwrap()
}

/// A visit of a site that has labels and failed before.
pub(super) fn visit() -> Visit {
    Visit {
        job: job(),
        site: SiteInfo {
            site_id: "site-7".to_owned(),
            url: "https://seven.example/civi".to_owned(),
            labels: r#"{"region": "north", "size": 3}"#.to_owned(),
            batch_code: 42,
        },
        last_run_at: Some(Timestamp::from_millis(1_700_000_000_000)),
        level: 1,
        count: 2,
    }
}
