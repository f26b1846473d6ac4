//! Reads the live set: LIVE, and the blocks that a realloc holds in its hands at that moment.

mod parts;

use std::collections::HashSet;
use std::io;

use memscope_ebpf::inflight::InFlight;
use memscope_ebpf::limits::MAX_NESTING;
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
    /// Only blocks born at or before this moment (CLOCK_MONOTONIC milliseconds).
    pub born_until_ms: u64,
    /// Only blocks numbered up to this: those born after the reading began would make it neither before nor after.
    pub up_to: EntryNumber,
}

impl Selection {
    fn takes(&self, block: LiveBlock) -> bool {
        let fields = block.unpack();
        fields.born_ms <= self.born_until_ms && fields.number <= self.up_to
    }
}

/// The selected blocks, in no order, in as many parts as threads have read them.
///
/// A realloc takes its old block out of LIVE for the length of the call, so the blocks in the hands of open calls are
/// read too, before LIVE and after: a block that is in neither, though alive throughout, must have left and come back in
/// between, which only a failed realloc does; `restored` counts those, and the caller reads again if it moved.
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
        for call in open.calls.iter().take((open.depth as usize).min(MAX_NESTING)) {
            if call.stack_pointer != 0 && !call.old.is_none() {
                found.push(RawEntry {
                    address: RuntimeAddress(call.pointer),
                    block: call.old,
                });
            }
        }
    })?;
    Ok(found)
}
