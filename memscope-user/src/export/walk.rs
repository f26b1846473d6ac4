//! Opens the folder a file is to be written into, link by link: as root, only links that root (or this user) made are
//! followed, so that nobody else chooses what root writes.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat};

/// More links than the kernel itself would follow (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Opens a folder by a path of which no part may be a stranger's symbolic link when this user is root.
///
/// # Errors
/// A part does not exist, is not a folder, or is such a link (`PermissionDenied`).
pub(super) fn open_folder(path: &Path) -> io::Result<File> {
    let user = rustix::process::geteuid();
    let trusts = |owner: u32| !user.is_root() || owner == 0;
    open_trusting(path, &trusts)
}

fn open_trusting(path: &Path, trusts: &dyn Fn(u32) -> bool) -> io::Result<File> {
    let mut at = open_step(None, OsStr::new(if path.is_absolute() { "/" } else { "." }))?;
    // Parts still to be walked, the next one last.
    let mut parts = parts_of(path);
    let mut links = 0;
    while let Some(part) = parts.pop() {
        let next = open_step(Some(&at), part.as_os_str())?;
        let found = fstat(&next)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
            at = next;
            continue;
        }
        links += 1;
        if !trusts(found.st_uid) || links > MAX_LINKS {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "`{}` on the way is a symbolic link made by another user",
                    part.display()
                ),
            ));
        }
        let target = readlinkat(&next, "", Vec::new())?;
        let target = Path::new(OsStr::from_bytes(target.to_bytes()));
        if target.is_absolute() {
            at = open_step(None, OsStr::new("/"))?;
        }
        parts.extend(parts_of(target));
    }
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(File::from(openat(&at, ".", flags, Mode::empty())?))
}

fn parts_of(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    parts.collect()
}

/// One part, itself and not where it leads.
fn open_step(at: Option<&OwnedFd>, part: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(match at {
        Some(at) => openat(at, part, flags, Mode::empty())?,
        None => openat(CWD, part, flags, Mode::empty())?,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn same(file: &File, path: &Path) -> bool {
        let (a, b) = (file.metadata().unwrap(), path.metadata().unwrap());
        (a.dev(), a.ino()) == (b.dev(), b.ino())
    }

    #[test]
    fn a_path_is_walked_to_where_it_leads() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        std::fs::create_dir_all(root.join("a/b/c")).unwrap();
        symlink("b/../b", root.join("a/relative")).unwrap();
        symlink(root.join("a"), root.join("absolute")).unwrap();
        for path in [
            "a/b/c",
            "a/relative/c",
            "absolute/b/c",
            "absolute/relative/./c",
            "a/b/../b/c",
        ] {
            let folder = open_trusting(&root.join(path), &|_| true).unwrap();
            assert!(same(&folder, &root.join("a/b/c")), "{path}");
        }
        assert!(same(&open_folder(Path::new("")).unwrap(), Path::new(".")));
        assert_eq!(
            open_folder(&root.join("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn a_strangers_link_is_not_followed_wherever_it_stands() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        symlink("a", root.join("first")).unwrap();
        symlink("b", root.join("a/last")).unwrap();
        for path in ["first/b", "a/last", "first"] {
            let error = open_trusting(&root.join(path), &|_| false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{path}");
        }
        assert!(open_trusting(&root.join("a/b"), &|_| false).is_ok());
    }

    #[test]
    fn links_in_a_circle_end() {
        let scratch = tempfile::tempdir().unwrap();
        symlink("y", scratch.path().join("x")).unwrap();
        symlink("x", scratch.path().join("y")).unwrap();
        assert!(open_trusting(&scratch.path().join("x"), &|_| true).is_err());
    }

    #[test]
    fn a_file_is_no_folder() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("file"), "").unwrap();
        assert!(open_folder(&scratch.path().join("file")).is_err());
    }
}
