//! The budget: calls a second that a target may cost, watched over here because no process of ours stays.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use memscope_ebpf::state::{Control, OVER_BUDGET_SAMPLE_BYTES, OverBudget, State};

use crate::{atomic, maps};

const SECOND_NS: u64 = 1_000_000_000;
/// The clock is read once in so many calls while they stay within the budget.
const CLOCK_EVERY: u64 = 64;

/// Counts a call against the budget, and acts when it is exceeded.
#[inline(always)]
pub fn spend(state: *mut State) {
    let Some(control) = maps::CONTROL.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: an array element.
    let allowed = unsafe { (&raw const (*control).calls_per_second).read_volatile() };
    if allowed != 0 {
        // SAFETY: both are array elements.
        unsafe { count(control, state, allowed) };
    }
}

/// # Safety
/// Both point to array elements. Concurrent calls may begin a second twice, which loses a few counts at its start.
#[inline(never)]
unsafe fn count(control: *mut Control, state: *mut State, allowed: u64) -> u64 {
    // SAFETY: the caller's elements; the counters are 8-aligned.
    unsafe {
        let calls = atomic::fetch_add(&raw mut (*state).window_calls, 1) + 1;
        if calls <= allowed && calls % CLOCK_EVERY != 0 {
            return 0;
        }
        let now = bpf_ktime_get_ns();
        if now.wrapping_sub((*state).window_from_ns) >= SECOND_NS {
            (*state).window_from_ns = now;
            atomic::exchange(&raw mut (*state).window_calls, 0);
            return 0;
        }
        if calls > allowed {
            exceed(control, state, now);
        }
    }
    0
}

#[inline(always)]
unsafe fn exceed(control: *mut Control, state: *mut State, now: u64) {
    // SAFETY: as in count; all who come here at once write the same.
    unsafe {
        if (*control).over_budget == OverBudget::Stop as u32 {
            (*state).over_budget_at_ns = now;
            (&raw mut (*control).collecting).write_volatile(0);
        } else if (*control).over_budget == OverBudget::Sample as u32 && (*control).sample_bytes == 0 {
            (*state).over_budget_at_ns = now;
            (&raw mut (*control).sample_bytes).write_volatile(OVER_BUDGET_SAMPLE_BYTES);
        }
    }
}
