//! Reads the sites: records and frames, as far as they have been given out.

use std::io;

use memscope_ebpf::limits::{FRAME_CAPACITY, SITE_CAPACITY};
use memscope_ebpf::live::SiteIndex;
use memscope_ebpf::site::{INTERRUPTED, SiteRecord, StackEnd};
use memscope_ebpf::state::State;

use super::generations::{MappedGeneration, of_site};
use super::kernel_map::KernelMap;
use crate::target::address::RuntimeAddress;

/// Every site of a database.
#[derive(Debug)]
pub struct SiteTable {
    records: Vec<SiteRecord>,
    frames: Vec<u64>,
    /// Generations in which code was replaced unseen.
    replaced: Vec<MappedGeneration>,
}

/// One site: counters and frame addresses.
#[derive(Clone, Debug)]
pub struct RawSite<'a> {
    /// Its record.
    pub record: &'a SiteRecord,
    frames: &'a [u64],
    /// There were more, in code that was not what it seemed.
    cut: bool,
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// Where it goes on.
    pub address: RuntimeAddress,
    /// It follows a call: the byte before is the call's. Not so where a signal came.
    pub is_return_address: bool,
}

impl From<u64> for RawFrame {
    fn from(stored: u64) -> Self {
        Self {
            address: RuntimeAddress(stored & !INTERRUPTED),
            is_return_address: stored & INTERRUPTED == 0,
        }
    }
}

impl RawSite<'_> {
    /// Innermost first, without the allocator function.
    pub fn frames(&self) -> impl DoubleEndedIterator<Item = RawFrame> {
        self.frames.iter().map(|frame| RawFrame::from(*frame))
    }

    /// Why the stack ends.
    #[must_use]
    pub fn end(&self) -> StackEnd {
        if self.cut {
            return StackEnd::Replaced;
        }
        StackEnd::from_number(self.record.end).unwrap_or(StackEnd::Unreadable)
    }

    /// At least one frame was found by frame pointer, for want of an unwind table.
    #[must_use]
    pub const fn by_frame_pointer(&self) -> bool {
        self.record.flags & 1 != 0
    }
}

/// The records alone, by site index; those not in use have no hash. Frames are most of what reading sites costs.
///
/// # Errors
/// The map cannot be read.
pub fn read_records(records: &KernelMap<u32, SiteRecord>, state: State) -> io::Result<Vec<SiteRecord>> {
    records.read_array((state.sites_used + 1).min(u64::from(SITE_CAPACITY)) as u32)
}

impl SiteTable {
    /// Reads what has been given out so far.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn read(
        records: &KernelMap<u32, SiteRecord>,
        frames: &KernelMap<u32, u64>,
        state: State,
        generations: &[MappedGeneration],
    ) -> io::Result<Self> {
        let used = state.frames_used.min(u64::from(FRAME_CAPACITY)) as u32;
        Ok(Self {
            records: read_records(records, state)?,
            frames: frames.read_array(used)?,
            replaced: generations
                .iter()
                .filter(|generation| generation.is_doubted())
                .cloned()
                .collect(),
        })
    }

    /// A site; `None` for [`SiteIndex::UNKNOWN`] and for indices that are not in use (or not yet: read sites after blocks).
    #[must_use]
    pub fn get(&self, index: SiteIndex) -> Option<RawSite<'_>> {
        let record = self.records.get(index.0 as usize).filter(|record| record.hash != 0)?;
        let from = record.frames_at as usize;
        let frames = self.frames.get(from..from + usize::from(record.frames))?;
        let believed = of_site(&self.replaced, record.generation)
            .map_or(frames.len(), |generation| generation.believed(index, record, frames));
        Some(RawSite {
            record,
            frames: &frames[..believed],
            cut: believed < frames.len(),
        })
    }

    /// Blocks that were recorded without their stack.
    #[must_use]
    pub fn without_stack(&self) -> u64 {
        let unknown = self.records.get(SiteIndex::UNKNOWN.0 as usize);
        unknown.map_or(0, |record| record.allocated)
    }

    /// Every site in use.
    pub fn iter(&self) -> impl Iterator<Item = (SiteIndex, RawSite<'_>)> {
        (0..self.records.len() as u32)
            .map(SiteIndex)
            .filter_map(|index| Some((index, self.get(index)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_a_signal_interrupted_is_no_return_address() {
        let frame = |stored: u64| {
            let RawFrame {
                address,
                is_return_address,
            } = stored.into();
            (address.0, is_return_address)
        };
        assert_eq!(frame(0x7f00_0000_1234), (0x7f00_0000_1234, true));
        assert_eq!(frame(0x7f00_0000_1234 | INTERRUPTED), (0x7f00_0000_1234, false));
    }
}
