//! The command line: arguments in, library calls, texts and exit codes out.

pub mod arguments;
mod attach;
mod console;
mod diagnostics;
mod doctor;
pub mod export;
mod lifecycle;
mod os;
pub mod output;
pub(crate) mod print;
pub mod run;
pub(crate) mod select;
pub(crate) mod show;
mod trace;
