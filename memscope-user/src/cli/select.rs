//! Which processes or databases a command line means.

use super::arguments::TargetArguments;
use super::run::CommandError;
use crate::database::error::DatabaseError;
use crate::database::paths::Roots;
use crate::database::store;
use crate::target::identity::{Pid, StartTime, TargetId};
use crate::target::process::{Target, TargetError, matching};

/// The processes meant: by PID in the order given, then those that match by name or executable.
///
/// # Errors
/// None was named; a PID has no process; nothing matches.
pub fn processes(arguments: &TargetArguments) -> Result<Vec<Target>, CommandError> {
    if arguments.is_empty() {
        return Err(CommandError::Usage(
            "no target: give a PID, --comm NAME or --exe PATH; `memscope --help` shows the commands".into(),
        ));
    }
    let mut targets = Vec::new();
    for pid in &arguments.pids {
        targets.push(Target::of_pid(Pid(*pid))?);
    }
    if !arguments.comm.is_empty() || !arguments.exe.is_empty() {
        targets.extend(matching(&arguments.comm, &arguments.exe)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    targets.retain(|target| seen.insert(target.id));
    Ok(targets)
}

/// The one process with this PID or command name.
///
/// # Errors
/// There is none, or several have the name.
pub(crate) fn one_process(text: &str) -> Result<Target, CommandError> {
    if let Ok(pid) = text.parse() {
        return Ok(Target::of_pid(Pid(pid))?);
    }
    let found = matching(&[text.to_owned()], &[])?;
    match found.as_slice() {
        [only] => Ok(*only),
        several => {
            let pids: Vec<String> = several.iter().map(|target| target.id.pid.to_string()).collect();
            Err(CommandError::Usage(format!(
                "{} processes are named {}: {}; give one of these PIDs",
                several.len(),
                crate::report::Escaped(text),
                pids.join(" ")
            )))
        }
    }
}

/// The databases meant: that of the process which has the PID now, else that of the last one which had it.
///
/// # Errors
/// None was named; a PID has no database; nothing matches.
pub fn databases(roots: &Roots, arguments: &TargetArguments) -> Result<Vec<TargetId>, CommandError> {
    among(&store::list(roots)?, arguments)
}

/// The same among those that exist, by PID.
///
/// # Errors
/// As [`databases`].
pub(crate) fn among(existing: &[TargetId], arguments: &TargetArguments) -> Result<Vec<TargetId>, CommandError> {
    let mut ids = Vec::new();
    for pid in &arguments.pids {
        ids.push(of_pid(existing, Pid(*pid))?);
    }
    ids.extend(
        matched_among(existing, arguments)?
            .iter()
            .map(|target| target.id)
            .filter(|id| existing.contains(id)),
    );
    let mut seen = std::collections::BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(ids)
}

/// The processes meant by name or executable, whether they have a database or not; none when only PIDs are given.
///
/// # Errors
/// Nothing matches; nothing of what matches has a database.
pub fn matched(roots: &Roots, arguments: &TargetArguments) -> Result<Vec<Target>, CommandError> {
    matched_among(&store::list(roots)?, arguments)
}

fn matched_among(existing: &[TargetId], arguments: &TargetArguments) -> Result<Vec<Target>, CommandError> {
    if arguments.comm.is_empty() && arguments.exe.is_empty() {
        return Ok(Vec::new());
    }
    let matched = matching(&arguments.comm, &arguments.exe)?;
    match matched.first() {
        Some(first) if !matched.iter().any(|target| existing.contains(&target.id)) => {
            Err(DatabaseError::Missing(first.id).into())
        }
        _ => Ok(matched),
    }
}

/// The database of the process that has the PID now, else of the last one that had it.
///
/// # Errors
/// There is none.
pub(crate) fn database_of(roots: &Roots, pid: Pid) -> Result<TargetId, CommandError> {
    of_pid(&store::list(roots)?, pid)
}

fn of_pid(existing: &[TargetId], pid: Pid) -> Result<TargetId, CommandError> {
    let running = Target::of_pid(pid);
    if let Ok(target) = &running
        && existing.contains(&target.id)
    {
        return Ok(target.id);
    }
    // The latest of them begins last.
    match (existing.iter().rfind(|id| id.pid == pid), running) {
        (Some(id), _) => Ok(*id),
        (None, Ok(target)) => Err(DatabaseError::Missing(target.id).into()),
        (None, Err(TargetError::NoSuchProcess(_) | TargetError::Ended(_))) => Err(DatabaseError::Missing(TargetId {
            pid,
            start_time: StartTime(0),
        })
        .into()),
        (None, Err(error)) => Err(error.into()),
    }
}
