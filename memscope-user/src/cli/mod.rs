//! The command line: arguments in, library calls, texts and exit codes out.

pub mod arguments;
mod attach;
mod diagnostics;
mod doctor;
mod floor;
pub mod export;
mod lifecycle;
pub mod output;
mod print;
pub mod run;
mod select;
mod show;
mod trace;
