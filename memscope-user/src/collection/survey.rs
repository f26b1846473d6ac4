//! Surveys a target before its probes are attached: images, allocators, sites.

use std::path::PathBuf;

use super::error::CollectionError;
use crate::allocator::discovery::{Discovery, Wanted, discover_wanted};
use crate::probe::exits::{self, SeenReturns};
use crate::probe::plan::{PlannedCall, plan};
use crate::target::elf::ElfError;
use crate::target::loaded::{LoadError, LoadedImage, load_images};
use crate::target::mapping::Mapping;
use crate::target::memory::{NoMemory, ProcessMemory, TargetMemory};
use crate::target::open::open_regular;
use crate::target::process::{Target, TargetError};

/// What a survey found.
pub struct Survey {
    /// Allocators, and every image looked at.
    pub discovery: Discovery,
    /// The functions to probe, by call index.
    pub calls: Vec<PlannedCall>,
    /// For each call, a path that opens its module from outside.
    pub module_paths: Vec<PathBuf>,
}

/// Looks a target over, for the allocators known and what else is wanted. Nothing in it is changed or stopped.
///
/// # Errors
/// It ended, is not a 64-bit x86 process, or a specification names nothing in it.
pub fn survey(target: &Target, wanted: Wanted<'_>) -> Result<Survey, CollectionError> {
    let mappings = target.mappings()?;
    let pid = target.memory_pid();
    let images = load_images(pid, &mappings);
    check_architecture(target, &images)?;
    let memory: Box<dyn TargetMemory> = match ProcessMemory::open(pid) {
        Ok(memory) => Box::new(memory),
        // Only indirect functions need it; the discovery says so if one does.
        Err(_) => Box::new(NoMemory),
    };
    let mut discovery = discover_wanted(&images, memory.as_ref(), wanted)?;
    if let Some(module) = discovery.overfull() {
        return Err(CollectionError::Overfull {
            pid: pid.0,
            module: crate::report::Escaped(&module.path).to_string(),
        });
    }
    let returns = returns(&mut discovery, &images, memory.as_ref(), wanted.accept_exceptions);
    let calls = plan(&discovery, &images, &returns);
    let module_paths = calls.iter().map(|call| opening_path(target, &mappings, call)).collect();
    if !target.is_alive() {
        return Err(TargetError::Ended(target.id.pid).into());
    }
    Ok(Survey {
        discovery,
        calls,
        module_paths,
    })
}

/// How the returns of the functions found are seen. Where some are probed at their exits, what exceptions pass is watched,
/// too.
fn returns(
    discovery: &mut Discovery,
    images: &[LoadedImage],
    memory: &dyn TargetMemory,
    accept_exceptions: bool,
) -> SeenReturns {
    if accept_exceptions {
        discovery.leave_uncalled_operators_out(images, |_| true);
        return SeenReturns::in_accepted_danger(discovery, images);
    }
    let mut returns = exits::find(discovery, images, memory);
    // One that is left out can take over from none.
    while discovery.leave_uncalled_operators_out(images, |function| returns.in_danger(function)) {
        returns = exits::find(discovery, images, memory);
    }
    if returns.any_by_exits() {
        discovery.watch_exceptions(images);
    }
    returns
}

impl Survey {
    /// Refuses a target without an allocator we know, naming what was looked at.
    ///
    /// # Errors
    /// As said.
    pub fn require_allocator(&self, target: &Target) -> Result<(), CollectionError> {
        if !self.discovery.is_empty() {
            return Ok(());
        }
        let name = format!("process {} ({})", target.id.pid, target.comm().unwrap_or_default());
        Err(CollectionError::NoAllocator(self.discovery.not_found_text(&name)))
    }
}

/// The executable itself decides: a 64-bit process maps no 32-bit image.
fn check_architecture(target: &Target, images: &[LoadedImage]) -> Result<(), CollectionError> {
    let exe = target.exe()?;
    let Some(main) = images.iter().find(|loaded| loaded.path() == exe) else {
        return Ok(());
    };
    match &main.content {
        Err(LoadError::Elf(error @ (ElfError::Not64Bit | ElfError::OtherMachine(_)))) => {
            Err(CollectionError::Architecture {
                pid: target.id.pid.0,
                what: error.to_string(),
            })
        }
        _ => Ok(()),
    }
}

/// `/proc/PID/map_files` leads to the mapped file itself; without the capability for it, the path below the target's root.
fn opening_path(target: &Target, mappings: &[Mapping], call: &PlannedCall) -> PathBuf {
    let mapping = mappings
        .iter()
        .find(|mapping| mapping.start <= call.entry && call.entry < mapping.end);
    let Some(mapping) = mapping else { return PathBuf::new() };
    let by_mapping = mapping.open_path(target.memory_pid());
    if open_regular(&by_mapping).is_ok() {
        return by_mapping;
    }
    let mut below_root = std::ffi::OsString::from(format!("/proc/{}/root", target.memory_pid()));
    below_root.push(&mapping.path);
    PathBuf::from(below_root)
}
