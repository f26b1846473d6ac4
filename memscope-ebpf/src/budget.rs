//! The budget: CPU time that probes may cost a target in a second, watched over here because no process of ours stays.
//!
//! Each hit is spent at the price that it has on this host, whatever comes of it: a call when it is entered, with the return
//! that its return probe will hit; an exit when it is hit; a free.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use memscope_ebpf::state::{Control, OverBudget, Prices, State};

use crate::atomic;
use crate::maps::Session;

const SECOND_NS: u64 = 1_000_000_000;
/// The clock is read once in 2¹⁶ ns spent while they stay within the budget: some hundred hits, or six single steps.
const CLOCK_EVERY: u32 = 16;

/// Spends so many hits, and a single step if that is what the kernel did.
#[inline(always)]
pub fn spend(session: Session, hits: u64, stepped: bool) {
    // SAFETY: an array element.
    if unsafe { (&raw const (*session.control).budget_ns).read_volatile() } != 0 {
        // SAFETY: both are array elements.
        unsafe {
            let Prices { hit_ns, step_ns } = (*session.control).prices;
            let step = if stepped { u64::from(step_ns) } else { 0 };
            add(session.control, session.state, hits * u64::from(hit_ns) + step);
        }
    }
}

/// # Safety
/// Both point to array elements. Concurrent hits may begin a second twice, which loses a few at its start.
#[inline(never)]
unsafe fn add(control: *mut Control, state: *mut State, cost_ns: u64) -> u64 {
    // SAFETY: the caller's elements; the counters are 8-aligned.
    unsafe {
        let allowed = (*control).budget_ns;
        let before = atomic::fetch_add(&raw mut (*state).window_spent_ns, cost_ns);
        let spent = before.wrapping_add(cost_ns);
        if spent <= allowed && before >> CLOCK_EVERY == spent >> CLOCK_EVERY {
            return 0;
        }
        let now = bpf_ktime_get_ns();
        if now.wrapping_sub((*state).window_from_ns) >= SECOND_NS {
            (*state).window_from_ns = now;
            atomic::exchange(&raw mut (*state).window_spent_ns, 0);
            return 0;
        }
        if spent > allowed {
            exceed(control, state, now);
        }
    }
    0
}

#[inline(always)]
unsafe fn exceed(control: *mut Control, state: *mut State, now: u64) {
    // SAFETY: as in add; all who come here at once write nearly the same.
    unsafe {
        if (*control).over_budget == OverBudget::Stop as u32 {
            (*state).over_budget_at_ns = now;
            (&raw mut (*control).collecting).write_volatile(0);
        } else if (*control).over_budget == OverBudget::Sample as u32
            && (*control).sample_bytes == 0
            && (*state).over_budget_at_ns == 0
        {
            (*state).over_budget_at_ns = now;
        }
    }
}
