//! What the audit makes of the entries of the copy itself.

use super::super::change::ReplicaChange;
use super::super::model::{Chunk, Entry, Fetched, Fetching, Modification};
use super::super::plan::ReplicaPlan;
use super::{DEEPEST, LOCAL, PIECE, Span, Stage};
use crate::time::Timestamp;

impl ReplicaPlan {
    /// Entries of the copy were read.
    pub fn local_read(&mut self, id: u64, read: Result<Fetched, String>, now: Timestamp) {
        let Some((_, epoch, head)) = self.copy() else {
            return;
        };
        let chunk = self.settings.chunk;
        let Some(run) = &mut self.audit.run else {
            return;
        };
        let wanted = match &run.stage {
            Stage::Compare(page) => page.local == Some(id),
            Stage::Repair(repair) => repair.local == Some(id),
            Stage::Ask | Stage::Asked | Stage::Repairing => false,
        };
        if !wanted {
            return;
        }
        let fetched = match read {
            Ok(fetched) if fetched.epoch == epoch && fetched.head == head => fetched,
            _ => {
                self.audit.retry(now);
                return;
            }
        };
        let last = fetched.entries.last().map(|entry| entry.key.clone());
        let ended = fetched.next.is_none() || last.is_none();
        let depth = run.work.last().map_or(0, |span| span.depth);
        match &mut run.stage {
            Stage::Compare(page) => {
                page.local = None;
                let Some((range, mut overlay, mut hasher, cursor)) = page.current.take() else {
                    return;
                };
                overlay.add(&fetched.entries, &mut hasher);
                if !ended {
                    page.current = Some((range, overlay, hasher, last.unwrap_or(cursor)));
                    return;
                }
                overlay.end(&mut hasher);
                if hasher.end() != (range.len, range.digest) {
                    page.differ.push(Span {
                        after: range.after,
                        until: range.until,
                        depth: depth.saturating_add(1),
                        small: range.len <= chunk || depth >= DEEPEST,
                    });
                }
            }
            Stage::Repair(repair) => {
                repair.local = None;
                for entry in fetched.entries {
                    match repair.theirs.remove(&entry.key) {
                        Some(value) if value == entry.value => {}
                        Some(value) => {
                            let key = entry.key;
                            let right = Entry { key, value };
                            repair.modifications.push(Modification::Update(right));
                        }
                        None => repair.modifications.push(Modification::Delete(entry.key)),
                    }
                }
                if let Some(last) = last {
                    repair.cursor = last;
                }
                if ended {
                    let lacking = std::mem::take(&mut repair.theirs);
                    let update = |(key, value)| Modification::Update(Entry { key, value });
                    repair.modifications.extend(lacking.into_iter().map(update));
                    if repair.modifications.is_empty() {
                        run.work.pop();
                        run.stage = Stage::Ask;
                        return;
                    }
                }
                if ended || repair.modifications.len() >= PIECE {
                    run.differences += u64::from(ended);
                    let (head, modifications) =
                        (repair.head, std::mem::take(&mut repair.modifications));
                    // Looked at again then: it is left only when nothing differs.
                    run.stage = Stage::Repairing;
                    if let Some((generation, ..)) = self.copy() {
                        self.ready.push(ReplicaChange::Repair {
                            generation,
                            head,
                            modifications,
                        });
                    }
                }
            }
            Stage::Ask | Stage::Asked | Stage::Repairing => {}
        }
    }
}

pub(super) fn local_page(after: String, until: Option<String>) -> Fetching {
    Fetching {
        chunk: Chunk::Key {
            after,
            until,
            limit: LOCAL,
        },
        since: None,
    }
}
