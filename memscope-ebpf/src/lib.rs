//! The contract between the BPF programs and the user side: map layouts, limits, reasons. Builds for BPF and for the host.
#![cfg_attr(not(test), no_std)]

/// Largest number of live blocks a database holds unless the user asks for another.
pub const DEFAULT_LIVE_CAPACITY: u32 = 1 << 20;
