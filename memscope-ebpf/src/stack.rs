//! The caller's stack at an allocator's return, by frame pointers.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_F_USER_STACK;
use aya_ebpf::helpers::generated::bpf_get_stack;
use memscope_ebpf::limits::MAX_FRAMES;
use memscope_ebpf::site::StackEnd;

use crate::{atomic, maps};

/// Stacks that can be on their way on one CPU at once.
pub const SCRATCH_SLOTS: u32 = 4;

/// Working memory for one stack.
#[repr(C)]
pub struct Scratch {
    /// 1 while in use.
    pub busy: u64,
    /// Frame addresses, innermost first.
    pub frames: [u64; MAX_FRAMES],
}

/// A stack in its working memory; given back by [`Stack::release`].
pub struct Stack {
    scratch: *mut Scratch,
    /// Frames found.
    pub frames: u32,
    /// Why it ends.
    pub end: StackEnd,
}

impl Stack {
    /// Follows the stack of the probed thread. `None` when all working memory of this CPU is in use.
    #[inline(always)]
    pub fn capture(ctx: *mut c_void) -> Option<Self> {
        let scratch = claim()?;
        // SAFETY: the scratch is ours until released; the helper writes at most the size given.
        let bytes = unsafe {
            let frames = (&raw mut (*scratch).frames).cast::<c_void>();
            bpf_get_stack(
                ctx,
                frames,
                size_of::<[u64; MAX_FRAMES]>() as u32,
                u64::from(BPF_F_USER_STACK),
            )
        };
        let frames = if bytes < 0 { 0 } else { (bytes as u32) / 8 };
        Some(Self {
            scratch,
            frames: frames.min(MAX_FRAMES as u32),
            end: StackEnd::FramePointers,
        })
    }

    /// Frame `index`, 0 past the end.
    #[inline(always)]
    pub fn frame(&self, index: usize) -> u64 {
        if index >= MAX_FRAMES {
            return 0;
        }
        // SAFETY: the index was checked; the scratch is ours.
        unsafe { (&raw const (*self.scratch).frames).cast::<u64>().add(index).read() }
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
