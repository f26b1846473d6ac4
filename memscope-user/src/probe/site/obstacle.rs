//! Why the search for a cheap site went no further.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::target::address::ElfAddress;

/// What ended the search. Offsets are from the function's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "obstacle", rename_all = "kebab-case")]
pub enum Obstacle {
    /// The instruction there overwrites the last copy of an argument that the probe reads.
    Argument {
        /// Where.
        offset: u32,
        /// 0 = the first.
        position: u8,
    },
    /// The instruction there moves the stack pointer, or may overwrite the return address, which a return probe needs.
    ReturnAddress {
        /// Where.
        offset: u32,
    },
    /// The instruction there writes memory: the function has begun to take effect.
    Store {
        /// Where.
        offset: u32,
    },
    /// The instruction there can go on somewhere else: some calls would miss a later site.
    Branch {
        /// Where.
        offset: u32,
    },
    /// A branch from somewhere else lands there.
    BranchLands {
        /// Where it lands.
        at: ElfAddress,
    },
    /// Another symbol begins there.
    OtherEntry {
        /// Where it begins.
        at: ElfAddress,
    },
    /// An indirect jump in the function may go through a table, whose labels are not known.
    TableJump,
    /// The bytes there are no instruction.
    Undecodable {
        /// Where.
        offset: u32,
    },
    /// The function's bytes end.
    EndOfCode,
    /// As many instructions as the search looks at hold no cheap one.
    TooFar,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument { offset, position } => {
                write!(f, "argument {} is overwritten at +{offset:#x}", position + 1)
            }
            Self::ReturnAddress { offset } => write!(f, "the stack moves at +{offset:#x}"),
            Self::Store { offset } => write!(f, "memory is written at +{offset:#x}"),
            Self::Branch { offset } => write!(f, "the path may leave at +{offset:#x}"),
            Self::BranchLands { at } => write!(f, "a branch lands at {at:#x}"),
            Self::OtherEntry { at } => write!(f, "another symbol begins at {at:#x}"),
            Self::TableJump => f.write_str("the function may jump through a table"),
            Self::Undecodable { offset } => write!(f, "no known instruction at +{offset:#x}"),
            Self::EndOfCode => f.write_str("the function's code ends"),
            Self::TooFar => f.write_str("the function's beginning has no such instruction"),
        }
    }
}
