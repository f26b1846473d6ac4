//! Probes: which instruction is the cheapest safe site, and how it is attached.

pub mod attach;
pub mod exits;
pub mod plan;
pub mod restored;
pub mod shared;
pub mod site;
