//! What a report is made of, free of any rendering: every renderer takes these values and nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use memscope_ebpf::live::{BlockKind, EntryNumber};
use memscope_ebpf::site::StackEnd;

use super::entries::Entries;
use crate::suppress::apply::Applied;
use crate::target::address::{BuildId, FileOffset, RuntimeAddress};
use crate::target::identity::TargetId;

/// 64-bit hash of a stack's (build id, file offset) pairs: equal on every host and run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u64);

impl SiteId {
    /// The low half, as the old report printed it.
    #[must_use]
    pub const fn cookie(self) -> u32 {
        self.0 as u32
    }
}

/// One frame of a stack, named as far as it can be. An address with inlined functions gives several, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where the call returns to (the allocator function itself: where it begins).
    pub address: RuntimeAddress,
    /// Function name, demangled; `None` without a symbol.
    pub function: Option<String>,
    /// Distance from the function's start (an inlined one: from the start of the function whose code it is part of);
    /// without a symbol, from the module's first byte on disk; in no module, the address itself.
    pub offset: u64,
    /// File name of the module as the target sees it, lossy; empty when the address is in no mapping we know.
    pub module: String,
    /// The module's build id.
    pub build_id: Option<BuildId>,
    /// The address's position in the module's file.
    pub file_offset: Option<FileOffset>,
    /// Source file and line, where debug information gives them.
    pub source: Option<SourceLine>,
    /// The function was inlined into the next frame's.
    pub inlined: bool,
}

/// A source position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// Path as the compiler recorded it.
    pub file: String,
    /// Line from 1; `None` when only the file is known.
    pub line: Option<u32>,
}

/// A call stack, named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Innermost first; the first is the allocator function called.
    ///
    /// Shared, because the same call stands in many stacks: a database's frames are named once and kept once.
    pub frames: Vec<Arc<Frame>>,
    /// Why it ends.
    pub end: StackEnd,
    /// A part of it was followed by frame pointer, through code that has no unwind table. Whether that code keeps frame
    /// pointers nothing tells: where it does not, the step has skipped a caller, or come by a frame that is none.
    pub by_frame_pointer: bool,
}

/// What a report says of a stack that was followed by frame pointer.
pub const BY_FRAME_POINTER: &str =
    "in part by frame pointer, for want of an unwind table: frames may be missing or wrong";

impl Stack {
    /// Every frame of it is known, to the thread's start.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.end == StackEnd::Outermost && !self.by_frame_pointer
    }

    /// Why it is not known to be whole, a line each; none of a whole stack.
    pub fn shortcomings(&self) -> impl Iterator<Item = String> {
        let guessed = self.by_frame_pointer.then(|| BY_FRAME_POINTER.to_owned());
        let ends = self.end != StackEnd::Outermost;
        let end = ends.then(|| format!("stack ends here: {}", self.end.text()));
        guessed.into_iter().chain(end)
    }
}

/// One live block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Allocation number.
    pub number: EntryNumber,
    /// Address.
    pub address: RuntimeAddress,
    /// Bytes asked for.
    pub size: u64,
    /// Milliseconds since it was allocated.
    pub age_ms: u64,
    /// Thread that allocated it.
    pub tid: u32,
    /// Its call stack.
    pub site: SiteId,
    /// What it is.
    pub kind: BlockKind,
}

impl Entry {
    /// Age in whole seconds, as printed.
    #[must_use]
    pub const fn age_s(&self) -> u64 {
        self.age_ms / 1000
    }
}

/// The target as reports show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetDescription {
    /// Identity.
    pub id: TargetId,
    /// Command name (`/proc/PID/comm`), lossy.
    pub comm: String,
    /// Executable as the target sees it, lossy.
    pub exe: String,
    /// Build id of the executable.
    pub build_id: Option<BuildId>,
}

/// Whether a database is being fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectionState {
    /// Probes are attached.
    Collecting,
    /// Stopped by a person, or never started.
    Stopped,
    /// The target has exited.
    Exited,
    /// The target has replaced its image by exec: its blocks are gone.
    Replaced,
}

impl CollectionState {
    /// As JSON and `list` print it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Collecting => "collecting",
            Self::Stopped => "stopped",
            Self::Exited => "exited",
            Self::Replaced => "replaced",
        }
    }
}

/// Collection of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Whether it runs.
    pub state: CollectionState,
    /// When it was first started: seconds since the Unix epoch; `None` if never.
    pub since_unix_s: Option<u64>,
    /// For how many seconds blocks have been collected: from the first start to now, to the stop or to the exit.
    pub seconds: u64,
}

/// What sampled blocks stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Mean distance of two samples, bytes.
    pub sample_bytes: u64,
    /// Blocks, as estimated.
    pub blocks: f64,
    /// Bytes, as estimated.
    pub bytes: f64,
    /// The true number of bytes is within this distance of the estimate 95 times in 100.
    pub bytes_error: f64,
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            blocks,
            bytes,
            bytes_error,
            ..
        } = self;
        write!(
            f,
            "an estimate: these entries stand for some {blocks:.0} blocks of {bytes:.0} bytes together, ± {bytes_error:.0} (95 %)"
        )
    }
}

/// A time in which collection was stopped: frees in it were not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How long it lasted, milliseconds.
    pub lasted_ms: u64,
    /// How long ago it ended, milliseconds.
    pub ended_ms_ago: u64,
}

impl Gap {
    /// The entry was born before collection stopped, so it may have been freed since.
    #[must_use]
    pub const fn doubts(&self, entry: &Entry) -> bool {
        entry.age_ms >= self.ended_ms_ago.saturating_add(self.lasted_ms)
    }
}

/// What is printed of one database. The entries travel apart, in order, so that millions need not be in memory twice.
#[derive(Clone, Debug)]
pub struct DatabaseReport {
    /// The target.
    pub target: TargetDescription,
    /// Its collection.
    pub collection: Collection,
    /// Least age asked for, seconds.
    pub age_s: u64,
    /// Entries to print, in order.
    pub entries: Entries,
    /// Every site the entries name.
    pub sites: BTreeMap<SiteId, Stack>,
    /// Entries that are old enough, printed or not (`--limit`).
    pub total: u64,
    /// Times in which collection was stopped.
    pub gaps: Vec<Gap>,
    /// Losses by reason (`Counter::key`), only those that are not zero.
    pub losses: BTreeMap<&'static str, u64>,
    /// What the blocks that are old enough stand for, when collection samples.
    pub estimate: Option<Estimate>,
    /// Sites that are known and let be: their entries are in the total, and not among those to print.
    pub suppressed: Applied,
    /// Further lines for the reader, without `note: ` before them. What losses, gaps and the collection's state have to
    /// say is not in here: [`super::notes::lines`] derives it.
    pub notes: Vec<String>,
}
