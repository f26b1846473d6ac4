//! The command line: arguments in, library calls, texts and exit codes out.

pub mod arguments;
mod attach;
mod doctor;
mod floor;
mod lifecycle;
mod print;
pub mod run;
mod select;
mod show;
mod trace;
