//! The kernel's walk in user space: over a session's tables and recorded (or the caller's own) stack memory.

use std::cell::RefCell;

use memscope_ebpf::site::{INTERRUPTED, StackEnd};
use memscope_ebpf::unwind::cache::{CACHE_ENTRIES, CacheEntry};
use memscope_ebpf::unwind::lookup::Tables;
use memscope_ebpf::unwind::mapping::{MappingEntry, MappingTable};
use memscope_ebpf::unwind::row::{Page, Row};
use memscope_ebpf::unwind::walk::{Progress, Registers, Target, Walk, walk};

use super::session::Refresh;

/// The flat tables as the kernel's arrays would hold them, with a rule cache.
pub struct ReplayTables {
    mappings: Box<MappingTable>,
    pages: Vec<Page>,
    rows: Vec<Row>,
    cache: Vec<CacheEntry>,
}

/// A stack that was walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedStack {
    /// Addresses, innermost first.
    pub frames: Vec<u64>,
    /// Why it ends.
    pub end: StackEnd,
    /// [`memscope_ebpf::unwind::walk::Walk::flags`].
    pub flags: u32,
}

impl ReplayTables {
    /// The tables of a layout's first refresh.
    #[must_use]
    pub fn new(refresh: Refresh) -> Self {
        Self {
            mappings: refresh.mappings,
            pages: refresh.pages,
            rows: refresh.rows,
            cache: (0..CACHE_ENTRIES).map(|_| CacheEntry::default()).collect(),
        }
    }

    /// Takes one step from a frame, and says where it leads: address, stack pointer, rbp. An `Err` is the end.
    pub fn step(
        &self,
        registers: Registers,
        read: impl Fn(u64) -> Option<u64>,
    ) -> Result<(u64, u64, Option<u64>), StackEnd> {
        let mut replay = Replay {
            tables: self,
            read,
            frames: &RefCell::new(Vec::new()),
        };
        let mut walk = Walk::begin(registers);
        match walk.step(&mut replay) {
            Progress::Continue => {
                let rbp = walk.read_rbp(&mut replay).ok();
                let (pc, sp) = walk.position();
                Ok((pc, sp, rbp))
            }
            Progress::Ended => Err(end_of(&walk)),
        }
    }

    /// Walks a stack whose memory `read` returns, 8 bytes at an address.
    pub fn walk(&self, registers: Registers, read: impl Fn(u64) -> Option<u64>) -> ReplayedStack {
        let frames = RefCell::new(Vec::new());
        let mut replay = Replay {
            tables: self,
            read,
            frames: &frames,
        };
        let ended = walk(registers, &mut replay);
        ReplayedStack {
            frames: frames.into_inner(),
            end: end_of(&ended),
            flags: ended.flags,
        }
    }
}

fn end_of(walk: &Walk) -> StackEnd {
    StackEnd::from_number(walk.end as u8).unwrap_or(StackEnd::UnsupportedRule)
}

impl Tables for ReplayTables {
    fn mapping(&self, address: u64) -> Option<&MappingEntry> {
        self.mappings.find(address)
    }

    fn page(&self, index: u32) -> Option<Page> {
        self.pages.get(index as usize).copied()
    }

    fn row(&self, index: u32) -> Option<Row> {
        self.rows.get(index as usize).copied()
    }
}

struct Replay<'a, R> {
    tables: &'a ReplayTables,
    read: R,
    frames: &'a RefCell<Vec<u64>>,
}

impl<R> Tables for Replay<'_, R> {
    fn mapping(&self, address: u64) -> Option<&MappingEntry> {
        self.tables.mapping(address)
    }

    fn page(&self, index: u32) -> Option<Page> {
        self.tables.page(index)
    }

    fn row(&self, index: u32) -> Option<Row> {
        self.tables.row(index)
    }
}

impl<R: Fn(u64) -> Option<u64>> Target for Replay<'_, R> {
    fn read_word(&mut self, address: u64) -> Option<u64> {
        (self.read)(address)
    }

    fn cache_entry(&self, index: u32) -> Option<&CacheEntry> {
        self.tables.cache.get(index as usize)
    }

    fn generation(&self) -> u64 {
        1
    }

    fn original_return(&self, _slot: u64) -> Option<u64> {
        None
    }

    fn record(&mut self, _index: u32, address: u64) {
        self.frames.borrow_mut().push(address & !INTERRUPTED);
    }
}
