//! Loads the BPF object: once to create a session's maps, again at each start to have programs to attach.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::maps::Map;
use aya::programs::{ProgramError, ProgramInfo, RawTracePoint, UProbe};
use aya::{Ebpf, EbpfLoader};
use memscope_ebpf::family::TASK_FIELDS;
use memscope_ebpf::limits::{FAMILY_CAPACITY, FAMILY_EVENT_BYTES, SHARED_SESSIONS, map};
use serde::{Deserialize, Serialize};

use super::error::DatabaseError;
use super::kernel_map::{KernelMap, Plain};
use super::paths::{SessionPaths, SharedPaths};
use crate::host::kernel_layout;

/// The compiled programs.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("MEMSCOPE_BPF_OBJECT"));

/// Raw tracepoints and their programs: (program, tracepoint).
pub const TRACEPOINTS: [(&str, &str); 3] = [
    ("target_exec", "sched_process_exec"),
    ("thread_exit", "sched_process_exit"),
    ("signal_delivered", "signal_deliver"),
];

/// As [`TRACEPOINTS`], for a followed family.
pub const FAMILY_TRACEPOINTS: [(&str, &str); 3] = [
    ("relative_born", "task_newtask"),
    ("relative_exec", "sched_process_exec"),
    ("relative_exit", "sched_process_exit"),
];

/// Places in the kernel's structures, as the programs of a family read them.
const TASK_LAYOUT: &str = "TASK_LAYOUT";

/// How many elements the maps that are sized at load have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacities {
    /// Live blocks.
    pub live: u32,
    /// Regions; 0: none are followed.
    pub regions: u32,
    /// Unwind table pages of 1 KiB of code.
    pub pages: u32,
    /// Unwind table rows.
    pub rows: u32,
}

impl Capacities {
    /// The smallest there are, for trying whether the object loads at all.
    pub const LEAST: Self = Self {
        live: 1,
        regions: 1,
        pages: 1,
        rows: 1,
    };
}

/// Whether the programs log what happens to the target. Only a foreground run has someone to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagnostics {
    /// The verifier takes the logging out.
    Off,
    /// Into a ring buffer that must be read.
    On,
}

/// The ring buffer of `aya-log-ebpf`, and the least size a ring buffer can have: one page.
const LOG_MAP: &str = "AYA_LOGS";
const LEAST_RING: u32 = 4096;

/// Loads the object with the session's maps: those already pinned are taken, others made and pinned.
///
/// # Errors
/// The kernel refused a map; the message is its own.
pub fn object(paths: &SessionPaths, capacities: Capacities, diagnostics: Diagnostics) -> Result<Ebpf, DatabaseError> {
    let mut loader = EbpfLoader::new();
    // The kernel's types are for CO-RE relocations, of which the object has none; reading them is most of a load.
    loader.btf(None);
    let level: u8 = match diagnostics {
        Diagnostics::Off => 0,
        Diagnostics::On => u8::MAX,
    };
    loader.override_global(aya_log::LEVEL, &level, true);
    // Where it is not known, CONTROL tells the programs to do without.
    let layout = kernel_layout::task_layout().unwrap_or_default();
    loader.override_global(TASK_LAYOUT, &layout, true);
    if diagnostics == Diagnostics::Off {
        loader.map_max_entries(LOG_MAP, LEAST_RING);
    }
    loader.map_max_entries(map::LIVE, capacities.live);
    loader.map_max_entries(map::REGIONS, capacities.regions.max(1));
    loader.map_max_entries(map::PAGES, capacities.pages);
    loader.map_max_entries(map::ROWS, capacities.rows);
    for name in map::PINNED {
        loader.map_pin_path(name, paths.map(name));
    }
    loader
        .load(OBJECT)
        .map_err(|error| DatabaseError::Load(with_causes(&error)))
}

/// A loader for programs that touch no session: its maps are there all the same, and of the smallest size.
fn without_session() -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    loader.override_global(aya_log::LEVEL, &0u8, true);
    loader.map_max_entries(LOG_MAP, LEAST_RING);
    for name in [map::LIVE, map::PAGES, map::ROWS] {
        loader.map_max_entries(name, 1);
    }
    loader
}

/// Loads the object with maps of its own, of the smallest size: for programs that touch none, or to see them verified.
///
/// # Errors
/// As [`object`].
pub fn object_alone() -> Result<Ebpf, DatabaseError> {
    without_session()
        .load(OBJECT)
        .map_err(|error| DatabaseError::Load(with_causes(&error)))
}

/// Loads the object for a followed family: its maps are pinned in `folder`, or taken from there.
///
/// # Errors
/// As [`object`].
pub fn family(folder: &Path, layout: [u32; TASK_FIELDS]) -> Result<Ebpf, DatabaseError> {
    let mut loader = without_session();
    loader.override_global(TASK_LAYOUT, &layout, true);
    loader.map_max_entries(map::FAMILY, FAMILY_CAPACITY);
    loader.map_max_entries(map::FAMILY_EVENTS, FAMILY_EVENT_BYTES);
    for name in map::OF_FAMILY {
        loader.map_pin_path(name, folder.join(name));
    }
    loader
        .load(OBJECT)
        .map_err(|error| DatabaseError::Load(with_causes(&error)))
}

/// Loads the object for the probes that sessions share: its maps are pinned in their folder, or taken from there.
///
/// # Errors
/// As [`object`].
pub fn shared(paths: &SharedPaths, layout: [u32; TASK_FIELDS]) -> Result<Ebpf, DatabaseError> {
    let mut loader = without_session();
    loader.override_global(TASK_LAYOUT, &layout, true);
    let arrays = map::ROUTES.map(|(_, array, _)| array);
    for name in arrays.into_iter().chain([map::SLOTS]) {
        loader.map_max_entries(name, SHARED_SESSIONS);
        loader.map_pin_path(name, paths.map(name));
    }
    loader.map_pin_path(map::UNROUTED, paths.map(map::UNROUTED));
    loader
        .load(OBJECT)
        .map_err(|error| DatabaseError::Load(with_causes(&error)))
}

/// A map of a loaded object.
///
/// # Errors
/// The object has no such map.
pub fn map_of<K: Plain, V: Plain>(object: &Ebpf, name: &'static str) -> Result<KernelMap<K, V>, DatabaseError> {
    let missing = || DatabaseError::Load(format!("the object has no array {name}"));
    let Some(Map::Array(data) | Map::PerCpuArray(data)) = object.map(name) else {
        return Err(missing());
    };
    let fd = data.fd().as_fd().try_clone_to_owned();
    fd.map(KernelMap::of).map_err(DatabaseError::map("open", name))
}

/// The uprobe programs: a session's, then those that lead to them from shared probes.
const UPROBES: [&str; 14] = [
    "free_enter",
    "call_return",
    "call_enter",
    "call_exit",
    "exception_seen",
    "region_return",
    "region_enter",
    "route_free_enter",
    "route_call_return",
    "route_call_enter",
    "route_call_exit",
    "route_exception",
    "route_region_return",
    "route_region_enter",
];

/// Has the kernel verify and load a uprobe program.
///
/// # Errors
/// It is not in the object, or the verifier refused it.
pub fn uprobe<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut UProbe, DatabaseError> {
    let program: &mut UProbe = program(object, name)?;
    if program.fd().is_err() {
        program
            .load()
            .map_err(|error| DatabaseError::Load(with_causes(&error)))?;
    }
    Ok(program)
}

/// Has the kernel verify and load a raw tracepoint program.
///
/// # Errors
/// As [`uprobe`].
pub fn raw_tracepoint<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut RawTracePoint, DatabaseError> {
    let program: &mut RawTracePoint = program(object, name)?;
    if program.fd().is_err() {
        program
            .load()
            .map_err(|error| DatabaseError::Load(with_causes(&error)))?;
    }
    Ok(program)
}

/// A program that the kernel has verified and loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its name in the object.
    pub program: &'static str,
    /// Instructions that the verifier followed, over all paths; a program of which it must follow a million is refused.
    /// `None` where the kernel does not say.
    pub instructions: Option<u32>,
    /// How long the load took, the JIT's part included.
    pub time: Duration,
}

/// Has the kernel verify every program, with maps of the smallest size, and keeps nothing but what it took.
///
/// # Errors
/// The kernel refused one.
pub fn every_program(paths: &SessionPaths) -> Result<Vec<Verified>, DatabaseError> {
    let mut object = object(paths, Capacities::LEAST, Diagnostics::Off)?;
    let mut loaded = Vec::new();
    for name in UPROBES {
        let begun = Instant::now();
        let info = uprobe(&mut object, name)?.info();
        loaded.push(verified(name, begun, info));
    }
    for (name, _) in TRACEPOINTS.iter().chain(&FAMILY_TRACEPOINTS) {
        let begun = Instant::now();
        let info = raw_tracepoint(&mut object, name)?.info();
        loaded.push(verified(name, begun, info));
    }
    Ok(loaded)
}

fn verified(program: &'static str, begun: Instant, info: Result<ProgramInfo, ProgramError>) -> Verified {
    Verified {
        program,
        instructions: info.ok().and_then(|info| info.verified_instruction_count()),
        time: begun.elapsed(),
    }
}

fn program<'a, P>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut P, DatabaseError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    object
        .program_mut(name)
        .ok_or_else(|| DatabaseError::Load(format!("the object has no program {name}")))?
        .try_into()
        .map_err(|error: ProgramError| DatabaseError::Load(with_causes(&error)))
}

/// An error with its causes on one line; the verifier's log can be long, so its end is kept: that is where it says why.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > 4 && std::env::var_os("MEMSCOPE_VERIFIER_LOG").is_none() {
        format!("{} … {}", lines[0], lines[lines.len() - 3..].join(" | "))
    } else {
        lines.join("\n")
    }
}
