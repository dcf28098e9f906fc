//! Why rows could not be read, by what was read: one kind may fail for hours
//! while the others succeed each second.

use std::collections::BTreeMap;

/// What is read of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReadKind {
    /// How far it has come, and orders.
    Checkpoint,
    /// Open events, in order.
    Page,
    /// What was recorded lately.
    Sweep,
    /// Which transactions and keys are known.
    LookUp,
}

impl ReadKind {
    /// The words in logs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Page => "open events",
            Self::Sweep => "what was recorded lately",
            Self::LookUp => "what is known",
        }
    }
}

/// What goes wrong now.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<ReadKind, String>);

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It fails, or for another reason than before.
    Fails,
    /// It succeeds again.
    Mended,
    /// It is as it was.
    Same,
}

impl Troubles {
    /// A read of this kind failed for this reason, or succeeded.
    pub(super) fn take(&mut self, kind: ReadKind, error: Option<&str>) -> Told {
        match error {
            Some(error) if self.0.get(&kind).is_some_and(|known| known == error) => Told::Same,
            Some(error) => {
                self.0.insert(kind, error.to_owned());
                Told::Fails
            }
            None if self.0.remove(&kind).is_some() => Told::Mended,
            None => Told::Same,
        }
    }

    /// What is shown: one of them.
    pub(super) fn shown(&self) -> Option<&String> {
        self.0.values().next()
    }

    /// Everything is read anew.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_read_that_fails_is_told_once_whatever_the_others_do() {
        let mut troubles = Troubles::default();
        let refused = Some("no such table");
        assert_eq!(troubles.take(ReadKind::LookUp, refused), Told::Fails);
        for _ in 0..3 {
            assert_eq!(troubles.take(ReadKind::Checkpoint, None), Told::Same);
            assert_eq!(troubles.take(ReadKind::LookUp, refused), Told::Same);
            assert_eq!(troubles.shown().map(String::as_str), refused);
        }
        let other = troubles.take(ReadKind::LookUp, Some("it took too long"));
        assert_eq!(other, Told::Fails);
        assert_eq!(troubles.take(ReadKind::LookUp, None), Told::Mended);
        assert_eq!(troubles.shown(), None);
    }
}
