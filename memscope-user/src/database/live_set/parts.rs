//! Reads LIVE with several threads, each its share of the buckets.
//!
//! Most of a reading is the kernel waiting for memory: each element lies somewhere else. Two threads wait for twice as much.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::thread;

use memscope_ebpf::live::LiveBlock;

use super::{LiveMap, RawEntry, Selection};
use crate::beside::{Beside, beside};
use crate::database::kernel_map::KernelMap;
use crate::target::address::RuntimeAddress;

/// At most so many threads read: the host is somebody's, and busy.
const MOST_READERS: usize = 4;
/// Fewer blocks than this are read before another thread has begun.
const WORTH_A_THREAD: u64 = 1 << 16;

/// What one thread has read.
#[derive(Debug, Default)]
struct Part {
    entries: Vec<RawEntry>,
    batches: Vec<BatchEnd>,
}

/// How far a thread had come after a batch.
#[derive(Clone, Copy, Debug)]
struct BatchEnd {
    /// All its buckets before this one were read.
    bucket: u32,
    /// So many entries were kept until then.
    entries: usize,
}

/// The selected blocks of LIVE: an entry that stays while this reads is in exactly one part, once.
///
/// # Errors
/// The map cannot be read.
pub(super) fn read(live: &LiveMap<'_>, selection: Selection) -> io::Result<Vec<Vec<RawEntry>>> {
    // At most as many blocks are alive as were ever numbered.
    let worth = (selection.up_to.0 / WORTH_A_THREAD).max(1);
    let readers = thread::available_parallelism().map_or(1, usize::from).min(MOST_READERS);
    let shares = shares(live.capacity, readers.min(worth.try_into().unwrap_or(readers)));
    let mut parts = thread::scope(|scope| {
        let running: Vec<_> = shares
            .into_iter()
            .map(|buckets| beside(scope, move || read_share(live.map, buckets, selection)))
            .collect();
        running.into_iter().map(Beside::join).collect::<io::Result<Vec<Part>>>()
    })?;
    drop_what_was_read_twice(&mut parts);
    Ok(parts.into_iter().map(|part| part.entries).collect())
}

/// The buckets of a map that holds `capacity` elements, shared out. The kernel makes a power of two of them; were it to make
/// others, the shares would be uneven and nothing else, since the last one goes on to the map's end.
fn shares(capacity: u32, readers: usize) -> Vec<Range<u32>> {
    let buckets = u64::from(capacity).next_power_of_two();
    let start = |share: usize| u32::try_from(buckets * share as u64 / readers as u64).unwrap_or(u32::MAX);
    (0..readers)
        .map(|share| {
            start(share)..if share + 1 == readers {
                u32::MAX
            } else {
                start(share + 1)
            }
        })
        .collect()
}

fn read_share(map: &KernelMap<u64, LiveBlock>, buckets: Range<u32>, selection: Selection) -> io::Result<Part> {
    let mut part = Part::default();
    map.for_each_batch(buckets, |batch| {
        part.entries.extend(batch.elements().filter_map(|(address, block)| {
            selection.takes(*block).then_some(RawEntry {
                address: RuntimeAddress(address),
                block: *block,
            })
        }));
        part.batches.push(BatchEnd {
            bucket: batch.ends_before,
            entries: part.entries.len(),
        });
    })?;
    Ok(part)
}

/// A thread's last batch may have gone on into the shares of later threads. Which of its entries lie there is not told, but an
/// address has one bucket only: what a later thread has read, too, is that one's. (What only the overreaching batch has
/// seen was freed before the later thread came there; it was alive while this read, as everything else is.)
fn drop_what_was_read_twice(parts: &mut [Part]) {
    for at in (0..parts.len().saturating_sub(1)).rev() {
        let (before, later) = parts.split_at_mut(at + 1);
        let Some(part) = before.last_mut() else { continue };
        let Some(last) = part.batches.last().copied() else {
            continue;
        };
        let tail = part.batches.iter().nth_back(1).map_or(0, |batch| batch.entries);
        let theirs: HashSet<u64> = later
            .iter()
            .flat_map(|later| &later.entries[..later.until_past(last.bucket)])
            .map(|entry| entry.address.0)
            .collect();
        let kept = part.entries.split_off(tail);
        part.entries
            .extend(kept.into_iter().filter(|entry| !theirs.contains(&entry.address.0)));
    }
}

impl Part {
    /// How many of its first entries hold everything of it before a bucket.
    fn until_past(&self, bucket: u32) -> usize {
        let batch = self.batches.iter().find(|batch| batch.bucket >= bucket);
        batch.map_or(self.entries.len(), |batch| batch.entries.min(self.entries.len()))
    }
}

#[cfg(test)]
mod tests {
    use memscope_ebpf::live::{BlockFields, BlockKind, EntryNumber, SiteIndex};

    use super::*;

    fn entry(address: u64) -> RawEntry {
        RawEntry {
            address: RuntimeAddress(address),
            block: LiveBlock::pack(BlockFields {
                number: EntryNumber(address),
                size: 1,
                born_ms: 1,
                tid: 1,
                site: SiteIndex(1),
                kind: BlockKind::Heap,
                sampled: false,
            }),
        }
    }

    /// Reads as the kernel does: whole buckets until the next does not fit, or to the end of the map.
    fn read_share_of(buckets: &[Vec<u64>], share: Range<u32>, batch: usize) -> Part {
        let mut part = Part::default();
        let mut at = share.start as usize;
        while at < buckets.len().min(share.end as usize) {
            let from = part.entries.len();
            while at < buckets.len() && part.entries.len() - from + buckets[at].len() <= batch {
                part.entries.extend(buckets[at].iter().copied().map(entry));
                at += 1;
            }
            let bucket = if at == buckets.len() { u32::MAX } else { at as u32 };
            part.batches.push(BatchEnd {
                bucket,
                entries: part.entries.len(),
            });
        }
        part
    }

    fn addresses(parts: &[Part]) -> Vec<u64> {
        let mut all: Vec<u64> = parts
            .iter()
            .flat_map(|part| &part.entries)
            .map(|entry| entry.address.0)
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn each_block_is_in_one_part_however_far_a_batch_reaches() {
        let mut random = 88_172_645_463_325_252u64;
        let mut draw = |below: u64| {
            // xorshift64 (Marsaglia 2003).
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut overlaps = 0;
        for round in 0..2000 {
            let capacity = 1 + draw(64) as u32;
            let mut buckets = vec![Vec::new(); capacity.next_power_of_two() as usize];
            let blocks = draw(100);
            for address in 1..=blocks {
                let bucket = draw(buckets.len() as u64) as usize;
                buckets[bucket].push(address);
            }
            let fullest = buckets.iter().map(Vec::len).max().unwrap_or(0);
            let batch = fullest.max(1) + draw(20) as usize;
            let mut parts: Vec<Part> = shares(capacity, 1 + round % MOST_READERS)
                .into_iter()
                .map(|share| read_share_of(&buckets, share, batch))
                .collect();
            overlaps += usize::from(addresses(&parts).len() as u64 > blocks);
            drop_what_was_read_twice(&mut parts);
            assert_eq!(addresses(&parts), (1..=blocks).collect::<Vec<_>>(), "round {round}");
        }
        assert!(overlaps > 1000, "{overlaps} rounds only had anything to drop");
    }

    #[test]
    fn a_block_that_only_the_overreaching_batch_saw_is_kept() {
        let buckets = [vec![1], vec![2], vec![3], vec![4]];
        let mut parts = vec![read_share_of(&buckets, 0..2, 3)];
        // Block 3 was freed before the second thread came there.
        let after = [vec![], vec![], vec![], vec![4]];
        parts.push(read_share_of(&after, 2..u32::MAX, 3));
        drop_what_was_read_twice(&mut parts);
        assert_eq!(addresses(&parts), [1, 2, 3, 4]);
    }

    #[test]
    fn shares_cover_every_bucket_once_and_whatever_comes_after() {
        for capacity in [1, 2, 3, 1000, 1 << 20, 1 << 28, u32::MAX] {
            for readers in 1..=MOST_READERS {
                let shares = shares(capacity, readers);
                assert_eq!(shares.len(), readers);
                assert_eq!(shares.first().map(|share| share.start), Some(0));
                assert_eq!(shares.last().map(|share| share.end), Some(u32::MAX));
                assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
            }
        }
    }
}
