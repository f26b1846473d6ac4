//! This host: what its kernel and this user are able to do.

pub mod calibration;
pub mod checks;
pub mod interrupts;
pub mod kernel_layout;
pub mod preflight;
pub mod privilege;
pub mod sacrifice;
