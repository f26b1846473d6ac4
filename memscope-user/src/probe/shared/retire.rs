//! Takes away what nobody uses of the shared probes: parts, trace events, routes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use procfs::ProcError;
use procfs::process::Process;

use super::routes::Routes;
use super::tracefs::TraceEvents;
use crate::database::error::DatabaseError;
use crate::database::folder::{self, FolderLock};
use crate::database::paths::{ROUTER, SharedPaths};
use crate::target::identity::{Pid, TargetId};

/// How long the kernel is given to let go of the last perf event of a trace event; see [`crate::probe::restored`].
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);

/// Which trace events the kernel is waited for to let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// Those that are unpinned by this very call.
    Freed,
    /// Those, too, that a command which was killed has unpinned: what is to be the end of all leaves nothing. Somebody else may have opened one (`perf
    /// record -e memscope_…`), and hold it for ever: that takes the whole patience.
    All,
}

/// Removes the parts of targets that have ended, the trace events that no session below this root uses any more, the routes of sessions
/// that have no part in any, and the folder when there is no session left.
///
/// # Errors
/// Something cannot be removed; the next call tries again.
pub fn retire(root: &Path, wait_for: WaitFor) -> Result<(), DatabaseError> {
    let paths = SharedPaths::below(root);
    if paths.folder.symlink_metadata().is_err() {
        return Ok(());
    }
    let _lock = FolderLock::acquire(root)?;
    let Uses { used, freed } = keep_used(root, &paths)?;
    let processes = used.values().flatten().map(|id| id.pid).collect();
    // Routes first: they hold the maps of sessions that are gone, whatever becomes of the rest.
    match Routes::open(&paths) {
        Ok(routes) => routes.keep_only(&processes, |pid| has_ended(pid, None))?,
        // Half made, and nobody's.
        Err(_) if used.is_empty() => {}
        Err(error) => return Err(error),
    }
    let events = TraceEvents::of(root).map_err(DatabaseError::file("find", "tracefs".as_ref()))?;
    let left = remove_unused(&events, &used, |name| wait_for == WaitFor::All || freed.contains(name))
        .map_err(DatabaseError::file("remove trace events of", &paths.folder))?;
    // A session may have to tell of hits that are counted there until it is stopped or destroyed, though its target has ended.
    let is_session = |name: &String| TargetId::from_folder_name(name).is_some();
    if used.is_empty() && left == 0 && !folder::names(root)?.iter().any(is_session) {
        return folder::remove(&paths.folder);
    }
    Ok(())
}

/// The trace events that are pinned.
#[derive(Default)]
struct Uses {
    /// With living sessions' parts, and whose.
    used: BTreeMap<String, BTreeSet<TargetId>>,
    /// Unpinned just now: the kernel is about to let go of them.
    freed: BTreeSet<String>,
}

/// Unpins whatever of a trace event is no living session's.
fn keep_used(root: &Path, paths: &SharedPaths) -> Result<Uses, DatabaseError> {
    let mut uses = Uses::default();
    for name in folder::names(&paths.events())? {
        let mut users = BTreeSet::new();
        for user in folder::names(&paths.event(&name))? {
            match TargetId::from_folder_name(&user) {
                // A session whose folder somebody removed by hand is none, and one whose target has ended only makes the list longer.
                Some(id) if root.join(&user).symlink_metadata().is_err() || has_ended(id.pid, Some(id)) => {
                    folder::remove_file(&paths.event(&name).join(&user))?;
                }
                Some(id) => _ = users.insert(id),
                None if user == ROUTER => {}
                None => folder::remove_file(&paths.event(&name).join(&user))?,
            }
        }
        if users.is_empty() {
            folder::remove(&paths.event(&name))?;
            uses.freed.insert(name);
        } else {
            uses.used.insert(name, users);
        }
    }
    Ok(uses)
}

/// Removes the trace events that are not used; gives how many the kernel holds on to. Those that are waited for are, while it gets on.
fn remove_unused(
    events: &TraceEvents,
    used: &BTreeMap<String, BTreeSet<TargetId>>,
    is_waited_for: impl Fn(&String) -> bool,
) -> io::Result<usize> {
    let mut names = events.names()?;
    names.retain(|name| !used.contains_key(name));
    let mut held = 0;
    let mut end = Instant::now() + PATIENCE;
    while !names.is_empty() && Instant::now() < end {
        let mut waited_for = Vec::new();
        for name in &names {
            if events.remove(name)? {
                end = Instant::now() + PATIENCE;
            } else if is_waited_for(name) {
                waited_for.push(name.clone());
            } else {
                held += 1;
            }
        }
        names = waited_for;
        if !names.is_empty() {
            std::thread::sleep(LOOK);
        }
    }
    Ok(held + names.len())
}

/// Whether a process has surely ended: what cannot be told now is no reason to take a living one's probes away, and of a PID namespace of
/// our own nothing can be told. With an identity, also if another process has its id.
fn has_ended(pid: Pid, id: Option<TargetId>) -> bool {
    // PROC_PID_INIT_INO, include/linux/proc_ns.h.
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    if !namespace.is_ok_and(|namespace| namespace.as_os_str() == "pid:[4026531836]") {
        return false;
    }
    let Ok(number) = i32::try_from(pid.0) else {
        return true;
    };
    match Process::new(number).and_then(|process| process.stat()) {
        Ok(stat) => id.is_some_and(|id| id.start_time.0 != stat.starttime),
        Err(ProcError::NotFound(_)) => true,
        Err(ProcError::Io(error, _)) => error.raw_os_error() == Some(libc::ESRCH),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::identity::StartTime;
    use crate::target::process::Target;

    #[test]
    fn only_a_process_that_is_gone_or_another_has_ended() {
        let here = Target::of_pid(Pid(std::process::id())).unwrap().id;
        assert!(!has_ended(here.pid, None) && !has_ended(here.pid, Some(here)));
        let earlier = TargetId {
            start_time: StartTime(here.start_time.0 - 1),
            ..here
        };
        let told = std::fs::read_link("/proc/self/ns/pid").is_ok_and(|name| name.as_os_str() == "pid:[4026531836]");
        assert_eq!(has_ended(here.pid, Some(earlier)), told);
        assert_eq!(has_ended(Pid(4_194_305), None), told);
    }
}
