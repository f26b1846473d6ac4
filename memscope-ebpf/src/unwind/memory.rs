//! The memory a walk works in: each thread's own, in its element of INFLIGHT.
//!
//! All of a walk's state is here and not on the BPF stack: what lies on the stack the verifier tracks value by value, and
//! would follow the loop once for each combination; what lies in a map it takes for unknown.

use super::bounded::{element, element_mut};
use super::row::Row;
use super::walk::{Registers, Walk};
use crate::limits::MAX_FRAMES;

/// Most words of stack read at once. A user-memory read costs some 110 ns, and each kilobyte some 20 more; a frame of C++
/// is some 100 bytes: one read serves many frames.
pub const WINDOW_WORDS: usize = 512;

/// Where a window lies that holds nothing: user addresses are below 2⁶³, so none is inside.
pub const NOWHERE: u64 = 1 << 63;

/// Bytes to read where nothing is known of the stack.
const DEFAULT_WINDOW: u64 = 1024;
/// A stack is not expected to go on for longer than this.
const MOST_EXPECTED: u64 = 1 << 20;

/// Frames of one stack and what it takes to find them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct WalkMemory {
    /// Frame addresses, innermost first; with [`crate::site::INTERRUPTED`] where one is no return address.
    pub frames: [u64; MAX_FRAMES],
    /// The row of each, where one was looked up under [`WalkMemory::rows_generation`]; else
    /// one that says nothing. Those past the end of the last
    /// stack are of an earlier one.
    pub rows: [Row; MAX_FRAMES],
    /// Generation of the rows.
    pub rows_generation: u64,
    /// 1: a frame has changed since [`WalkMemory::site`] was found.
    pub changed: u64,
    /// What else than frames the site was found by; 0: there is none.
    pub site_key: u64,
    /// Site of these frames.
    pub site: u64,
    /// A piece of the target's stack.
    pub window: [u64; WINDOW_WORDS],
    /// Where the walk stands.
    pub walk: Walk,
    /// The mappings' generation that it uses.
    pub generation: u64,
    /// Stack address of the window's first word.
    pub window_at: u64,
    /// Bytes of the window that were read: whole words.
    pub window_bytes: u64,
    /// How far into the stack the last walk went, bytes: as much will be read again.
    pub reach: u64,
    /// One past the last byte that this walk expects to need.
    pub expected_end: u64,
    /// The last word read outside the window.
    pub word: u64,
}

impl WalkMemory {
    /// Begins a walk under these tables.
    #[inline(always)]
    pub fn begin(&mut self, registers: Registers, generation: u64) {
        // Volatile, or the compiler of the BPF programs calls `memset` for a part of it, which goes byte by byte.
        // SAFETY: the pointer comes from a reference.
        unsafe { (&raw mut self.walk).write_volatile(Walk::begin(registers)) };
        self.generation = generation;
        self.window_at = NOWHERE;
        self.window_bytes = 0;
        self.expected_end = registers.sp.wrapping_add(self.reach);
        if self.rows_generation != generation {
            self.forget_rows();
            self.rows_generation = generation;
        }
    }

    /// The tables have changed.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    fn forget_rows(&mut self) -> u64 {
        for index in 0..MAX_FRAMES as u32 {
            // SAFETY: the pointer comes from a reference. Volatile for the reason given in `begin`.
            unsafe { (element_mut(&mut self.rows, index) as *mut Row).write_volatile(Row::GAP) };
        }
        0
    }

    /// Stores frame number `index`, below [`MAX_FRAMES`].
    #[inline(always)]
    pub fn record(&mut self, index: u32, address: u64) {
        let frame = element_mut(&mut self.frames, index);
        if *frame != address {
            *frame = address;
            *element_mut(&mut self.rows, index) = Row::GAP;
            self.changed = 1;
        }
    }

    /// Keeps the row that was found for frame number `index`, which has been recorded.
    #[inline(always)]
    pub fn keep_row(&mut self, index: u32, row: Row) {
        *element_mut(&mut self.rows, index) = row;
    }

    /// Whether the last stack had the present frame in the same place.
    #[inline(always)]
    #[must_use]
    pub fn is_as_last_time(&self) -> bool {
        *element(&self.frames, self.walk.frames) == self.walk.pc
    }

    /// How many bytes of stack from this address on the walk is likely to need.
    #[inline(always)]
    #[must_use]
    pub const fn expected_bytes(&self, address: u64) -> u64 {
        let expected = self.expected_end.wrapping_sub(address);
        if expected.wrapping_sub(1) < MOST_EXPECTED {
            expected
        } else {
            DEFAULT_WINDOW
        }
    }

    /// A word of the stack, if it lies in the window.
    #[inline(always)]
    pub fn in_window(&self, address: u64) -> Option<u64> {
        let offset = address.wrapping_sub(self.window_at);
        (offset < self.window_bytes && offset & 7 == 0).then(|| *element(&self.window, (offset >> 3) as u32))
    }
}

impl Default for WalkMemory {
    fn default() -> Self {
        Self {
            frames: [0; MAX_FRAMES],
            rows: [Row::GAP; MAX_FRAMES],
            rows_generation: 0,
            changed: 0,
            site_key: 0,
            site: 0,
            window: [0; WINDOW_WORDS],
            walk: Walk::begin(Registers { ip: 0, sp: 0, bp: 0 }),
            generation: 0,
            window_at: NOWHERE,
            window_bytes: 0,
            reach: 0,
            expected_end: 0,
            word: 0,
        }
    }
}
