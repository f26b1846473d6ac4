//! The command line: arguments in, library calls, texts and exit codes out.

pub mod arguments;
mod attach;
mod check;
mod console;
mod diagnostics;
pub mod diff;
mod doctor;
pub mod export;
mod floor;
mod follow;
mod lifecycle;
mod mark;
mod meant;
pub mod merge;
mod os;
pub mod output;
pub(crate) mod print;
mod report;
pub mod run;
pub(crate) mod select;
pub(crate) mod show;
mod summarize;
pub mod suppress;
pub mod suppressions;
mod trace;
pub mod verdict_arguments;
