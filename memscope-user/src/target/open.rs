//! Opens files whose paths the target chose, the one way: only regular files, never a device or a FIFO, never out of a given
//! root.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

use super::identity::Pid;

/// Leads to the root directory of a process.
pub(crate) fn root_of(pid: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}

/// Opens a regular file for reading.
///
/// # Errors
/// `InvalidInput` when it is not a regular file, else what the kernel says.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    read_regular(&open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a regular file for reading by a path that is resolved, symbolic links and all, as a process with this root
/// directory would resolve it.
///
/// # Errors
/// As [`open_regular`]; `ENOSYS` before Linux 5.6.
pub(crate) fn open_in_root(root: &Path, path: &Path) -> io::Result<File> {
    let root = rustix::fs::openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    read_regular(&openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?)
}

/// Only opening a FIFO or a device can already block or act, so the file is looked at before it is opened; `/proc/self/fd`
/// leads to that very file, whatever its path means by now.
fn read_regular(found: &OwnedFd) -> io::Result<File> {
    if FileType::from_raw_mode(fstat(found)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // Not waited for: whoever holds a lease on the file (fcntl(2), F_SETLEASE) could make us wait for as long as he likes.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(open(format!("/proc/self/fd/{}", found.as_raw_fd()), flags, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_fifo_neither_blocks_nor_opens() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(open_regular(&fifo).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            open_regular(Path::new("/dev/null")).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(
            open_regular(folder.path()).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn a_link_in_a_root_stays_in_it() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "outside").unwrap();
        std::fs::create_dir(root.path().join("lib")).unwrap();
        std::fs::write(root.path().join("lib/real"), "inside").unwrap();
        symlink("/lib/real", root.path().join("absolute")).unwrap();
        symlink(outside.path().join("secret"), root.path().join("escape")).unwrap();
        let inside = open_in_root(root.path(), Path::new("/absolute")).unwrap();
        assert_eq!(io::read_to_string(inside).unwrap(), "inside");
        assert!(open_in_root(root.path(), Path::new("/escape")).is_err());
    }
}
