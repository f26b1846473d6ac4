//! Attaches probes and pins their links, so that they outlive this process.

use std::num::NonZeroU32;
use std::path::Path;

use aya::Ebpf;
use aya::programs::ProgramError;
use aya::programs::links::FdLink;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope};
use memscope_ebpf::call::CallIndex;
use thiserror::Error;

use super::plan::{PlannedCall, Program};
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
    #[error("cannot watch for the target's exec, exit and signals ({tracepoint}): {reason}")]
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
pub fn attach(object: &mut Ebpf, paths: &SessionPaths, thread: u32, probes: &[Probe<'_>]) -> Result<(), AttachError> {
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
    for Probe { index, call, module } in probes {
        for program in call.programs() {
            let pin = links.join(format!("{:03}-{}", index.0, program.name()));
            // A probe that is there stays: a refresh only adds.
            if pin.symlink_metadata().is_ok() {
                continue;
            }
            attach_probe(object, thread, call, *program, module, &pin).map_err(|error| AttachError::Probe {
                function: call.function.clone(),
                module: call.module.clone(),
                site: call.site_offset.0,
                reason: with_causes(&*error),
            })?;
        }
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
    program: Program,
    module: &Path,
    pin: &Path,
) -> Result<(), Failure> {
    let program = load::uprobe(object, program.name())?;
    let scope = UProbeScope::OneProcess(NonZeroU32::new(thread).ok_or("thread 0 cannot be traced")?);
    let point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(call.site_offset.0),
        cookie: Some(call.cookie),
    };
    let id = program.attach(point, module, scope)?;
    let link: FdLink = program.take_link(id)?.try_into().map_err(|error| {
        format!("this kernel has no perf-event links ({error}); memscope needs Linux 5.15 or later")
    })?;
    link.pin(pin)?;
    Ok(())
}

impl From<ProgramError> for AttachError {
    fn from(error: ProgramError) -> Self {
        Self::Database(DatabaseError::Load(with_causes(&error)))
    }
}
