//! The target: who it is, what it maps, and the ELF images behind its mappings.

pub mod address;
#[cfg(test)]
pub(crate) mod compiled;
pub mod debug_file;
pub mod descendants;
pub mod elf;
pub mod files;
pub mod identity;
pub mod launch;
pub mod loaded;
pub mod loader;
pub mod mapping;
pub mod memory;
pub(crate) mod open;
pub mod process;
pub mod program;
