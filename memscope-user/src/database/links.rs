//! The pins of a session's attached probes, its own and its parts in shared ones: taken away again.

use super::error::DatabaseError;
use super::folder;
use super::paths::SessionPaths;

/// Takes every probe of a session away. Returns at once; the probes are gone from the target's text a moment later
/// ([`crate::probe::restored`]).
///
/// Only the pins are removed: the last reference to a link then goes in the kernel's own work queue (`bpf_link_put`,
/// kernel/bpf/syscall.c), and with it the last one to its perf event, which the kernel releases one after the other
/// (`delayed_fput`, fs/file_table.c): each waits for RCU, SRCU and RCU tasks trace in turn. Holding a descriptor to
/// release it here would be no faster; and it would not be safe: taking a breakpoint out of the target reads its memory, which fails in a
/// process that a fatal signal is pending for (`get_user_pages`), so a `kill -9` in that moment would leave it in.
///
/// A part in a shared probe is a pinned map that holds a perf event; it goes the same way. What it was a part of stays for the
/// others, and is [`crate::probe::shared::retire`]'s to remove when there are none.
///
/// # Errors
/// A pin cannot be removed.
pub fn detach(paths: &SessionPaths) -> Result<(), DatabaseError> {
    folder::remove(&paths.links())?;
    let shared = paths.shared();
    for event in folder::names(&shared.events())? {
        if let Some(part) = shared.part(&event, paths) {
            folder::remove_file(&part)?;
        }
    }
    Ok(())
}

/// The names of the trace events that a session has part in.
///
/// # Errors
/// The folder of shared probes cannot be read.
pub fn shared(paths: &SessionPaths) -> Result<Vec<String>, DatabaseError> {
    let shared = paths.shared();
    let mut names = folder::names(&shared.events())?;
    names.retain(|name| {
        let part = shared.part(name, paths);
        part.is_some_and(|part| part.symlink_metadata().is_ok())
    });
    Ok(names)
}
