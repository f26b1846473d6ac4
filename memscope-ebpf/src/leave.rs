//! Return of an allocating function: the block is born, with its stack.

use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::uretprobe;
use aya_ebpf::programs::RetProbeContext;
use memscope_ebpf::call::{CallIndex, CallKind, CallResult, CallSpec, IN_FLIGHT_EXCEPTION, SAMPLED, UNSAMPLED};
use memscope_ebpf::counter::Counter;
use memscope_ebpf::inflight::{InFlight, OpenCall};
use memscope_ebpf::limits::MAX_NESTING;
use memscope_ebpf::live::{BlockFields, BlockKind, EntryNumber, LiveBlock, SiteIndex};
use memscope_ebpf::site::StackEnd;
use memscope_ebpf::state::State;

use crate::block::{forget_old, insert, put_back, resize, restore};
use crate::enter::call_at;
use crate::registers::Registers;
use crate::stack::Stack;
use crate::{atomic, count, exit, maps, sites};

const MAP_FAILED: u64 = u64::MAX;

/// Probe program of every allocating and reallocating function, at its return.
#[uretprobe]
pub fn call_return(ctx: RetProbeContext) -> u32 {
    if let Some(session) = maps::collecting() {
        close_call(&ctx, session.state);
    }
    0
}

#[inline(always)]
fn close_call(ctx: &RetProbeContext, state: *mut State) -> Option<()> {
    // SAFETY: the helper takes nothing.
    let thread = unsafe { bpf_get_current_pid_tgid() } as u32;
    let registers = Registers::of(ctx);
    let Some(inflight) = maps::INFLIGHT.get_ptr_mut(thread) else {
        count::one(Counter::ReturnUnknown);
        return None;
    };
    // The return address has been popped: the stack pointer at entry was one word below.
    let entry_stack_pointer = registers.stack_pointer().wrapping_sub(8);
    // SAFETY: the element belongs to this thread alone, and this thread is here.
    unsafe {
        let call = returning_call(inflight, entry_stack_pointer)?;
        finish(inflight, call, registers, state)
    }
}

/// Ends a call that returns: its block is born, unless there is none.
///
/// # Safety
/// `call` is the last open call of `inflight`, an element of INFLIGHT that belongs to the running thread.
#[inline(always)]
pub unsafe fn finish(
    inflight: *mut InFlight,
    call: *mut OpenCall,
    registers: Registers,
    state: *mut State,
) -> Option<()> {
    // SAFETY: the caller's element.
    unsafe {
        let holds = !(*call).old.is_none();
        close(inflight, call);
        let ended = bear(inflight, call, registers, state);
        if holds {
            forget_old(call);
        }
        ended
    }
}

/// The block of a closed call is born, unless there is none.
///
/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn bear(inflight: *mut InFlight, call: *mut OpenCall, registers: Registers, state: *mut State) -> Option<()> {
    // SAFETY: the helper takes nothing.
    let thread = unsafe { bpf_get_current_pid_tgid() } as u32;
    // SAFETY: the caller's element.
    let (cookie, spec, size, pointer, old) = unsafe {
        (
            (*call).cookie,
            CallSpec::from_cookie((*call).cookie)?,
            (*call).size,
            (*call).pointer,
            (*call).old,
        )
    };
    let address = match result_address(spec, registers, pointer) {
        Ok(address) => address,
        Err(counter) => {
            count::one(counter);
            fail(spec, size, pointer, old);
            return None;
        }
    };
    if let CallKind::ResizeInPlace = spec.kind {
        resize(pointer, size, address);
        return None;
    }
    if cookie & UNSAMPLED != 0 {
        if !old.is_none() {
            sites::count_freed(old.site(), old.size());
            count::one(Counter::Reallocated);
        }
        count::one(Counter::Unsampled);
        return None;
    }
    // SAFETY: as above.
    let site = unsafe { own_site(inflight, registers, state, spec.index) };
    let own = site.0 != NESTED.0;
    if !old.is_none() {
        sites::count_freed(old.site(), old.size());
        count::one(if own { Counter::Reallocated } else { Counter::Freed });
        if address != pointer {
            // Freed for good. One in place stays in hand until LIVE has it.
            // SAFETY: as above.
            unsafe { forget_old(call) };
        }
    }
    if !own {
        count::one(Counter::Nested);
        return None;
    }
    // A realloc in place keeps its number: it is the same entry with a new size, site and age.
    let number = if !old.is_none() && address == pointer {
        old.unpack().number
    } else {
        // SAFETY: an 8-aligned counter of the state element.
        EntryNumber(unsafe { atomic::fetch_add(&raw mut (*state).last_number, 1) } + 1)
    };
    // SAFETY: the helper takes nothing.
    let born_ms = unsafe { bpf_ktime_get_ns() } / 1_000_000;
    let block = LiveBlock::pack(BlockFields {
        number,
        size,
        born_ms,
        tid: thread,
        site,
        kind: BlockKind::Heap,
        sampled: cookie & SAMPLED != 0,
    });
    insert(address, block);
    None
}

/// The open call that returns here: the one with this stack pointer. Open calls above it have been jumped out of; a
/// return that matches none belongs to a nested call.
///
/// # Safety
/// `inflight` is an element of INFLIGHT that belongs to the running thread.
#[inline(always)]
pub unsafe fn returning_call(inflight: *mut InFlight, stack_pointer: u64) -> Option<*mut OpenCall> {
    // SAFETY: the caller's element.
    unsafe {
        position(inflight, stack_pointer)?;
        for _ in 0..MAX_NESTING {
            let depth = (*inflight).depth as usize;
            if depth == 0 {
                return None;
            }
            let call = call_at(inflight, depth - 1)?;
            if (*call).stack_pointer == stack_pointer {
                return Some(call);
            }
            abandon(inflight, call);
        }
    }
    None
}

/// How many calls are open up to the topmost one at this stack pointer, that one included.
///
/// # Safety
/// As [`returning_call`].
#[inline(always)]
pub unsafe fn position(inflight: *mut InFlight, stack_pointer: u64) -> Option<u32> {
    // SAFETY: the caller's element.
    unsafe {
        for above in 0..MAX_NESTING as u32 {
            let depth = (*inflight).depth.checked_sub(above)?;
            let call = call_at(inflight, depth.checked_sub(1)? as usize)?;
            if (*call).stack_pointer == stack_pointer {
                return Some(depth);
            }
        }
    }
    None
}

/// No site: the block is a part of the call around it.
pub const NESTED: SiteIndex = SiteIndex(u32::MAX);

/// The site of a returning call's block, or [`NESTED`].
///
/// # Safety
/// As [`returning_call`].
#[inline(always)]
pub unsafe fn own_site(inflight: *mut InFlight, registers: Registers, state: *mut State, call: CallIndex) -> SiteIndex {
    // SAFETY: the caller's element.
    unsafe {
        let mut stack = Stack::capture(inflight, registers);
        if is_own(inflight, &mut stack) {
            sites::of(&stack, state, call)
        } else {
            NESTED
        }
    }
}

/// Whether the block of a returning call, whose stack this is, is a block of its own. Always, when no call is open below;
/// otherwise a signal has interrupted the one below, and the stack tells: through a signal frame into an open call, it is a
/// handler's; straight into one, it is nested in that; into none, those that seemed open have been jumped out of.
#[inline(always)]
unsafe fn is_own(inflight: *mut InFlight, stack: &mut Stack) -> bool {
    // SAFETY: the caller's element.
    unsafe {
        if exit::encloses_nothing(inflight) {
            return true;
        }
        let around = position(inflight, stack.last_slot);
        if around.is_none() && stack.end != StackEnd::Outermost as u8 {
            count::one(Counter::AbandonedNested);
            return false;
        }
        let around = around.unwrap_or(0);
        for _ in 0..MAX_NESTING {
            let depth = (*inflight).depth;
            if depth <= around {
                break;
            }
            let Some(call) = call_at(inflight, depth as usize - 1) else {
                break;
            };
            // What it had nested before the signal was its own, what came after was told apart: nothing is in doubt.
            (*inflight).nested = 0;
            abandon(inflight, call);
        }
        if around == 0 {
            return true;
        }
        if !stack.across_signal {
            // The handler has returned, and the call goes on.
            (*inflight).interrupted &= !(1 << ((around - 1) & 63));
            return false;
        }
        stack.end = StackEnd::InsideCall as u8;
        true
    }
}

/// Where the new block is, or the counter of why there is none.
#[inline(always)]
fn result_address(spec: CallSpec, registers: Registers, pointer: u64) -> Result<u64, Counter> {
    let address = match spec.result {
        CallResult::Returned | CallResult::Nothing => registers.result(),
        CallResult::Stored(_) => {
            // posix_memalign returns an int: the upper half of the register is not defined.
            if registers.result() as u32 != 0 {
                return Err(Counter::Failed);
            }
            // SAFETY: the helper checks the user address.
            unsafe { bpf_probe_read_user(pointer as *const u64) }.map_err(|_| Counter::ResultUnreadable)?
        }
    };
    if address == 0 || address == MAP_FAILED {
        Err(Counter::Failed)
    } else {
        Ok(address)
    }
}

/// No block came back. A realloc's old block lives on, unless the call was the kind that frees it.
#[inline(always)]
fn fail(spec: CallSpec, size: u64, pointer: u64, old: LiveBlock) {
    if old.is_none() {
        return;
    }
    if spec.failure_frees || spec.zero_size_frees && size == 0 {
        sites::count_freed(old.site(), old.size());
        count::one(Counter::Freed);
    } else {
        restore(pointer, old);
    }
}

/// Takes the top call off.
///
/// # Safety
/// As [`abandon`].
#[inline(always)]
pub unsafe fn close(inflight: *mut InFlight, call: *mut OpenCall) {
    // SAFETY: the caller's element.
    unsafe {
        (*call).stack_pointer = 0;
        (*inflight).depth = (*inflight).depth.saturating_sub(1);
    }
}

/// Forgets a call that has handed over to another function by a tail call. The other one takes its old block again.
///
/// # Safety
/// As [`abandon`].
#[inline(always)]
pub unsafe fn hand_over(inflight: *mut InFlight, call: *mut OpenCall) {
    // SAFETY: the caller's element.
    unsafe {
        put_back(call);
        close(inflight, call);
    }
    count::one(Counter::Nested);
}

/// Forgets a call that never returned. A realloc's old block goes back: nothing says that it was freed.
///
/// # Safety
/// `call` is the last open call of `inflight`, an element of INFLIGHT that belongs to the running thread.
#[inline(always)]
pub unsafe fn abandon(inflight: *mut InFlight, call: *mut OpenCall) {
    // SAFETY: the caller's element.
    unsafe {
        put_back(call);
        let thrown = (*call).cookie & IN_FLIGHT_EXCEPTION != 0;
        close(inflight, call);
        count::one(if thrown { Counter::Thrown } else { Counter::Abandoned });
        count::add(Counter::AbandonedNested, u64::from((*inflight).nested));
        (*inflight).nested = 0;
    }
}
