//! The target's executable mappings as the walk searches them: one sorted table in one map value, of which two exist.
//!
//! Double buffering: generation `g` lives in buffer `g & 1`. A refresh sets [`Generation::writing`] to `g + 1`, writes
//! buffer `(g + 1) & 1` whole, then sets [`Generation::published`]. A walk that began under `g` has been overtaken only if
//! `writing` has come past `g + 1`: see [`Generation::overtook`].

use super::bounded::{element, less};
use super::row::PAGE_SHIFT;

/// Executable mappings a table can hold. A power of two, for masked indexing.
pub const MAX_MAPPINGS: usize = 1024;

/// What a mapping is to the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MappingKind {
    /// Code; with or without a table.
    Code = 0,
    /// The kernel's page of return-probe trampolines (`[uprobes]`). Its entry begins one byte early: the return address that
    /// the kernel plants is the page's first byte, and return addresses are looked up less one.
    Trampoline = 1,
}

/// One executable mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MappingEntry {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Runtime address of the first byte of the table's first page: load bias plus the table's base, 1 KiB aligned.
    pub origin: u64,
    /// Index of the table's first page in PAGES.
    pub first_page: u32,
    /// How many pages the table has; 0: no table.
    pub pages: u32,
    /// [`MappingKind`] as a number.
    pub kind: u32,
    /// Keeps entries 8-aligned without hidden bytes.
    pub padding: u32,
}

const _: () = assert!(size_of::<MappingEntry>() == 40);

impl MappingEntry {
    /// Sorts behind every mapping and covers no address; below 2⁶³ as the search wants all its addresses.
    pub const UNUSED: Self = Self {
        start: i64::MAX as u64,
        end: 0,
        origin: 0,
        first_page: 0,
        pages: 0,
        kind: 0,
        padding: 0,
    };

    /// Index in PAGES of the page that covers `address`; `None` when the table does not reach it.
    #[must_use]
    #[inline(always)]
    pub fn page_of(&self, address: u64) -> Option<u32> {
        let page = address.wrapping_sub(self.origin) >> PAGE_SHIFT;
        (page < u64::from(self.pages)).then(|| self.first_page.wrapping_add(page as u32))
    }
}

/// All executable mappings of one generation: one element of the MAPPINGS array.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MappingTable {
    /// Sorted by start, not overlapping; the rest is [`MappingEntry::UNUSED`].
    pub entries: [MappingEntry; MAX_MAPPINGS],
}

impl MappingTable {
    /// A table without mappings.
    pub const EMPTY: Self = Self {
        entries: [MappingEntry::UNUSED; MAX_MAPPINGS],
    };

    /// The mapping that covers `address`.
    ///
    /// Ten halvings without a branch. User addresses are below 2⁶³, as [`less`] wants them.
    #[must_use]
    #[inline(always)]
    pub fn find(&self, address: u64) -> Option<&MappingEntry> {
        let address = address & (i64::MAX as u64 >> 1);
        let mut position = 0u32;
        let mut shift = MAX_MAPPINGS.trailing_zeros();
        while shift > 0 {
            shift -= 1;
            let probe = position + (1 << shift);
            let starts = element(&self.entries, probe).start;
            position += (less(starts, address + 1) as u32) << shift;
        }
        let entry = element(&self.entries, position);
        (entry.start <= address && address < entry.end).then_some(entry)
    }
}

/// Which buffer is to be read: element 0 of the UNWIND_GENERATION array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Generation {
    /// Generation that walks are to use; 0: no table has been written yet.
    pub published: u64,
    /// Generation whose buffer is, or was last, being written.
    pub writing: u64,
}

impl Generation {
    /// The buffer of a generation.
    #[must_use]
    #[inline(always)]
    pub const fn buffer(generation: u64) -> u32 {
        (generation & 1) as u32
    }

    /// Whether the buffer that a walk of generation `began` read may have been rewritten under it.
    #[must_use]
    #[inline(always)]
    pub const fn overtook(writing: u64, began: u64) -> bool {
        writing > began.wrapping_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(start: u64, end: u64) -> MappingEntry {
        MappingEntry {
            start,
            end,
            origin: start,
            first_page: 7,
            pages: 2,
            kind: MappingKind::Code as u32,
            padding: 0,
        }
    }

    #[test]
    fn mappings_are_found_and_holes_are_not() {
        for count in [0, 1, 2, 3, 511, 512, 513, MAX_MAPPINGS] {
            let mut table = MappingTable::EMPTY;
            for (i, slot) in table.entries.iter_mut().enumerate().take(count) {
                *slot = entry(0x1000 + i as u64 * 0x100, 0x1080 + i as u64 * 0x100);
            }
            for i in 0..count as u64 {
                let start = 0x1000 + i * 0x100;
                for (address, covered) in [
                    (start - 1, false),
                    (start, true),
                    (start + 0x7f, true),
                    (start + 0x80, false),
                ] {
                    let found = table.find(address).map(|entry| entry.start);
                    assert_eq!(found, covered.then_some(start), "{count} {address:x}");
                }
            }
            assert_eq!(table.find(0), None);
            assert_eq!(table.find(i64::MAX as u64), None);
            assert_eq!(table.find(u64::MAX), None);
        }
    }

    #[test]
    fn pages_outside_the_table_are_refused() {
        let mapping = entry(0x10000, 0x20000);
        assert_eq!(mapping.page_of(0x10000), Some(7));
        assert_eq!(mapping.page_of(0x107ff), Some(8));
        assert_eq!(mapping.page_of(0x10800), None);
        assert_eq!(mapping.page_of(0xffff), None);
    }

    #[test]
    fn one_refresh_leaves_a_walk_its_buffer_and_the_second_takes_it() {
        assert!(!Generation::overtook(5, 5));
        assert!(!Generation::overtook(6, 5));
        assert!(Generation::overtook(7, 5));
    }
}
