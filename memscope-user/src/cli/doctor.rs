//! `doctor`: what this kernel, this user and a target support, item by item, with the remedy.

use std::io::{self, Write};

use super::arguments::DoctorArguments;
use super::attach;
use super::run::CommandError;
use crate::allocator::discovery::Wanted;
use crate::collection::survey::survey;
use crate::exit::ExitCode;
use crate::host::checks::{self, Outcome};
use crate::host::preflight;
use crate::target::identity::Pid;
use crate::target::process::Target;

/// Runs `doctor`.
///
/// # Errors
/// The target cannot be looked at, or the output not written.
pub fn run(arguments: &DoctorArguments, verbose: bool) -> Result<ExitCode, CommandError> {
    let mut out = io::stdout().lock();
    let mut fit = true;
    for check in checks::host(verbose) {
        fit &= !matches!(check.outcome, Outcome::Lacking { .. });
        writeln!(out, "{check}")?;
    }
    if let Some(pid) = arguments.target {
        let target = Target::of_pid(Pid(pid))?;
        writeln!(out, "process {pid} ({})", crate::report::Escaped(&target.comm()?))?;
        let survey = survey(&target, Wanted::default())?;
        attach::describe(&survey, &mut out)?;
        survey.require_allocator(&target)?;
        let findings = preflight::look(&target, &survey);
        for finding in &findings {
            let word = if finding.danger.is_some() { "DANGER" } else { "note" };
            writeln!(out, "{word:<8} {finding}")?;
        }
        if findings.is_empty() {
            writeln!(out, "ok       nothing found that attaching could hurt")?;
        }
        fit &= findings.iter().all(|finding| finding.danger.is_none());
    }
    out.flush()?;
    Ok(if fit { ExitCode::Success } else { ExitCode::NotPermitted })
}
