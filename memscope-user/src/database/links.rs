//! The pinned links of a session: its attached probes, taken away again.

use std::path::{Path, PathBuf};
use std::thread;

use aya::programs::links::PinnedLink;

use super::error::DatabaseError;
use super::folder;
use super::paths::SessionPaths;

/// Links released at once. Each release waits for grace periods of the kernel; a part of them overlaps.
const AT_ONCE: usize = 32;

/// Takes every probe of a session away, and returns when they are gone from the target's text.
///
/// Removing a pin alone would let the kernel release the link from a work queue, some time later (bpf_link_put,
/// kernel/bpf/syscall.c); closing the last descriptor of an unpinned link releases it before close(2) returns.
///
/// # Errors
/// A link cannot be removed; the others are all the same.
pub fn detach(paths: &SessionPaths) -> Result<(), DatabaseError> {
    let links = paths.links();
    let pins: Vec<PathBuf> = match std::fs::read_dir(&links) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(DatabaseError::file("list", &links)(error)),
    };
    let share = pins.len().div_ceil(AT_ONCE).max(1);
    let outcomes: Vec<Result<(), DatabaseError>> = thread::scope(|scope| {
        let releases: Vec<_> = pins
            .chunks(share)
            .map(|pins| {
                (
                    pins,
                    thread::Builder::new().spawn_scoped(scope, move || release_all(pins)),
                )
            })
            .collect();
        let joined = releases.into_iter().map(|(pins, release)| match release {
            // A release that panicked has let go of its links all the same; what it left pinned, the removal of the
            // folder meets.
            Ok(thread) => thread.join().unwrap_or(Ok(())),
            // No thread to be had: here, then.
            Err(_) => release_all(pins),
        });
        joined.collect()
    });
    outcomes.into_iter().collect::<Result<(), _>>()?;
    folder::remove(&links)
}

fn release_all(pins: &[PathBuf]) -> Result<(), DatabaseError> {
    let outcomes: Vec<_> = pins.iter().map(|pin| release(pin)).collect();
    outcomes.into_iter().collect()
}

fn release(pin: &Path) -> Result<(), DatabaseError> {
    match PinnedLink::from_pin(pin) {
        Ok(pinned) => pinned.unpin().map(drop).map_err(DatabaseError::file("remove", pin)),
        Err(_) => std::fs::remove_file(pin).map_err(DatabaseError::file("remove", pin)),
    }
}
