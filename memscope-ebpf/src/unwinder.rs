//! The unwinder in BPF: the walk of [`memscope_ebpf::unwind`] over the kernel's arrays, one frame a `bpf_loop` round.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use memscope_ebpf::limits::MAX_FRAMES;
use memscope_ebpf::site::StackEnd;
use memscope_ebpf::unwind::bounded::element_mut;
use memscope_ebpf::unwind::cache::{CACHE_ENTRIES, CacheEntry};
use memscope_ebpf::unwind::lookup::Tables;
use memscope_ebpf::unwind::mapping::{Generation, MappingEntry, MappingTable};
use memscope_ebpf::unwind::row::{Page, Row};
use memscope_ebpf::unwind::walk::{MAX_STEPS, Progress, Registers, Target, Walk};

/// Two buffers of mappings: see [`memscope_ebpf::unwind::mapping`].
#[map]
pub static MAPPINGS: Array<MappingTable> = Array::with_max_entries(2, 0);

/// One [`Generation`].
#[map]
pub static GENERATION: Array<Generation> = Array::with_max_entries(1, 0);

/// First row and number of rows of each 1 KiB of code. Sized at load.
#[map]
pub static PAGES: Array<Page> = Array::with_max_entries(1, 0);

/// Rows of all tables. Sized at load.
#[map]
pub static ROWS: Array<Row> = Array::with_max_entries(1, 0);

/// Return address → row.
#[map]
pub static RULE_CACHE: Array<CacheEntry> = Array::with_max_entries(CACHE_ENTRIES, 0);

/// A stack that was unwound.
pub struct Unwound {
    /// Frames stored, innermost first.
    pub frames: u32,
    /// Why it ends.
    pub end: u32,
    /// [`Walk::flags`].
    pub flags: u32,
    /// The mappings' generation that the addresses belong to.
    pub generation: u64,
}

/// What one walk works on. Lives on the program's stack; pointers are to map values.
struct Kernel {
    mappings: *const MappingTable,
    frames: *mut [u64; MAX_FRAMES],
    generation: u64,
}

/// What the loop's callback is given.
struct Round {
    walk: Walk,
    kernel: Kernel,
}

/// Unwinds the running thread's user stack from these registers into `frames`.
///
/// # Safety
/// `frames` points into a map value of which the caller has exclusive use.
#[inline(always)]
pub unsafe fn unwind(registers: Registers, frames: *mut [u64; MAX_FRAMES]) -> Unwound {
    let mut unwound = Unwound {
        frames: 0,
        end: StackEnd::NoTable as u32,
        flags: 0,
        generation: 0,
    };
    let Some(state) = GENERATION.get_ptr(0) else {
        return unwound;
    };
    // SAFETY: an element of an array, which the user side writes word by word.
    let began = unsafe { (&raw const (*state).published).read_volatile() };
    let Some(mappings) = MAPPINGS.get_ptr(Generation::buffer(began)) else {
        return unwound;
    };
    let mut round = Round {
        walk: Walk::begin(registers),
        kernel: Kernel {
            mappings,
            frames,
            generation: began,
        },
    };
    // SAFETY: the callback has the signature the helper calls, and its context outlives the call.
    unsafe {
        bpf_loop(
            MAX_STEPS,
            one_frame as *const () as *mut c_void,
            (&raw mut round).cast(),
            0,
        )
    };
    unwound.frames = round.walk.frames;
    unwound.end = round.walk.end;
    unwound.flags = round.walk.flags;
    unwound.generation = began;
    // SAFETY: as above.
    if Generation::overtook(unsafe { (&raw const (*state).writing).read_volatile() }, began) {
        unwound.frames = 0;
        unwound.end = StackEnd::Busy as u32;
    }
    unwound
}

/// The callback: 0 goes on, 1 ends the loop.
unsafe extern "C" fn one_frame(_round: u64, context: *mut c_void) -> i64 {
    // SAFETY: `unwind` passes its own Round, which nothing else holds while the helper runs.
    let round = unsafe { &mut *context.cast::<Round>() };
    match round.walk.step(&mut round.kernel) {
        Progress::Continue => 0,
        Progress::Ended => 1,
    }
}

impl Tables for Kernel {
    #[inline(always)]
    fn mapping(&self, address: u64) -> Option<&MappingEntry> {
        // SAFETY: an element of MAPPINGS; if it is rewritten meanwhile, `unwind` finds out and drops the stack.
        unsafe { &*self.mappings }.find(address)
    }

    #[inline(always)]
    fn page(&self, index: u32) -> Option<Page> {
        PAGES.get(index).copied()
    }

    #[inline(always)]
    fn row(&self, index: u32) -> Option<Row> {
        ROWS.get(index).copied()
    }
}

impl Target for Kernel {
    #[inline(always)]
    fn read_word(&self, address: u64) -> Option<u64> {
        // SAFETY: the helper checks the user address.
        unsafe { bpf_probe_read_user(address as *const u64) }.ok()
    }

    #[inline(always)]
    fn cache_entry(&self, index: u32) -> Option<&CacheEntry> {
        RULE_CACHE.get(index)
    }

    #[inline(always)]
    fn generation(&self) -> u64 {
        self.generation
    }

    /// Only the outermost probed call of a thread is unwound from, so no trampoline of ours lies on its stack.
    #[inline(always)]
    fn original_return(&self, _slot: u64) -> Option<u64> {
        None
    }

    #[inline(always)]
    fn record(&mut self, index: u32, address: u64) {
        // SAFETY: the caller of `unwind` lends the array for the length of the walk.
        *element_mut(unsafe { &mut *self.frames }, index) = address;
    }
}
