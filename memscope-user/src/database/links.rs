//! The pinned links of a session: its attached probes, taken away again.

use aya::programs::links::PinnedLink;

use super::error::DatabaseError;
use super::folder;
use super::paths::SessionPaths;

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
