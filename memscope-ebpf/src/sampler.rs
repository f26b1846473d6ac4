//! The sampling decision, made once a call, at the entry of the outermost one.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use memscope_ebpf::call::{SAMPLED, UNSAMPLED};
use memscope_ebpf::sample;

use crate::atomic;

/// Bytes to the next sample on this CPU; 0: not drawn yet. Each CPU's stream of allocations is a Poisson process of its own.
#[map]
static UNTIL_SAMPLE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// What becomes of a block of this size, as bits of its open call's cookie: [`SAMPLED`] or [`UNSAMPLED`]; none of them
/// when every block is recorded.
#[inline(always)]
pub fn decide(size: u64, mean: u64) -> u64 {
    if mean == 0 {
        return 0;
    }
    let size = sample::sampled_size(size);
    let Some(until) = UNTIL_SAMPLE.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: an 8-aligned map value. Atomic, because another task's program may come in between on this CPU.
    let mut before = unsafe { atomic::fetch_add(until, size.wrapping_neg()) };
    if before == 0 {
        before = draw(mean);
        // SAFETY: as above.
        unsafe { atomic::exchange(until, before.saturating_sub(size)) };
    }
    // Passed below 0 by another task's block meanwhile: the sample is that block's as much as this one's.
    let met = before <= size || before >> 63 != 0;
    if met {
        // SAFETY: as above.
        unsafe { atomic::exchange(until, draw(mean)) };
    }
    if met { SAMPLED } else { UNSAMPLED }
}

#[inline(always)]
fn draw(mean: u64) -> u64 {
    // SAFETY: the helper takes nothing.
    let random = unsafe { bpf_get_prandom_u32() };
    sample::distance(
        random,
        if mean > sample::MOST_BYTES {
            sample::MOST_BYTES
        } else {
            mean
        },
    )
}
