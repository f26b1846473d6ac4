//! MemScope for Linux: the library under the `memscope` command.
