//! Sites as the kernel keeps them: one record a distinct call stack, its frames in one run of the FRAMES array.

use crate::call::CallIndex;

/// Why a stack ends where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StackEnd {
    /// Reached the thread's outermost frame: the stack is whole.
    Outermost = 0,
    /// No unwind table covers the mapping of the last address.
    NoTable = 1,
    /// The table has no rule we can follow for the last address.
    UnsupportedRule = 2,
    /// A signal frame that could not be crossed.
    SignalFrame = 3,
    /// More frames than a stack may have.
    FrameLimit = 4,
    /// Stack memory could not be read.
    Unreadable = 5,
    /// The frame address did not grow.
    Cycle = 6,
    /// The return address is not in executable memory.
    NotCode = 7,
    /// Only frame pointers were available, and they ended before the thread's start.
    FramePointers = 8,
    /// The tables were replaced twice while the stack was being followed.
    Busy = 9,
    /// The block was recorded without its stack: no room for one more site.
    NotRecorded = 10,
    /// A signal handler interrupted a probed call, whose caller only its return probe knows.
    InsideCall = 11,
}

impl StackEnd {
    /// Every reason, in order of its number.
    pub const ALL: [Self; 12] = [
        Self::Outermost,
        Self::NoTable,
        Self::UnsupportedRule,
        Self::SignalFrame,
        Self::FrameLimit,
        Self::Unreadable,
        Self::Cycle,
        Self::NotCode,
        Self::FramePointers,
        Self::Busy,
        Self::NotRecorded,
        Self::InsideCall,
    ];

    /// The reason with this number; `None` past the last.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The reason as reports print it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Outermost => "outermost frame",
            Self::NoTable => "no unwind table for this mapping",
            Self::UnsupportedRule => "unsupported unwind rule",
            Self::SignalFrame => "signal frame",
            Self::FrameLimit => "frame limit",
            Self::Unreadable => "unreadable stack",
            Self::Cycle => "cycle",
            Self::NotCode => "return address outside executable memory",
            Self::FramePointers => "frame pointers end here",
            Self::Busy => "unwind tables replaced during the walk",
            Self::NotRecorded => "not recorded",
            Self::InsideCall => "inside another allocator call",
        }
    }
}

/// Set in an element of FRAMES: the address is the instruction that a signal interrupted, not a return address. No address
/// of user space has this bit.
pub const INTERRUPTED: u64 = 1 << 63;

/// One site. Array element of SITE_RECORDS; written once before its index is published in SITES, counters by atomic adds.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SiteRecord {
    /// Hash of call index and frame addresses: the key in SITES. 0: record not in use.
    pub hash: u64,
    /// First frame in FRAMES.
    pub frames_at: u32,
    /// Frames, innermost first, without the allocator function.
    pub frames: u16,
    /// The allocator function called ([`CallIndex`]).
    pub call: u16,
    /// [`StackEnd`] as a number.
    pub end: u8,
    /// Bit 0: at least one frame was found by frame pointer, not by unwind table.
    pub flags: u8,
    /// Generation of the session's mappings the addresses belong to.
    pub generation: u16,
    /// Keeps the counters aligned.
    pub padding: u32,
    /// Blocks allocated.
    pub allocated: u64,
    /// Bytes allocated.
    pub allocated_bytes: u64,
    /// Blocks freed.
    pub freed: u64,
    /// Bytes freed.
    pub freed_bytes: u64,
}

const _: () = assert!(size_of::<SiteRecord>() == 56);

impl SiteRecord {
    /// The allocator function called.
    #[must_use]
    pub const fn call_index(&self) -> CallIndex {
        CallIndex(self.call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_found_by_its_number() {
        for end in StackEnd::ALL {
            assert_eq!(StackEnd::from_number(end as u8), Some(end));
        }
        assert_eq!(StackEnd::from_number(StackEnd::ALL.len() as u8), None);
    }
}
