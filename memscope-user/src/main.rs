//! The `memscope` command.

fn main() {}
