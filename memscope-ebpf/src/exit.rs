//! Exit of a function that may throw: a probe on each of its `ret`s instead of a return probe.
//!
//! A return probe would take the return address's place, and the unwinder of the C++ runtime could not pass it. At a `ret`
//! the stack pointer is what it was at the function's entry, so an exit belongs to the open call with that very stack
//! pointer. A `ret` may serve other functions as well (one that the function jumps to as its last act): its hits for callers
//! of theirs match no open call, and mean nothing.

use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use memscope_ebpf::call::{BY_EXITS, IN_FLIGHT_EXCEPTION, ROUNDS};
use memscope_ebpf::inflight::{InFlight, OpenCall};
use memscope_ebpf::limits::MAX_NESTING;
use memscope_ebpf::state::State;

use crate::enter::{call_at, is_inside_call, take_old_block};
use crate::leave::{finish, position, returning_call};
use crate::registers::Registers;
use crate::{budget, maps};

/// Probe program of every `ret` of a function that may throw.
#[uprobe]
pub fn call_exit(ctx: ProbeContext) -> u32 {
    if let Some(session) = maps::collecting() {
        budget::spend(session, 1, true);
        close_call(&ctx, session.state);
    }
    0
}

#[inline(always)]
fn close_call(ctx: &ProbeContext, state: *mut State) -> Option<()> {
    // SAFETY: the helper takes nothing.
    let thread = unsafe { bpf_get_current_pid_tgid() } as u32;
    let inflight = maps::INFLIGHT.get_ptr_mut(thread)?;
    let stack_pointer = Registers::of(ctx).stack_pointer();
    // SAFETY: the element belongs to this thread alone, and this thread is here.
    unsafe {
        let depth = position(inflight, stack_pointer)?;
        let call = call_at(inflight, depth.checked_sub(1)? as usize)?;
        if (*call).cookie & BY_EXITS == 0 || is_doubtful(inflight, depth) && !is_in_place(call) {
            return None;
        }
        let call = returning_call(inflight, stack_pointer)?;
        if (*call).cookie & IN_FLIGHT_EXCEPTION != 0 {
            // Put back when the exception was raised, which the call has caught.
            take_old_block(call);
        }
        let registers = Registers::of_exit(ctx, (*call).return_address);
        finish(inflight, call, registers, state)
    }
}

/// Notes where a call returns to.
///
/// # Safety
/// `call` is an open call of an element of INFLIGHT that belongs to the running thread.
#[inline(always)]
pub unsafe fn note_return_address(call: *mut OpenCall) {
    // SAFETY: the caller's element; the helper checks the user address.
    unsafe {
        (*call).return_address = bpf_probe_read_user((*call).stack_pointer as *const u64).unwrap_or(0);
    }
}

/// Whether the return address of a call that is seen by its exits is still where it was.
///
/// # Safety
/// As [`note_return_address`].
#[inline(always)]
pub unsafe fn is_in_place(call: *const OpenCall) -> bool {
    // SAFETY: the caller's element; the helper checks the user address.
    unsafe { bpf_probe_read_user((*call).stack_pointer as *const u64) == Ok((*call).return_address) }
}

/// Of an interrupted call whose frame lies below a new call's: whether it is certain that it has been left. An exception
/// was raised on this very stack; otherwise its return address is gone. (A handler of a signal may have another stack, which
/// may lie above: its calls end nothing.)
///
/// # Safety
/// As [`note_return_address`].
#[inline(always)]
pub unsafe fn was_left(call: *const OpenCall) -> bool {
    // SAFETY: the caller's element.
    unsafe {
        let cookie = (*call).cookie;
        cookie & BY_EXITS != 0 && (cookie & IN_FLIGHT_EXCEPTION != 0 || !is_in_place(call))
    }
}

/// Whether the call that is the `depth`-th has been interrupted, by a signal or an exception.
#[inline(always)]
unsafe fn is_doubtful(inflight: *const InFlight, depth: u32) -> bool {
    // SAFETY: the caller's element.
    unsafe { (*inflight).interrupted >> (depth.wrapping_sub(1) & 63) & 1 == 1 }
}

/// Whether no open call can have a returning call's block for a part of its own: there is none, or only such as are seen by
/// their exits. Over one of those a call is open only if it has been interrupted, and then each counts for itself.
///
/// # Safety
/// As [`is_inside_call`].
#[inline(always)]
pub unsafe fn encloses_nothing(inflight: *mut InFlight) -> bool {
    // SAFETY: the caller's element.
    unsafe {
        let depth = u64::from((*inflight).depth);
        if depth == 0 {
            return true;
        }
        // Every slot is looked at, and without a branch: of a loop that ends at the depth the compiler makes one that ends
        // there only, which the verifier of Linux 6.1 does not see the end of.
        let mut enclosing = 0;
        for index in 0..MAX_NESTING {
            if let Some(call) = call_at(inflight, index) {
                let is_open = (index as u64).wrapping_sub(depth) >> 63;
                enclosing |= is_open & !((*call).cookie >> BY_EXITS.trailing_zeros());
            }
        }
        enclosing & 1 == 0
    }
}

/// The bit by which the call that was handed a size hands it on, should it end in a jump as well.
#[inline(always)]
pub fn hands_on(size: Option<u64>) -> u64 {
    if size.is_some() { ROUNDS } else { 0 }
}

/// What the function asked for whose last act was the jump to this one, if it has rounded that up (`pvalloc`).
///
/// # Safety
/// As [`is_inside_call`].
#[inline(always)]
pub unsafe fn handed_size(inflight: *mut InFlight, stack_pointer: u64) -> Option<u64> {
    // SAFETY: the caller's element.
    unsafe {
        if !is_inside_call(inflight) {
            return None;
        }
        let call = call_at(inflight, ((*inflight).depth as usize).wrapping_sub(1))?;
        ((*call).stack_pointer == stack_pointer && (*call).cookie & ROUNDS != 0).then(|| (*call).size)
    }
}
