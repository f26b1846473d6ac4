//! The command line: arguments in, library calls, texts and exit codes out.

pub mod arguments;
