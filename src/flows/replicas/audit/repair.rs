//! How the audit puts a range right: it is fetched with the diff of the whole copy,
//! the copy is brought to that head, and what differs is written.

use super::super::change::ReplicaChange;
use super::super::model::{Diff, Fetched, Head, Next};
use super::super::plan::{Pending, ReplicaPlan};
use super::super::plan_bootstrap::check_entries;
use super::super::plan_step::Step;
use super::{Repair, Run, Stage, local_page};
use crate::time::Timestamp;

impl ReplicaPlan {
    /// A range to be put right came, with the diff that brings all of the copy
    /// to its head.
    ///
    /// # Errors
    /// It is not what was asked for.
    pub(in crate::flows::replicas) fn take_repair(
        &mut self,
        of: &Pending,
        fetched: Fetched,
        now: Timestamp,
    ) -> Result<(), String> {
        let Some((generation, epoch, head)) = self.copy() else {
            return Ok(());
        };
        if of.need.as_ref() != Some(&(epoch, head)) {
            self.audit.retry(now);
            return Ok(());
        }
        let Some(run) = &mut self.audit.run else {
            return Ok(());
        };
        let Some(span) = run.work.last_mut() else {
            return Ok(());
        };
        run.stage = Stage::Ask;
        let most = self.settings.chunk.max(1).saturating_mul(2);
        check_entries(&fetched, &span.after, span.until.as_deref(), most)?;
        let whole = fetched.head >= fetched.latest;
        if !whole && fetched.head == head {
            return Err(format!(
                "answered a diff from head {head} that leads nowhere"
            ));
        }
        if fetched.head > head {
            self.ready.push(ReplicaChange::Follow {
                generation,
                diff: Diff {
                    from: head,
                    to: fetched.head,
                    modifications: fetched.diff,
                },
            });
        }
        if !whole {
            return Ok(());
        }
        if let Some(Next::Key(next)) = fetched.next {
            // It grew: the rest is another range.
            let mut rest = span.clone();
            rest.after.clone_from(&next);
            span.until = Some(next);
            let first = span.clone();
            run.work.pop();
            run.work.extend([rest, first]);
        }
        let cursor = run.work.last().map(|span| span.after.clone());
        let theirs = fetched.entries.into_iter();
        run.stage = Stage::Repair(Box::new(Repair {
            head: fetched.head,
            theirs: theirs.map(|entry| (entry.key, entry.value)).collect(),
            cursor: cursor.unwrap_or_default(),
            modifications: Vec::new(),
            local: None,
        }));
        Ok(())
    }

    pub(super) fn read_to_repair(
        &mut self,
        run: &mut Run,
        _generation: i64,
        head: Head,
        steps: &mut Vec<Step>,
    ) -> bool {
        let until = run.work.last().and_then(|span| span.until.clone());
        let Stage::Repair(repair) = &mut run.stage else {
            return true;
        };
        if repair.head != head {
            run.stage = Stage::Ask;
        } else if repair.local.is_none() {
            repair.local = Some(self.local(steps, local_page(repair.cursor.clone(), until)));
        }
        true
    }
}
