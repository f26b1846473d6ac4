//! The caller's stack at an allocator's return, in working memory that no other event can touch meanwhile.

use memscope_ebpf::unwind::walk::{ACROSS_SIGNAL, BY_FRAME_POINTER};

use crate::registers::Registers;
use crate::unwinder::{self, WalkMemory};
use crate::{atomic, maps};

/// Stacks that can be on their way on one CPU at once.
pub const SCRATCH_SLOTS: u32 = 4;

/// Working memory for one stack.
#[repr(C)]
pub struct Scratch {
    /// 1 while in use.
    busy: u64,
    memory: WalkMemory,
}

/// A stack in its working memory; given back by [`Stack::release`].
pub struct Stack {
    scratch: *mut Scratch,
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
    /// Follows the stack of the probed thread from its return out of the allocator. `None` when all working memory of
    /// this CPU is in use.
    #[inline(always)]
    pub fn capture(registers: Registers) -> Option<Self> {
        let scratch = claim()?;
        // SAFETY: the scratch is a map value, and ours until released.
        let unwound = unsafe { unwinder::unwind(registers.of_walk(), &raw mut (*scratch).memory) };
        Some(Self {
            scratch,
            frames: unwound.frames,
            end: unwound.end as u8,
            by_frame_pointer: unwound.flags & BY_FRAME_POINTER != 0,
            across_signal: unwound.flags & ACROSS_SIGNAL != 0,
            last_slot: unwound.sp.wrapping_sub(8),
            generation: unwound.generation as u16,
        })
    }

    /// Where its frames are: `frames` of them, innermost first.
    #[inline(always)]
    pub fn addresses(&self) -> *const u64 {
        // SAFETY: the scratch is ours; only an address is taken.
        unsafe { (&raw const (*self.scratch).memory.frames).cast() }
    }

    /// Gives the working memory back.
    #[inline(always)]
    pub fn release(self) {
        // SAFETY: the scratch is a map value, its first field the 8-aligned flag.
        unsafe { atomic::exchange(&raw mut (*self.scratch).busy, 0) };
    }
}

#[inline(always)]
fn claim() -> Option<*mut Scratch> {
    for slot in 0..SCRATCH_SLOTS {
        let scratch = maps::SCRATCH.get_ptr_mut(slot)?;
        // SAFETY: as in release.
        if unsafe { atomic::exchange(&raw mut (*scratch).busy, 1) } == 0 {
            return Some(scratch);
        }
    }
    None
}
