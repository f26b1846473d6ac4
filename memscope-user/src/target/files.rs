//! Opening the files a target has mapped: the mapped file itself, whatever its name now is.
//!
//! `/proc/PID/map_files` leads to the mapped file even when it is deleted or in another mount namespace, but following
//! it takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (proc(5)). Without them the path is opened as the target itself resolves
//! it, never out of its root, and believed only if it still is the mapped file.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::elf::{FileBytes, ImageBytes as _};
use super::identity::Pid;
use super::mapping::{FileKey, Mapping};
use super::open::{open_in_root, open_regular, root_of};

/// The longest file that is taken for an ELF image.
pub const MAX_FILE: u64 = 16 << 30;

/// Why a mapped file could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The mapping has no file.
    #[error("{name}: memory without a file")]
    NoFile {
        /// The mapping's name, such as `[vdso]`.
        name: String,
    },
    /// Neither way led to the file.
    #[error(
        "cannot open {path}, mapped by process {pid}: by {by_mapping_path}: {by_mapping}; by its path in {root}: {by_path}"
    )]
    Neither {
        /// The path as the target sees it.
        path: String,
        /// The target.
        pid: Pid,
        /// The path in `map_files`.
        by_mapping_path: String,
        /// Why it failed.
        by_mapping: io::Error,
        /// Where the target's root directory is.
        root: String,
        /// Why it failed.
        by_path: io::Error,
    },
}

/// Opens the file behind a mapping.
///
/// # Errors
/// When the mapping has no file, or the file can be reached neither by the mapping nor by its path.
pub fn open_mapped(pid: Pid, mapping: &Mapping) -> Result<FileBytes, OpenError> {
    open_mapped_below(&root_of(pid), pid, mapping)
}

fn open_mapped_below(root: &Path, pid: Pid, mapping: &Mapping) -> Result<FileBytes, OpenError> {
    let Some(key) = mapping.file() else {
        return Err(OpenError::NoFile {
            name: mapping.path.to_string_lossy().into_owned(),
        });
    };
    let by_mapping_path = mapping.open_path(pid);
    let by_mapping = match open_regular(&by_mapping_path).and_then(bounded) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    let by_path = match by_path(root, key, mapping).and_then(bounded) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    Err(OpenError::Neither {
        path: mapping.path.to_string_lossy().into_owned(),
        pid,
        by_mapping_path: by_mapping_path.display().to_string(),
        by_mapping,
        root: root.display().to_string(),
        by_path,
    })
}

/// The mapped file by its path, as the target resolves it.
fn by_path(root: &Path, key: FileKey, mapping: &Mapping) -> io::Result<File> {
    if mapping.deleted {
        return Err(io::Error::new(io::ErrorKind::NotFound, "deleted since it was mapped"));
    }
    let file = open_in_root(root, Path::new(&mapping.path))?;
    same_file(key, &file.metadata()?)?;
    Ok(file)
}

/// A path that leads this process to the file behind a mapping, for the kernel to open.
#[derive(Debug)]
pub struct PathToMapped {
    path: PathBuf,
    /// The file, where it is only reached as long as it is open.
    _open: Option<File>,
}

impl PathToMapped {
    /// Of a mapping. Where there is none, the path's own error is the one to tell.
    #[must_use]
    pub fn of(pid: Pid, mapping: &Mapping) -> Self {
        Self::below(&root_of(pid), mapping.open_path(pid), mapping)
    }

    fn below(root: &Path, by_mapping: PathBuf, mapping: &Mapping) -> Self {
        if open_regular(&by_mapping).is_ok() {
            return Self {
                path: by_mapping,
                _open: None,
            };
        }
        match mapping.file().map(|key| by_path(root, key, mapping)) {
            Some(Ok(file)) => Self {
                path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
                _open: Some(file),
            },
            _ => Self {
                path: by_mapping,
                _open: None,
            },
        }
    }
}

impl AsRef<Path> for PathToMapped {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// A file that is not too long to be taken for an image.
pub(super) fn bounded(file: File) -> io::Result<FileBytes> {
    let file = FileBytes::new(file)?;
    if file.size() > MAX_FILE {
        let length = file.size();
        return Err(io::Error::other(format!(
            "{length} bytes long, over the limit of {MAX_FILE}"
        )));
    }
    Ok(file)
}

/// overlayfs and btrfs give `stat` another device than the one in the mappings, an anonymous one with major number 0
/// (kernel, fs/proc/task_mmu.c show_map_vma against generic_fillattr): there the inode alone must do.
fn same_file(key: FileKey, found: &Metadata) -> io::Result<()> {
    let device = (device_major(found.dev()), device_minor(found.dev()));
    if found.ino() == key.inode && (device == key.device || device.0 == 0) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "another file has taken its place (device {}:{} inode {}, mapped was {}:{} inode {})",
        device.0,
        device.1,
        found.ino(),
        key.device.0,
        key.device.1,
        key.inode
    )))
}

/// As glibc's `gnu_dev_major` (bits/sysmacros.h).
fn device_major(device: u64) -> u32 {
    ((device >> 8 & 0xfff) | (device >> 32 & 0xffff_f000)) as u32
}

/// As glibc's `gnu_dev_minor`.
fn device_minor(device: u64) -> u32 {
    ((device & 0xff) | (device >> 12 & 0xffff_ff00)) as u32
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::target::elf::ElfImage;
    use crate::target::mapping::parse_maps;

    fn own_mappings() -> Vec<Mapping> {
        parse_maps(&std::fs::read("/proc/self/maps").expect("own mappings"))
    }

    #[test]
    fn a_mapped_file_is_found_by_its_path_and_checked() {
        let pid = Pid(std::process::id());
        let mapping = own_mappings()
            .into_iter()
            .find(|mapping| mapping.executable && mapping.file().is_some())
            .expect("an executable mapping");
        ElfImage::parse(open_mapped(pid, &mapping).expect("the test itself")).expect("an ELF image");

        let mut moved = mapping.clone();
        // No such range in map_files, so that the path decides; and no such inode.
        moved.start.0 += 1;
        ElfImage::parse(open_mapped(pid, &moved).expect("by path")).expect("an ELF image");
        moved.inode += 1;
        let error = match open_mapped(pid, &moved) {
            Ok(_) => panic!("another inode was taken for the mapped file"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains("another file has taken its place"), "{error}");
    }

    #[test]
    fn memory_without_a_file_is_refused() {
        let vdso = own_mappings().into_iter().find(|mapping| mapping.path == "[vdso]");
        let error = vdso.map(|vdso| open_mapped(Pid(std::process::id()), &vdso).err());
        assert!(
            matches!(error, None | Some(Some(OpenError::NoFile { .. }))),
            "{error:?}"
        );
    }

    /// The test's own file as its target maps it, at a place that is not in `map_files`, so that the path decides.
    fn mapped_at(path: &str, file: &Path) -> Mapping {
        let found = std::fs::metadata(file).expect("the file");
        let mut mapping = own_mappings().into_iter().next().expect("a mapping");
        mapping.start.0 += 1;
        mapping.path = path.into();
        mapping.inode = found.ino();
        mapping.device = (device_major(found.dev()), device_minor(found.dev()));
        mapping
    }

    #[test]
    fn a_link_in_the_targets_root_stays_in_it() {
        let root = tempfile::tempdir().expect("temporary folder");
        let outside = tempfile::tempdir().expect("temporary folder");
        let secret = outside.path().join("secret");
        std::fs::write(&secret, "outside").expect("a file");
        std::fs::create_dir(root.path().join("lib")).expect("a folder");
        let real = root.path().join("lib/real");
        std::fs::write(&real, "inside").expect("a file");
        symlink("/lib/real", root.path().join("absolute")).expect("a link");
        symlink(&secret, root.path().join("escape")).expect("a link");
        let pid = Pid(std::process::id());
        let inside = open_mapped_below(root.path(), pid, &mapped_at("/absolute", &real)).expect("its own link");
        assert_eq!(inside.size(), 6);
        // Its inode and device are those that the target claims; only its place gives it away.
        let escaped = open_mapped_below(root.path(), pid, &mapped_at("/escape", &secret));
        assert!(escaped.is_err());
    }

    /// The kernel opens it once more to put probes in, and goes by what it is given.
    #[test]
    fn the_path_for_the_kernel_is_of_the_mapped_file_or_leads_nowhere() {
        let root = tempfile::tempdir().expect("temporary folder");
        let outside = tempfile::tempdir().expect("temporary folder");
        let secret = outside.path().join("secret");
        std::fs::write(&secret, "outside").expect("a file");
        let real = root.path().join("real");
        std::fs::write(&real, "inside").expect("a file");
        symlink(&secret, root.path().join("escape")).expect("a link");
        let path_of = |path: &str, file: &Path| {
            let mapping = mapped_at(path, file);
            PathToMapped::below(root.path(), mapping.open_path(Pid(std::process::id())), &mapping)
        };
        let inside = path_of("/real", &real);
        assert_eq!(std::fs::read_to_string(&inside).expect("the file"), "inside");
        for (path, claimed) in [("/escape", &secret), ("/real", &secret)] {
            let path = path_of(path, claimed);
            assert!(std::fs::read_to_string(&path).is_err(), "{path:?}");
        }
    }
}
