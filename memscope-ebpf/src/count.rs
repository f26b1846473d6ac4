//! Counting events and losses.

use memscope_ebpf::counter::Counter;

use crate::{atomic, maps};

/// Adds to a counter. Atomic although per CPU: a program can be preempted in the middle by another one on its CPU.
#[inline(always)]
pub fn add(counter: Counter, amount: u64) {
    if let Some(counters) = maps::COUNTERS.get_ptr_mut(0) {
        // SAFETY: the index is below the array's length by construction; the element is 8-aligned.
        unsafe { atomic::add(counters.cast::<u64>().add(counter as usize), amount) };
    }
}

/// Counts one.
#[inline(always)]
pub fn one(counter: Counter) {
    add(counter, 1);
}
