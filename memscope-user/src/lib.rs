//! MemScope for Linux: the library under the `memscope` command.
//!
//! The rooms follow the path of the data: [`target`] → [`allocator`] → [`probe`] → [`unwind`] → [`database`] →
//! [`symbol`] → [`verdict`] → [`report`].

pub mod age;
pub mod allocator;
mod beside;
pub mod cli;
pub mod collection;
pub mod compare;
pub mod console;
pub mod database;
pub mod exit;
pub mod export;
pub mod history;
pub mod host;
pub mod os;
pub mod probe;
pub mod report;
pub mod suppress;
pub mod symbol;
pub mod target;
pub mod unwind;
pub mod verdict;
