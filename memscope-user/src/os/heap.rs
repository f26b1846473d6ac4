//! Key `M`: the allocator found, its memory, and what of it the database's live blocks explain.

use std::io::{self, Write};

use memscope_ebpf::live::BlockKind;
use serde::Serialize;

use super::error::OsError;
use super::process_files::ProcessFiles;
use super::quantity::Bytes;
use super::thread_stack::{StackPointer, mapping_of, stack_pointer};
use crate::allocator::discovery::discover;
use crate::collection::status;
use crate::database::clock::monotonic_ns;
use crate::database::error::DatabaseError;
use crate::database::live_set::Selection;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::report::Escaped;
use crate::target::loaded::load_images;
use crate::target::mapping::{Mapping, parse_maps};
use crate::target::memory::{NoMemory, ProcessMemory, TargetMemory};

/// What the line at the end says.
pub const MEANS: &str = "heap that the live blocks do not explain was taken before collection started, is free memory the \
                         allocator keeps, or is its own overhead";

/// The answer.
#[derive(Debug, Serialize)]
pub struct Heap {
    /// The allocators of the target, as the probes would find them.
    pub allocators: Vec<AllocatorShown>,
    /// The memory they can have put blocks into.
    pub memory: HeapMemory,
    /// What the database holds; `None` without one.
    pub live: Option<LiveBlocks>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// One allocator.
#[derive(Debug, Serialize)]
pub struct AllocatorShown {
    /// Whose it is.
    pub name: String,
    /// The image that defines it, as the target sees it.
    pub module: String,
    /// Functions that are probed.
    pub functions: usize,
}

/// Memory by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeapMemory {
    /// `[heap]`, grown by brk.
    pub brk: Extent,
    /// Anonymous private writable mappings, stacks left out.
    pub anonymous: Extent,
    /// Stacks of the threads.
    pub stacks: Extent,
}

/// Some mappings. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// How many.
    pub mappings: u64,
    /// Their length.
    pub size: u64,
    /// Of it in RAM.
    pub resident: u64,
    /// Of it on swap.
    pub swap: u64,
}

/// The live blocks of a database.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LiveBlocks {
    /// `collecting`, `stopped`, …
    pub state: &'static str,
    /// Seconds that collection ran.
    pub seconds: u64,
    /// Blocks.
    pub blocks: u64,
    /// Bytes asked for.
    pub bytes: u64,
    /// Of these, blocks of allocators: what lies in heap memory.
    pub heap_bytes: u64,
    /// Percent of the heap memory in RAM and on swap; `None` when there is none.
    pub explained_percent: Option<f64>,
    /// By size.
    pub by_size: Vec<Class>,
    /// By age.
    pub by_age: Vec<Class>,
}

/// A class of blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Class {
    /// Up to this, bytes or seconds; `None`: more than the class before.
    pub up_to: Option<u64>,
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
}

const SIZE_BOUNDS: [u64; 7] = [64, 256, 1 << 10, 4 << 10, 64 << 10, 1 << 20, 16 << 20];
const AGE_BOUNDS_S: [u64; 5] = [60, 600, 3600, 6 * 3600, 24 * 3600];

/// Gathers it.
pub(super) fn gather(files: &ProcessFiles) -> Result<Heap, OsError> {
    let mappings = files.mappings()?;
    let images = load_images(files.memory_pid(), &mappings);
    let memory: Box<dyn TargetMemory> = match ProcessMemory::open(files.memory_pid()) {
        Ok(memory) => Box::new(memory),
        Err(_) => Box::new(NoMemory),
    };
    let discovery = discover(&images, memory.as_ref());
    let allocators = discovery.found.iter().map(|found| AllocatorShown {
        name: found.name.to_string(),
        module: discovery
            .looked_at
            .get(found.module)
            .map_or_else(String::new, |module| module.path.clone()),
        functions: found.functions.len(),
    });
    let allocators: Vec<AllocatorShown> = allocators.collect();
    let mut notes = Vec::new();
    if allocators.is_empty() {
        notes.push(format!(
            "no allocator that memscope knows: `memscope doctor {}` shows what was looked at",
            files.pid()
        ));
    }
    let memory = measure(&files.memory_text("smaps")?, &stacks(files, &mappings)?);
    let live = match live_blocks(files, &memory) {
        Ok(live) => Some(live),
        Err(DatabaseError::Missing(_)) => {
            notes.push("MemScope database does not exist: n creates it, o starts collecting into it".to_owned());
            None
        }
        Err(error) => {
            notes.push(error.to_string());
            None
        }
    };
    Ok(Heap {
        allocators,
        memory,
        live,
        notes,
    })
}

/// First addresses of the mappings that threads have their stacks in.
fn stacks(files: &ProcessFiles, mappings: &[Mapping]) -> Result<Vec<u64>, OsError> {
    let mut starts = Vec::new();
    for tid in files.threads()? {
        if let StackPointer::Known(pointer) = stack_pointer(files, tid)?
            && let Some(mapping) = mapping_of(mappings, pointer)
        {
            starts.push(mapping.start.0);
        }
    }
    starts.sort_unstable();
    Ok(starts)
}

/// Adds up `smaps`. (procfs's parser trusts names of mapped files, which are the target's to choose.)
fn measure(smaps: &str, stacks: &[u64]) -> HeapMemory {
    let mut memory = HeapMemory::default();
    let mut kind = None;
    for line in smaps.lines() {
        let is_header = line
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
        if is_header {
            let mapping = parse_maps(line.as_bytes()).into_iter().next();
            kind = mapping.as_ref().and_then(|mapping| Kind::of(mapping, stacks));
            if let (Some(kind), Some(mapping)) = (kind, mapping) {
                let extent = memory.extent(kind);
                extent.mappings += 1;
                extent.size += mapping.end.0.saturating_sub(mapping.start.0);
            }
            continue;
        }
        let Some(kind) = kind else { continue };
        let extent = memory.extent(kind);
        if let Some(kib) = line.strip_prefix("Rss:") {
            extent.resident += kib_of(kib);
        } else if let Some(kib) = line.strip_prefix("Swap:") {
            extent.swap += kib_of(kib);
        }
    }
    memory
}

fn kib_of(text: &str) -> u64 {
    let number = text
        .split_whitespace()
        .next()
        .and_then(|number| number.parse::<u64>().ok());
    number.unwrap_or(0).saturating_mul(1024)
}

#[derive(Clone, Copy)]
enum Kind {
    Brk,
    Anonymous,
    Stack,
}

impl Kind {
    fn of(mapping: &Mapping, stacks: &[u64]) -> Option<Self> {
        let path = mapping.path.to_string_lossy();
        if path == "[heap]" {
            return Some(Self::Brk);
        }
        if path.starts_with("[stack") || stacks.binary_search(&mapping.start.0).is_ok() {
            return Some(Self::Stack);
        }
        let nameless = path.is_empty() || path.starts_with("[anon:");
        (mapping.writable && mapping.inode == 0 && nameless).then_some(Self::Anonymous)
    }
}

impl HeapMemory {
    fn extent(&mut self, kind: Kind) -> &mut Extent {
        match kind {
            Kind::Brk => &mut self.brk,
            Kind::Anonymous => &mut self.anonymous,
            Kind::Stack => &mut self.stacks,
        }
    }

    fn held(&self) -> u64 {
        self.brk.resident + self.brk.swap + self.anonymous.resident + self.anonymous.swap
    }
}

fn live_blocks(files: &ProcessFiles, memory: &HeapMemory) -> Result<LiveBlocks, DatabaseError> {
    let session = Session::open(&Roots::from_environment(), files.id)?;
    let collection = status::collection(&session)?;
    let now_ms = monotonic_ns() / 1_000_000;
    let blocks = session
        .live_blocks(Selection::of_any_age(session.last_number()?))?
        .into_iter()
        .flatten()
        .map(|raw| {
            let fields = raw.block.unpack();
            Block {
                size: fields.size,
                age_s: now_ms.saturating_sub(fields.born_ms) / 1000,
                in_heap: fields.kind == BlockKind::Heap,
            }
        });
    Ok(LiveBlocks {
        state: collection.state.text(),
        seconds: collection.seconds,
        ..classify(blocks, memory)
    })
}

struct Block {
    size: u64,
    age_s: u64,
    in_heap: bool,
}

fn classify(blocks: impl Iterator<Item = Block>, memory: &HeapMemory) -> LiveBlocks {
    let mut live = LiveBlocks {
        state: "",
        seconds: 0,
        blocks: 0,
        bytes: 0,
        heap_bytes: 0,
        explained_percent: None,
        by_size: classes(&SIZE_BOUNDS),
        by_age: classes(&AGE_BOUNDS_S),
    };
    for block in blocks {
        live.blocks += 1;
        live.bytes += block.size;
        live.heap_bytes += if block.in_heap { block.size } else { 0 };
        add(&mut live.by_size, block.size, block.size);
        add(&mut live.by_age, block.age_s, block.size);
    }
    live.explained_percent = match memory.held() {
        0 => None,
        held => Some(live.heap_bytes as f64 / held as f64 * 100.0),
    };
    live
}

fn classes(bounds: &[u64]) -> Vec<Class> {
    let bounds = bounds.iter().copied().map(Some).chain([None]);
    let empty = |up_to| Class {
        up_to,
        blocks: 0,
        bytes: 0,
    };
    bounds.map(empty).collect()
}

fn add(classes: &mut [Class], value: u64, bytes: u64) {
    let class = classes
        .iter_mut()
        .find(|class| class.up_to.is_none_or(|bound| value <= bound));
    if let Some(class) = class {
        class.blocks += 1;
        class.bytes += bytes;
    }
}

impl Heap {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        for allocator in &self.allocators {
            writeln!(
                out,
                "  allocator      {} in {} ({} functions)",
                allocator.name,
                Escaped(&allocator.module),
                allocator.functions
            )?;
        }
        for (title, extent) in [
            ("heap (brk)", &self.memory.brk),
            ("anonymous", &self.memory.anonymous),
            ("stacks", &self.memory.stacks),
        ] {
            writeln!(
                out,
                "  {title:<14} {} mappings, {}, {} resident, {} on swap",
                extent.mappings,
                Bytes(extent.size),
                Bytes(extent.resident),
                Bytes(extent.swap)
            )?;
        }
        let Some(live) = &self.live else { return Ok(()) };
        writeln!(
            out,
            "  live           {} blocks, {} asked for ({}, {} s)",
            live.blocks,
            Bytes(live.bytes),
            live.state,
            live.seconds
        )?;
        if let Some(percent) = live.explained_percent {
            writeln!(
                out,
                "  explained      {percent:.0} % of the {} that heap and anonymous memory hold",
                Bytes(self.memory.held())
            )?;
        }
        write_classes(out, "by size", &live.by_size, |bound| Bytes(bound).to_string())?;
        write_classes(out, "by age", &live.by_age, age_text)
    }
}

fn write_classes(out: &mut dyn Write, title: &str, classes: &[Class], bound_text: fn(u64) -> String) -> io::Result<()> {
    writeln!(out, "  {title}")?;
    let mut last = 0;
    for class in classes {
        let name = match class.up_to {
            Some(bound) => format!("up to {}", bound_text(bound)),
            None => format!("over {}", bound_text(last)),
        };
        last = class.up_to.unwrap_or(last);
        if class.blocks > 0 {
            writeln!(
                out,
                "    {name:<18} {:>10} blocks {:>10}",
                class.blocks,
                Bytes(class.bytes)
            )?;
        }
    }
    Ok(())
}

fn age_text(seconds: u64) -> String {
    match seconds {
        s if s < 3600 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
00400000-00500000 r-xp 00000000 fe:00 42                         /usr/bin/demo
Rss:                 100 kB
Swap:                  0 kB
01000000-01100000 rw-p 00000000 00:00 0                          [heap]
Size:               1024 kB
Rss:                 600 kB
Swap:                 24 kB
7f0000000000-7f0000800000 rw-p 00000000 00:00 0
Rss:                  12 kB
Swap:                  0 kB
7f0001000000-7f0001100000 rw-p 00000000 00:00 0
Rss:                 400 kB
Swap:                  0 kB
7f0002000000-7f0002001000 rw-p 00000000 fe:00 7                  /SYSV
Rss:                   4 kB
7ffd00000000-7ffd00022000 rw-p 00000000 00:00 0                  [stack]
Rss:                  20 kB
VmFlags: rd wr mr
";

    #[test]
    fn mappings_are_told_apart_by_kind() {
        let memory = measure(SMAPS, &[0x7f00_0000_0000]);
        let extent = |mappings, size: u64, resident: u64, swap: u64| Extent {
            mappings,
            size: size << 10,
            resident: resident << 10,
            swap: swap << 10,
        };
        assert_eq!(memory.brk, extent(1, 1024, 600, 24));
        assert_eq!(memory.anonymous, extent(1, 1024, 400, 0));
        assert_eq!(memory.stacks, extent(2, 8192 + 136, 32, 0));
    }

    #[test]
    fn live_blocks_are_classed_and_held_against_the_heap() {
        let memory = measure(SMAPS, &[0x7f00_0000_0000]);
        let block = |size, age_s, in_heap| Block { size, age_s, in_heap };
        let blocks = [
            block(64, 5, true),
            block(65, 61, true),
            block(524_159, 90_000, true),
            block(1 << 30, 5, false),
        ];
        let heap = Heap {
            allocators: vec![AllocatorShown {
                name: "glibc".to_owned(),
                module: "/lib/libc.so.6".to_owned(),
                functions: 9,
            }],
            live: Some(LiveBlocks {
                state: "collecting",
                seconds: 90_001,
                ..classify(blocks.into_iter(), &memory)
            }),
            memory,
            notes: Vec::new(),
        };
        let mut text = Vec::new();
        heap.write_rows(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "  allocator      glibc in /lib/libc.so.6 (9 functions)
  heap (brk)     1 mappings, 1.0 MiB, 600.0 KiB resident, 24.0 KiB on swap
  anonymous      1 mappings, 1.0 MiB, 400.0 KiB resident, 0 B on swap
  stacks         2 mappings, 8.1 MiB, 32.0 KiB resident, 0 B on swap
  live           4 blocks, 1.0 GiB asked for (collecting, 90001 s)
  explained      50 % of the 1.0 MiB that heap and anonymous memory hold
  by size
    up to 64 B                  1 blocks       64 B
    up to 256 B                 1 blocks       65 B
    up to 1.0 MiB               1 blocks  511.9 KiB
    over 16.0 MiB               1 blocks    1.0 GiB
  by age
    up to 1 min                 2 blocks    1.0 GiB
    up to 10 min                1 blocks       65 B
    over 24 h                   1 blocks  511.9 KiB
"
        );
    }
}
