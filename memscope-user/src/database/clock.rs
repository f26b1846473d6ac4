//! The clock that blocks are stamped with, read from outside.

use std::mem::MaybeUninit;

/// Now, as the programs' clock tells it: CLOCK_MONOTONIC, nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to a timespec; CLOCK_MONOTONIC always exists, so the call writes it.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        now.assume_init()
    };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
