//! What a person should do about the services themselves, in sentences:
//! `/readyz` warns of it and the status page shows it.

use crate::watchdog::{ServiceState, ServiceStatus, WatchdogStatus};

/// Services that were stopped, that wait for one which does not come back by
/// itself, and threads that are lost. Failed ones are told by the callers.
pub(super) fn service_notices(status: &WatchdogStatus) -> Vec<String> {
    let services = &status.services;
    let stopped = services
        .iter()
        .filter(|service| service.state == ServiceState::Stopped)
        .map(|service| {
            let name = &service.name;
            format!(
                "service {name} was stopped by an operator and does no work: start it with `highwater ctl start {name}`"
            )
        });
    let waiting = services.iter().filter_map(|service| {
        let other = service.waits_for.as_deref()?;
        let state = away(services, other)?;
        Some(format!(
            "service {} waits for service {other}, which {state}: start that with `highwater ctl start {other}`",
            service.name
        ))
    });
    let lost = status.lost_threads.iter().map(|lost| {
        format!(
            "thread {} is lost since {}, blocked by service {} ({} of at most {} lost): restart the server to have it back",
            lost.thread,
            lost.since,
            lost.service,
            status.lost_threads.len(),
            status.lost_threads_limit
        )
    });
    stopped.chain(waiting).chain(lost).collect()
}

/// Why a service does not come back by itself; `None` when it does, or is there.
fn away(services: &[ServiceStatus], name: &str) -> Option<&'static str> {
    match services.iter().find(|service| service.name == name)?.state {
        ServiceState::Failed => Some("has failed"),
        ServiceState::Stopped => Some("was stopped"),
        ServiceState::Registered
        | ServiceState::Starting
        | ServiceState::Running
        | ServiceState::Stopping
        | ServiceState::Restarting => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::service;
    use super::*;
    use crate::watchdog::LostThread;

    #[test]
    fn what_does_not_come_back_by_itself_is_named_with_what_to_do() {
        let waiting = |name: &str, on: &str| ServiceStatus {
            waits_for: Some(on.to_owned()),
            ..service(name, ServiceState::Registered)
        };
        let mut status = WatchdogStatus {
            services: vec![
                service("updater", ServiceState::Stopped),
                service("keeper", ServiceState::Failed),
                service("runs", ServiceState::Restarting),
                waiting("a", "updater"),
                waiting("b", "keeper"),
                waiting("c", "runs"),
            ],
            lost_threads_limit: 4,
            ..WatchdogStatus::default()
        };
        let told = service_notices(&status);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told[0].contains("`highwater ctl start updater`"),
            "{told:?}"
        );
        assert!(
            told[1].contains("service a waits for service updater, which was stopped"),
            "{told:?}"
        );
        assert!(
            told[2].contains("which has failed: start that with `highwater ctl start keeper`"),
            "{told:?}"
        );
        status.services.clear();
        status.lost_threads = vec![LostThread {
            thread: "engine".into(),
            service: "runs".into(),
            ..LostThread::default()
        }];
        let told = service_notices(&status).join("\n");
        assert!(
            told.contains("thread engine") && told.contains("service runs (1 of at most 4 lost)"),
            "{told}"
        );
    }
}
