//! Live settings of a service (LLR-CFG-1 to LLR-CFG-5).

use tokio::sync::watch;

/// The watchdog's side: sets new values.
#[derive(Debug)]
pub struct SettingsUpdater<T> {
    sender: watch::Sender<T>,
}

impl<T: Clone + PartialEq + Send + Sync> SettingsUpdater<T> {
    /// Begins with an initial value, from the configuration or a default.
    pub fn new(initial: T) -> Self {
        Self {
            sender: watch::Sender::new(initial),
        }
    }

    /// A reader linked to this updater.
    pub fn reader(&self) -> SettingsReader<T> {
        SettingsReader {
            receiver: self.sender.subscribe(),
        }
    }

    /// Sets a new value; readers are told only when it differs.
    pub fn update(&self, value: T) -> bool {
        self.sender.send_if_modified(|current| {
            let differs = *current != value;
            if differs {
                *current = value;
            }
            differs
        })
    }
}

/// The service's side: the current value, and news of each new one.
#[derive(Clone, Debug)]
pub struct SettingsReader<T> {
    receiver: watch::Receiver<T>,
}

impl<T: Clone> SettingsReader<T> {
    /// The value in force.
    pub fn current(&self) -> T {
        self.receiver.borrow().clone()
    }

    /// Waits for a new value; never yields for the initial one. `None` when
    /// the updater is gone.
    pub async fn updated(&mut self) -> Option<T> {
        self.receiver.changed().await.ok()?;
        Some(self.receiver.borrow_and_update().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn llr_cfg_4_and_5_a_reader_yields_each_new_value_and_not_the_initial_one() {
        let updater = SettingsUpdater::new(1);
        let mut reader = updater.reader();
        assert_eq!(reader.current(), 1);
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(10), reader.updated());
        assert!(quiet.await.is_err(), "the initial value is no news");
        assert!(updater.update(2));
        assert_eq!(reader.updated().await, Some(2));
        assert!(!updater.update(2), "the same value is no news");
        drop(updater);
        assert_eq!(reader.updated().await, None);
        assert_eq!(reader.current(), 2);
    }
}
