//! Names: from saved mappings and build ids to function, offset, file and line.
//!
//! Addresses are named after the fact, from what the session saved of the target's mappings ([`SavedModule`]). A file is
//! asked only when it proves to be the one that was mapped: by build id, or, without one, by device, inode, size and
//! time of change. Otherwise an address keeps the form `[module] + 0xoffset`: no name rather than another build's.
//!
//! Files are the target's, and what reads them is a library that trusts them (blazesym). So files that strangers can
//! change are copied first, and their debug information is looked through before it is used (`screen`).
//!
//! Absent on purpose: `.dwp` packages and `.gnu_debuglink` (a path the file itself chooses); debug files are found by
//! build id alone. Compressed debug information of strangers.

mod capture;
mod demangle;
mod functions;
mod image;
mod module_map;
mod places;
mod saved;
mod screen;
pub(crate) mod site_id;
mod symbolizer;
mod vdso;

#[cfg(test)]
mod tests;

pub use capture::save_modules;
pub use demangle::demangle;
pub use module_map::{Located, ModuleMap};
pub use places::Places;
pub use saved::{FileStamp, SavedModule, SavedSegment};
pub use screen::debug_information_is_tame;
pub use site_id::{FrameIdentity, site_id};
pub use symbolizer::{NameRoom, Symbolizer};
