//! Sites: from a stack to the index of its record, and the records' counters.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use memscope_ebpf::call::CallIndex;
use memscope_ebpf::counter::Counter;
use memscope_ebpf::limits::{FRAME_CAPACITY, MAX_FRAMES, SITE_CAPACITY};
use memscope_ebpf::live::SiteIndex;
use memscope_ebpf::site::SiteRecord;
use memscope_ebpf::state::State;
use memscope_ebpf::unwind::bounded::apart;

use crate::stack::Stack;
use crate::{atomic, count, maps};

/// The site of a stack; [`SiteIndex::UNKNOWN`], counted, when it cannot be kept.
#[inline(always)]
pub fn of(stack: &Stack, state: *mut State, call: CallIndex) -> SiteIndex {
    let key = key(stack, call);
    if let Some(site) = stack.site_again(key) {
        return site;
    }
    let hash = hash(stack, key);
    let site = remembered(hash).unwrap_or_else(|| look_up(stack, hash, state, call));
    if site != SiteIndex::UNKNOWN {
        stack.keep_site(key, site);
    }
    site
}

#[inline(always)]
fn look_up(stack: &Stack, hash: u64, state: *mut State, call: CallIndex) -> SiteIndex {
    // SAFETY: the value is a plain u32, read once.
    let site = match unsafe { maps::SITES.get(hash) } {
        Some(index) => SiteIndex(*index),
        None => match publish(stack, hash, state, call) {
            Some(site) => site,
            None => {
                count::one(Counter::SitesFull);
                return SiteIndex::UNKNOWN;
            }
        },
    };
    remember(hash, site);
    site
}

/// Entries of SITE_CACHE. A power of two.
const CACHED_SITES: u32 = 1 << 12;

/// Stack hash → site, direct-mapped: the same stacks come back, and an array is read in a tenth of a hash map's time.
/// Written without a lock, so as two words, the site and the site xor the hash: halves of two writes match no hash.
#[map]
static SITE_CACHE: Array<[u64; 2]> = Array::with_max_entries(CACHED_SITES, 0);

#[inline(always)]
fn remembered(hash: u64) -> Option<SiteIndex> {
    let entry = SITE_CACHE.get_ptr(slot(hash))?.cast::<u64>();
    // SAFETY: an array element of two 8-aligned words.
    let (site, check) = unsafe { (entry.read_volatile(), entry.add(1).read_volatile()) };
    (site != 0 && site ^ check == hash).then_some(SiteIndex(site as u32))
}

#[inline(always)]
fn remember(hash: u64, site: SiteIndex) {
    if let Some(entry) = SITE_CACHE.get_ptr_mut(slot(hash)) {
        let (entry, site) = (entry.cast::<u64>(), u64::from(site.0));
        // SAFETY: as above.
        unsafe {
            entry.write_volatile(site);
            entry.add(1).write_volatile(site ^ hash);
        }
    }
}

/// From bits that every hash has its own of: the lowest is always set.
#[inline(always)]
fn slot(hash: u64) -> u32 {
    (hash >> 1) as u32 & (CACHED_SITES - 1)
}

/// What a site is told by beside its frames. Never 0: the bits are each field's own, and the lowest is set.
#[inline(always)]
fn key(stack: &Stack, call: CallIndex) -> u64 {
    u64::from(stack.generation) << 48
        | u64::from(call.0) << 32
        | u64::from(stack.frames) << 16
        | u64::from(stack.end) << 8
        | u64::from(stack.by_frame_pointer) << 1
        | 1
}

/// 64-bit content hash of a stack: a multiply-and-fold over its [`key`] and frame addresses, never 0.
#[inline(always)]
fn hash(stack: &Stack, key: u64) -> u64 {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = SEED ^ key;
    let frames = apart(stack.frames) as usize;
    for index in 0..MAX_FRAMES {
        if index >= frames {
            break;
        }
        hash = (hash ^ frame(stack, index)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 32;
    }
    hash | 1
}

/// Frame `index` of a stack. The caller keeps `index` below [`MAX_FRAMES`].
#[inline(always)]
fn frame(stack: &Stack, index: usize) -> u64 {
    // SAFETY: the index is below the array's length; the verifier checks that it is.
    unsafe { stack.addresses().add(index).read() }
}

/// Writes a new site: frames, then record, then the key that makes it visible. `None` when a map is full.
#[inline(never)]
fn publish(stack: &Stack, hash: u64, state: *mut State, call: CallIndex) -> Option<SiteIndex> {
    // SAFETY: the state is an array element; its two counters are 8-aligned and only touched atomically here.
    let site = unsafe { atomic::fetch_add(&raw mut (*state).sites_used, 1) } + 1;
    let frames_at = unsafe { atomic::fetch_add(&raw mut (*state).frames_used, u64::from(stack.frames)) };
    if site >= u64::from(SITE_CAPACITY) || frames_at + u64::from(stack.frames) > u64::from(FRAME_CAPACITY) {
        return None;
    }
    let frames = apart(stack.frames) as usize;
    for index in 0..MAX_FRAMES {
        if index >= frames {
            break;
        }
        let slot = maps::FRAMES.get_ptr_mut(frames_at as u32 + index as u32)?;
        // SAFETY: the slot is this site's alone until the site is published.
        unsafe { slot.write(frame(stack, index)) };
    }
    let record = maps::SITE_RECORDS.get_ptr_mut(site as u32)?;
    // SAFETY: as above.
    unsafe {
        (*record).frames_at = frames_at as u32;
        (*record).frames = stack.frames as u16;
        (*record).call = call.0;
        (*record).end = stack.end;
        (*record).flags = u8::from(stack.by_frame_pointer);
        (*record).generation = stack.generation;
        (*record).hash = hash;
    }
    match maps::SITES.insert(hash, site as u32, u64::from(BPF_NOEXIST)) {
        Ok(()) => Some(SiteIndex(site as u32)),
        // Another CPU published the same stack first; our record stays unused.
        // SAFETY: the value is a plain u32, read once.
        Err(_) => unsafe { maps::SITES.get(hash) }.map(|index| SiteIndex(*index)),
    }
}

/// Counts a block that was born at a site.
#[inline(always)]
pub fn count_allocated(site: SiteIndex, size: u64, sampled: bool) {
    if let Some(record) = record(site) {
        // SAFETY: 8-aligned counters of an array element.
        unsafe {
            atomic::add(&raw mut (*record).allocated, 1);
            atomic::add(&raw mut (*record).allocated_bytes, size);
            if sampled {
                atomic::add(&raw mut (*record).sampled, 1);
                atomic::add(&raw mut (*record).sampled_bytes, size);
            }
        }
    }
}

/// Counts a block of a site that has ended.
#[inline(always)]
pub fn count_freed(site: SiteIndex, size: u64) {
    if let Some(record) = record(site) {
        // SAFETY: as above.
        unsafe {
            atomic::add(&raw mut (*record).freed, 1);
            atomic::add(&raw mut (*record).freed_bytes, size);
        }
    }
}

/// Counts that a block lost bytes without ending, or came to be two.
#[inline(always)]
pub fn count_cut(site: SiteIndex, pieces: u64, bytes: u64) {
    if let Some(record) = record(site) {
        // SAFETY: as above.
        unsafe {
            match pieces {
                0 => atomic::add(&raw mut (*record).freed, 1),
                1 => {}
                _ => atomic::add(&raw mut (*record).allocated, 1),
            }
            atomic::add(&raw mut (*record).freed_bytes, bytes);
        }
    }
}

#[inline(always)]
fn record(site: SiteIndex) -> Option<*mut SiteRecord> {
    maps::SITE_RECORDS.get_ptr_mut(site.0)
}
