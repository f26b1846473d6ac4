//! What the build script and the `cargo xtask` command share: the BPF toolchain.
