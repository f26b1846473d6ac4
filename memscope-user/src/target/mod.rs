//! The target: who it is, what it maps, and the ELF images behind its mappings.

pub mod address;
pub mod identity;
pub mod mapping;
pub mod process;
