//! The BPF programs: one object, loaded once a session.
#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{map, uprobe},
    maps::Array,
    programs::ProbeContext,
};

#[map]
static COUNT: Array<u64> = Array::with_max_entries(1, 0);

#[uprobe]
pub fn free_enter(_ctx: ProbeContext) -> u32 {
    if let Some(p) = COUNT.get_ptr_mut(0) {
        // SAFETY: the pointer is a live array element, 8-aligned, and only touched atomically.
        unsafe { core::sync::atomic::AtomicU64::from_ptr(p) }.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    }
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel lends its GPL-only helpers to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
