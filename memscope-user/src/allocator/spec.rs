//! Custom allocators: functions named by hand, on the command line or in a file.
//!
//! ```text
//! --alloc   'zOsMem_Alloc(size=1) -> ret'                  arguments count from 0: the second one is the size
//! --alloc   'libpool.so:pool_get(count=1,size=2) -> *3'    only in this module; stored through the fourth argument
//! --free    'zOsMem_Free(ptr=0)'
//! --realloc 'zOsMem_Realloc(ptr=0,size=1) -> ret'
//! --alloc   'gateway+0x4f210(size=0) -> ret'               by its place in the file, as reports print `[module] + 0x…`
//! ```

mod error;
mod file;
mod near;
mod parse;
mod resolve;

use serde::{Deserialize, Serialize};

use super::catalogue::Role;
use crate::target::address::FileOffset;

pub use error::{ResolveError, SpecError};
pub use file::{FileError, parse_file, read_file};
pub(super) use resolve::{Resolved, resolve};

/// Which option a specification was given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpecKind {
    /// `--alloc`: returns a new block.
    Alloc,
    /// `--free`: ends a block.
    Free,
    /// `--realloc`: ends a block and returns another. NULL for a size of 0 counts as freed.
    Realloc,
}

/// Where a function is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// By its linker name, in one module or in every one that defines it.
    Name {
        /// File name, path or soname of the module.
        module: Option<String>,
        /// Linker name.
        function: String,
    },
    /// By the position of its first instruction in a module's file.
    Offset {
        /// File name, path or soname of the module.
        module: String,
        /// The position.
        offset: FileOffset,
    },
}

/// One function named by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomSpec {
    /// The option it was given to.
    pub kind: SpecKind,
    /// As it was written.
    pub text: String,
    /// Where the function is.
    pub place: Place,
    /// What it does.
    pub role: Role,
}

/// A specification by hand as the session file keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSpec {
    /// The option it was given to.
    pub kind: SpecKind,
    /// As it was written.
    pub text: String,
}

impl From<&CustomSpec> for SavedSpec {
    fn from(spec: &CustomSpec) -> Self {
        Self {
            kind: spec.kind,
            text: spec.text.clone(),
        }
    }
}

impl CustomSpec {
    /// Reads a specification.
    ///
    /// # Errors
    /// When it is malformed: the error says at which character.
    pub fn parse(kind: SpecKind, text: &str) -> Result<Self, SpecError> {
        parse::parse(kind, text)
    }
}

#[cfg(test)]
mod tests;
