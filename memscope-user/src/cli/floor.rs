//! `floor` (hidden): the probes of an attach with programs that do nothing, until standard input ends. The bench measures
//! against it.

use std::io::{self, Read as _, Write as _};

use super::arguments::FloorArguments;
use super::run::CommandError;
use crate::allocator::discovery::Wanted;
use crate::collection::error::CollectionError;
use crate::collection::survey::survey;
use crate::database::load;
use crate::exit::ExitCode;
use crate::probe::attach;
use crate::target::identity::Pid;
use crate::target::process::{Target, TargetError};

/// Runs `floor`.
///
/// # Errors
/// The target cannot be looked at, or the kernel refused a probe.
pub fn run(arguments: &FloorArguments) -> Result<ExitCode, CommandError> {
    let target = Target::of_pid(Pid(arguments.pid))?;
    let survey = survey(&target, Wanted::default())?;
    survey.require_allocator(&target)?;
    let thread = target.live_thread().ok_or(TargetError::Ended(target.id.pid))?;
    let mut object = load::object_alone()?;
    attach::attach_empty(&mut object, thread, &survey.calls, &survey.module_paths).map_err(CollectionError::from)?;
    writeln!(io::stdout(), "attached")?;
    let mut rest = Vec::new();
    io::stdin().read_to_end(&mut rest)?;
    Ok(ExitCode::Success)
}
