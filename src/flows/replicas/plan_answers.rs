//! What the plan makes of the answers of upstreams.

use super::model::{Epoch, Fetched, Head, Info};
use super::plan::{For, Pending, ReplicaPlan};
use super::plan_step::Answer;
use super::traits::UpstreamError;
use crate::time::Timestamp;

/// Longest epoch that is believed, in bytes.
const LONGEST_EPOCH: usize = 64;

impl ReplicaPlan {
    /// An upstream answered, or failed. What is not waited for any more is
    /// passed over.
    pub fn answered(&mut self, id: u64, answer: Result<Answer, UpstreamError>, now: Timestamp) {
        let Some(pending) = self.asks.remove(&id) else {
            return;
        };
        if let Some((_, waited_for)) = &mut self.survey {
            waited_for.remove(&id);
        }
        let Some(upstream) = pending.upstream else {
            return;
        };
        let answer = answer.and_then(|answer| match unsound(&answer) {
            Some(why) => Err(UpstreamError::Failed {
                why,
                retry_after: None,
            }),
            None => Ok(answer),
        });
        let Some(remote) = self.remotes.get_mut(upstream) else {
            return;
        };
        match answer {
            Err(error) => self.not_answered(upstream, &pending, error, now),
            Ok(Answer::Info(info)) => {
                self.take_info(upstream, &pending, info, now);
            }
            Ok(Answer::Fetched(fetched)) => {
                self.bytes = self.bytes.saturating_add(bytes_of(&fetched));
                let may_be_old = matches!(pending.purpose, For::Chunk(_) | For::Forward);
                remote.showed(&fetched, may_be_old, now);
                let need = pending.need.clone();
                if need.is_some_and(|(epoch, head)| fetched.epoch != epoch || fetched.head < head) {
                    // Another history: whether that is the end of ours is judged
                    // by how all of them stand.
                    if pending.purpose == For::Audit {
                        self.audit.retry(now);
                    }
                    return;
                }
                self.take_fetched(upstream, &pending, fetched, now);
            }
            Ok(Answer::Digests(digests)) => self.take_digests(upstream, &pending, digests, now),
            Ok(Answer::Unable) => match pending.purpose {
                For::Audit => self.audit.unable(now),
                _ => remote.poll(None, now),
            },
        }
    }

    /// It failed at what it was asked. That a comparison came to nothing holds up
    /// the next comparison, and nothing else: what else it is asked says whether it
    /// answers.
    fn not_answered(
        &mut self,
        upstream: usize,
        pending: &Pending,
        error: UpstreamError,
        now: Timestamp,
    ) {
        let is_alone = self.remotes.len() < 2;
        let Some(remote) = self.remotes.get_mut(upstream) else {
            return;
        };
        match (&pending.purpose, error) {
            // Where it is polled already, it was asked how it stands.
            (For::Watch, UpstreamError::Unable { for_now, .. }) if !remote.is_polled(now) => {
                remote.poll(for_now, now);
            }
            (For::Audit, UpstreamError::Unable { .. }) if is_alone => {
                self.audit.unable(now);
            }
            (For::Audit, UpstreamError::Unable { why, .. }) => self.audit.failed(why, now),
            (For::Audit, UpstreamError::Failed { why, .. }) => self.audit.failed(why, now),
            (purpose, error) => {
                let is_failure = matches!(error, UpstreamError::Failed { .. });
                remote.failed(error, pending.need.as_ref(), now);
                if is_failure && matches!(purpose, For::Chunk(_) | For::Forward | For::Follow) {
                    remote.failed_at_work();
                }
                if *purpose == For::Audit {
                    self.audit.retry(now);
                }
            }
        }
    }

    fn take_fetched(&mut self, upstream: usize, of: &Pending, fetched: Fetched, now: Timestamp) {
        let taken = match of.purpose {
            For::Chunk(_) if self.settings.by_index => self.take_index_chunk(fetched),
            For::Chunk(range) => self.take_chunk(range, of, fetched),
            For::Forward => self.take_forward(of, fetched, now),
            For::Follow => self.take_follow(of, fetched, now),
            For::Audit => self.take_repair(of, fetched, now),
            For::Look | For::Splits | For::Watch => Ok(()),
        };
        if let (Err(why), For::Audit) = (&taken, &of.purpose) {
            self.audit.failed(why.clone(), now);
        } else if let Err(why) = taken
            && let Some(remote) = self.remotes.get_mut(upstream)
        {
            remote.fails(why, None, now);
            remote.failed_at_work();
        }
    }

    fn take_info(&mut self, upstream: usize, of: &Pending, info: Info, now: Timestamp) {
        if let Some(remote) = self.remotes.get_mut(upstream) {
            remote.says(info.clone(), now);
        }
        match of.purpose {
            For::Splits => self.begin(info),
            For::Watch => self.watched(of, &info, now),
            _ => {}
        }
    }
}

/// Why what is told of epoch and heads cannot be, if so.
fn unsound(answer: &Answer) -> Option<String> {
    let (epoch, head, oldest): (&Epoch, Head, Head) = match answer {
        Answer::Info(info) => (&info.epoch, info.head, info.oldest_head),
        Answer::Fetched(fetched) => (&fetched.epoch, fetched.head, 0),
        Answer::Digests(digests) => (&digests.epoch, digests.head, 0),
        Answer::Unable => return None,
    };
    let text = epoch.as_str();
    if text.len() > LONGEST_EPOCH || text.chars().any(char::is_control) {
        return Some(format!(
            "told an epoch of {} bytes; one has at most {LONGEST_EPOCH}, without control characters",
            text.len()
        ));
    }
    if oldest < 0 || head < oldest {
        return Some(format!(
            "told head {head} with a history from head {oldest} on, which cannot be"
        ));
    }
    None
}

fn bytes_of(fetched: &Fetched) -> u64 {
    let entries: usize = fetched.entries.iter().map(super::Entry::bytes).sum();
    let diff: usize = fetched.diff.iter().map(super::Modification::bytes).sum();
    u64::try_from(entries.saturating_add(diff)).unwrap_or(u64::MAX)
}
