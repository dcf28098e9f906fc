//! Sites that no job visits, since none of their app is configured.

use crate::config::Settings;
use crate::store::AppSites;
use serde::Serialize;

/// An app whose sites no job visits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct AppWithoutJob {
    /// Id of the app.
    pub app: String,
    /// Its sites, disabled ones too.
    pub sites: i64,
}

/// The apps that have sites and no job in the configuration, by id.
pub(super) fn without_jobs(settings: &Settings, apps: &[AppSites]) -> Vec<AppWithoutJob> {
    let visited = |app: &&AppSites| {
        let mut jobs = settings.jobs.iter();
        !jobs.any(|job| job.key.app.as_str() == app.app_id)
    };
    apps.iter()
        .filter(visited)
        .map(|app| AppWithoutJob {
            app: app.app_id.clone(),
            sites: app.enabled + app.disabled,
        })
        .collect()
}
