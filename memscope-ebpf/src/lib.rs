//! The contract between the BPF programs and the user side: map layouts, limits, reasons. Builds for BPF and for the host.
#![cfg_attr(not(test), no_std)]

pub mod call;
pub mod counter;
pub mod inflight;
pub mod limits;
pub mod live;
pub mod site;
pub mod state;
pub mod unwind;
