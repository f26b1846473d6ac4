//! mmap, munmap and mremap (`--regions`): regions are born, end, and are cut.
//!
//! As with realloc, what a call ends takes effect at its return, and only on regions with a number given out before the
//! call began: another thread may have been given the same addresses in between. A call inside an allocator's makes no
//! region; what it unmaps is unmapped all the same.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_attach_cookie, bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use memscope_ebpf::call::{CallKind, CallSpec};
use memscope_ebpf::counter::Counter;
use memscope_ebpf::live::{BlockFields, BlockKind, EntryNumber, LiveBlock, SiteIndex};
use memscope_ebpf::state::State;

use crate::enter::{drop_abandoned, in_flight, is_inside_call, push};
use crate::leave::{NESTED, close, own_site, returning_call};
use crate::maps::Session;
use crate::region_map::Regions;
use crate::registers::Registers;
use crate::{atomic, budget, count, maps};

const PAGE: u64 = 4096;
/// mmap and mremap return the highest 4095 numbers, as the kernel does, or -1 for a failure.
const FIRST_ERROR: u64 = u64::MAX - 4094;
/// include/uapi/linux/mman.h: the old mapping stays, empty.
const MREMAP_DONTUNMAP: u64 = 4;
/// Of an open call's old size, a multiple of the page size: the call is inside an allocator's.
const INSIDE: u64 = 1;
/// Of the same: the old range is not unmapped.
const KEEPS_OLD: u64 = 2;

/// Probe program of mmap and its kin, at their entry.
#[uprobe]
pub fn region_enter(ctx: ProbeContext) -> u32 {
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
    budget::spend(session, 2, spec.stepped);
    let registers = Registers::of(ctx);
    let inflight = in_flight(thread)?;
    let mut old = 0;
    if let Some(size) = spec.count {
        old = page_up(registers.argument(size));
    }
    if let Some(flags) = spec.flags
        && registers.argument(flags) & MREMAP_DONTUNMAP != 0
    {
        old |= KEEPS_OLD;
    }
    // SAFETY: the element belongs to this thread alone, and this thread is here; the state is an array element.
    unsafe {
        drop_abandoned(inflight, registers.stack_pointer());
        if is_inside_call(inflight) {
            old |= INSIDE;
        }
        let call = push(inflight, registers.stack_pointer(), cookie)?;
        (*call).size = registers.argument(spec.size?);
        if let Some(pointer) = spec.pointer {
            (*call).pointer = registers.argument(pointer);
        }
        // The middle word stays 0: no block is in hand here.
        (*call).old.0[0] = (&raw const (*session.state).last_number).read_volatile();
        (*call).old.0[2] = old;
    }
    None
}

/// Probe program of mmap and its kin, at their return.
#[uretprobe]
pub fn region_return(ctx: RetProbeContext) -> u32 {
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
    // SAFETY: the element belongs to this thread alone, and this thread is here.
    let (spec, size, pointer, up_to, old) = unsafe {
        let call = returning_call(inflight, registers.stack_pointer().wrapping_sub(8))?;
        let spec = CallSpec::from_cookie((*call).cookie)?;
        let noted = (spec, (*call).size, (*call).pointer, (*call).old.0[0], (*call).old.0[2]);
        close(inflight, call);
        noted
    };
    let result = registers.result();
    if let CallKind::Unmap = spec.kind {
        // munmap returns an int.
        if result as u32 != 0 {
            count::one(Counter::Failed);
            return None;
        }
        let regions = Regions::lock()?;
        regions.cut(pointer, pointer.wrapping_add(page_up(size)), up_to);
        regions.unlock();
        return None;
    }
    if result >= FIRST_ERROR {
        count::one(Counter::Failed);
        return None;
    }
    let mut site = NESTED;
    if old & INSIDE == 0 {
        // SAFETY: as above.
        site = unsafe { own_site(inflight, registers, state, spec.index) };
    }
    if site.0 == NESTED.0 {
        count::one(Counter::Nested);
    }
    let old_size = if old & KEEPS_OLD == 0 { old & !(PAGE - 1) } else { 0 };
    replace(
        state,
        Replacement {
            result,
            size,
            pointer,
            up_to,
            old_size,
            site,
            thread,
        },
    );
    None
}

struct Replacement {
    /// Where the region now is.
    result: u64,
    size: u64,
    /// mremap: where it was, and how much of it is no longer there.
    pointer: u64,
    old_size: u64,
    up_to: u64,
    site: SiteIndex,
    thread: u32,
}

#[inline(always)]
fn replace(state: *mut State, new: Replacement) -> Option<()> {
    let end = new.result.wrapping_add(page_up(new.size));
    // SAFETY: an 8-aligned counter of the state element; the helper takes nothing.
    let (mut number, born_ms) = unsafe {
        (
            atomic::fetch_add(&raw mut (*state).last_number, 1) + 1,
            bpf_ktime_get_ns() / 1_000_000,
        )
    };
    let regions = Regions::lock()?;
    if new.old_size != 0 {
        // Resized in place it keeps its number, as a realloc does.
        if new.result == new.pointer
            && let Some(old) = regions.number_at(new.pointer)
            && old <= new.up_to
        {
            number = old;
        }
        regions.cut(new.pointer, new.pointer.wrapping_add(new.old_size), new.up_to);
    }
    // Whatever was here is no more: unmapped by a call that has not returned yet, mapped over, or missed.
    regions.cut(new.result, end, u64::MAX);
    if new.site.0 != NESTED.0 {
        let block = LiveBlock::pack(BlockFields {
            number: EntryNumber(number),
            size: new.size,
            born_ms,
            tid: new.thread,
            site: new.site,
            kind: BlockKind::Region,
            sampled: false,
        });
        regions.add(new.result, end, block);
    }
    regions.unlock();
    None
}

#[inline(always)]
fn page_up(size: u64) -> u64 {
    size.wrapping_add(PAGE - 1) & !(PAGE - 1)
}
