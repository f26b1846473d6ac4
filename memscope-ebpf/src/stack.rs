//! The caller's stack at an allocator's return, in its thread's own working memory.

use memscope_ebpf::call::BY_EXITS;
use memscope_ebpf::counter::Counter;
use memscope_ebpf::inflight::InFlight;
use memscope_ebpf::live::SiteIndex;
use memscope_ebpf::unwind::memory::WalkMemory;
use memscope_ebpf::unwind::walk::{ACROSS_SIGNAL, BY_FRAME_POINTER, INTO_UNKNOWN_CODE};

use crate::enter::call_at;
use crate::leave::position;
use crate::registers::Registers;
use crate::{count, unwinder};

/// A stack; its frames stay in the thread's memory until the next one is captured.
pub struct Stack {
    memory: *mut WalkMemory,
    /// Frames found.
    pub frames: u32,
    /// Why it ends ([`memscope_ebpf::site::StackEnd`] as a number).
    pub end: u8,
    /// At least one frame was found by frame pointer.
    pub by_frame_pointer: bool,
    /// At least one signal frame was crossed.
    pub across_signal: bool,
    /// Where the return address of the last frame was read.
    pub last_slot: u64,
    /// Generation of the mappings that its addresses belong to.
    pub generation: u16,
}

impl Stack {
    /// Follows the stack of the probed thread from its return out of the allocator.
    ///
    /// # Safety
    /// `inflight` is an element of INFLIGHT that belongs to the running thread.
    #[inline(always)]
    pub unsafe fn capture(inflight: *mut InFlight, registers: Registers) -> Self {
        // SAFETY: the caller's element; no program of the same thread can come in between.
        let (unwound, memory) = unsafe {
            let memory = &raw mut (*inflight).memory;
            (unwinder::unwind(registers.of_walk(), memory), memory)
        };
        let last_slot = unwound.sp.wrapping_sub(8);
        let mut frames = unwound.frames;
        if unwound.flags & INTO_UNKNOWN_CODE != 0 {
            // SAFETY: the caller's element.
            frames = frames.saturating_sub(unsafe { trampolines(inflight, last_slot) } as u32);
        }
        Self {
            memory,
            frames,
            end: unwound.end as u8,
            by_frame_pointer: unwound.flags & BY_FRAME_POINTER != 0,
            across_signal: unwound.flags & ACROSS_SIGNAL != 0,
            last_slot,
            generation: unwound.generation as u16,
        }
    }

    /// Where its frames are: `frames` of them, innermost first.
    #[inline(always)]
    pub const fn addresses(&self) -> *const u64 {
        // SAFETY: the thread's own memory; only an address is taken.
        unsafe { (&raw const (*self.memory).frames).cast() }
    }

    /// The site of the last stack, if this one is the same: the same frames, and the same of everything else in `key`.
    #[inline(always)]
    pub fn site_again(&self, key: u64) -> Option<SiteIndex> {
        // SAFETY: the thread's own memory.
        unsafe {
            let memory = self.memory;
            ((*memory).changed == 0 && (*memory).site_key == key).then(|| SiteIndex((*memory).site as u32))
        }
    }

    /// Keeps its site for [`Stack::site_again`].
    #[inline(always)]
    pub fn keep_site(&self, key: u64, site: SiteIndex) {
        // SAFETY: the thread's own memory.
        unsafe {
            let memory = self.memory;
            (*memory).changed = 0;
            (*memory).site_key = key;
            (*memory).site = u64::from(site.0);
        }
    }
}

/// How many frames at the end of a stack are none: its last address lies in no known mapping and was read from `slot`. 1 if
/// that holds the return address of an open call, which the kernel has replaced by its trampoline: the page of those is mapped
/// at the first hit of a return probe, after the tables were made. Otherwise 0, and the tables are stale, which is counted.
///
/// Not inlined: the verifier would follow what comes after once more.
///
/// # Safety
/// As [`Stack::capture`].
#[inline(never)]
unsafe fn trampolines(inflight: *mut InFlight, slot: u64) -> u64 {
    // SAFETY: the caller's element.
    unsafe {
        if let Some(depth) = position(inflight, slot)
            && let Some(call) = call_at(inflight, depth.wrapping_sub(1) as usize)
            && (*call).cookie & BY_EXITS == 0
        {
            return 1;
        }
    }
    count::one(Counter::StaleTables);
    0
}
