//! Opening the files a target has mapped: the mapped file itself, whatever its name now is.
//!
//! `/proc/PID/map_files` leads to the mapped file even when it is deleted or in another mount namespace, but following
//! it takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (proc(5)). Without them the path is opened below `/proc/PID/root`,
//! and believed only if it still is the mapped file.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::elf::FileBytes;
use super::identity::Pid;
use super::mapping::{FileKey, Mapping};

/// The longest file that is taken for an ELF image.
pub const MAX_FILE: u64 = 16 << 30;

/// Open for reading without waiting for the other end of a pipe or taking a terminal (`O_NONBLOCK | O_NOCTTY`).
const HARMLESS: i32 = 0o4000 | 0o400;

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
        "cannot open {path}, mapped by process {pid}: by {by_mapping_path}: {by_mapping}; by {by_path_path}: {by_path}"
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
        /// The path below `root`.
        by_path_path: String,
        /// Why it failed.
        by_path: io::Error,
    },
}

/// Opens the file behind a mapping.
///
/// # Errors
/// When the mapping has no file, or the file can be reached neither by the mapping nor by its path.
pub fn open_mapped(pid: Pid, mapping: &Mapping) -> Result<FileBytes, OpenError> {
    let Some(key) = mapping.file() else {
        return Err(OpenError::NoFile {
            name: mapping.path.to_string_lossy().into_owned(),
        });
    };
    let by_mapping_path = mapping.open_path(pid);
    let by_mapping = match open_regular(&by_mapping_path) {
        Ok((file, _)) => return Ok(file),
        Err(error) => error,
    };
    let by_path_path = below_root(pid, &mapping.path);
    let by_path = match open_regular(&by_path_path).and_then(|(file, found)| same_file(key, &found).map(|()| file)) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    Err(OpenError::Neither {
        path: mapping.path.to_string_lossy().into_owned(),
        pid,
        by_mapping_path: by_mapping_path.display().to_string(),
        by_mapping,
        by_path_path: by_path_path.display().to_string(),
        by_path,
    })
}

/// Opens a regular file of bounded length; anything else a path may lead to (a pipe, a device) is refused.
pub(super) fn open_regular(path: &Path) -> io::Result<(FileBytes, Metadata)> {
    // Looked at first: opening a device may already do something to it.
    regular(&std::fs::metadata(path)?)?;
    let file: File = OpenOptions::new().read(true).custom_flags(HARMLESS).open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    Ok((FileBytes::new(file)?, metadata))
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.len() > MAX_FILE {
        let length = metadata.len();
        return Err(io::Error::other(format!(
            "{length} bytes long, over the limit of {MAX_FILE}"
        )));
    }
    Ok(())
}

/// An absolute path of the target, as this process reaches it.
pub(super) fn below_root(pid: Pid, path: &OsStr) -> PathBuf {
    let mut whole = PathBuf::from(format!("/proc/{pid}/root"));
    let relative = path.as_bytes().iter().position(|byte| *byte != b'/');
    whole.push(OsStr::from_bytes(
        relative.map_or(&[][..], |start| &path.as_bytes()[start..]),
    ));
    whole
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

    #[test]
    fn a_pipe_does_not_hold_us_up() {
        let folder = std::env::temp_dir().join(format!("memscope-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("temporary folder");
        let pipe = folder.join("pipe");
        let made = std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("mkfifo");
        assert!(made.success());
        let error = open_regular(&pipe).err().map(|error| error.to_string());
        std::fs::remove_dir_all(&folder).expect("temporary folder");
        assert_eq!(error.as_deref(), Some("not a regular file"));
    }

    #[test]
    fn a_path_of_the_target_stays_below_its_root() {
        assert_eq!(
            below_root(Pid(7), OsStr::new("/lib/a b")),
            Path::new("/proc/7/root/lib/a b")
        );
    }
}
