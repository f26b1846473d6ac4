//! The contract between the BPF programs and the user side: map layouts, limits, reasons. Builds for BPF and for the host.
#![cfg_attr(not(test), no_std)]
// The empty assembly statement of unwind::bounded; RUSTC_BOOTSTRAP=1 is set for BPF builds anyway.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod call;
pub mod counter;
pub mod family;
pub mod inflight;
pub mod limits;
pub mod live;
pub mod region;
pub mod sample;
pub mod site;
pub mod state;
pub mod unwind;
