//! `free` and its kin: the block at the pointer argument ends.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_attach_cookie, bpf_get_current_pid_tgid};
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use memscope_ebpf::call::CallSpec;
use memscope_ebpf::counter::Counter;
use memscope_ebpf::limits::MAX_NESTING;

use crate::maps::Session;
use crate::registers::Registers;
use crate::{budget, count, maps, sites};

/// Probe program of every freeing function.
#[uprobe]
pub fn free_enter(ctx: ProbeContext) -> u32 {
    if let Some(session) = maps::collecting() {
        end_block(&ctx, session);
    }
    0
}

#[inline(always)]
fn end_block(ctx: &ProbeContext, session: Session) -> Option<()> {
    // SAFETY: the helper takes the program's own context.
    let spec = CallSpec::from_cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) })?;
    budget::spend(session, 1, spec.stepped);
    let address = Registers::of(ctx).argument(spec.pointer?);
    if address == 0 {
        count::one(Counter::FreeNull);
        return None;
    }
    // SAFETY: copied out at once. Elements are reused without a grace period (no preallocation), so a racing free of the
    // same block could show another block's value; that race is a double free of the target's own.
    let Some(block) = (unsafe { maps::LIVE.get(address) }).copied() else {
        count_unknown(address);
        return None;
    };
    if maps::LIVE.remove(address).is_ok() {
        sites::count_freed(block.site(), block.size());
        count::one(Counter::Freed);
    }
    None
}

/// A free that meets no live block: the allocator's own inside a realloc of that block, or one from before attach.
#[inline(always)]
fn count_unknown(address: u64) {
    // SAFETY: the element belongs to this thread alone.
    let open = unsafe { maps::INFLIGHT.get(bpf_get_current_pid_tgid() as u32) };
    if let Some(open) = open {
        for call in open.calls.iter().take(MAX_NESTING) {
            if call.stack_pointer != 0 && call.pointer == address {
                return;
            }
        }
    }
    count::one(Counter::FreeUnknown);
}
