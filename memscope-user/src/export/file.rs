//! Writes an output file whole or not at all: beside its place, then renamed into it; never over a file nobody said to
//! replace, never through a symbolic link as root.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, openat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use super::walk;

/// What to do when the file is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it, and say so.
    Keep,
    /// Replace it, if it is a regular file.
    Replace,
}

/// Why a file was not written. What was at its place before is there still.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is there already.
    #[error("{} exists: give --force to replace it, or another name", .0.display())]
    Exists(PathBuf),
    /// What is there is no regular file.
    #[error("{} is {what}: memscope replaces regular files only; give another name", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The path names no file.
    #[error("`{}` names no file", .0.display())]
    NoName(PathBuf),
    /// The folder, the file beside it, or the renaming.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes a file: `content` is given a buffered writer on a new file in the same folder, which takes the place at `path`
/// once it is complete and on disk. Its mode is 0666 less the umask, as for every file a command makes.
///
/// # Errors
/// See [`FileError`]; the content's own error is in [`FileError::Io`].
pub fn write(
    path: &Path,
    existing: Existing,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let name = path.file_name().ok_or_else(|| FileError::NoName(path.to_owned()))?;
    let failed = |source| FileError::Io {
        path: path.to_owned(),
        source,
    };
    let folder = walk::open_folder(path.parent().unwrap_or(Path::new(""))).map_err(failed)?;
    may_stand_at(&folder, name, path, existing)?;
    let (file, beside) = create_beside(&folder, name).map_err(failed)?;
    let written = fill(file, content).and_then(|()| put_in_place(&folder, &beside, name, existing));
    written.map_err(|source| {
        // Nothing is left behind; that the removal fails too adds nothing to the error.
        let _ = unlinkat(&folder, &beside, AtFlags::empty());
        if source.kind() == io::ErrorKind::AlreadyExists {
            FileError::Exists(path.to_owned())
        } else {
            failed(source)
        }
    })
}

/// Looks before anything is written, so that a long rendering is not for nothing; the renaming then makes sure.
fn may_stand_at(folder: &File, name: &OsStr, path: &Path, existing: Existing) -> Result<(), FileError> {
    let what = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => {
            return Err(FileError::Io {
                path: path.to_owned(),
                source: error.into(),
            });
        }
        Ok(found) => match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile if existing == Existing::Replace => return Ok(()),
            FileType::RegularFile => return Err(FileError::Exists(path.to_owned())),
            FileType::Symlink => "a symbolic link",
            FileType::Directory => "a folder",
            _ => "a device, pipe or socket",
        },
    };
    Err(FileError::NotAFile {
        path: path.to_owned(),
        what,
    })
}

/// A new file, hidden and named after this process; an older one of the same name is another's, and stays.
fn create_beside(folder: &File, name: &OsStr) -> io::Result<(File, OsString)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut attempt = 0;
    loop {
        let mut beside = OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}-{attempt}.new", std::process::id()));
        match openat(folder, &beside, flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => return Ok((File::from(file), beside)),
            Err(Errno::EXIST) if attempt < 100 => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn fill(file: File, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    content(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()
}

fn put_in_place(folder: &File, beside: &OsStr, name: &OsStr, existing: Existing) -> io::Result<()> {
    if existing == Existing::Replace {
        return Ok(renameat(folder, beside, folder, name)?);
    }
    match renameat_with(folder, beside, folder, name, RenameFlags::NOREPLACE) {
        // A file system that cannot rename so (NFS): a hard link refuses an existing name too.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(folder, beside, folder, name, AtFlags::empty())?;
            Ok(unlinkat(folder, beside, AtFlags::empty())?)
        }
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn text(text: &'static str) -> impl FnOnce(&mut dyn Write) -> io::Result<()> {
        move |out| out.write_all(text.as_bytes())
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_replaced_only_when_told_to() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("out.folded");
        write(&path, Existing::Keep, text("one")).unwrap();
        let error = write(&path, Existing::Keep, text("two")).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write(&path, Existing::Replace, text("two")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(names(scratch.path()), ["out.folded"]);
    }

    #[test]
    fn a_rendering_that_fails_leaves_the_old_file_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("out");
        write(&path, Existing::Keep, text("whole")).unwrap();
        let failing = |out: &mut dyn Write| {
            out.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        assert!(matches!(
            write(&path, Existing::Replace, failing),
            Err(FileError::Io { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(scratch.path()), ["out"]);
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("out");
        let other = path.clone();
        let error = write(&path, Existing::Keep, move |out| {
            std::fs::write(other, "somebody else's")?;
            out.write_all(b"ours")
        });
        assert!(matches!(error, Err(FileError::Exists(_))), "{error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"somebody else's");
        assert_eq!(names(scratch.path()), ["out"]);
    }

    #[test]
    fn links_folders_and_devices_are_not_replaced_even_by_force() {
        let scratch = tempfile::tempdir().unwrap();
        let victim = scratch.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        let link = scratch.path().join("link");
        symlink(&victim, &link).unwrap();
        for path in [link.as_path(), scratch.path(), Path::new("/dev/null")] {
            let error = write(path, Existing::Replace, text("x")).unwrap_err();
            assert!(matches!(error, FileError::NotAFile { .. }), "{error}");
        }
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
        assert!(matches!(
            write(Path::new("/"), Existing::Replace, text("x")),
            Err(FileError::NoName(_))
        ));
    }
}
