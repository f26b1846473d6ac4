//! The allocator a process really uses: catalogue, discovery in its ELF images, custom specifications.

pub mod catalogue;
pub mod discovery;
pub mod spec;
