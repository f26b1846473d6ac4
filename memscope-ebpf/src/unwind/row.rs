//! One row of an unwind table: how to find the caller's frame from any address in a short range of code. Eight bytes.
//!
//! Layout, bit 0 first: first address in its page 10, last address in its page 10, kind 4, rbp slot 8 (signed), offset 24
//! (signed), addend 8 (signed). All stack distances are counted in words of 8 bytes: the x86-64 psABI keeps rsp, and so
//! the CFA and every save slot, 8-aligned at calls. A row names the whole range it holds for, so an address that no row
//! covers is known to have none: pruned rows are never mistaken for their neighbours.

/// Bytes of code one page of a table covers.
pub const PAGE_BYTES: u64 = 1 << PAGE_SHIFT;
/// log2 of [`PAGE_BYTES`].
pub const PAGE_SHIFT: u32 = 10;

/// How the CFA of a frame is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RowKind {
    /// No row. What a lookup finds in code without CFI, or with a pruned row. Never stored.
    Gap = 0,
    /// CFA = rsp + offset.
    CfaFromRsp = 1,
    /// CFA = rbp + offset.
    CfaFromRbp = 2,
    /// CFA = [rbp + offset] + addend; the rbp slot counts from rbp. GCC's frames with stack realignment.
    CfaAtRbp = 3,
    /// CFA = [rsp + offset] + addend. Hand-written assembly that realigns its stack (OpenSSL).
    CfaAtRsp = 4,
    /// A signal handler's return: the kernel's `rt_sigframe` lies at rsp.
    SignalFrame = 5,
    /// The thread's outermost frame.
    Outermost = 6,
    /// CFI exists, but not of a kind that a row can hold.
    Unsupported = 7,
    /// The mapping has no table (JIT code, a file without CFI). Made by the lookup, never stored.
    NoTable = 8,
    /// The kernel's page of return-probe trampolines. Made by the lookup, never stored.
    Trampoline = 9,
    /// The address is in no executable mapping. Made by the lookup, never stored.
    NoMapping = 10,
}

/// Where the caller's rbp is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RbpRule {
    /// Not touched by this frame.
    Same,
    /// Saved at this distance, in words, from the CFA (from rbp for [`RowKind::CfaAtRbp`]).
    SavedAt(i8),
    /// Not recoverable.
    Lost,
}

const SAME: i8 = i8::MAX;
const LOST: i8 = i8::MIN;

const KIND_AT: u32 = 20;
const RBP_AT: u32 = 24;
const OFFSET_AT: u32 = 32;
const ADDEND_AT: u32 = 56;
const IN_PAGE: u64 = PAGE_BYTES - 1;

/// The largest offset a row can hold, in words: frames up to 64 MiB.
pub const MAX_OFFSET: i32 = (1 << 23) - 1;

/// A row as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Row(pub u64);

const _: () = assert!(size_of::<Row>() == 8);

impl Row {
    /// No row.
    pub const GAP: Self = Self::bare(RowKind::Gap);

    /// The rule part of a row, holding for no address yet: see [`Row::at`]. `None` when a distance does not fit.
    #[must_use]
    pub const fn rule(kind: RowKind, rbp: RbpRule, offset: i32, addend: i8) -> Option<Self> {
        if offset > MAX_OFFSET || offset < -MAX_OFFSET - 1 {
            return None;
        }
        let rbp = match rbp {
            RbpRule::Same => SAME,
            RbpRule::SavedAt(SAME | LOST) => return None,
            RbpRule::SavedAt(slot) => slot,
            RbpRule::Lost => LOST,
        };
        Some(Self(
            (kind as u64) << KIND_AT
                | (rbp as u8 as u64) << RBP_AT
                | (offset as u32 as u64 & 0xff_ffff) << OFFSET_AT
                | (addend as u8 as u64) << ADDEND_AT,
        ))
    }

    /// A rule without distances.
    #[must_use]
    #[inline(always)]
    pub const fn bare(kind: RowKind) -> Self {
        Self((kind as u64) << KIND_AT | (LOST as u8 as u64) << RBP_AT)
    }

    /// The same rule for the addresses from `first` to `last` (inclusive) of a page.
    #[must_use]
    pub const fn at(self, first: u16, last: u16) -> Self {
        Self(self.rule_bits() | first as u64 & IN_PAGE | (last as u64 & IN_PAGE) << PAGE_SHIFT)
    }

    /// The rule without its addresses.
    #[must_use]
    #[inline(always)]
    pub const fn rule_bits(self) -> u64 {
        self.0 & !(IN_PAGE | IN_PAGE << PAGE_SHIFT)
    }

    /// First address it holds for, counted from the start of its page.
    #[must_use]
    #[inline(always)]
    pub const fn first(self) -> u64 {
        self.0 & IN_PAGE
    }

    /// Last address it holds for, counted from the start of its page.
    #[must_use]
    #[inline(always)]
    pub const fn last(self) -> u64 {
        self.0 >> PAGE_SHIFT & IN_PAGE
    }

    /// The kind's number; a stored row that is not ours may hold one that names no kind.
    #[must_use]
    #[inline(always)]
    pub const fn kind_number(self) -> u8 {
        (self.0 >> KIND_AT & 0xf) as u8
    }

    /// The kind; `None` for a number that names none.
    #[must_use]
    #[inline(always)]
    pub const fn kind(self) -> Option<RowKind> {
        Some(match self.kind_number() {
            0 => RowKind::Gap,
            1 => RowKind::CfaFromRsp,
            2 => RowKind::CfaFromRbp,
            3 => RowKind::CfaAtRbp,
            4 => RowKind::CfaAtRsp,
            5 => RowKind::SignalFrame,
            6 => RowKind::Outermost,
            7 => RowKind::Unsupported,
            8 => RowKind::NoTable,
            9 => RowKind::Trampoline,
            10 => RowKind::NoMapping,
            _ => return None,
        })
    }

    /// Where the caller's rbp is.
    #[must_use]
    #[inline(always)]
    pub const fn rbp(self) -> RbpRule {
        match (self.0 >> RBP_AT) as u8 as i8 {
            SAME => RbpRule::Same,
            LOST => RbpRule::Lost,
            slot => RbpRule::SavedAt(slot),
        }
    }

    /// Offset in bytes, to be added with wrapping.
    #[must_use]
    #[inline(always)]
    pub const fn offset_bytes(self) -> u64 {
        // Shifted to the top and back down by three less than it went up: sign-extended and multiplied by 8 at once.
        (((self.0 << 8) as i64) >> 40 << 3) as u64
    }

    /// Addend in bytes, to be added with wrapping.
    #[must_use]
    #[inline(always)]
    pub const fn addend_bytes(self) -> u64 {
        ((self.0 as i64) >> ADDEND_AT << 3) as u64
    }
}

/// One page of a table: where the rows of 1 KiB of code are. Eight bytes, as the kernel's arrays round up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Page {
    /// Index of the page's first row.
    pub first_row: u32,
    /// How many rows it has, sorted by first address, not overlapping; at most [`PAGE_BYTES`].
    pub rows: u32,
}

const _: () = assert!(size_of::<Page>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_at_their_limits_survive_packing() {
        for offset in [0, 1, -1, 2, MAX_OFFSET, -MAX_OFFSET - 1] {
            for addend in [0, 1, -1, i8::MAX, i8::MIN] {
                for rbp in [
                    RbpRule::Same,
                    RbpRule::Lost,
                    RbpRule::SavedAt(-2),
                    RbpRule::SavedAt(0),
                    RbpRule::SavedAt(126),
                    RbpRule::SavedAt(-127),
                ] {
                    let row = Row::rule(RowKind::CfaAtRbp, rbp, offset, addend).unwrap().at(3, 1023);
                    assert_eq!((row.first(), row.last()), (3, 1023));
                    assert_eq!(row.kind(), Some(RowKind::CfaAtRbp));
                    assert_eq!(row.rbp(), rbp);
                    assert_eq!(row.offset_bytes() as i64, i64::from(offset) * 8);
                    assert_eq!(row.addend_bytes() as i64, i64::from(addend) * 8);
                    assert_eq!(row.at(0, 0).rule_bits(), row.rule_bits());
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let rule = |rbp, offset| Row::rule(RowKind::CfaFromRsp, rbp, offset, 0);
        assert_eq!(rule(RbpRule::Same, MAX_OFFSET + 1), None);
        assert_eq!(rule(RbpRule::Same, i32::MIN), None);
        assert_eq!(rule(RbpRule::SavedAt(i8::MAX), 1), None);
        assert_eq!(rule(RbpRule::SavedAt(i8::MIN), 1), None);
    }

    #[test]
    fn kinds_are_found_by_their_number() {
        for number in 0..16 {
            if let Some(kind) = Row(number << KIND_AT).kind() {
                assert_eq!(kind as u64, number);
                assert_eq!(Row::bare(kind).kind(), Some(kind));
            } else {
                assert!(number > 10);
            }
        }
    }
}
