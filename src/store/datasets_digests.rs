//! Digests of ranges of keys, read in pages: memory does not grow with a range.

use super::StoreError;
use super::connection::Connection;
use super::datasets_chunk::{Row, Slice, is_stale, slice, values};
use super::datasets_history::diff_page;
use super::datasets_read::Bounds;
use super::datasets_rows::live;
use crate::flows::replicas::{
    Content, Digests, Epoch, FetchError, Head, Modification, RangeDigest, compact,
};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Entries that are read at once.
const PAGE: u64 = 1000;
/// Bytes of a value that is read with its page; a larger one is read by itself.
const INLINE: u64 = 16 * 1024;

/// What digests are made of in one answer may be so many times as large as a chunk.
const MOST_TIMES: u64 = 4;

/// Which ranges are asked for.
#[derive(Clone, Debug)]
pub(super) struct Slices {
    /// Keys behind this one.
    pub(super) after: String,
    /// Up to this one.
    pub(super) until: Option<String>,
    /// Entries of all ranges together, at most.
    pub(super) limit: u64,
    /// Ranges, at most.
    pub(super) ranges: usize,
}

/// Digests of even ranges, and the diff within them.
///
/// Where the diff from `since` is too large for one answer, there are no ranges
/// and no diff, and `next` is what was asked: the follower catches up first.
pub(super) async fn digests(
    conn: &mut Connection<'_>,
    content: &Content,
    slices: &Slices,
    since: Option<&(Epoch, Head)>,
    bounds: Bounds,
) -> Result<Digests, FetchError> {
    let generation = live(conn, content).await?.ok_or(FetchError::Missing)?;
    let mut answer = Digests {
        epoch: generation.epoch(),
        head: generation.head,
        ranges: Vec::new(),
        diff: Vec::new(),
        next: None,
    };
    if let Some((epoch, head)) = since {
        let stale = || FetchError::Stale(generation.info());
        if is_stale(&generation, Some(epoch), *head) {
            return Err(stale());
        }
        let most = (bounds.count, bounds.bytes);
        let page = diff_page(conn, &generation, *head, most).await?;
        let page = page.ok_or_else(stale)?;
        if page.head < generation.head {
            answer.next = Some(slices.after.clone());
            return Ok(answer);
        }
        answer.diff = page.modifications;
    }
    let most = bounds.bytes.saturating_mul(MOST_TIMES);
    let (ranges, next) = ranges(conn, generation.id, slices, most).await?;
    let end = next.as_deref().or(slices.until.as_deref());
    let is_within = |modification: &Modification| {
        let key = modification.key();
        key > slices.after.as_str() && end.is_none_or(|end| key <= end)
    };
    answer.diff.retain(is_within);
    answer.diff = compact(answer.diff);
    answer.ranges = ranges;
    answer.next = next;
    Ok(answer)
}

/// Reads the ranges; answers the last key too, where more is behind it.
async fn ranges(
    conn: &mut Connection<'_>,
    generation: i64,
    slices: &Slices,
    most: u64,
) -> Result<(Vec<RangeDigest>, Option<String>), StoreError> {
    let parts = u64::try_from(slices.ranges).unwrap_or(1).max(1);
    let mut cutting = Cutting::new(&slices.after, slices.limit.div_ceil(parts).max(1));
    let mut cursor = slices.after.clone();
    let (mut left, mut bytes) = (slices.limit, 0_u64);
    loop {
        let asked = Slice {
            after: &cursor,
            until: slices.until.as_deref(),
            skip: 0,
            limit: PAGE,
            inline: INLINE,
        };
        let rows = slice(conn, generation, asked).await?;
        let is_last = u64::try_from(rows.len()).is_ok_and(|len| len < PAGE);
        for row in rows {
            if left == 0 || bytes >= most {
                return Ok((cutting.end(Some(cursor.clone())), Some(cursor)));
            }
            let (key, value) = whole(conn, generation, row).await?;
            cutting.take(&key, &value);
            let size = u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX);
            bytes = bytes.saturating_add(size);
            cursor = key;
            left -= 1;
        }
        if is_last {
            return Ok((cutting.end(slices.until.clone()), None));
        }
    }
}

/// An entry with its value, however large.
async fn whole(
    conn: &mut Connection<'_>,
    generation: i64,
    row: Row,
) -> Result<(String, String), StoreError> {
    let value = match row.value {
        Some(value) => value,
        None => {
            let mut found = values(conn, generation, &[&row.key]).await?;
            found.remove(&row.key).unwrap_or_default()
        }
    };
    Ok((row.key, value))
}

/// Cuts entries, in the order of keys, into ranges of so many.
pub(super) struct Cutting {
    each: u64,
    done: Vec<RangeDigest>,
    /// The open range: behind which key it begins, its entries, their digest.
    after: String,
    len: u64,
    hash: Sha256,
}

impl Cutting {
    pub(super) fn new(after: &str, each: u64) -> Self {
        Self {
            each,
            done: Vec::new(),
            after: after.to_owned(),
            len: 0,
            hash: Sha256::new(),
        }
    }

    pub(super) fn take(&mut self, key: &str, value: &str) {
        for text in [key, value] {
            let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
            self.hash.update(length.to_be_bytes());
            self.hash.update(text.as_bytes());
        }
        self.len += 1;
        if self.len == self.each {
            self.close(Some(key.to_owned()));
        }
    }

    /// The ranges; the last of them goes on to the end that was asked for.
    pub(super) fn end(mut self, until: Option<String>) -> Vec<RangeDigest> {
        match self.done.last_mut() {
            Some(last) if self.len == 0 => last.until = until,
            _ => self.close(until),
        }
        self.done
    }

    fn close(&mut self, until: Option<String>) {
        let hash = std::mem::take(&mut self.hash).finalize();
        let mut digest = String::with_capacity(2 * hash.len());
        for byte in hash {
            // Writing to a string cannot fail.
            write!(digest, "{byte:02x}").unwrap_or_default();
        }
        let after = std::mem::take(&mut self.after);
        self.after = until.clone().unwrap_or_default();
        self.done.push(RangeDigest {
            after,
            until,
            len: std::mem::take(&mut self.len),
            digest,
        });
    }
}
