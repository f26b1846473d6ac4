//! Folders and files that only root touches: made private, opened without following symbolic links, replaced whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::error::DatabaseError;

/// Makes a private folder (0700), or takes one that is there if it is ours.
///
/// # Errors
/// It cannot be made, or what is there is not a folder of this user.
pub fn make_private(path: &Path) -> Result<(), DatabaseError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_ours(path),
        Err(error) => Err(DatabaseError::file("create", path)(error)),
    }
}

/// Refuses a folder that is a symbolic link or belongs to another user.
///
/// # Errors
/// As said, or it cannot be looked at.
pub fn check_ours(path: &Path) -> Result<(), DatabaseError> {
    let metadata = path.symlink_metadata().map_err(DatabaseError::file("look at", path))?;
    let suspicious = |what| {
        Err(DatabaseError::Suspicious {
            path: path.to_path_buf(),
            what,
        })
    };
    if metadata.file_type().is_symlink() {
        return suspicious("a symbolic link");
    }
    if !metadata.is_dir() {
        return suspicious("not a folder");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return suspicious("owned by another user");
    }
    Ok(())
}

/// Replaces a file whole: written beside it, flushed, renamed over it. A reader sees the old text or the new.
///
/// # Errors
/// It cannot be written; the old file then stands.
pub fn replace_file(path: &Path, contents: &[u8]) -> Result<(), DatabaseError> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(DatabaseError::file("remove", &beside)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(DatabaseError::file("create", &beside))?;
    file.write_all(contents)
        .and_then(|()| file.sync_all())
        .map_err(DatabaseError::file("write", &beside))?;
    fs::rename(&beside, path).map_err(DatabaseError::file("replace", path))
}

/// Removes a file; none there is not an error.
///
/// # Errors
/// It cannot be removed.
pub fn remove_file(path: &Path) -> Result<(), DatabaseError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DatabaseError::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a folder and all in it; nothing there is not an error. Symbolic links in it are removed, not followed.
///
/// # Errors
/// Something in it cannot be removed.
pub fn remove(path: &Path) -> Result<(), DatabaseError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DatabaseError::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The names in a folder, sorted, as far as they are text: others are not ours. None, if there is no such folder.
///
/// # Errors
/// It cannot be read.
pub fn names(path: &Path) -> Result<Vec<String>, DatabaseError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DatabaseError::file("list", path)(error)),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// A lock on a folder, held until dropped or until this process dies.
#[derive(Debug)]
pub struct FolderLock(File);

impl FolderLock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// The folder cannot be opened.
    pub fn acquire(path: &Path) -> Result<Self, DatabaseError> {
        let folder = open_folder(path)?;
        loop {
            match rustix::fs::flock(&folder, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self(folder)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(DatabaseError::file("lock", path)(error.into())),
            }
        }
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// The folder cannot be opened.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>, DatabaseError> {
        let folder = open_folder(path)?;
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(folder))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(DatabaseError::file("lock", path)(error.into())),
        }
    }

    /// Whether the folder that was locked is still the one at `path`: another command may have removed it, or replaced
    /// it, while this one waited.
    #[must_use]
    pub fn still_at(&self, path: &Path) -> bool {
        match (self.0.metadata(), path.symlink_metadata()) {
            (Ok(locked), Ok(there)) => (locked.dev(), locked.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }
}

fn open_folder(path: &Path) -> Result<File, DatabaseError> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let folder = rustix::fs::open(path, flags, Mode::empty());
    folder
        .map(File::from)
        .map_err(|error| DatabaseError::file("open", path)(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbolic_link_is_not_taken_for_our_folder() {
        let scratch = tempfile::tempdir().unwrap();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(scratch.path(), &link).unwrap();
        assert!(matches!(make_private(&link), Err(DatabaseError::Suspicious { .. })));
    }

    #[test]
    fn a_file_is_replaced_whole_and_leftovers_do_not_stop_it() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("session.json");
        fs::write(scratch.path().join("session.new"), "torn").unwrap();
        replace_file(&path, b"one").unwrap();
        replace_file(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_lock_knows_when_its_folder_was_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("session");
        make_private(&path).unwrap();
        let lock = FolderLock::acquire(&path).unwrap();
        assert!(lock.still_at(&path));
        remove(&path).unwrap();
        assert!(!lock.still_at(&path));
        make_private(&path).unwrap();
        assert!(!lock.still_at(&path));
    }
}
