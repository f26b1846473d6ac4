//! Changes to the REGIONS map, one at a time: searched for what overlaps a range, which is then cut out of it.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::{bpf_for_each_map_elem, bpf_loop};
use memscope_ebpf::counter::Counter;
use memscope_ebpf::live::{BlockFields, LiveBlock};
use memscope_ebpf::region::{REGIONS_AT_ONCE, Region, RegionWork};
use memscope_ebpf::unwind::bounded::{element, element_mut};

use crate::{atomic, count, maps, sites};

/// Attempts to get the lock: some milliseconds. It is held for microseconds, unless its holder is preempted by this very
/// thread's CPU.
const LOCK_ATTEMPTS: u32 = 1 << 18;
/// Searches of one change: as many regions as the map can hold.
const SEARCHES: u32 = 1 << 10;

/// The region map, locked. Pointers travel in it because a callback is given the address of one thing.
pub struct Regions {
    work: *mut RegionWork,
    held: u64,
}

impl Regions {
    /// Waits for the lock; `None`, counted, when it does not come.
    #[inline(always)]
    pub fn lock() -> Option<Self> {
        let mut regions = Self {
            work: maps::REGION_WORK.get_ptr_mut(0)?,
            held: 0,
        };
        // SAFETY: the callback has the signature the helper calls, and its context outlives the call.
        unsafe {
            bpf_loop(
                LOCK_ATTEMPTS,
                try_lock as *const () as *mut c_void,
                (&raw mut regions).cast(),
                0,
            );
            if regions.held == 0 {
                count::one(Counter::RegionsBusy);
                return None;
            }
            atomic::add(&raw mut (*regions.work).sequence, 1);
        }
        Some(regions)
    }

    /// Lets others change the map.
    #[inline(always)]
    pub fn unlock(self) {
        // SAFETY: an array element with 8-aligned fields.
        unsafe {
            atomic::add(&raw mut (*self.work).sequence, 1);
            atomic::exchange(&raw mut (*self.work).lock, 0);
        }
    }

    /// The number of the region that begins here.
    #[inline(always)]
    pub fn number_at(&self, start: u64) -> Option<u64> {
        // SAFETY: nobody changes the map while it is locked.
        let region = unsafe { maps::REGIONS.get(start) }?;
        Some(region.block.unpack().number.0)
    }

    /// Adds a region. Nothing may overlap it.
    #[inline(always)]
    pub fn add(&self, start: u64, end: u64, block: LiveBlock) {
        sites::count_allocated(block.site(), block.size(), false);
        if put(start, Region { end, block }) {
            count::one(Counter::Mapped);
        }
    }

    /// Takes a range out of every region numbered up to `up_to`.
    #[inline(always)]
    pub fn cut(&self, start: u64, end: u64, up_to: u64) {
        if start >= end {
            return;
        }
        // SAFETY: the work belongs to who holds the lock; the callback as in `lock`.
        unsafe {
            (*self.work).start = start;
            (*self.work).end = end;
            (*self.work).up_to = up_to;
            bpf_loop(
                SEARCHES,
                search as *const () as *mut c_void,
                core::ptr::from_ref(self).cast_mut().cast(),
                0,
            );
        }
    }
}

/// Callback: 1 ends the loop.
unsafe extern "C" fn try_lock(_attempt: u64, regions: *mut Regions) -> i64 {
    // SAFETY: `lock` passes its own, whose work is an array element.
    unsafe {
        if atomic::exchange(&raw mut (*(*regions).work).lock, 1) != 0 {
            return 0;
        }
        (*regions).held = 1;
    }
    1
}

/// Callback: one search and the cuts it leads to; 1 ends the loop.
unsafe extern "C" fn search(_round: u64, regions: *mut Regions) -> i64 {
    // SAFETY: `cut` passes its own; the map is one of this object's, and its callback takes what the helper gives.
    unsafe {
        (*(*regions).work).found = 0;
        bpf_for_each_map_elem(
            (&raw const maps::REGIONS).cast_mut().cast(),
            note_overlap as *const () as *mut c_void,
            regions.cast(),
            0,
        );
        let found = (*(*regions).work).found;
        bpf_loop(found as u32, cut_one as *const () as *mut c_void, regions.cast(), 0);
        i64::from(found < REGIONS_AT_ONCE as u64)
    }
}

/// Callback: notes a region that overlaps the range; 1 ends the loop.
unsafe extern "C" fn note_overlap(
    _map: *mut c_void,
    start: *const u64,
    region: *const Region,
    regions: *mut Regions,
) -> i64 {
    // SAFETY: the helper passes an element of REGIONS; `search` its own.
    unsafe {
        let work = (*regions).work;
        let (start, region) = (*start, *region);
        if start >= (*work).end || region.end <= (*work).start || region.block.unpack().number.0 > (*work).up_to {
            return 0;
        }
        let found = (*work).found;
        if found >= REGIONS_AT_ONCE as u64 {
            return 1;
        }
        *element_mut(&mut (*work).keys, found as u32) = start;
        (*work).found = found + 1;
    }
    0
}

/// Callback: takes the range out of one region noted.
unsafe extern "C" fn cut_one(index: u64, regions: *mut Regions) -> i64 {
    // SAFETY: as above; the element is copied out, and nobody changes the map while it is locked.
    let (start, region, from, to) = unsafe {
        let work = (*regions).work;
        let start = *element(&(*work).keys, index as u32);
        let Some(region) = maps::REGIONS.get(start).copied() else {
            return 0;
        };
        (start, region, (*work).start, (*work).end)
    };
    let fields = region.block.unpack();
    let piece = |from: u64, to: u64| Region {
        end: to,
        block: LiveBlock::pack(BlockFields {
            size: to - from,
            ..fields
        }),
    };
    let mut pieces = 0;
    let mut left_bytes = 0;
    if to < region.end {
        put(to, piece(to, region.end));
        pieces += 1;
        left_bytes += region.end - to;
    }
    if start < from {
        put(start, piece(start, from));
        pieces += 1;
        left_bytes += from - start;
    } else {
        let _ = maps::REGIONS.remove(start);
    }
    count::one(Counter::Unmapped);
    sites::count_cut(fields.site, pieces, fields.size.saturating_sub(left_bytes));
    0
}

#[inline(always)]
fn put(start: u64, region: Region) -> bool {
    let kept = maps::REGIONS.insert(start, region, u64::from(BPF_ANY)).is_ok();
    if !kept {
        count::one(Counter::RegionsFull);
    }
    kept
}
