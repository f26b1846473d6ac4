//! What the build script of `memscope-user` and the `cargo xtask` command share: the BPF toolchain.
//!
//! Kept to the standard library and `anyhow`, because every build of the `memscope` command compiles it first.

pub mod toolchain;
