//! Why an OS key has no answer.

use std::io;

use procfs::ProcError;
use thiserror::Error;

use crate::collection::error::CollectionError;
use crate::database::error::DatabaseError;
use crate::exit::ExitCode;
use crate::target::identity::Pid;
use crate::target::process::TargetError;

/// A key without an answer.
#[derive(Debug, Error)]
pub enum OsError {
    /// The target went away, before or meanwhile.
    #[error("process {0} has ended")]
    Ended(Pid),
    /// The thread went away, or never was.
    #[error("process {pid} has no thread {tid}: key i lists its threads")]
    NoSuchThread {
        /// Whose.
        pid: Pid,
        /// Which.
        tid: u32,
    },
    /// This user may not.
    #[error(
        "{what} of process {pid} may not be read: this needs root, its own user, or CAP_SYS_PTRACE; run it with sudo"
    )]
    NotPermitted {
        /// What was read.
        what: String,
        /// Whose.
        pid: Pid,
    },
    /// Something else failed.
    #[error("cannot read {what} of process {pid}: {source}")]
    Unreadable {
        /// What was read.
        what: String,
        /// Whose.
        pid: Pid,
        /// Why it failed.
        source: io::Error,
    },
    /// A stack cannot be followed.
    #[error("{0}")]
    Refused(String),
    /// The database or the target's images.
    #[error(transparent)]
    Collection(#[from] CollectionError),
}

impl OsError {
    /// What the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Ended(_) | Self::NoSuchThread { .. } => ExitCode::NotFound,
            Self::NotPermitted { .. } | Self::Unreadable { .. } | Self::Refused(_) => ExitCode::NotPermitted,
            Self::Collection(error) => error.exit_code(),
        }
    }

    /// From a failed access to a file of the process.
    pub(super) fn access(what: &str, pid: Pid, source: io::Error) -> Self {
        if is_gone(&source) {
            return Self::Ended(pid);
        }
        let what = what.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted { what, pid },
            _ => Self::Unreadable { what, pid, source },
        }
    }
}

impl From<TargetError> for OsError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Ended(pid) => Self::Ended(pid),
            TargetError::Unreadable { what, pid, source } => Self::access(what, pid, source),
            other => Self::Collection(other.into()),
        }
    }
}

impl From<DatabaseError> for OsError {
    fn from(error: DatabaseError) -> Self {
        Self::Collection(error.into())
    }
}

/// The process or thread a file of procfs belonged to has ended.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The I/O error in one of procfs's.
pub(super) fn io_error(error: ProcError) -> io::Error {
    match error {
        ProcError::PermissionDenied(_) => io::Error::from_raw_os_error(libc::EACCES),
        ProcError::NotFound(_) => io::Error::from_raw_os_error(libc::ENOENT),
        ProcError::Io(source, _) => source,
        other => io::Error::other(other),
    }
}
