//! The BPF instruction set's atomic operations, which `core::sync::atomic` does not offer for this target.

use core::arch::asm;

/// Adds to a map value. `lock *(u64 *) += x`: every kernel with BPF has it.
///
/// # Safety
/// `at` is 8-aligned and points into a map value of this program.
#[inline(always)]
pub unsafe fn add(at: *mut u64, value: u64) {
    // SAFETY: one memory operation on the caller's map value; clobbers nothing else.
    unsafe { asm!("lock *(u64 *)({at} + 0) += {value}", at = in(reg) at, value = in(reg) value, options(nostack)) };
}

/// Adds to a map value and returns what was there before. Kernel ≥ 5.12.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub unsafe fn fetch_add(at: *mut u64, value: u64) -> u64 {
    let mut result = value;
    // SAFETY: as above.
    unsafe {
        asm!("{result} = atomic_fetch_add((u64 *)({at} + 0), {result})", at = in(reg) at, result = inout(reg) result, options(nostack))
    };
    result
}

/// Stores to a map value and returns what was there before. Kernel ≥ 5.12.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub unsafe fn exchange(at: *mut u64, value: u64) -> u64 {
    let mut result = value;
    // SAFETY: as above.
    unsafe {
        asm!("{result} = xchg_64({at} + 0, {result})", at = in(reg) at, result = inout(reg) result, options(nostack))
    };
    result
}
