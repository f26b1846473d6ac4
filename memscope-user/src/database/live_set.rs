//! Reads the live set: LIVE, and the blocks that a realloc holds in its hands at that moment.

mod parts;

use std::collections::{HashMap, HashSet};
use std::io;

use memscope_ebpf::inflight::InFlight;
use memscope_ebpf::live::{EntryNumber, LiveBlock};

use super::kernel_map::KernelMap;
use crate::target::address::RuntimeAddress;

/// A live block and its address. 32 bytes, so that a million of them are 32 MB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEntry {
    /// Address.
    pub address: RuntimeAddress,
    /// The rest.
    pub block: LiveBlock,
}

/// LIVE, and what of it says how it is best read.
#[derive(Clone, Copy, Debug)]
pub struct LiveMap<'a> {
    /// The map.
    pub map: &'a KernelMap<u64, LiveBlock>,
    /// Elements it can hold.
    pub capacity: u32,
}

/// Which blocks to keep.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// Only blocks born at or after this moment (CLOCK_MONOTONIC milliseconds). A realloc in place is a birth, too, under the
    /// old number.
    pub born_from_ms: u64,
    /// Only blocks born at or before this moment.
    pub born_until_ms: u64,
    /// Only blocks numbered up to this: those born after the reading began would make it neither before nor after.
    pub up_to: EntryNumber,
}

impl Selection {
    /// Blocks of any age that are numbered up to this.
    #[must_use]
    pub const fn of_any_age(up_to: EntryNumber) -> Self {
        Self::born_until(u64::MAX, up_to)
    }

    /// Blocks born at or before a moment.
    #[must_use]
    pub const fn born_until(born_until_ms: u64, up_to: EntryNumber) -> Self {
        Self {
            born_from_ms: 0,
            born_until_ms,
            up_to,
        }
    }

    /// Those of them that were born at a moment or after it.
    #[must_use]
    pub const fn and_after(self, born_from_ms: u64) -> Self {
        Self { born_from_ms, ..self }
    }

    fn takes(&self, block: LiveBlock) -> bool {
        let fields = block.unpack();
        (self.born_from_ms..=self.born_until_ms).contains(&fields.born_ms) && fields.number <= self.up_to
    }
}

/// The selected blocks, in no order, in as many parts as threads have read them.
///
/// A realloc takes its old block out of LIVE for the length of the call, so the blocks in the hands of open calls are
/// read too, before LIVE and after. A block that is in neither, though alive throughout, must have left and come back in
/// between: a failed realloc does that, and one in place. Both are counted, and the caller looks again where they were.
///
/// # Errors
/// A map cannot be read.
pub fn read(
    live: &LiveMap<'_>,
    inflight: &KernelMap<u32, InFlight>,
    selection: Selection,
) -> io::Result<Vec<Vec<RawEntry>>> {
    let mut in_hand = blocks_in_hand(inflight)?;
    let mut parts = parts::read(live, selection)?;
    in_hand.extend(blocks_in_hand(inflight)?);
    in_hand.retain(|entry| selection.takes(entry.block));
    if !in_hand.is_empty() {
        // A block that is both in LIVE and in hand has just been put back, or reallocated in place.
        let held: HashSet<u64> = in_hand.iter().map(|entry| entry.address.0).collect();
        let addresses = parts.iter().flatten().map(|entry| entry.address.0);
        let in_live: HashSet<u64> = addresses.filter(|address| held.contains(address)).collect();
        in_hand.retain(|entry| !in_live.contains(&entry.address.0));
        in_hand.sort_unstable_by_key(|entry| (entry.address, entry.block.unpack().number));
        in_hand.dedup_by_key(|entry| entry.address);
        parts.push(in_hand);
    }
    Ok(parts)
}

/// The blocks that open reallocs hold, in no order.
///
/// # Errors
/// The map cannot be read.
pub fn blocks_in_hand(inflight: &KernelMap<u32, InFlight>) -> io::Result<Vec<RawEntry>> {
    let mut found = Vec::new();
    inflight.for_each(|_, open| {
        found.extend(held(open));
    })?;
    Ok(found)
}

/// Those of one thread. A call that has just been closed holds its block until LIVE has it again.
fn held(open: &InFlight) -> impl Iterator<Item = RawEntry> + '_ {
    let holding = open.calls.iter().filter(|call| !call.old.is_none());
    holding.map(|call| RawEntry {
        address: RuntimeAddress(call.pointer),
        block: call.old,
    })
}

/// Adds what a later look has found and these have not: blocks that were out of LIVE for a moment.
pub fn add_missed(parts: &mut Vec<Vec<RawEntry>>, later: Vec<Vec<RawEntry>>) {
    let mut missed: HashMap<u64, RawEntry> = later
        .into_iter()
        .flatten()
        .map(|entry| (entry.address.0, entry))
        .collect();
    if missed.is_empty() {
        return;
    }
    for entry in parts.iter().flatten() {
        missed.remove(&entry.address.0);
    }
    if !missed.is_empty() {
        parts.push(missed.into_values().collect());
    }
}

#[cfg(test)]
mod tests {
    use memscope_ebpf::live::{BlockFields, BlockKind, SiteIndex};

    use super::*;

    fn entry(address: u64, number: u64, born_ms: u64) -> RawEntry {
        RawEntry {
            address: RuntimeAddress(address),
            block: LiveBlock::pack(BlockFields {
                number: EntryNumber(number),
                size: 1,
                born_ms,
                tid: 1,
                site: SiteIndex(1),
                kind: BlockKind::Heap,
                sampled: false,
            }),
        }
    }

    #[test]
    fn a_block_of_a_call_that_is_closed_is_in_hand_until_it_is_put_back() {
        let mut open = InFlight::default();
        let held_block = entry(0x10, 1, 5);
        open.calls[0].pointer = held_block.address.0;
        open.calls[0].old = held_block.block;
        assert_eq!((open.depth, open.calls[0].stack_pointer), (0, 0));
        assert_eq!(held(&open).collect::<Vec<_>>(), [held_block]);
        open.calls[0].old = LiveBlock::default();
        assert_eq!(held(&open).count(), 0);
    }

    #[test]
    fn a_later_look_adds_only_what_was_missed() {
        let mut parts = vec![vec![entry(0x10, 1, 5)], vec![entry(0x20, 2, 6)]];
        add_missed(&mut parts, vec![vec![entry(0x20, 2, 9)], vec![entry(0x30, 3, 9)]]);
        assert_eq!(
            parts,
            [
                vec![entry(0x10, 1, 5)],
                vec![entry(0x20, 2, 6)],
                vec![entry(0x30, 3, 9)]
            ]
        );
        add_missed(&mut parts, vec![vec![entry(0x30, 3, 9)]]);
        assert_eq!(parts.len(), 3);
    }

    #[test]
    fn a_block_resized_in_place_after_the_reading_began_is_as_old_as_it_is_then() {
        let up_to = EntryNumber(7);
        let resized = entry(0x10, 3, 1_000).block;
        assert!(Selection::of_any_age(up_to).takes(resized));
        assert!(!Selection::born_until(999, up_to).takes(resized));
        assert!(Selection::of_any_age(up_to).and_after(1_000).takes(resized));
        assert!(!Selection::of_any_age(up_to).and_after(1_001).takes(resized));
        assert!(!Selection::of_any_age(up_to).takes(entry(0x10, 8, 1).block));
    }
}
