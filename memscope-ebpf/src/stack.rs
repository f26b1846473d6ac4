//! The caller's stack at an allocator's return, in its thread's own working memory.

use memscope_ebpf::counter::Counter;
use memscope_ebpf::inflight::InFlight;
use memscope_ebpf::live::SiteIndex;
use memscope_ebpf::unwind::memory::WalkMemory;
use memscope_ebpf::unwind::walk::{ACROSS_SIGNAL, BY_FRAME_POINTER, INTO_UNKNOWN_CODE};

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
        if unwound.flags & INTO_UNKNOWN_CODE != 0 {
            count::one(Counter::StaleTables);
        }
        Self {
            memory,
            frames: unwound.frames,
            end: unwound.end as u8,
            by_frame_pointer: unwound.flags & BY_FRAME_POINTER != 0,
            across_signal: unwound.flags & ACROSS_SIGNAL != 0,
            last_slot: unwound.sp.wrapping_sub(8),
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
