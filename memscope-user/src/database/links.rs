//! The pinned links of a session: its attached probes, taken away again.

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
/// # Errors
/// A pin cannot be removed.
pub fn detach(paths: &SessionPaths) -> Result<(), DatabaseError> {
    folder::remove(&paths.links())
}
