//! The tables of all of a target's mappings, laid out flat for the kernel's arrays.
//!
//! PAGES and ROWS only grow during a session: a refresh appends the tables of newly mapped images and writes a new mapping
//! table, so a walk under way never sees rows move. The layout is saved with the session; any later command goes on
//! from it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use memscope_ebpf::unwind::mapping::{MAX_MAPPINGS, MappingEntry, MappingKind, MappingTable};
use memscope_ebpf::unwind::row::{Page, Row};
use serde::{Deserialize, Serialize};

use super::table::{Coverage, SegmentPlace, UnwindTable, load_bias};
use crate::target::address::{ElfAddress, FileOffset, RuntimeAddress};

/// The most images with tables that a session has, some 300 bytes each in its file, 4 KiB at worst. A process has hundreds; one
/// that loads ever new ones would let the file grow without end. Those without one are remembered up to twice as many in all.
pub const MOST_IMAGES: usize = 1 << 12;

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

/// Room for tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRoom {
    /// Of so many images.
    pub images: usize,
    /// Of so many pages together.
    pub pages: u32,
    /// Of so many rows.
    pub rows: u32,
}

impl TableRoom {
    /// Takes a table's part, if it is there.
    pub fn take(&mut self, table: &UnwindTable) -> bool {
        let left = |room: u32, part: usize| u32::try_from(part).ok().and_then(|part| room.checked_sub(part));
        let (Some(images), Some(pages), Some(rows)) = (
            self.images.checked_sub(usize::from(!table.pages.is_empty())),
            left(self.pages, table.pages.len()),
            left(self.rows, table.rows.len()),
        ) else {
            return false;
        };
        *self = Self { images, pages, rows };
        true
    }
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
    pub left_out: LeftOutMappings,
}

/// Executable mappings that found no place in the mapping table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOutMappings {
    /// Of images with an unwind table.
    pub with_table: usize,
    /// Of other code, which could at best be gone through by frame pointer.
    pub without_table: usize,
}

impl LeftOutMappings {
    /// Both together.
    #[must_use]
    pub const fn all(self) -> usize {
        self.with_table + self.without_table
    }
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

    /// What tables may still take.
    #[must_use]
    pub fn room(&self) -> TableRoom {
        TableRoom {
            images: MOST_IMAGES.saturating_sub(self.with_table()),
            pages: self.page_capacity.saturating_sub(self.pages),
            rows: self.row_capacity.saturating_sub(self.rows),
        }
    }

    /// Whether an image's table has been asked for.
    #[must_use]
    pub fn knows(&self, key: &str) -> bool {
        self.placed.contains_key(key)
    }

    fn with_table(&self) -> usize {
        self.placed.values().filter(|placed| placed.pages > 0).count()
    }

    /// Places the tables of images not seen before, and makes the mapping table. `load` is asked once for each new image;
    /// `None`: it has no table. Where there are too many mappings, those of the images in `needed` stay.
    pub fn refresh(
        &mut self,
        mappings: &[CodeMapping],
        needed: &BTreeSet<ImageKey>,
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
            left_out: LeftOutMappings::default(),
        };
        self.forget_unmapped(mappings);
        let mut kept: Vec<Candidate> = Vec::new();
        for mapping in mappings {
            let mut is_needed = false;
            if let CodeSource::Image(key) = &mapping.source {
                is_needed = needed.contains(key);
                if !self.placed.contains_key(key) {
                    let placed = self.place(key, load(key).as_deref(), &mut refresh);
                    if placed.pages > 0 || self.placed.len() < 2 * MOST_IMAGES {
                        self.placed.insert(key.clone(), placed);
                    }
                }
            }
            let entry = self.entry(mapping);
            match kept.last_mut() {
                // A JIT maps its code in many small pieces.
                Some(last) if last.entry.end == entry.start && is_bare(&last.entry) && is_bare(&entry) => {
                    last.entry.end = entry.end;
                    last.is_needed |= is_needed;
                }
                _ => kept.push(Candidate { entry, is_needed }),
            }
        }
        if kept.len() > MAX_MAPPINGS {
            kept.sort_by_key(Candidate::precedence);
            let left_out = kept.split_off(MAX_MAPPINGS);
            let without_table = left_out.iter().filter(|left| left.entry.pages == 0).count();
            refresh.left_out = LeftOutMappings {
                with_table: left_out.len() - without_table,
                without_table,
            };
        }
        kept.sort_by_key(|kept| kept.entry.start);
        refresh.mapped = kept.len();
        for (place, kept) in refresh.mappings.entries.iter_mut().zip(&kept) {
            *place = kept.entry;
        }
        refresh
    }

    /// Images without a table take no room in the arrays; they are remembered while they are mapped, so that they are not read
    /// again at every look.
    fn forget_unmapped(&mut self, mappings: &[CodeMapping]) {
        let mapped: BTreeSet<&str> = mappings
            .iter()
            .filter_map(|mapping| match &mapping.source {
                CodeSource::Image(key) => Some(key.as_str()),
                CodeSource::Bare | CodeSource::Trampoline => None,
            })
            .collect();
        self.placed
            .retain(|key, placed| placed.pages > 0 || mapped.contains(key.as_str()));
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
        let all = self.room();
        let mut room = all;
        if !room.take(table) {
            refresh.without_room.push(key.to_owned());
            return placed;
        }
        refresh.pages.extend(table.pages.iter().map(|page| Page {
            first_row: page.first_row.wrapping_add(self.rows),
            rows: page.rows,
        }));
        refresh.rows.extend_from_slice(&table.rows);
        placed.pages = all.pages - room.pages;
        self.pages += placed.pages;
        self.rows += all.rows - room.rows;
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

/// What may become an entry of the mapping table.
struct Candidate {
    entry: MappingEntry,
    is_needed: bool,
}

impl Candidate {
    /// What stays when there are too many: the trampolines, the images that stacks need, code with a table, other code, each
    /// by size.
    fn precedence(&self) -> (bool, bool, bool, Reverse<u64>) {
        let entry = &self.entry;
        (
            entry.kind != MappingKind::Trampoline as u32,
            !self.is_needed,
            entry.pages == 0,
            Reverse(entry.end.saturating_sub(entry.start)),
        )
    }
}

fn is_bare(entry: &MappingEntry) -> bool {
    entry.pages == 0 && entry.kind == MappingKind::Code as u32
}

#[cfg(test)]
mod tests;
