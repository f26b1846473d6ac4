//! The session store: which sessions there are, and the one lock a session has.

use std::path::Path;

use super::bpffs;
use super::error::DatabaseError;
use super::folder::{self, FolderLock};
use super::links;
use super::paths::{Roots, SessionPaths};
use crate::target::identity::TargetId;

/// Every session of this host, finished or not, by PID.
///
/// # Errors
/// A root cannot be read. A root that is not there holds no sessions.
pub fn list(roots: &Roots) -> Result<Vec<TargetId>, DatabaseError> {
    let mut found = Vec::new();
    for root in [&roots.run, &roots.bpf] {
        let entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(DatabaseError::file("list", root)(error)),
        };
        found.extend(
            entries
                .flatten()
                .filter_map(|entry| TargetId::from_folder_name(entry.file_name().to_str()?)),
        );
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Makes the roots and the session's run folder, and locks it. The lock says who may change the session.
///
/// # Errors
/// A folder cannot be made, is not ours, or there is no BPF file system.
pub fn lock_or_create(roots: &Roots, id: TargetId) -> Result<FolderLock, DatabaseError> {
    let paths = roots.session(id);
    bpffs::ensure_mounted(&roots.bpf)?;
    make_root(&roots.run)?;
    make_root(&roots.bpf)?;
    loop {
        folder::make_private(&paths.run)?;
        match FolderLock::acquire(&paths.run) {
            Ok(lock) if lock.still_at(&paths.run) => return Ok(lock),
            // Removed by a destroy while this command waited: make it anew.
            Ok(_) => {}
            Err(_) if paths.run.symlink_metadata().is_err() => {}
            Err(error) => return Err(error),
        }
    }
}

/// Locks a session that is there.
///
/// # Errors
/// It is not there (any more).
pub fn lock_existing(paths: &SessionPaths, id: TargetId) -> Result<FolderLock, DatabaseError> {
    if !paths.exist() {
        return Err(DatabaseError::Missing(id));
    }
    if paths.run.symlink_metadata().is_err() {
        return Err(DatabaseError::Unfinished {
            id,
            what: "its files are gone".into(),
        });
    }
    folder::check_ours(&paths.run)?;
    let lock = FolderLock::acquire(&paths.run)?;
    if lock.still_at(&paths.run) {
        Ok(lock)
    } else {
        Err(DatabaseError::Missing(id))
    }
}

/// Locks a session if it is there and nobody else holds it.
///
/// # Errors
/// Its folder is not ours, or cannot be opened.
pub fn try_lock(paths: &SessionPaths) -> Result<Option<FolderLock>, DatabaseError> {
    if paths.run.symlink_metadata().is_err() {
        return Ok(None);
    }
    folder::check_ours(&paths.run)?;
    let lock = FolderLock::try_acquire(&paths.run)?;
    Ok(lock.filter(|lock| lock.still_at(&paths.run)))
}

/// How much of a session a reader may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing is there (any more).
    Gone,
    /// A command is making it: it is locked, and has no file yet.
    BeingMade,
    /// It is there, whole or not.
    There,
}

/// How much of a session is there now.
#[must_use]
pub fn presence(paths: &SessionPaths) -> Presence {
    if !paths.exist() {
        Presence::Gone
    } else if !paths.file().exists() && is_locked(paths) && !paths.file().exists() {
        // Looked for twice: its maker may have written it before it let go.
        Presence::BeingMade
    } else {
        Presence::There
    }
}

/// Whether another command is at work on a session. What cannot be asked is not locked: whoever reads it will say why.
#[must_use]
pub fn is_locked(paths: &SessionPaths) -> bool {
    matches!(FolderLock::try_acquire(&paths.run), Ok(None))
}

/// Removes a session in whatever state it is: links first, so that the probes leave the target; then maps; then files.
/// Killed anywhere, what remains is still found by [`list`] and removed by the next call.
///
/// # Errors
/// Something cannot be removed.
pub fn remove(paths: &SessionPaths) -> Result<(), DatabaseError> {
    let _lock = if paths.run.symlink_metadata().is_ok() {
        folder::check_ours(&paths.run)?;
        Some(FolderLock::acquire(&paths.run)?)
    } else {
        None
    };
    links::detach(paths)?;
    folder::remove(&paths.bpf)?;
    folder::remove(&paths.run)
}

/// Removes a session that a killed command left without its file; one that a command is still making is left alone.
///
/// # Errors
/// Something cannot be removed.
pub fn remove_unfinished(paths: &SessionPaths) -> Result<bool, DatabaseError> {
    if paths.run.symlink_metadata().is_err() {
        links::detach(paths)?;
        folder::remove(&paths.bpf)?;
        return Ok(true);
    }
    folder::check_ours(&paths.run)?;
    let Some(_lock) = FolderLock::try_acquire(&paths.run)? else {
        return Ok(false);
    };
    if paths.file().exists() {
        return Ok(false);
    }
    links::detach(paths)?;
    folder::remove(&paths.bpf)?;
    folder::remove(&paths.run)?;
    Ok(true)
}

/// Makes a root folder, private.
///
/// # Errors
/// It cannot be made, or is not ours.
pub fn make_root(path: &Path) -> Result<(), DatabaseError> {
    if let Some(parent) = path.parent()
        && parent.symlink_metadata().is_err()
    {
        std::fs::create_dir_all(parent).map_err(DatabaseError::file("create", parent))?;
    }
    folder::make_private(path)
}
