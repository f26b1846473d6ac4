//! The tables of all of a target's mappings, laid out flat for the kernel's arrays.
//!
//! PAGES and ROWS only grow during a session: a refresh appends the tables of newly mapped images and writes a new mapping
//! table, so a walk under way never sees rows move. The layout is saved with the session; any later command goes on
//! from it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use memscope_ebpf::unwind::mapping::{MAX_MAPPINGS, MappingEntry, MappingKind, MappingTable};
use memscope_ebpf::unwind::row::{Page, Row};
use serde::{Deserialize, Serialize};

use super::table::{Coverage, SegmentPlace, UnwindTable, load_bias};
use crate::target::address::{ElfAddress, FileOffset, RuntimeAddress};

/// Names an image: the same key is the same bytes. A build id, or device, inode and change time where there is none.
pub type ImageKey = String;

/// What an executable mapping holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeSource {
    /// An ELF image.
    Image(ImageKey),
    /// Code without a file: a JIT's.
    Bare,
    /// `[uprobes]`: the kernel's trampolines of return probes.
    Trampoline,
}

/// One executable mapping of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeMapping {
    /// First address.
    pub start: RuntimeAddress,
    /// One past the last.
    pub end: RuntimeAddress,
    /// Where in the file it begins.
    pub offset: FileOffset,
    /// What it holds.
    pub source: CodeSource,
}

/// Where a table has been put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Index of its first page in PAGES.
    pub first_page: u32,
    /// Number of its pages; 0: the image has no table, or there was no room for it.
    pub pages: u32,
    /// ELF address of its first page.
    pub base: ElfAddress,
    /// Executable segments of the image.
    pub segments: Vec<SegmentPlace>,
    /// How much of the image's code it serves.
    pub coverage: Coverage,
}

/// What is where in PAGES and ROWS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    page_capacity: u32,
    row_capacity: u32,
    pages: u32,
    rows: u32,
    placed: BTreeMap<ImageKey, Placed>,
}

/// What one refresh adds: to be written into PAGES and ROWS first, then as the new generation's mapping table.
#[derive(Clone, Debug)]
pub struct Refresh {
    /// Where in PAGES the new pages go.
    pub first_page: u32,
    /// New elements of PAGES.
    pub pages: Vec<Page>,
    /// Where in ROWS the new rows go.
    pub first_row: u32,
    /// New elements of ROWS.
    pub rows: Vec<Row>,
    /// The new generation's mapping table.
    pub mappings: Box<MappingTable>,
    /// Mappings in it.
    pub mapped: usize,
    /// Images whose tables found no room: their frames are followed by frame pointer, if at all.
    pub without_room: Vec<ImageKey>,
    /// Executable mappings past [`MAX_MAPPINGS`]: stacks end there.
    pub mappings_left_out: usize,
}

impl Layout {
    /// Nothing placed yet, in arrays with these capacities.
    #[must_use]
    pub fn new(page_capacity: u32, row_capacity: u32) -> Self {
        Self {
            page_capacity,
            row_capacity,
            pages: 0,
            rows: 0,
            placed: BTreeMap::new(),
        }
    }

    /// Every image seen so far, with its coverage.
    pub fn placed(&self) -> impl Iterator<Item = (&str, &Placed)> {
        self.placed.iter().map(|(key, placed)| (key.as_str(), placed))
    }

    /// Pages and rows in use.
    #[must_use]
    pub fn used(&self) -> (u32, u32) {
        (self.pages, self.rows)
    }

    /// Pages and rows not in use.
    #[must_use]
    pub fn room(&self) -> (u32, u32) {
        let left = |capacity: u32, used: u32| capacity.saturating_sub(used);
        (left(self.page_capacity, self.pages), left(self.row_capacity, self.rows))
    }

    /// Places the tables of images not seen before, and makes the mapping table. `load` is asked once for each new image;
    /// `None`: it has no table.
    pub fn refresh(
        &mut self,
        mappings: &[CodeMapping],
        mut load: impl FnMut(&str) -> Option<Arc<UnwindTable>>,
    ) -> Refresh {
        let mut refresh = Refresh {
            first_page: self.pages,
            pages: Vec::new(),
            first_row: self.rows,
            rows: Vec::new(),
            mappings: Box::new(MappingTable::EMPTY),
            mapped: 0,
            without_room: Vec::new(),
            mappings_left_out: 0,
        };
        let mut entries: Vec<MappingEntry> = Vec::new();
        for mapping in mappings {
            if let CodeSource::Image(key) = &mapping.source
                && !self.placed.contains_key(key)
            {
                let placed = self.place(key, load(key).as_deref(), &mut refresh);
                self.placed.insert(key.clone(), placed);
            }
            let entry = self.entry(mapping);
            match entries.last_mut() {
                // A JIT maps its code in many small pieces.
                Some(last) if last.end == entry.start && is_bare(last) && is_bare(&entry) => last.end = entry.end,
                _ => entries.push(entry),
            }
        }
        refresh.mappings_left_out = entries.len().saturating_sub(MAX_MAPPINGS);
        if refresh.mappings_left_out > 0 {
            entries.sort_by_key(precedence);
            entries.truncate(MAX_MAPPINGS);
        }
        entries.sort_by_key(|entry| entry.start);
        refresh.mapped = entries.len();
        refresh.mappings.entries[..entries.len()].copy_from_slice(&entries);
        refresh
    }

    fn place(&mut self, key: &str, table: Option<&UnwindTable>, refresh: &mut Refresh) -> Placed {
        let mut placed = Placed {
            first_page: self.pages,
            pages: 0,
            base: ElfAddress(0),
            segments: Vec::new(),
            coverage: Coverage::default(),
        };
        let Some(table) = table else {
            return placed;
        };
        placed.base = table.base;
        placed.segments.clone_from(&table.segments);
        placed.coverage = table.coverage;
        let room_for = |used: u32, more: usize, capacity: u32| {
            u32::try_from(more)
                .ok()
                .filter(|more| used.checked_add(*more).is_some_and(|sum| sum <= capacity))
        };
        let (Some(pages), Some(rows)) = (
            room_for(self.pages, table.pages.len(), self.page_capacity),
            room_for(self.rows, table.rows.len(), self.row_capacity),
        ) else {
            refresh.without_room.push(key.to_owned());
            return placed;
        };
        refresh.pages.extend(table.pages.iter().map(|page| Page {
            first_row: page.first_row.wrapping_add(self.rows),
            rows: page.rows,
        }));
        refresh.rows.extend_from_slice(&table.rows);
        placed.pages = pages;
        self.pages += pages;
        self.rows += rows;
        placed
    }

    fn entry(&self, mapping: &CodeMapping) -> MappingEntry {
        let mut entry = MappingEntry {
            start: mapping.start.0,
            end: mapping.end.0,
            origin: 0,
            first_page: 0,
            pages: 0,
            kind: MappingKind::Code as u32,
            padding: 0,
        };
        match &mapping.source {
            CodeSource::Trampoline => {
                entry.kind = MappingKind::Trampoline as u32;
                entry.start = entry.start.saturating_sub(1);
            }
            CodeSource::Bare => {}
            CodeSource::Image(key) => {
                if let Some(placed) = self.placed.get(key)
                    && let Some(bias) = load_bias(&placed.segments, mapping.start, mapping.offset)
                {
                    entry.origin = bias.wrapping_add(placed.base.0);
                    entry.first_page = placed.first_page;
                    entry.pages = placed.pages;
                }
            }
        }
        entry
    }
}

/// What stays when there are too many: the trampolines, code with a table, other code, each by size. Nearly every stack ends
/// in libc, which is mapped above all that the target maps itself.
fn precedence(entry: &MappingEntry) -> (bool, bool, Reverse<u64>) {
    let size = entry.end.saturating_sub(entry.start);
    (
        entry.kind != MappingKind::Trampoline as u32,
        entry.pages == 0,
        Reverse(size),
    )
}

fn is_bare(entry: &MappingEntry) -> bool {
    entry.pages == 0 && entry.kind == MappingKind::Code as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use memscope_ebpf::unwind::row::RowKind;

    fn table(rows: usize) -> Arc<UnwindTable> {
        Arc::new(UnwindTable {
            base: ElfAddress(0x1000),
            pages: vec![Page {
                first_row: 0,
                rows: rows as u32,
            }],
            rows: vec![Row::bare(RowKind::Outermost).at(0, 9); rows],
            segments: vec![SegmentPlace {
                offset: FileOffset(0x1000),
                address: ElfAddress(0x1000),
                size: 0x400,
            }],
            coverage: Coverage::default(),
        })
    }

    fn image(start: u64, key: &str) -> CodeMapping {
        CodeMapping {
            start: RuntimeAddress(start),
            end: RuntimeAddress(start + 0x1000),
            offset: FileOffset(0x1000),
            source: CodeSource::Image(key.to_owned()),
        }
    }

    #[test]
    fn a_refresh_appends_only_what_is_new() {
        let mut layout = Layout::new(10, 10);
        let first = layout.refresh(&[image(0x7000, "a"), image(0x5000, "a")], |_| Some(table(3)));
        assert_eq!((first.pages.len(), first.rows.len(), first.mapped), (1, 3, 2));
        assert_eq!(first.mappings.entries[0].start, 0x5000);
        assert_eq!(first.mappings.entries[0].origin, 0x5000);
        let second = layout.refresh(&[image(0x7000, "a"), image(0x9000, "b")], |key| {
            assert_eq!(key, "b");
            Some(table(2))
        });
        assert_eq!((second.first_page, second.first_row), (1, 3));
        assert_eq!(second.pages, [Page { first_row: 3, rows: 2 }]);
        assert_eq!(layout.used(), (2, 5));
    }

    #[test]
    fn what_finds_no_room_is_named_and_mapped_without_a_table() {
        let mut layout = Layout::new(10, 4);
        let refresh = layout.refresh(&[image(0x7000, "a"), image(0x9000, "b")], |_| Some(table(3)));
        assert_eq!(refresh.without_room, ["b"]);
        assert_eq!(refresh.mappings.entries[1].pages, 0);
        assert_eq!(layout.used(), (1, 3));
    }

    #[test]
    fn the_trampoline_page_begins_a_byte_early() {
        let page = CodeMapping {
            source: CodeSource::Trampoline,
            ..image(0x7000, "")
        };
        let refresh = Layout::new(1, 1).refresh(&[page], |_| None);
        let found = refresh.mappings.find(0x6fff).unwrap();
        assert_eq!(found.kind, MappingKind::Trampoline as u32);
    }

    #[test]
    fn neighbouring_code_without_files_is_one_mapping_and_the_rest_is_counted() {
        let bare = |start: u64, size: u64| CodeMapping {
            start: RuntimeAddress(start),
            end: RuntimeAddress(start + size),
            offset: FileOffset(0),
            source: CodeSource::Bare,
        };
        let mut layout = Layout::new(1, 1);
        let joined = layout.refresh(&[bare(0x1000, 0x1000), bare(0x2000, 0x1000)], |_| None);
        assert_eq!(joined.mapped, 1);
        let many: Vec<CodeMapping> = (0..MAX_MAPPINGS as u64 + 5).map(|i| bare(i << 16, 0x1000)).collect();
        let refresh = layout.refresh(&many, |_| None);
        assert_eq!((refresh.mapped, refresh.mappings_left_out), (MAX_MAPPINGS, 5));
    }

    #[test]
    fn of_too_many_mappings_those_with_tables_and_the_trampolines_stay_wherever_they_are() {
        let mut mappings: Vec<CodeMapping> = (1..=1100)
            .map(|i| CodeMapping {
                start: RuntimeAddress(i << 16),
                end: RuntimeAddress((i << 16) + if i == 1000 { 0x2000 } else { 0x1000 }),
                offset: FileOffset(0),
                source: CodeSource::Bare,
            })
            .collect();
        mappings.push(image(0x7000_0000_0000, "libc"));
        mappings.push(CodeMapping {
            source: CodeSource::Trampoline,
            ..image(0x7fff_0000_0000, "")
        });
        let refresh = Layout::new(1, 9).refresh(&mappings, |_| Some(table(3)));
        assert_eq!((refresh.mapped, refresh.mappings_left_out), (MAX_MAPPINGS, 78));
        let find = |address: u64| refresh.mappings.find(address);
        assert_eq!(find(0x7000_0000_0000).expect("libc").pages, 1);
        assert_eq!(
            find(0x7fff_0000_0000).expect("a page").kind,
            MappingKind::Trampoline as u32
        );
        assert!(find((1000 << 16) + 0x1000).is_some(), "the larger of the others");
        assert!(find(1 << 16).is_some() && find(1100 << 16).is_none());
    }
}
