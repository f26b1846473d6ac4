//! Exceptions: calls that one is raised in, and calls that one has left.
//!
//! The program sits at the functions of the C++ runtime where an exception is made and raised, and where it is caught
//! (`__cxa_begin_catch`, which the catching function itself calls). Between the two, whatever the thread calls counts for
//! itself: the exception object and the work of destructors are no part of the allocator's call, which may be gone already.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_attach_cookie, bpf_get_current_pid_tgid};
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use memscope_ebpf::call::{BY_EXITS, CallSpec, IN_FLIGHT_EXCEPTION};
use memscope_ebpf::inflight::InFlight;
use memscope_ebpf::limits::MAX_NESTING;

use crate::block::put_back;
use crate::enter::call_at;
use crate::exit::is_in_place;
use crate::leave::abandon;
use crate::registers::Registers;
use crate::{budget, maps};

/// Probe program of the C++ runtime's functions that an exception passes.
#[uprobe]
pub fn exception_seen(ctx: ProbeContext) -> u32 {
    if let Some(session) = maps::collecting() {
        // SAFETY: the helper takes the program's own context.
        let spec = CallSpec::from_cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
        budget::spend(session, 1, spec.is_some_and(|spec| spec.stepped));
        // SAFETY: the helper takes nothing.
        let thread = unsafe { bpf_get_current_pid_tgid() } as u32;
        if let Some(inflight) = maps::INFLIGHT.get_ptr_mut(thread) {
            let stack_pointer = Registers::of(&ctx).stack_pointer();
            // SAFETY: the element belongs to this thread alone, and this thread is here.
            unsafe {
                drop_left(inflight, stack_pointer);
                mark(inflight, stack_pointer);
            }
        }
    }
    0
}

/// Ends the calls that an exception was raised in and whose frames lie below the catching function's stack pointer.
#[inline(always)]
unsafe fn drop_left(inflight: *mut InFlight, stack_pointer: u64) {
    // SAFETY: the caller's element.
    unsafe {
        for _ in 0..MAX_NESTING {
            let depth = (*inflight).depth as usize;
            if depth == 0 {
                return;
            }
            let Some(call) = call_at(inflight, depth - 1) else {
                return;
            };
            if (*call).cookie & IN_FLIGHT_EXCEPTION == 0 || (*call).stack_pointer > stack_pointer {
                return;
            }
            abandon(inflight, call);
        }
    }
}

/// Marks the calls that are on the stack above: the exception may leave them.
#[inline(always)]
unsafe fn mark(inflight: *mut InFlight, stack_pointer: u64) {
    // SAFETY: the caller's element.
    unsafe {
        let depth = (*inflight).depth as usize;
        // To the last slot and not to the depth: see `exit::encloses_nothing`.
        for index in 0..MAX_NESTING {
            let Some(call) = call_at(inflight, index) else {
                return;
            };
            let cookie = (*call).cookie;
            if index >= depth
                || cookie & BY_EXITS == 0
                || cookie & IN_FLIGHT_EXCEPTION != 0
                || (*call).stack_pointer <= stack_pointer
                || !is_in_place(call)
            {
                continue;
            }
            (*call).cookie = cookie | IN_FLIGHT_EXCEPTION;
            (*inflight).interrupted |= 1 << (index & 63);
            if index + 1 == depth {
                // The call is there, so what it had nested until now was nested.
                (*inflight).nested = 0;
            }
            // A destructor may free it before the exception is caught. If the call itself catches it and goes on, its exit
            // takes the block again.
            put_back(call);
        }
    }
}
