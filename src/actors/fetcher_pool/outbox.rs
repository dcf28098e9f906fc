//! Outcomes on their way to the Updater: those that come while a message is
//! under way travel in the next one together, since a message to another
//! thread costs more than the outcome of a visit.

use crate::messages::{Commit, Done};
use crate::watchdog::Intercom;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// How long outcomes wait for the Updater to come back before they are given
/// up (their work is then done again).
const UPDATER_PATIENCE: Duration = Duration::from_secs(60);
/// Outcomes in one message.
const MOST: usize = 512;

/// Takes outcomes; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    line: mpsc::Sender<Done>,
}

impl Outbox {
    /// An outbox, emptied by a task that ends when all its clones are gone.
    pub(super) fn open(updater: Intercom<Commit>, runtime: &Handle) -> Self {
        let (line, mut outcomes) = mpsc::channel(MOST);
        runtime.spawn(async move {
            let mut next = Vec::new();
            while outcomes.recv_many(&mut next, MOST).await > 0 {
                let commit = Commit(std::mem::take(&mut next));
                if let Err(error) = updater.send(commit, UPDATER_PATIENCE).await {
                    tracing::warn!(error = %error, "outcomes were not taken; their work is done again");
                }
            }
        });
        Self { line }
    }

    /// Sends an outcome on its way.
    pub(super) async fn send(&self, done: Done) {
        // Whoever empties it lives as long as this does; otherwise the ticket goes back.
        drop(self.line.send(done).await);
    }
}
