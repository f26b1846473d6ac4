//! The memory a walk works in: each thread's own, in its element of INFLIGHT.
//!
//! All of a walk's state is here and not on the BPF stack: what lies on the stack the verifier tracks value by value, and
//! would follow the loop once for each combination; what lies in a map it takes for unknown.

use super::walk::{Registers, Walk};
use crate::limits::MAX_FRAMES;

/// Words of stack read at once. A user-memory read costs some 100 ns whatever its size up to this, a frame of C++ is some
/// 100 bytes: one read serves several frames.
pub const WINDOW_WORDS: usize = 128;

/// Where a window lies that holds nothing: user addresses are below 2⁶³, so none is inside.
pub const NOWHERE: u64 = 1 << 63;

/// Frames of one stack and what it takes to find them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct WalkMemory {
    /// Frame addresses, innermost first.
    pub frames: [u64; MAX_FRAMES],
    /// A piece of the target's stack.
    pub window: [u64; WINDOW_WORDS],
    /// Where the walk stands.
    pub walk: Walk,
    /// The mappings' generation that it uses.
    pub generation: u64,
    /// Stack address of the window's first word.
    pub window_at: u64,
    /// 1: a window could not be read; words are read one by one from there on.
    pub word_by_word: u64,
    /// The last word read outside the window.
    pub word: u64,
}

impl Default for WalkMemory {
    fn default() -> Self {
        Self {
            frames: [0; MAX_FRAMES],
            window: [0; WINDOW_WORDS],
            walk: Walk::begin(Registers { ip: 0, sp: 0, bp: 0 }),
            generation: 0,
            window_at: NOWHERE,
            word_by_word: 0,
            word: 0,
        }
    }
}
