//! The BPF file system: mounted where it is missing.

use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use super::error::DatabaseError;

/// BPF_FS_MAGIC, include/uapi/linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Makes sure that `folder`'s nearest existing ancestor is on a BPF file system; mounts one on `/sys/fs/bpf` when that is
/// where the folder belongs and nothing is mounted there.
///
/// # Errors
/// It is elsewhere, or cannot be mounted.
pub fn ensure_mounted(folder: &Path) -> Result<(), DatabaseError> {
    let existing = nearest_existing(folder);
    if is_bpffs(existing)? {
        return Ok(());
    }
    let standard = Path::new("/sys/fs/bpf");
    if folder.starts_with(standard) {
        fs::create_dir_all(standard).map_err(DatabaseError::file("create", standard))?;
        mount(
            "bpf",
            standard,
            "bpf",
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
            Some(c"mode=0700"),
        )
        .map_err(|error| DatabaseError::file("mount a BPF file system on", standard)(error.into()))?;
        return Ok(());
    }
    Err(DatabaseError::Suspicious {
        path: existing.to_path_buf(),
        what: "not on a BPF file system",
    })
}

/// Whether a path is on a BPF file system.
///
/// # Errors
/// It cannot be looked at.
pub fn is_bpffs(path: &Path) -> Result<bool, DatabaseError> {
    let statfs = rustix::fs::statfs(path).map_err(|error| DatabaseError::file("look at", path)(error.into()))?;
    Ok(statfs.f_type as u64 == BPF_FS_MAGIC)
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|ancestor| ancestor.symlink_metadata().is_ok())
        .unwrap_or(Path::new("/"))
}
