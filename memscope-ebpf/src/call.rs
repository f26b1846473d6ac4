//! What a probed function does, packed into its probe's attach cookie: the programs are generic, the cookie is the data.
//!
//! The design's CALLS array would cost one map lookup an event; a cookie is already in the program's hands, so the row
//! itself travels in it. Layout (bit 0 first): kind 4, size argument 4, count argument 4, pointer argument 4, result 4,
//! zero-size rule 1, failure rule 1, seen by its exits 1, rounds its size 1, flags argument 4, single-stepped 1, 3 unused, call
//! index 16, reserved 13, sampled 1, an exception flies 1, left out by sampling 1 (the last three are set in the open call,
//! never in a probe).

/// Index of a probed function in the session's list of calls; also the first frame of every stack it is found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct CallIndex(pub u16);

/// What a call does to the live set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CallKind {
    /// Returns a new block.
    Alloc = 1,
    /// Ends the block at the pointer argument.
    Free = 2,
    /// Ends the block at the pointer argument and returns another, or fails and changes nothing.
    Realloc = 3,
    /// Resizes the block at the pointer argument in place (jemalloc's `xallocx`); returns the size it now has.
    ResizeInPlace = 4,
    /// `mmap`: returns a new region.
    Map = 5,
    /// `munmap`: ends whatever regions, or parts of them, lie in the range of pointer and size.
    Unmap = 6,
    /// `mremap`: ends those in the range of pointer and count (the old size), and returns a region of the new size.
    Remap = 7,
    /// Of the C++ runtime: an exception begins or ends its flight. No block.
    Exception = 8,
}

impl CallKind {
    /// Whether it deals in an allocator's blocks.
    #[must_use]
    #[inline(always)]
    pub const fn is_of_blocks(self) -> bool {
        !self.is_of_regions() && !matches!(self, Self::Exception)
    }

    /// Whether it deals in regions, not in an allocator's blocks.
    #[must_use]
    #[inline(always)]
    pub const fn is_of_regions(self) -> bool {
        matches!(self, Self::Map | Self::Unmap | Self::Remap)
    }
}

/// Position of an integer argument in the System V x86-64 calling convention: 0 = rdi … 5 = r9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Argument(u8);

impl Argument {
    /// The argument at `position`, or `None` past the sixth: those travel on the stack, which no probe of ours reads.
    #[must_use]
    pub const fn new(position: u8) -> Option<Self> {
        if position < 6 { Some(Self(position)) } else { None }
    }

    /// 0 = rdi … 5 = r9.
    #[must_use]
    pub const fn position(self) -> u8 {
        self.0
    }
}

/// How a call hands back its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// In the return register; 0 and -1 (`MAP_FAILED`) are failures.
    Returned,
    /// Through the pointer in this argument, when the call returns 0 (`posix_memalign`).
    Stored(Argument),
    /// No block comes back.
    Nothing,
}

/// One row: what a probed function does and where its arguments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSpec {
    /// What it does to the live set.
    pub kind: CallKind,
    /// Bytes asked for; `None` when the function is not told (the block is then 0 bytes long).
    pub size: Option<Argument>,
    /// Number of elements, to be multiplied with the size. [`CallKind::Remap`]: the old size in bytes.
    pub count: Option<Argument>,
    /// The old block (realloc) or the block that ends (free).
    pub pointer: Option<Argument>,
    /// How the new block comes back.
    pub result: CallResult,
    /// `realloc(p, 0)` frees `p` and returns NULL (glibc); otherwise NULL means that it failed and `p` lives on.
    pub zero_size_frees: bool,
    /// A call that fails has freed its old block all the same (`reallocf`).
    pub failure_frees: bool,
    /// [`CallKind::Remap`]: the flags.
    pub flags: Option<Argument>,
    /// Its return is seen by probes on its exits, not by a return probe: it may end by an exception.
    pub by_exits: bool,
    /// Rounds its size up and may hand over to another function by a tail call (`pvalloc`): the block is as large as it was
    /// asked for.
    pub rounds: bool,
    /// Its probe sits on an instruction that the kernel single-steps, which is dear.
    pub stepped: bool,
    /// Which function of the session's list this is.
    pub index: CallIndex,
}

/// Bit of an open call's cookie: sampling leaves its block out.
pub const UNSAMPLED: u64 = 1 << 63;
/// Bit of an open call's cookie: an exception was raised inside it. It may have been left by now, or have caught it.
pub const IN_FLIGHT_EXCEPTION: u64 = 1 << 62;
/// Bit of an open call's cookie: blocks are sampled, and its block is in the sample.
pub const SAMPLED: u64 = 1 << 61;
/// Bit of a cookie: [`CallSpec::by_exits`].
pub const BY_EXITS: u64 = 1 << 22;
/// Bit of a cookie: [`CallSpec::rounds`].
pub const ROUNDS: u64 = 1 << 23;
/// Bit of a cookie: [`CallSpec::stepped`].
pub const STEPPED: u64 = 1 << 28;

const NONE: u64 = 0xf;
const RETURNED: u64 = 0xe;

const fn pack_argument(argument: Option<Argument>) -> u64 {
    match argument {
        Some(a) => a.0 as u64,
        None => NONE,
    }
}

const fn unpack_argument(bits: u64) -> Option<Argument> {
    Argument::new((bits & 0xf) as u8)
}

impl CallSpec {
    /// The row as an attach cookie.
    #[must_use]
    pub const fn to_cookie(self) -> u64 {
        let result = match self.result {
            CallResult::Returned => RETURNED,
            CallResult::Stored(a) => a.0 as u64,
            CallResult::Nothing => NONE,
        };
        self.kind as u64
            | pack_argument(self.size) << 4
            | pack_argument(self.count) << 8
            | pack_argument(self.pointer) << 12
            | result << 16
            | (self.zero_size_frees as u64) << 20
            | (self.failure_frees as u64) << 21
            | if self.by_exits { BY_EXITS } else { 0 }
            | if self.rounds { ROUNDS } else { 0 }
            | pack_argument(self.flags) << 24
            | if self.stepped { STEPPED } else { 0 }
            | (self.index.0 as u64) << 32
    }

    /// The row in a cookie; `None` when the bits name no kind (a cookie that is not ours).
    #[must_use]
    #[inline(always)]
    pub const fn from_cookie(cookie: u64) -> Option<Self> {
        let kind = match cookie & 0xf {
            1 => CallKind::Alloc,
            2 => CallKind::Free,
            3 => CallKind::Realloc,
            4 => CallKind::ResizeInPlace,
            5 => CallKind::Map,
            6 => CallKind::Unmap,
            7 => CallKind::Remap,
            8 => CallKind::Exception,
            _ => return None,
        };
        let result = match cookie >> 16 & 0xf {
            RETURNED => CallResult::Returned,
            bits => match unpack_argument(bits) {
                Some(a) => CallResult::Stored(a),
                None => CallResult::Nothing,
            },
        };
        Some(Self {
            kind,
            size: unpack_argument(cookie >> 4),
            count: unpack_argument(cookie >> 8),
            pointer: unpack_argument(cookie >> 12),
            result,
            zero_size_frees: cookie >> 20 & 1 == 1,
            failure_frees: cookie >> 21 & 1 == 1,
            by_exits: cookie & BY_EXITS != 0,
            rounds: cookie & ROUNDS != 0,
            flags: unpack_argument(cookie >> 24),
            stepped: cookie & STEPPED != 0,
            index: CallIndex((cookie >> 32) as u16),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_survives_the_cookie() {
        let arguments = [None, Argument::new(0), Argument::new(3), Argument::new(5)];
        for kind in [
            CallKind::Alloc,
            CallKind::Free,
            CallKind::Realloc,
            CallKind::ResizeInPlace,
            CallKind::Map,
            CallKind::Unmap,
            CallKind::Remap,
            CallKind::Exception,
        ] {
            for size in arguments {
                for pointer in arguments {
                    for result in [
                        CallResult::Returned,
                        CallResult::Nothing,
                        CallResult::Stored(Argument(0)),
                        CallResult::Stored(Argument(5)),
                    ] {
                        for zero_size_frees in [false, true] {
                            let spec = CallSpec {
                                kind,
                                size,
                                count: pointer,
                                pointer,
                                result,
                                zero_size_frees,
                                failure_frees: !zero_size_frees,
                                flags: size,
                                by_exits: zero_size_frees,
                                rounds: !zero_size_frees,
                                stepped: size.is_some(),
                                index: CallIndex(0xbeef),
                            };
                            assert_eq!(CallSpec::from_cookie(spec.to_cookie()), Some(spec));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_foreign_cookie_is_no_row() {
        assert_eq!(CallSpec::from_cookie(0), None);
        assert_eq!(CallSpec::from_cookie(u64::MAX), None);
    }

    #[test]
    fn the_seventh_argument_is_refused() {
        assert_eq!(Argument::new(6), None);
    }
}
