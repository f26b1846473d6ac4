//! `cargo xtask`: set-up, build, test, demo, bench.

fn main() {}
