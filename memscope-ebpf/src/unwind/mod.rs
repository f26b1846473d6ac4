//! Unwinding without frame pointers: table layout and the walk, compiled unchanged for BPF and for the host.
//!
//! Tables hold call frame information only where a walk can need it: at the ends of `call` (and `syscall`) instructions.
//! [`walk::Walk::step`] goes from one frame to its caller; the BPF program repeats it with `bpf_loop`, the host with `for`.

pub mod again;
pub mod bounded;
pub mod cache;
pub mod lookup;
pub mod mapping;
pub mod memory;
pub mod row;
pub mod walk;
#[cfg(test)]
mod walk_tests;
