//! Attaches probes and pins their links, so that they outlive this process.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::ProgramError;
use aya::programs::links::FdLink;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope};
use memscope_ebpf::call::CallIndex;
use thiserror::Error;

use super::plan::{PlannedCall, Program};
use super::shared::SharedSite;
use super::shared::choice::{Bound, Choice, Ways};
use crate::database::error::DatabaseError;
use crate::database::folder;
use crate::database::load::{self, with_causes};
use crate::database::paths::SessionPaths;
use crate::target::address::FileOffset;
use crate::target::files::PathToMapped;

/// Why a probe could not be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The kernel refused this probe.
    #[error("cannot attach a probe to {function} at {module}+{site:#x}: {reason}")]
    Probe {
        /// The function.
        function: String,
        /// Its module.
        module: String,
        /// The site in the module's file.
        site: u64,
        /// The kernel's words.
        reason: String,
    },
    /// The kernel refused the lifecycle programs.
    #[error("cannot watch for the target's exec, exit and signals ({tracepoint}): {reason}")]
    Tracepoint {
        /// The tracepoint.
        tracepoint: &'static str,
        /// The kernel's words.
        reason: String,
    },
    /// What the environment says of shared probes means nothing.
    #[error("{0}")]
    Sharing(String),
    /// The session store.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// A function to probe.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// Its number.
    pub index: CallIndex,
    /// What it is.
    pub call: &'a PlannedCall,
    /// Where its module can be opened from outside.
    pub module: &'a Path,
}

/// Attaches the lifecycle programs and the probes, as far as they are not attached yet, each link pinned at once.
///
/// The programs do nothing until CONTROL says so; so the order does not matter, and a start that is killed half way
/// leaves probes that only cost their trap.
///
/// # Errors
/// The kernel refused one; those already attached stay pinned for the caller to take away.
pub fn attach(
    object: &mut Ebpf,
    paths: &SessionPaths,
    bound: Bound,
    probes: &[Probe<'_>],
) -> Result<Ways, AttachError> {
    let links = paths.links();
    folder::make_private(&links)?;
    for (program, tracepoint) in load::TRACEPOINTS {
        let pin = links.join(program);
        if pin.symlink_metadata().is_ok() {
            continue;
        }
        attach_tracepoint(object, program, tracepoint, &pin).map_err(|error| AttachError::Tracepoint {
            tracepoint,
            reason: with_causes(&*error),
        })?;
    }
    let mut choice = Choice::of(paths, bound)?;
    for Probe { index, call, module } in probes {
        for (program, offset) in places_of(call) {
            // A probe that is there stays: a refresh only adds. An exit may be there for another function that it serves.
            if is_pinned(paths, *index, call, (program, offset)) {
                continue;
            }
            if choice.attach(object, call, (program, offset), module)? {
                continue;
            }
            let pin = pin_of(paths, *index, call, program, offset);
            attach_probe(object, bound.thread, call, (program, offset), module, &pin)
                .map_err(|error| AttachError::of_probe(call, offset, &*error))?;
            choice.ways.own += 1;
        }
    }
    Ok(choice.ways)
}

/// Every program of a call with each place where it sits.
fn places_of(call: &PlannedCall) -> impl Iterator<Item = (Program, FileOffset)> {
    call.programs().iter().flat_map(|program| {
        let offsets = call.offsets_of(*program).into_iter();
        offsets.map(move |offset| (*program, offset))
    })
}

/// A name in the BPF file system has no dot. Functions that end in a jump to the same code share its exits, and one probe there serves them all.
fn pin_of(paths: &SessionPaths, index: CallIndex, call: &PlannedCall, program: Program, offset: FileOffset) -> PathBuf {
    let name = match (program, call.file) {
        (Program::CallExit, Some(file)) => {
            let (major, minor) = file.device;
            format!("{}-{major:x}-{minor:x}-{:x}-{:x}", program.name(), file.inode, offset.0)
        }
        (Program::CallExit, None) => format!("{:03}-{}-{:x}", index.0, program.name(), offset.0),
        _ => format!("{:03}-{}", index.0, program.name()),
    };
    paths.links().join(name)
}

/// Whether all programs of a probe are attached.
#[must_use]
pub fn is_attached(paths: &SessionPaths, probe: &Probe<'_>) -> bool {
    places_of(probe.call).all(|place| is_pinned(paths, probe.index, probe.call, place))
}

/// Whether a program is attached at a place, by a probe of the session's own or by its part in a shared one.
fn is_pinned(
    paths: &SessionPaths,
    index: CallIndex,
    call: &PlannedCall,
    (program, offset): (Program, FileOffset),
) -> bool {
    let is_there = |path: PathBuf| path.symlink_metadata().is_ok();
    let part = || SharedSite::of(call, program, offset).and_then(|site| site.part(paths));
    is_there(pin_of(paths, index, call, program, offset)) || part().is_some_and(is_there)
}

/// Attaches programs that do nothing where those of the plan would sit, unpinned: they go with the object.
///
/// # Errors
/// The kernel refused one.
pub fn attach_empty(
    object: &mut Ebpf,
    thread: u32,
    calls: &[PlannedCall],
    module_paths: &[PathToMapped],
) -> Result<(), AttachError> {
    for (call, module) in calls.iter().zip(module_paths) {
        for (program, offset) in places_of(call) {
            let attached = attach_uprobe(object, thread, call, (program.empty(), offset), module.as_ref());
            attached.map_err(|error| AttachError::of_probe(call, offset, &*error))?;
        }
    }
    Ok(())
}

/// Attaches one call's own programs, unpinned: they go with the object.
///
/// # Errors
/// The kernel refused one.
pub fn attach_alone(object: &mut Ebpf, thread: u32, call: &PlannedCall, module: &Path) -> Result<(), AttachError> {
    for (program, offset) in places_of(call) {
        attach_uprobe(object, thread, call, (program, offset), module)
            .map_err(|error| AttachError::of_probe(call, offset, &*error))?;
    }
    Ok(())
}

type Failure = Box<dyn std::error::Error>;

fn attach_tracepoint(object: &mut Ebpf, program: &str, tracepoint: &str, pin: &Path) -> Result<(), Failure> {
    let program = load::raw_tracepoint(object, program)?;
    let id = program.attach(tracepoint)?;
    let link: FdLink = program.take_link(id)?.into();
    link.pin(pin)?;
    Ok(())
}

fn attach_probe(
    object: &mut Ebpf,
    thread: u32,
    call: &PlannedCall,
    (program, offset): (Program, FileOffset),
    module: &Path,
    pin: &Path,
) -> Result<(), Failure> {
    let id = attach_uprobe(object, thread, call, (program, offset), module)?;
    let link: FdLink = load::uprobe(object, program.name())?
        .take_link(id)?
        .try_into()
        .map_err(|error| {
            format!("this kernel has no perf-event links ({error}); memscope needs Linux 5.15 or later")
        })?;
    link.pin(pin)?;
    Ok(())
}

fn attach_uprobe(
    object: &mut Ebpf,
    thread: u32,
    call: &PlannedCall,
    (program, offset): (Program, FileOffset),
    module: &Path,
) -> Result<UProbeLinkId, Failure> {
    let program = load::uprobe(object, program.name())?;
    let scope = UProbeScope::OneProcess(NonZeroU32::new(thread).ok_or("thread 0 cannot be traced")?);
    let point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(offset.0),
        cookie: Some(call.cookie),
    };
    Ok(program.attach(point, module, scope)?)
}

impl AttachError {
    fn of_probe(call: &PlannedCall, offset: FileOffset, error: &dyn std::error::Error) -> Self {
        Self::Probe {
            function: call.function.clone(),
            module: call.module.clone(),
            site: offset.0,
            reason: with_causes(error),
        }
    }
}

impl From<ProgramError> for AttachError {
    fn from(error: ProgramError) -> Self {
        Self::Database(DatabaseError::Load(with_causes(&error)))
    }
}
