//! A stack of a real program with everything that walking it needs — registers, the words of stack memory, the pages of the
//! tables — and the answer, as text: so that the kernel's walk can be tried against it without that program.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use memscope_ebpf::site::{INTERRUPTED, StackEnd};
use memscope_ebpf::unwind::cache::{CACHE_ENTRIES, CacheEntry};
use memscope_ebpf::unwind::lookup::Tables;
use memscope_ebpf::unwind::mapping::{MAX_MAPPINGS, MappingEntry, MappingTable};
use memscope_ebpf::unwind::row::{PAGE_BYTES, Page, Row};
use memscope_ebpf::unwind::walk::{Registers, Target, walk};

use super::replay::{ReplayTables, ReplayedStack};

/// What was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedStack {
    /// What makes it worth keeping.
    pub about: String,
    /// What the walk begins with.
    pub registers: Registers,
    /// The walk's answer when it was recorded, held against a debugger's then.
    pub answer: ReplayedStack,
    mappings: Vec<MappingEntry>,
    /// By their index.
    pages: BTreeMap<u32, Page>,
    rows: Vec<Row>,
    words: BTreeMap<u64, u64>,
}

impl RecordedStack {
    /// Walks a stack and keeps all that the walk looks at, and its answer.
    pub fn record(about: &str, registers: Registers, tables: &ReplayTables, read: impl Fn(u64) -> Option<u64>) -> Self {
        let kept = RefCell::new(Self {
            about: about.to_owned(),
            registers,
            answer: ReplayedStack {
                frames: Vec::new(),
                end: StackEnd::Outermost,
                flags: 0,
            },
            mappings: Vec::new(),
            pages: BTreeMap::new(),
            rows: Vec::new(),
            words: BTreeMap::new(),
        });
        let mut looking = Looking {
            tables,
            read: |address| {
                let word = read(address)?;
                kept.borrow_mut().words.insert(address, word);
                Some(word)
            },
            frames: Vec::new(),
            cache: None,
            kept: Some(&kept),
        };
        let answer = looking.walk(registers);
        let mut kept = kept.into_inner();
        kept.mappings.sort_by_key(|mapping| mapping.start);
        kept.answer = answer;
        kept
    }

    /// Walks it again, `times` with the same rule cache; the last answer.
    #[must_use]
    pub fn walk(&self, times: u32) -> ReplayedStack {
        let mut table = Box::new(MappingTable::EMPTY);
        table.entries[..self.mappings.len()].copy_from_slice(&self.mappings);
        let image = Image { recorded: self, table };
        let mut looking = Looking {
            tables: &image,
            read: |address| self.words.get(&address).copied(),
            frames: Vec::new(),
            cache: Some((0..CACHE_ENTRIES).map(|_| CacheEntry::default()).collect()),
            kept: None,
        };
        (1..times).for_each(|_| drop(looking.walk(self.registers)));
        looking.walk(self.registers)
    }

    /// Reads what [`fmt::Display`] wrote; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut recorded = Self {
            about: String::new(),
            registers: Registers { ip: 0, sp: 0, bp: 0 },
            answer: ReplayedStack {
                frames: Vec::new(),
                end: StackEnd::Outermost,
                flags: 0,
            },
            mappings: Vec::new(),
            pages: BTreeMap::new(),
            rows: Vec::new(),
            words: BTreeMap::new(),
        };
        for line in text.lines() {
            let (key, rest) = line.split_once(' ')?;
            let numbers = || -> Option<Vec<u64>> {
                rest.split(' ')
                    .map(|number| u64::from_str_radix(number, 16).ok())
                    .collect()
            };
            match key {
                "about" => rest.clone_into(&mut recorded.about),
                "end" => recorded.answer.end = StackEnd::ALL.into_iter().find(|end| end.text() == rest)?,
                "flags" => recorded.answer.flags = rest.parse().ok()?,
                "registers" => {
                    let [ip, sp, bp] = numbers()?.try_into().ok()?;
                    recorded.registers = Registers { ip, sp, bp };
                }
                "mapping" => {
                    let [start, end, origin, first_page, pages, kind] = numbers()?.try_into().ok()?;
                    recorded.mappings.push(MappingEntry {
                        start,
                        end,
                        origin,
                        first_page: u32::try_from(first_page).ok()?,
                        pages: u32::try_from(pages).ok()?,
                        kind: u32::try_from(kind).ok()?,
                        padding: 0,
                    });
                }
                "page" => {
                    let numbers = numbers()?;
                    let (index, rows) = numbers.split_first()?;
                    recorded.keep_page(u32::try_from(*index).ok()?, rows.iter().map(|row| Row(*row)));
                }
                "word" => {
                    let [address, word] = numbers()?.try_into().ok()?;
                    recorded.words.insert(address, word);
                }
                "frame" => recorded.answer.frames.push(*numbers()?.first()?),
                _ => return None,
            }
        }
        (recorded.mappings.len() <= MAX_MAPPINGS).then_some(recorded)
    }

    fn keep_page(&mut self, index: u32, rows: impl Iterator<Item = Row>) {
        let first_row = self.rows.len() as u32;
        self.rows.extend(rows);
        let rows = self.rows.len() as u32 - first_row;
        self.pages.insert(index, Page { first_row, rows });
    }
}

impl fmt::Display for RecordedStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Registers { ip, sp, bp } = self.registers;
        writeln!(f, "about {}\nregisters {ip:x} {sp:x} {bp:x}", self.about)?;
        for mapping in &self.mappings {
            let MappingEntry {
                start,
                end,
                origin,
                first_page,
                pages,
                kind,
                ..
            } = mapping;
            writeln!(
                f,
                "mapping {start:x} {end:x} {origin:x} {first_page:x} {pages:x} {kind:x}"
            )?;
        }
        for (index, page) in &self.pages {
            let mut line = format!("page {index:x}");
            for row in &self.rows[page.first_row as usize..(page.first_row + page.rows) as usize] {
                write!(line, " {:x}", row.0)?;
            }
            writeln!(f, "{line}")?;
        }
        for (address, word) in &self.words {
            writeln!(f, "word {address:x} {word:x}")?;
        }
        for frame in &self.answer.frames {
            writeln!(f, "frame {frame:x}")?;
        }
        writeln!(f, "end {}\nflags {}", self.answer.end.text(), self.answer.flags)
    }
}

/// Recorded tables, searched as the kernel's are.
struct Image<'a> {
    recorded: &'a RecordedStack,
    table: Box<MappingTable>,
}

impl Tables for Image<'_> {
    fn mapping(&self, address: u64) -> Option<&MappingEntry> {
        self.table.find(address)
    }

    fn page(&self, index: u32) -> Option<Page> {
        self.recorded.pages.get(&index).copied()
    }

    fn row(&self, index: u32) -> Option<Row> {
        self.recorded.rows.get(index as usize).copied()
    }
}

/// A walk's world; with `kept`, what it looks at in the tables is put there.
struct Looking<'a, T, R> {
    tables: &'a T,
    read: R,
    frames: Vec<u64>,
    cache: Option<Vec<CacheEntry>>,
    kept: Option<&'a RefCell<RecordedStack>>,
}

impl<T: Tables, R: Fn(u64) -> Option<u64>> Looking<'_, T, R> {
    fn walk(&mut self, registers: Registers) -> ReplayedStack {
        self.frames.clear();
        let ended = walk(registers, self);
        ReplayedStack {
            frames: self.frames.clone(),
            end: StackEnd::from_number(ended.end as u8).unwrap_or(StackEnd::UnsupportedRule),
            flags: ended.flags,
        }
    }
}

impl<T: Tables, R> Tables for Looking<'_, T, R> {
    fn mapping(&self, address: u64) -> Option<&MappingEntry> {
        let found = self.tables.mapping(address)?;
        if let Some(kept) = self.kept
            && !kept.borrow().mappings.contains(found)
        {
            kept.borrow_mut().mappings.push(*found);
        }
        Some(found)
    }

    fn page(&self, index: u32) -> Option<Page> {
        let page = self.tables.page(index)?;
        if let Some(kept) = self.kept
            && !kept.borrow().pages.contains_key(&index)
        {
            let of_page = page.first_row..page.first_row + page.rows.min(PAGE_BYTES as u32);
            let rows = of_page.filter_map(|row| self.tables.row(row));
            kept.borrow_mut().keep_page(index, rows);
        }
        Some(page)
    }

    fn row(&self, index: u32) -> Option<Row> {
        self.tables.row(index)
    }
}

impl<T: Tables, R: Fn(u64) -> Option<u64>> Target for Looking<'_, T, R> {
    fn read_word(&mut self, address: u64) -> Option<u64> {
        (self.read)(address)
    }

    fn cache_entry(&self, index: u32) -> Option<&CacheEntry> {
        self.cache.as_ref()?.get(index as usize)
    }

    fn generation(&self) -> u64 {
        1
    }

    fn original_return(&self, _slot: u64) -> Option<u64> {
        None
    }

    fn record(&mut self, _index: u32, address: u64) {
        self.frames.push(address & !INTERRUPTED);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Recorded by `examples/record-stack.rs`, each held against gdb's frames when it was.
    const IMAGES: [(&str, &str); 13] = [
        ("alloca", include_str!("recorded/alloca.txt")),
        ("altstack", include_str!("recorded/altstack.txt")),
        ("callbacks", include_str!("recorded/callbacks.txt")),
        ("coroutine", include_str!("recorded/coroutine.txt")),
        ("deeper", include_str!("recorded/deeper.txt")),
        ("frame-pointers", include_str!("recorded/frame-pointers.txt")),
        ("loaded", include_str!("recorded/loaded.txt")),
        ("noreturn", include_str!("recorded/noreturn.txt")),
        ("plain", include_str!("recorded/plain.txt")),
        ("python3", include_str!("recorded/python3.txt")),
        ("realigned", include_str!("recorded/realigned.txt")),
        ("signal", include_str!("recorded/signal.txt")),
        ("spin", include_str!("recorded/spin.txt")),
    ];

    #[test]
    fn recorded_stacks_walk_to_their_golden_answers_cold_and_warm() {
        let mut ends = BTreeSet::new();
        for (name, text) in IMAGES {
            let recorded = RecordedStack::parse(text).unwrap_or_else(|| panic!("{name} cannot be read"));
            assert_eq!(recorded.to_string(), text, "{name}");
            assert_eq!(recorded.walk(1), recorded.answer, "{name}: {}", recorded.about);
            assert_eq!(recorded.walk(2), recorded.answer, "{name}, warm: {}", recorded.about);
            ends.insert(recorded.answer.end);
        }
        assert!(ends.len() >= 3, "{ends:?}");
    }
}
