//! What can go wrong with a database, said so that a person can act on it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::target::identity::TargetId;

/// A failure of the session store or of the kernel's maps.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// No session for this target.
    #[error("MemScope database does not exist for process {0}: run `memscope attach {pid}` first", pid = .0.pid)]
    Missing(TargetId),
    /// `create` on a target that has one.
    #[error("MemScope database for process {0} exists already: `memscope start {pid}` collects into it, `memscope destroy {pid}` removes it", pid = .0.pid)]
    Exists(TargetId),
    /// `start` on a running collection.
    #[error("collection for process {0} is running already: `memscope stop {pid}` stops it", pid = .0.pid)]
    Running(TargetId),
    /// `stop` on a stopped collection.
    #[error("collection for process {0} is not running: `memscope start {pid}` starts it", pid = .0.pid)]
    NotRunning(TargetId),
    /// `attach --follow` of a target whose children another command follows.
    #[error("the children of process {pid} are followed by another `memscope attach --follow` already", pid = .0.pid)]
    Followed(TargetId),
    /// `attach --follow` of a target with more living descendants than a family can hold.
    #[error("process {pid} has more than {most} living descendants: they are too many to follow", pid = .0.pid, most = memscope_ebpf::limits::FAMILY_CAPACITY)]
    FamilyFull(TargetId),
    /// The pieces of a session do not fit together: a command was killed while it made or removed it.
    #[error("the database of process {id} is unfinished ({what}): `memscope destroy {pid}` removes it", pid = .id.pid)]
    Unfinished {
        /// Whose it is.
        id: TargetId,
        /// What is missing.
        what: String,
    },
    /// A file or folder of the session.
    #[error("cannot {action} {}: {source}{}", path.display(), remedy(source))]
    File {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A path of ours is something else than what we made.
    #[error("{} is {what}: memscope does not use it; remove it", path.display())]
    Suspicious {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The session file does not parse.
    #[error("cannot read {}: {source}; `memscope destroy` removes the session", path.display())]
    SessionFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The session was written by a version that laid its maps out differently.
    #[error("the database of process {id} was made by memscope {theirs}, this is {ours}: read it with that version, or `memscope destroy {pid}`", pid = .id.pid)]
    OtherVersion {
        /// Whose it is.
        id: TargetId,
        /// Version in the session file.
        theirs: String,
        /// This version.
        ours: &'static str,
    },
    /// The kernel refused the programs or maps.
    #[error("cannot load the BPF programs: {0}; `memscope doctor` shows what this kernel lacks")]
    Load(String),
    /// A map operation.
    #[error("cannot {action} the map {map}: {source}")]
    Map {
        /// What was being done.
        action: &'static str,
        /// Which map.
        map: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl DatabaseError {
    /// For `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }

    /// For `map_err` on map operations.
    pub(crate) fn map(action: &'static str, map: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Map { action, map, source }
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; run memscope as root (sudo)",
        io::ErrorKind::ReadOnlyFilesystem => "; it must be writable",
        io::ErrorKind::StorageFull => "; free some space there",
        _ => "",
    }
}
