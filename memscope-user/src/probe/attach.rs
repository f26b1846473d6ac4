//! Attaches probes and pins their links, so that they outlive this process; and takes them away again.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::ProgramError;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope};
use thiserror::Error;

use super::plan::{PlannedCall, PlannedProbe};
use crate::database::error::DatabaseError;
use crate::database::folder;
use crate::database::load::{self, with_causes};
use crate::database::paths::SessionPaths;

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
    #[error("cannot watch for the target's exec and exit ({tracepoint}): {reason}")]
    Tracepoint {
        /// The tracepoint.
        tracepoint: &'static str,
        /// The kernel's words.
        reason: String,
    },
    /// The session store.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Where a module can be opened from outside: a path for each call, by call index.
pub type ModulePaths = Vec<PathBuf>;

/// Attaches the lifecycle programs and every probe of the plan, each link pinned at once.
///
/// The programs do nothing until CONTROL says so; so the order does not matter, and a start that is killed half way
/// leaves probes that only cost their trap.
///
/// # Errors
/// The kernel refused one; those already attached stay pinned for the caller to take away.
pub fn attach(
    object: &mut Ebpf,
    paths: &SessionPaths,
    thread: u32,
    calls: &[PlannedCall],
    module_paths: &ModulePaths,
    probes: &[PlannedProbe],
) -> Result<(), AttachError> {
    let links = paths.links();
    folder::make_private(&links)?;
    for (program, tracepoint) in load::TRACEPOINTS {
        attach_tracepoint(object, program, tracepoint, &links.join(program)).map_err(|error| {
            AttachError::Tracepoint {
                tracepoint,
                reason: with_causes(&*error),
            }
        })?;
    }
    for (number, probe) in probes.iter().enumerate() {
        let index = usize::from(probe.call.0);
        let (Some(call), Some(module)) = (calls.get(index), module_paths.get(index)) else {
            continue;
        };
        let pin = links.join(format!("{number:03}-{}", probe.role.program()));
        attach_probe(object, thread, call.cookie, module, probe, &pin).map_err(|error| AttachError::Probe {
            function: call.function.clone(),
            module: call.module.clone(),
            site: probe.site.0,
            reason: with_causes(&*error),
        })?;
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
    cookie: u64,
    module: &Path,
    probe: &PlannedProbe,
    pin: &Path,
) -> Result<(), Failure> {
    let program = load::uprobe(object, probe.role.program())?;
    let scope = UProbeScope::OneProcess(NonZeroU32::new(thread).ok_or("thread 0 cannot be traced")?);
    let point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(probe.site.0),
        cookie: Some(cookie),
    };
    let id = program.attach(point, module, scope)?;
    let link: FdLink = program.take_link(id)?.try_into().map_err(|error| {
        format!("this kernel has no perf-event links ({error}); memscope needs Linux 5.15 or later")
    })?;
    link.pin(pin)?;
    Ok(())
}

/// Takes every probe of a session away, and returns when they are gone from the target's text.
///
/// Removing a pin alone would let the kernel release the link from a work queue, some time later (bpf_link_put,
/// kernel/bpf/syscall.c); closing the last descriptor of an unpinned link releases it before close(2) returns.
///
/// # Errors
/// A link cannot be removed.
pub fn detach(paths: &SessionPaths) -> Result<(), DatabaseError> {
    let links = paths.links();
    let entries = match std::fs::read_dir(&links) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(DatabaseError::file("list", &links)(error)),
    };
    let mut released = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        match PinnedLink::from_pin(&path) {
            Ok(pinned) => released.push(pinned.unpin().map_err(DatabaseError::file("remove", &path))?),
            Err(_) => std::fs::remove_file(&path).map_err(DatabaseError::file("remove", &path))?,
        }
    }
    drop(released);
    folder::remove(&links)
}

impl From<ProgramError> for AttachError {
    fn from(error: ProgramError) -> Self {
        Self::Database(DatabaseError::Load(with_causes(&error)))
    }
}
