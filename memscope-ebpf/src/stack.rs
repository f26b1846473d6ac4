//! The caller's stack at an allocator's return, in its thread's own working memory.

use memscope_ebpf::inflight::InFlight;
use memscope_ebpf::unwind::walk::{ACROSS_SIGNAL, BY_FRAME_POINTER};

use crate::registers::Registers;
use crate::unwinder;

/// A stack; its frames stay in the thread's memory until the next one is captured.
pub struct Stack {
    addresses: *const u64,
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
        let (unwound, addresses) = unsafe {
            let memory = &raw mut (*inflight).memory;
            (
                unwinder::unwind(registers.of_walk(), memory),
                (&raw const (*memory).frames).cast(),
            )
        };
        Self {
            addresses,
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
        self.addresses
    }
}
