//! Probes: which instruction is the cheapest safe site, and how it is attached.

pub mod site;
