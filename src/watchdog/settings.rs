//! Live settings of a service (LLR-CFG-1 to LLR-CFG-5).

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Says what is wrong with a value.
type Check<T> = Box<dyn Fn(&T) -> Result<(), String> + Send + Sync>;

/// An updater with the check that its values have to pass.
struct Checked<T> {
    updater: SettingsUpdater<T>,
    check: Check<T>,
}

/// The settings of a registered service, their type forgotten.
#[derive(Clone)]
pub(super) struct AnySettings {
    inner: Arc<dyn Any + Send + Sync>,
    changes: Arc<AtomicU64>,
}

impl std::fmt::Debug for AnySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnySettings")
    }
}

/// Why settings were not updated; they are what they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The service's settings are of another type.
    OtherType,
    /// The value did not pass the check.
    Wrong(String),
}

impl AnySettings {
    pub(super) fn new<T>(updater: SettingsUpdater<T>) -> Self
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        Self::checked(updater, |_| Ok(()))
    }

    pub(super) fn checked<T>(
        updater: SettingsUpdater<T>,
        check: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        Self {
            inner: Arc::new(Checked {
                updater,
                check: Box::new(check),
            }),
            changes: Arc::default(),
        }
    }

    pub(super) fn reader<T>(&self) -> Option<SettingsReader<T>>
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        let checked = self.inner.downcast_ref::<Checked<T>>()?;
        Some(checked.updater.reader())
    }

    /// Sets a value that passes the check; answers whether it differs.
    pub(super) fn update<T>(&self, value: T) -> Result<bool, Refused>
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        let checked = self.inner.downcast_ref::<Checked<T>>();
        let checked = checked.ok_or(Refused::OtherType)?;
        (checked.check)(&value).map_err(Refused::Wrong)?;
        let differs = checked.updater.update(value);
        if differs {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(differs)
    }

    /// How often the value changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llr_cfg_2_a_reader_made_from_an_updater_is_linked_to_it() {
        let updater = SettingsUpdater::new(1);
        let (one, other) = (updater.reader(), updater.reader());
        assert_eq!((one.current(), other.current()), (1, 1));
        updater.update(2);
        assert_eq!((one.current(), other.current()), (2, 2));
    }

    #[test]
    fn llr_cfg_3_an_updater_sets_new_settings_and_says_whether_they_differ() {
        let updater = SettingsUpdater::new(1);
        assert!(updater.update(2));
        assert!(!updater.update(2), "the same value is no news");
        assert_eq!(updater.reader().current(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn llr_cfg_4_updated_returns_each_time_the_updater_has_received_a_new_value() {
        let updater = SettingsUpdater::new(1);
        let mut reader = updater.reader();
        for value in 2..10 {
            updater.update(value);
            assert_eq!(reader.updated().await, Some(value));
        }
        let waiting = tokio::spawn(async move { reader.updated().await });
        tokio::task::yield_now().await;
        updater.update(10);
        assert_eq!(waiting.await.unwrap(), Some(10));
        let mut reader = updater.reader();
        drop(updater);
        assert_eq!(reader.updated().await, None, "there will be no other");
        assert_eq!(reader.current(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn llr_cfg_5_updated_does_not_yield_on_the_initial_settings() {
        let updater = SettingsUpdater::new(1);
        let mut reader = updater.reader();
        let hour = std::time::Duration::from_secs(3600);
        assert!(
            tokio::time::timeout(hour, reader.updated()).await.is_err(),
            "the initial value is no news"
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_or_out_of_range_changes_nothing() {
        let check = |value: &u32| {
            if *value <= 9 {
                Ok(())
            } else {
                Err(format!("{value} is more than 9"))
            }
        };
        let settings = AnySettings::checked(SettingsUpdater::new(1_u32), check);
        let reader = settings.reader::<u32>().unwrap();
        assert!(settings.reader::<String>().is_none());
        assert_eq!(settings.update("2".to_owned()), Err(Refused::OtherType));
        let wrong = Refused::Wrong("10 is more than 9".to_owned());
        assert_eq!(settings.update(10_u32), Err(wrong));
        assert_eq!((reader.current(), settings.changes()), (1, 0));
        assert_eq!(settings.update(2_u32), Ok(true));
        assert_eq!(settings.update(2_u32), Ok(false));
        assert_eq!((reader.current(), settings.changes()), (2, 1));
    }
}
