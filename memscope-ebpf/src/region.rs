//! Memory regions (`--regions`) as the REGIONS map stores them: by first address, each with its end.
//!
//! Regions overlap with what munmap and mmap are told, so a change reads and writes several elements: REGION_WORK holds the
//! lock of the programs, and a sequence number by which a reader sees that it has met a change half done.

use crate::live::LiveBlock;

/// One region: a value of REGIONS, keyed by its first address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Region {
    /// One past its last byte, a page boundary.
    pub end: u64,
    /// The rest. Pieces of a region that was unmapped in part keep number, birth and site.
    pub block: LiveBlock,
}

/// Regions found in one search; a change that meets more searches again.
pub const REGIONS_AT_ONCE: usize = 64;

/// Array element 0 of REGION_WORK.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RegionWork {
    /// 1 while a program changes REGIONS.
    pub lock: u64,
    /// Odd while a program changes REGIONS, another one after each change.
    pub sequence: u64,
    /// First address of the range in work.
    pub start: u64,
    /// One past its last address.
    pub end: u64,
    /// Regions with a higher number were born after the call began that ends this range, and are left alone.
    pub up_to: u64,
    /// How many of `keys` are in use.
    pub found: u64,
    /// First addresses of regions that overlap the range.
    pub keys: [u64; REGIONS_AT_ONCE],
}

const _: () = assert!(size_of::<Region>() == 32);
const _: () = assert!(size_of::<RegionWork>() == 48 + 8 * REGIONS_AT_ONCE);
