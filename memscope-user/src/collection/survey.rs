//! Surveys a target before its probes are attached: images, allocators, sites.

use super::error::CollectionError;
use crate::allocator::discovery::{Discovery, Wanted, discover_wanted};
use crate::probe::exits::{self, SeenReturns};
use crate::probe::plan::{PlannedCall, plan};
use crate::target::elf::ElfError;
use crate::target::files::PathToMapped;
use crate::target::identity::Pid;
use crate::target::loaded::{LoadError, LoadedImage, load_images};
use crate::target::mapping::Mapping;
use crate::target::memory::{NoMemory, ProcessMemory, TargetMemory};
use crate::target::process::{Target, TargetError};

/// What a survey found.
pub struct Survey {
    /// Allocators, and every image looked at.
    pub discovery: Discovery,
    /// The functions to probe, by call index.
    pub calls: Vec<PlannedCall>,
    /// For each call, a path that opens its module from outside, as long as this is kept.
    pub module_paths: Vec<PathToMapped>,
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
    let module_paths = calls
        .iter()
        .map(|call| path_to_module(pid, &mappings, call))
        .collect::<Option<_>>()
        .ok_or(TargetError::Ended(target.id.pid))?;
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

fn path_to_module(pid: Pid, mappings: &[Mapping], call: &PlannedCall) -> Option<PathToMapped> {
    let mut mappings = mappings.iter();
    let mapping = mappings.find(|mapping| mapping.start <= call.entry && call.entry < mapping.end)?;
    Some(PathToMapped::of(pid, mapping))
}
