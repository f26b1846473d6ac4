//! Why the exits of a function could not all be found.

use std::fmt;

use crate::target::address::ElfAddress;

/// What stands in the way. Addresses are the image's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitObstacle {
    /// A jump through a register or a table: where it goes is not known.
    IndirectJump {
        /// Where it is.
        at: ElfAddress,
    },
    /// A jump through a word that leads out of the image.
    LeavesImage {
        /// Where the jump is.
        at: ElfAddress,
        /// The function it goes to, as far as the image names it.
        to: String,
    },
    /// The bytes there are no instruction that is known.
    Undecodable {
        /// Where.
        at: ElfAddress,
    },
    /// A branch leads out of the image's code.
    OutsideCode {
        /// Where it leads.
        to: ElfAddress,
    },
    /// A return of another kind, or one that goes elsewhere than to the caller.
    OddReturn {
        /// Where.
        at: ElfAddress,
    },
    /// More instructions than are followed, or more exits than are probed.
    TooLarge,
    /// Nothing returns: no `ret` is reached.
    NoReturn,
    /// Where exceptions are caught inside the function is not known.
    NoCatchTable {
        /// What could not be read.
        why: String,
    },
}

impl fmt::Display for ExitObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IndirectJump { at } => write!(f, "the jump at {at:#x} goes through a register or a table"),
            Self::LeavesImage { at, to } => write!(f, "the jump at {at:#x} leaves the image for {to}"),
            Self::Undecodable { at } => write!(f, "no known instruction at {at:#x}"),
            Self::OutsideCode { to } => write!(f, "a branch leads to {to:#x}, where the image has no code"),
            Self::OddReturn { at } => write!(f, "the return at {at:#x} is of another kind"),
            Self::TooLarge => f.write_str("it is too large to be followed"),
            Self::NoReturn => f.write_str("no return is reached"),
            Self::NoCatchTable { why } => write!(f, "where it catches exceptions is not known: {why}"),
        }
    }
}
