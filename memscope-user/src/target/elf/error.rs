//! What can be wrong with an ELF image, said so that a person can act on it.

use thiserror::Error;

/// Why an image, or a part of it, cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ElfError {
    /// The file does not begin with `\x7fELF`.
    #[error("not an ELF file")]
    NotElf,
    /// A 32-bit image.
    #[error("a 32-bit ELF image: only 64-bit x86-64 programs can be traced")]
    Not64Bit,
    /// A big-endian image.
    #[error("a big-endian ELF image: only x86-64 programs can be traced")]
    NotLittleEndian,
    /// Built for another processor.
    #[error("an ELF image for machine {0} (e_machine): only x86-64 (62) programs can be traced")]
    OtherMachine(u16),
    /// A relocatable object, a core file or worse.
    #[error("ELF file type {0} (e_type): neither a program nor a shared library")]
    NotLoadable(u16),
    /// A table or section reaches past the end of the file.
    #[error(
        "{what} at file offset {offset:#x}, {size:#x} bytes long, reaches past the end of the file ({file:#x} bytes)"
    )]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// How long it claims to be.
        size: u64,
        /// How long the file is.
        file: u64,
    },
    /// A table is longer than this program is willing to hold in memory.
    #[error("{what} is {size:#x} bytes long, over the limit of {limit:#x}")]
    TooLarge {
        /// What was being read.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// A field holds a value that no linker writes.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The address is in no loaded part of the file.
    #[error("address {0:#x} is in no loaded part of the file")]
    NotMapped(u64),
    /// Reading failed.
    #[error("cannot read {what}: {why}")]
    Read {
        /// What was being read.
        what: &'static str,
        /// The operating system's reason.
        why: String,
    },
}
