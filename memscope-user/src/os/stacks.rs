//! Key `s`: the stack of each thread — size, used now, the deepest page ever touched, guard.

use std::io::{self, Write};

use procfs::process::{MemoryPageFlags, PageInfo, PageMap};
use serde::Serialize;

use super::call_stack::kernel_registers;
use super::error::{OsError, io_error};
use super::process_files::ProcessFiles;
use super::quantity::Bytes;
use super::thread_stack::{StackPointer, mapping_of, stack_pointer};
use crate::report::Escaped;
use crate::target::mapping::Mapping;

/// What the line at the end says.
pub const MEANS: &str = "a peak near its size is a stack about to overflow; a peak is of whichever thread had the stack, as \
                         threads that end leave theirs to new ones";

/// Pages of a stack looked at in one read.
const PAGES_AT_ONCE: usize = 4096;

/// The answer.
#[derive(Debug, Serialize)]
pub struct Stacks {
    /// By thread id.
    pub stacks: Vec<ThreadStackSize>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// One thread's stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThreadStackSize {
    /// Which thread.
    pub tid: u32,
    /// Its name, lossy.
    pub name: String,
    /// The stack; `None` when it could not be found.
    pub stack: Option<StackExtent>,
}

/// A stack. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StackExtent {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Bytes it may take: of the main thread's, which grows, the limit; `None` for no limit.
    pub size: Option<u64>,
    /// From the stack pointer up.
    pub used: u64,
    /// From the deepest page ever touched up; `None` when it may not be read.
    pub peak: Option<u64>,
    /// Bytes below it that may not be touched; 0: none seen.
    pub guard: u64,
}

/// The stacks of a process.
pub(super) struct StackFinder<'a> {
    files: &'a ProcessFiles,
    mappings: Vec<Mapping>,
    pages: Option<PageMap>,
    main_limit: Option<u64>,
}

/// What came of looking for a stack.
pub(super) enum StackFound {
    /// It is there.
    At(StackExtent),
    /// The thread runs, or stands on no stack of its process.
    Unknown,
    /// The thread has ended.
    Gone,
    /// This user may not know.
    Refused,
}

fn pages_of(files: &ProcessFiles) -> io::Result<PageMap> {
    files.memory_process().pagemap().map_err(io_error)
}

impl<'a> StackFinder<'a> {
    /// For a process whose mappings this user may read.
    pub fn new(files: &'a ProcessFiles) -> Result<Self, OsError> {
        Ok(Self {
            files,
            mappings: files.mappings()?,
            pages: pages_of(files).ok(),
            main_limit: main_limit(&files.text("limits")?),
        })
    }

    /// The stack of a thread, by its stack pointer.
    pub fn of_thread(&mut self, tid: u32) -> Result<StackFound, OsError> {
        let pointer = match stack_pointer(self.files, tid)? {
            StackPointer::Known(pointer) => pointer,
            // Of a thread that runs, the kernel knows where it stood when it last came in.
            StackPointer::Runs => match kernel_registers::of_thread(tid) {
                Ok(registers) => registers.rsp,
                Err(_) => return Ok(StackFound::Unknown),
            },
            StackPointer::Gone => return Ok(StackFound::Gone),
            StackPointer::Refused => return Ok(StackFound::Refused),
        };
        Ok(self.at(pointer).map_or(StackFound::Unknown, StackFound::At))
    }

    fn at(&mut self, pointer: u64) -> Option<StackExtent> {
        let index = self
            .mappings
            .partition_point(|mapping| mapping.start.0 <= pointer)
            .checked_sub(1)?;
        let mapping = mapping_of(&self.mappings, pointer).filter(|mapping| mapping.writable)?;
        let (start, end) = (mapping.start.0, mapping.end.0);
        let is_main = mapping.path == "[stack]";
        let below = index.checked_sub(1).and_then(|below| self.mappings.get(below));
        let guard = below
            .filter(|below| below.end.0 == start && !below.writable && !below.executable && below.inode == 0)
            .map_or(0, |below| below.end.0 - below.start.0);
        let peak = self.pages.as_mut().and_then(|pages| deepest_touched(pages, start, end));
        Some(StackExtent {
            start,
            end,
            size: if is_main { self.main_limit } else { Some(end - start) },
            used: end - pointer,
            peak: peak.map(|address| end - address),
            guard,
        })
    }
}

/// The lowest page of a range that is in RAM or on swap.
fn deepest_touched(pages: &mut PageMap, start: u64, end: u64) -> Option<u64> {
    let page = procfs::page_size();
    let last = usize::try_from(end / page).ok()?;
    let mut at = usize::try_from(start / page).ok()?;
    while at < last {
        let until = last.min(at + PAGES_AT_ONCE);
        let found = pages.get_range_info(at..until).ok()?;
        let touched = found.iter().position(|info| match info {
            PageInfo::MemoryPage(flags) => flags.contains(MemoryPageFlags::PRESENT),
            PageInfo::SwapPage(_) => true,
        });
        if let Some(touched) = touched {
            return Some((at + touched) as u64 * page);
        }
        at = until;
    }
    None
}

/// `Max stack size  SOFT  HARD  bytes`.
fn main_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max stack size"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Gathers it.
pub(super) fn gather(files: &ProcessFiles) -> Result<Stacks, OsError> {
    let mut finder = StackFinder::new(files)?;
    let mut stacks = Vec::new();
    let (mut refused, mut unknown) = (false, 0);
    for tid in files.threads()? {
        let Some(comm) = files.thread_text(tid, "comm")? else {
            continue;
        };
        let stack = match finder.of_thread(tid)? {
            StackFound::At(stack) => Some(stack),
            StackFound::Gone => continue,
            StackFound::Unknown => {
                unknown += 1;
                None
            }
            StackFound::Refused => {
                refused = true;
                None
            }
        };
        stacks.push(ThreadStackSize {
            tid,
            name: comm.trim_end_matches('\n').to_owned(),
            stack,
        });
    }
    if stacks.is_empty() {
        return Err(OsError::Ended(files.pid()));
    }
    if refused {
        return Err(OsError::NotPermitted {
            what: "the stack pointers".to_owned(),
            pid: files.pid(),
        });
    }
    let mut notes = Vec::new();
    if unknown > 0 {
        notes.push(format!(
            "{unknown} threads run at this moment, or stand on no stack of their own: ask again"
        ));
    }
    if let Err(error) = &finder.pages_error() {
        notes.push(format!("the peaks are not known: {error}"));
    }
    Ok(Stacks { stacks, notes })
}

impl StackFinder<'_> {
    fn pages_error(&self) -> io::Result<()> {
        if self.pages.is_some() {
            return Ok(());
        }
        pages_of(self.files).map(drop)
    }
}

impl Stacks {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "  {:>8} {:<16} {:>10} {:>10} {:>10} {:>10}  RANGE",
            "TASK", "NAME", "SIZE", "USED", "PEAK", "GUARD"
        )?;
        for row in &self.stacks {
            let name = Escaped(&row.name).to_string();
            let Some(stack) = &row.stack else {
                writeln!(out, "  {:>8} {name:<16} {:>10}", row.tid, "?")?;
                continue;
            };
            let or = |value: Option<u64>, other: &str| {
                value.map_or_else(|| other.to_owned(), |bytes| Bytes(bytes).to_string())
            };
            writeln!(
                out,
                "  {:>8} {name:<16} {:>10} {:>10} {:>10} {:>10}  {:#x}-{:#x}",
                row.tid,
                or(stack.size, "unlimited"),
                Bytes(stack.used),
                or(stack.peak, "?"),
                Bytes(stack.guard),
                stack.start,
                stack.end
            )?;
        }
        writeln!(out, "  {} threads", self.stacks.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_thread_also_where_little_is_known() {
        let stacks = Stacks {
            stacks: vec![
                ThreadStackSize {
                    tid: 1,
                    name: "main".to_owned(),
                    stack: Some(StackExtent {
                        start: 0x7ffd_0000_0000,
                        end: 0x7ffd_0002_2000,
                        size: None,
                        used: 4096,
                        peak: Some(0x22000),
                        guard: 0,
                    }),
                },
                ThreadStackSize {
                    tid: 2,
                    name: "worker".to_owned(),
                    stack: None,
                },
            ],
            notes: Vec::new(),
        };
        let mut text = Vec::new();
        stacks.write_rows(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "      TASK NAME                   SIZE       USED       PEAK      GUARD  RANGE
         1 main              unlimited    4.0 KiB  136.0 KiB        0 B  0x7ffd00000000-0x7ffd00022000
         2 worker                    ?
  2 threads
"
        );
    }

    #[test]
    fn the_main_threads_limit_is_the_soft_one() {
        assert_eq!(
            main_limit("Max stack size            8388608              unlimited            bytes\n"),
            Some(8_388_608)
        );
        assert_eq!(
            main_limit("Max stack size            unlimited  unlimited  bytes\n"),
            None
        );
    }

    #[test]
    fn the_deepest_touched_page_of_this_threads_stack_is_below_this_frame() {
        let here = 0u64;
        let address = (&raw const here).addr() as u64;
        let target = crate::target::process::Target::of_pid(crate::target::identity::Pid(std::process::id())).unwrap();
        let files = ProcessFiles::open(target.id).unwrap();
        let mut finder = StackFinder::new(&files).unwrap();
        let stack = finder.at(address).unwrap();
        assert!(stack.start < address && address < stack.end);
        assert!(stack.peak.unwrap() >= stack.used, "{stack:?}");
    }
}
