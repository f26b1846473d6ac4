//! Entry of an allocating function: notes what was asked for under the thread id.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{bpf_get_attach_cookie, bpf_get_current_pid_tgid};
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use memscope_ebpf::call::{CallKind, CallResult, CallSpec};
use memscope_ebpf::counter::Counter;
use memscope_ebpf::inflight::{InFlight, OpenCall};
use memscope_ebpf::limits::MAX_NESTING;
use memscope_ebpf::unwind::bounded::element_mut;

use crate::maps::Session;
use crate::registers::Registers;
use crate::{budget, count, exit, leave, maps, sampler};

/// Probe program of every allocating and reallocating function, at its entry.
#[uprobe]
pub fn call_enter(ctx: ProbeContext) -> u32 {
    if let Some(session) = maps::collecting() {
        open_call(&ctx, session);
    }
    0
}

#[inline(always)]
fn open_call(ctx: &ProbeContext, session: Session) -> Option<()> {
    // SAFETY: the helpers take the program's own context, or nothing.
    let (cookie, thread) = unsafe { (bpf_get_attach_cookie(ctx.as_ptr()), bpf_get_current_pid_tgid() as u32) };
    let spec = CallSpec::from_cookie(cookie)?;
    // An exit is spent when it is hit: one `ret` may serve other functions, too.
    budget::spend(session, if spec.by_exits { 1 } else { 2 }, spec.stepped);
    let registers = Registers::of(ctx);
    let stack_pointer = registers.stack_pointer();
    let inflight = in_flight(thread)?;
    // SAFETY: the element belongs to this thread alone, and this thread is here.
    unsafe {
        let handed = exit::handed_size(inflight, stack_pointer);
        drop_abandoned(inflight, stack_pointer);
        if is_inside_call(inflight) {
            (*inflight).nested += 1;
            count::one(Counter::Nested);
            return None;
        }
        let size = handed.unwrap_or_else(|| requested_size(spec, registers));
        let sampling = match spec.kind {
            CallKind::ResizeInPlace => 0,
            _ => sampler::decide(size, session.sample_bytes()),
        };
        let call = push(inflight, stack_pointer, cookie | sampling | exit::hands_on(handed))?;
        (*call).size = size;
        if spec.by_exits {
            exit::note_return_address(call);
        }
        if let CallResult::Stored(argument) = spec.result {
            (*call).pointer = registers.argument(argument);
        } else if let Some(argument) = spec.pointer {
            (*call).pointer = registers.argument(argument);
        }
        if matches!(spec.kind, CallKind::Realloc) {
            take_old_block(call);
        }
    }
    None
}

/// Whether the thread is inside a probed call, as far as can be told: not if a signal has interrupted the call.
///
/// # Safety
/// `inflight` is an element of INFLIGHT that belongs to the running thread.
#[inline(always)]
pub unsafe fn is_inside_call(inflight: *mut InFlight) -> bool {
    // SAFETY: the caller's element.
    unsafe {
        let depth = (*inflight).depth;
        depth > 0 && (*inflight).interrupted >> ((depth - 1) & 63) & 1 == 0
    }
}

/// Puts a call on top; `None`, counted, when there are too many.
///
/// # Safety
/// As [`is_inside_call`].
#[inline(always)]
pub unsafe fn push(inflight: *mut InFlight, stack_pointer: u64, cookie: u64) -> Option<*mut OpenCall> {
    // SAFETY: the caller's element.
    unsafe {
        let depth = (*inflight).depth;
        let Some(call) = call_at(inflight, depth as usize) else {
            count::one(Counter::NestingFull);
            return None;
        };
        (*call).stack_pointer = stack_pointer;
        (*call).cookie = cookie;
        (*call).size = 0;
        (*call).pointer = 0;
        // Volatile and word by word, or the compiler calls `memset`, which goes byte by byte.
        let old = (&raw mut (*call).old).cast::<u64>();
        for word in 0..3 {
            old.add(word).write_volatile(0);
        }
        if depth == 0 {
            (*inflight).nested = 0;
        }
        (*inflight).interrupted &= !(1 << (depth & 63));
        (*inflight).depth = depth + 1;
        Some(call)
    }
}

#[inline(always)]
fn requested_size(spec: CallSpec, registers: Registers) -> u64 {
    let size = spec.size.map_or(0, |argument| registers.argument(argument));
    let Some(count) = spec.count.map(|argument| registers.argument(argument)) else {
        return size;
    };
    // An overflowing product makes the allocator fail. It must not wrap to 0 meanwhile: `realloc(p, 0)` may free.
    saturating_product(size, count)
}

/// `a * b`, or `u64::MAX` from 2⁶⁴ on. In halves: BPF has no wide multiplication, and the compiler turns the checks one
/// would write into one.
#[inline(always)]
fn saturating_product(a: u64, b: u64) -> u64 {
    let (less, more) = if a < b { (a, b) } else { (b, a) };
    if less >> 32 != 0 {
        return u64::MAX;
    }
    let high = (more >> 32) * less;
    let low = (more & 0xffff_ffff) * less;
    let sum = (high << 32).wrapping_add(low);
    if high >> 32 != 0 || sum < low { u64::MAX } else { sum }
}

/// Takes the old block out of LIVE for the length of a realloc, whose call is the caller's. From the moment the allocator frees it inside, another
/// thread may be given its address; nothing of ours may then still stand, or be removed, under that key.
#[inline(always)]
pub unsafe fn take_old_block(call: *mut OpenCall) {
    // SAFETY: the caller's element; LIVE's value is copied out at once.
    unsafe {
        let address = (*call).pointer;
        if address == 0 {
            return;
        }
        if let Some(block) = maps::LIVE.get(address).copied() {
            (*call).old = block;
            let _ = maps::LIVE.remove(address);
        }
    }
}

/// The thread's record, made at its first call.
#[inline(always)]
pub fn in_flight(thread: u32) -> Option<*mut InFlight> {
    if let Some(found) = maps::INFLIGHT.get_ptr_mut(thread) {
        return Some(found);
    }
    // SAFETY: an element that nobody writes.
    let zero = unsafe { &*maps::ZERO_INFLIGHT.get_ptr(0)? };
    if maps::INFLIGHT.insert(thread, zero, u64::from(BPF_NOEXIST)).is_err() {
        count::one(Counter::InflightFull);
        return None;
    }
    maps::INFLIGHT.get_ptr_mut(thread)
}

/// The open call at `depth`, `None` past the last.
///
/// # Safety
/// `inflight` is a live element of INFLIGHT.
#[inline(always)]
pub unsafe fn call_at(inflight: *mut InFlight, depth: usize) -> Option<*mut OpenCall> {
    if depth >= MAX_NESTING {
        return None;
    }
    // SAFETY: the caller's element; no other reference to it is made.
    Some(&raw mut *element_mut(unsafe { &mut (*inflight).calls }, depth as u32))
}

/// An open call whose frame lies below the new stack pointer has been jumped out of. At the very same stack pointer it has
/// jumped to this function as its last act (`valloc: jmp memalign@plt`): this call takes its place. Of one that a signal
/// has interrupted the stack pointer tells nothing else.
///
/// # Safety
/// As [`is_inside_call`].
#[inline(always)]
pub unsafe fn drop_abandoned(inflight: *mut InFlight, stack_pointer: u64) {
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
            if (*call).stack_pointer == stack_pointer {
                leave::hand_over(inflight, call);
            } else if (*call).stack_pointer > stack_pointer || !is_inside_call(inflight) && !exit::was_left(call) {
                return;
            } else {
                leave::abandon(inflight, call);
            }
        }
    }
}
