//! The BPF programs: one object, loaded once a session.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod atomic;
mod block;
mod budget;
mod count;
mod empty;
mod enter;
mod exception;
mod exit;
mod free;
mod leave;
mod lifecycle;
mod maps;
mod region_map;
mod regions;
mod registers;
mod relatives;
mod route;
mod sampler;
mod signal;
mod sites;
mod stack;
mod task;
mod unwinder;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel lends its GPL-only helpers to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
