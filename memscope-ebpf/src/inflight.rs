//! The calls a thread is inside of, as the INFLIGHT map stores them: a short stack of open calls, outermost first.
//!
//! The element of a thread stays in the map for the thread's life, so that a call costs two lookups and no update. Open
//! calls are told apart by the stack pointer at their entry: a return belongs to the call whose stack pointer was one
//! return address below, and a new call at or above an open call's stack pointer proves that the open one never returned
//! (longjmp, exception, cancellation).
//!
//! A call that is seen by its exits ([`crate::call::BY_EXITS`]) may be left by an exception. Once one is raised inside it, it
//! is marked like an interrupted one, and what is called from then on counts for itself: the stack cannot tell, for such a
//! call leaves no trampoline on it. Its return address does: while it is in its place, the call has not been left.
//!
//! None of this holds once a signal has interrupted an open call: its handler may allocate blocks of its own, on the same
//! stack or on another one (sigaltstack), and may return or jump away, which nothing tells. Such a call is marked; a call
//! that begins while a marked one is on top is put above it, and told apart at its return by unwinding its stack.

use crate::limits::MAX_NESTING;
use crate::live::LiveBlock;
use crate::unwind::memory::WalkMemory;

/// One open call.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct OpenCall {
    /// Stack pointer at the function's entry: the address that holds the return address. 0: slot unused.
    pub stack_pointer: u64,
    /// The probe's cookie ([`crate::call::CallSpec`]).
    pub cookie: u64,
    /// Bytes asked for.
    pub size: u64,
    /// realloc: the old block's address. [`crate::call::CallResult::Stored`]: where the result will be stored.
    pub pointer: u64,
    /// realloc: the old block, taken out of LIVE for the length of the call and until LIVE has it again, if it does; all zero
    /// when there is none, whether or not the call is still open.
    pub old: LiveBlock,
    /// Calls that are seen by their exits: the word at the stack pointer, where they return to.
    pub return_address: u64,
}

/// The open calls of one thread.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct InFlight {
    /// Open calls, outermost first.
    pub depth: u32,
    /// Nested calls that were left out since the outermost began: what would be lost if it turned out to be stale.
    pub nested: u32,
    /// Bit n: call n has been interrupted by a signal handler, or an exception was raised inside it.
    pub interrupted: u64,
    /// The calls.
    pub calls: [OpenCall; MAX_NESTING],
    /// What its stacks are unwound in: nobody else can touch it, whatever preempts a program on its way.
    pub memory: WalkMemory,
}

const _: () = assert!(size_of::<OpenCall>() == 64);
const _: () = assert!(size_of::<InFlight>() == 16 + 64 * MAX_NESTING + size_of::<WalkMemory>());
/// With the key and the kernel's header it takes two pages at most: 8 KiB for each thread that has allocated.
const _: () = assert!(size_of::<InFlight>() <= 8192 - 64);
