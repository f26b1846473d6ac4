//! The unwinder in BPF: the walk of [`memscope_ebpf::unwind`] over the kernel's arrays, one frame a `bpf_loop` round.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{self, bpf_loop};
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use memscope_ebpf::counter::Counter;
use memscope_ebpf::site::StackEnd;
use memscope_ebpf::unwind::again::follow_again;
use memscope_ebpf::unwind::cache::{CACHE_ENTRIES, CacheEntry};
use memscope_ebpf::unwind::lookup::Tables;
use memscope_ebpf::unwind::mapping::{Generation, MappingEntry, MappingTable};
use memscope_ebpf::unwind::memory::{NOWHERE, WINDOW_WORDS, WalkMemory};
use memscope_ebpf::unwind::row::{Page, Row};
use memscope_ebpf::unwind::walk::{MAX_STEPS, Progress, Registers, Target};

use crate::count;

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
    /// Stack pointer of the last frame reached.
    pub sp: u64,
    /// The mappings' generation that the addresses belong to.
    pub generation: u64,
}

const WINDOW_BYTES: u64 = (WINDOW_WORDS * 8) as u64;
const PAGE: u64 = 4096;

/// The world of a walk: pointers to map values. The loop's callback is given its address.
struct Kernel {
    memory: *mut WalkMemory,
    mappings: *const MappingTable,
}

/// Unwinds the running thread's user stack from these registers into `memory.frames`.
///
/// # Safety
/// `memory` is that of the running thread's element of INFLIGHT.
#[inline(always)]
pub unsafe fn unwind(registers: Registers, memory: *mut WalkMemory) -> Unwound {
    let mut unwound = Unwound {
        frames: 0,
        end: StackEnd::NoTable as u32,
        flags: 0,
        sp: 0,
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
    // SAFETY: the caller lends the memory.
    unsafe {
        (*memory).begin(registers, began);
    }
    let mut kernel = Kernel { memory, mappings };
    // SAFETY: the callback has the signature the helper calls, and its context outlives the call.
    let walk = unsafe {
        // The stack is as likely as not the last one, and needs then no loop: each call costs some 6 ns, most of it the
        // mitigations of its return.
        kernel.read_window(registers.sp, (*memory).expected_bytes(registers.sp));
        if follow_again(&mut *memory) == 0 {
            bpf_loop(
                MAX_STEPS,
                one_frame as *const () as *mut c_void,
                (&raw mut kernel).cast(),
                0,
            );
        }
        &(*memory).walk
    };
    unwound.frames = walk.frames;
    unwound.end = walk.end;
    unwound.flags = walk.flags;
    unwound.sp = walk.position().1;
    unwound.generation = began;
    // SAFETY: as above. Of a walk onto another stack it is no distance, and is not believed when it is used.
    unsafe { (*memory).reach = unwound.sp.wrapping_sub(registers.sp) };
    // SAFETY: as above.
    if Generation::overtook(unsafe { (&raw const (*state).writing).read_volatile() }, began) {
        unwound.frames = 0;
        unwound.end = StackEnd::Busy as u32;
    }
    unwound
}

/// The callback: 0 goes on, 1 ends the loop.
unsafe extern "C" fn one_frame(_round: u64, context: *mut c_void) -> i64 {
    // SAFETY: `unwind` passes its own Kernel, which nothing else holds while the helper runs. The walk is part of the memory
    // that the kernel points to, but no method of Kernel touches it.
    let (walk, kernel) = unsafe {
        let kernel = &mut *context.cast::<Kernel>();
        (&mut (*kernel.memory).walk, kernel)
    };
    match walk.step(kernel) {
        // SAFETY: as above; the reference to the walk is no longer used.
        Progress::Continue => unsafe { follow_again(&mut *kernel.memory) as i64 },
        Progress::Ended => 1,
    }
}

impl Kernel {
    /// Moves the window to an address, and reads its first word into `self.word`. Not inlined: the verifier would follow it
    /// once for each of the walk's reads.
    #[inline(never)]
    fn read_outside_window(&mut self, address: u64) -> bool {
        // SAFETY: the caller of `unwind` lends the memory.
        unsafe {
            let memory = self.memory;
            let bytes = (*memory).expected_bytes(address);
            // The end of the stack may be near: then up to the end of the page.
            if self.read_window(address, bytes) || self.read_window(address, PAGE - (address & (PAGE - 1))) {
                (*memory).word = (*memory).window[0];
                return true;
            }
            let word = (&raw mut (*memory).word).cast::<c_void>();
            generated::bpf_probe_read_user(word, size_of::<u64>() as u32, address as *const c_void) == 0
        }
    }

    /// Reads a window, in whole words; nothing of less than one.
    #[inline(always)]
    unsafe fn read_window(&mut self, address: u64, bytes: u64) -> bool {
        let memory = self.memory;
        let mut bytes = if bytes < WINDOW_BYTES { bytes } else { WINDOW_BYTES };
        // SAFETY: one instruction on one register: a bound that the verifier sees.
        unsafe {
            core::arch::asm!("{0} &= {1}", inout(reg) bytes, const (WINDOW_BYTES * 2 - 8), options(pure, nomem, nostack));
        }
        if bytes == 0 || bytes > WINDOW_BYTES {
            return false;
        }
        // SAFETY: the caller of `unwind` lends the memory; the helper writes what it is told to and checks user addresses.
        unsafe {
            let window = (&raw mut (*memory).window).cast::<c_void>();
            if generated::bpf_probe_read_user(window, bytes as u32, address as *const c_void) != 0 {
                (*memory).window_at = NOWHERE;
                return false;
            }
            (*memory).window_at = address;
            (*memory).window_bytes = bytes;
        }
        true
    }
}

impl Tables for Kernel {
    #[inline(always)]
    fn mapping(&self, address: u64) -> Option<&MappingEntry> {
        // Each search begins here.
        count::one(Counter::RowsSearched);
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
    fn read_word(&mut self, address: u64) -> Option<u64> {
        // SAFETY: the caller of `unwind` lends the memory for the length of the walk.
        unsafe {
            let memory = self.memory;
            if let Some(word) = (*memory).in_window(address) {
                return Some(word);
            }
            self.read_outside_window(address).then(|| (*memory).word)
        }
    }

    #[inline(always)]
    fn cache_entry(&self, index: u32) -> Option<&CacheEntry> {
        RULE_CACHE.get(index)
    }

    #[inline(always)]
    fn generation(&self) -> u64 {
        // SAFETY: as in read_word.
        unsafe { (*self.memory).generation }
    }

    /// A trampoline of ours lies only on the stack of a signal handler that interrupted a probed call: the walk ends there,
    /// and `InsideCall` says so.
    #[inline(always)]
    fn original_return(&self, _slot: u64) -> Option<u64> {
        None
    }

    #[inline(always)]
    fn record(&mut self, index: u32, address: u64) {
        // SAFETY: the caller of `unwind` lends the memory for the length of the walk.
        unsafe { (*self.memory).record(index, address) };
    }

    #[inline(always)]
    fn keep_row(&mut self, index: u32, row: Row) {
        // SAFETY: as in record.
        unsafe { (*self.memory).keep_row(index, row) };
    }
}
