//! The commands and their arguments (design contract: the command line).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::diff::DiffArguments;
use super::export::ExportArguments;
use super::merge::MergeArguments;
use super::suppress::SuppressArguments;
use super::suppressions::SuppressionArguments;
use super::verdict_arguments::{CheckArguments, MarkArguments, ReportArguments, SpanArguments};
use crate::age::Age;
use crate::host::preflight::Danger;
use crate::os::Key;

/// Finds memory leaks of a running process from outside: which calls took memory and never gave it back.
#[derive(Debug, Parser)]
#[command(
    name = "memscope",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Arguments {
    /// Say more on stderr
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a database and start collecting, for each target that has none
    Attach(AttachArguments),
    /// Stop collecting and destroy the database
    Detach(DetachArguments),
    /// Create a database, without collecting
    Create(CreateArguments),
    /// Start collecting into the database
    Start(TargetArguments),
    /// Take in what a target has loaded since: allocators to probe, code to unwind and to name
    Refresh(TargetArguments),
    /// Stop collecting; the database stays
    Stop(TargetArguments),
    /// Destroy the database
    Destroy(TargetArguments),
    /// Print the live blocks of at least an age, with their call stacks
    Print(PrintArguments),
    /// Which call sites leak, how fast, with what evidence
    Report(ReportArguments),
    /// For cron: one line a suspect, exit 1; clean 0, cannot judge 6
    Check(CheckArguments),
    /// Note a moment; --since and --between then select blocks born there
    Mark(MarkArguments),
    /// Counts, capacity and losses of a database
    Stats(ShowArguments),
    /// The databases on this host
    List(ListArguments),
    /// Profiles, flame graphs and metrics for other tools
    Export(ExportArguments),
    /// What changed between two saved reports, or since one
    Diff(DiffArguments),
    /// The saved reports of many hosts in one
    Merge(MergeArguments),
    /// Take a known site off the list of suspects
    Suppress(SuppressArguments),
    /// In the foreground: attach, wait, print, detach
    Trace(TraceArguments),
    /// Remove the databases of targets that have ended
    Gc(GcArguments),
    /// What this kernel, this user and a target support, item by item
    Doctor(DoctorArguments),
    /// The menu and keys of old; from a pipe, a script of them
    Console(ConsoleArguments),
    /// One of the console's OS keys, once
    Os(OsArguments),
    /// Attach programs that do nothing, until standard input ends
    #[command(hide = true)]
    Floor(FloorArguments),
    /// Be a child that probes are tried on
    #[command(hide = true)]
    Sacrifice(SacrificeArguments),
}

/// Processes by what they are.
#[derive(Clone, Debug, Default, Args)]
pub struct TargetArguments {
    /// Process id
    #[arg(value_name = "TARGET")]
    pub pids: Vec<u32>,
    /// Every process with this command name (repeatable)
    #[arg(long, value_name = "NAME")]
    pub comm: Vec<String>,
    /// Every process that runs this executable (repeatable)
    #[arg(long, value_name = "PATH")]
    pub exe: Vec<PathBuf>,
}

impl TargetArguments {
    /// No target was named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty() && self.comm.is_empty() && self.exe.is_empty()
    }
}

/// `attach`.
#[derive(Clone, Debug, Args)]
pub struct AttachArguments {
    /// Whom
    #[command(flatten)]
    pub target: TargetArguments,
    /// How
    #[command(flatten)]
    pub settings: SettingsArguments,
    /// Stay in the foreground and attach each child of the targets, too, when it is forked and when it execs, and theirs: each
    /// gets a database of its own with the same settings
    #[arg(long)]
    pub follow: bool,
    /// Databases of one target's descendants that may be there at once, those of ended ones included; further children are
    /// refused in words
    #[arg(long, value_name = "N", default_value_t = 64, requires = "follow",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(memscope_ebpf::limits::FAMILY_CAPACITY)))]
    pub max_children: u32,
}

/// `create`.
#[derive(Clone, Debug, Args)]
pub struct CreateArguments {
    /// Whom
    #[command(flatten)]
    pub target: TargetArguments,
    /// How
    #[command(flatten)]
    pub settings: SettingsArguments,
}

/// What a database is made with.
#[derive(Clone, Debug, Args)]
pub struct SettingsArguments {
    /// Live blocks the database can hold; more are counted, not recorded [default: 1048576]
    #[arg(long, value_name = "BLOCKS", value_parser = clap::value_parser!(u32).range(1..=1 << 28))]
    pub max_blocks: Option<u32>,
    /// Record one block in so many bytes allocated; reports are estimates then (default: every block)
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..=memscope_ebpf::sample::MOST_BYTES))]
    pub sample_bytes: Option<u64>,
    /// What collection may cost the target, percent of one CPU (default: no limit)
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_cpu: Option<u32>,
    /// What happens above that [default: stop]; `stop` also refuses a target that is above it from the first
    #[arg(long, value_enum, requires = "max_cpu")]
    pub over_budget: Option<OverBudget>,
    /// Attach in spite of a danger that memscope refuses for (repeatable)
    #[arg(long, value_enum, value_name = "DANGER")]
    pub accept: Vec<Danger>,
    /// An allocation function of the program's own: `[MODULE:]NAME(size=N[,count=N]) -> ret`, or `-> *N` when it stores the
    /// block through its argument N. Arguments count from 0; `MODULE+0xOFFSET(…)` names one without a symbol (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub alloc: Vec<String>,
    /// The function that frees such blocks: `[MODULE:]NAME(ptr=N)` (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub free: Vec<String>,
    /// The function that resizes them: `[MODULE:]NAME(ptr=N,size=N) -> ret` (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub realloc: Vec<String>,
    /// A TOML file of such functions: lists `alloc`, `free` and `realloc` of texts as the options take them (repeatable)
    #[arg(long, value_name = "FILE")]
    pub allocators: Vec<PathBuf>,
    /// Follow memory regions, too: mmap, munmap, mremap as the program itself calls them
    #[arg(long)]
    pub regions: bool,
}

/// What happens when collection costs more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OverBudget {
    /// Stop collecting, within a second
    Stop,
    /// Go on by sampling
    Sample,
    /// Go on
    Ignore,
}

/// `detach`.
#[derive(Debug, Args)]
pub struct DetachArguments {
    /// Whom
    #[command(flatten)]
    pub target: TargetArguments,
    /// Every database on this host
    #[arg(long, conflicts_with_all = ["pids", "comm", "exe"])]
    pub all: bool,
}

/// A rendering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// One JSON object a line
    Ndjson,
}

/// An order of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Oldest first
    #[default]
    Age,
    /// Largest first
    Size,
}

/// `print`.
#[derive(Debug, Args)]
pub struct PrintArguments {
    /// Whom; none: every database
    #[command(flatten)]
    pub target: TargetArguments,
    /// What
    #[command(flatten)]
    pub entries: EntriesArguments,
    /// Which blocks
    #[command(flatten)]
    pub span: SpanArguments,
    /// Which sites are let be
    #[command(flatten)]
    pub suppressions: SuppressionArguments,
    /// Exit 1 when a block is printed, 6 when that cannot be told
    #[arg(long)]
    pub exit_code: bool,
}

/// Which entries, in which form.
#[derive(Clone, Debug, Args)]
pub struct EntriesArguments {
    /// Least age: seconds, or 90s, 15m, 1h, 2d
    #[arg(long, value_name = "AGE")]
    pub age: Age,
    /// Order of the entries
    #[arg(long, value_enum, default_value_t)]
    pub sort: Sort,
    /// Print at most this many entries
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Rendering
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `stats`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// Whom; none: every database
    #[command(flatten)]
    pub target: TargetArguments,
    /// Rendering
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Rendering
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `trace`.
#[derive(Debug, Args)]
pub struct TraceArguments {
    /// Process id
    #[arg(required_unless_present = "command")]
    pub pid: Option<u32>,
    /// Print after this time: seconds, or 90s, 15m, 1h, 2d; otherwise at Ctrl-C or when the target ends
    #[arg(long = "for", value_name = "TIME")]
    pub duration: Option<Age>,
    /// Least age of the entries printed
    #[arg(long, value_name = "AGE", default_value = "0")]
    pub age: Age,
    /// Order of the entries
    #[arg(long, value_enum, default_value_t)]
    pub sort: Sort,
    /// Print at most this many entries
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Rendering
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// How
    #[command(flatten)]
    pub settings: SettingsArguments,
    /// A command to start and trace; with a process id, a command to run against that process: what is printed is what
    /// was born while it ran
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// `gc`.
#[derive(Debug, Args)]
pub struct GcArguments {
    /// Only databases whose target ended at least this long ago
    #[arg(long, value_name = "AGE", default_value = "0")]
    pub older_than: Age,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Process id
    pub target: Option<u32>,
}

/// `console`.
#[derive(Debug, Args)]
pub struct ConsoleArguments {
    /// Process id, or command name of the only process that has it
    pub target: Option<String>,
}

/// `os`.
#[derive(Debug, Args)]
pub struct OsArguments {
    /// c C f z H i I m M Q s t w y
    pub key: Key,
    /// Process id, or command name of the only process that has it
    pub target: String,
    /// Thread id, for I and t; otherwise the main thread
    #[arg(value_name = "TASK")]
    pub tid: Option<u32>,
    /// Rendering
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `floor`.
#[derive(Debug, Args)]
pub struct FloorArguments {
    /// Process id
    pub pid: u32,
}

/// `sacrifice`.
#[derive(Debug, Args)]
pub struct SacrificeArguments {
    /// Under a seccomp filter that kills at the system call of return probes
    #[arg(long)]
    pub filtered: bool,
}
