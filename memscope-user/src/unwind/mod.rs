//! Call frame information into the compact rows that the BPF unwinder walks. Pure: bytes in, rows out.
//!
//! The path: [`image`] finds code and call frame sections, [`consulted`] the addresses a walk can look up, [`cfi`] and
//! [`rule`] turn the rows that hold there into compact ones, [`known_code`] adds what only the code's bytes tell,
//! [`interval`] makes ranges disjoint, [`table`] puts them into pages; [`session`] lays the tables of all mappings out in the kernel's
//! arrays; [`cache`] keeps tables on disk.

pub mod cache;
pub mod cfi;
pub mod consulted;
#[cfg(test)]
mod differential;
pub mod entries;
pub mod error;
#[cfg(test)]
mod hostile_tests;
pub mod image;
pub mod interval;
pub mod known_code;
#[cfg(test)]
mod own_stack_tests;
pub mod recorded;
pub mod replay;
pub mod rule;
pub mod session;
pub mod stored;
pub mod table;

pub use error::UnwindError;
pub use session::{CodeMapping, CodeSource, ImageKey, Layout, LeftOutMappings, Refresh, TableRoom};
pub use table::{Coverage, UnwindTable, table_for_elf};
