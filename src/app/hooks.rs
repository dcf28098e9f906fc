//! What hooks hand on: events to the Updater, ids that became known to the
//! database.

use crate::flows::events::SinkError;
use crate::http::{Knower, Recorder};
use crate::messages::Record;
use crate::watchdog::Intercom;
use std::sync::Arc;
use std::time::Duration;

/// How long a call of a hook waits until its events are durable. Whoever calls
/// sends them again later; they are known again then.
const RECORDED_WITHIN: Duration = Duration::from_secs(25);

/// Records events through the Updater.
pub(super) fn recorder(updater: Intercom<Record>) -> Recorder {
    Arc::new(move |subscription, heard| {
        let updater = updater.clone();
        Box::pin(async move {
            let record = Record {
                subscription,
                heard,
                source_state: None,
            };
            let answer = updater.send(record, RECORDED_WITHIN).await;
            answer.unwrap_or_else(|error| Err(SinkError::Away(error.to_string())))
        })
    })
}

/// Where the Updater takes no events.
pub(super) fn no_recorder() -> Recorder {
    Arc::new(|_, _| Box::pin(std::future::ready(Err(away()))))
}

/// Where the database takes no ids.
pub(super) fn no_knower() -> Knower {
    Arc::new(|_| Box::pin(std::future::ready(Err(away()))))
}

fn away() -> SinkError {
    SinkError::Away("nothing takes events here".to_owned())
}
