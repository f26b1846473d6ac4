//! What can go wrong between a target and its database.

use thiserror::Error;

use crate::allocator::spec::ResolveError;
use crate::database::error::DatabaseError;
use crate::exit::ExitCode;
use crate::host::privilege::PrivilegeError;
use crate::probe::attach::AttachError;
use crate::target::identity::Pid;
use crate::target::process::TargetError;

/// A step that failed.
#[derive(Debug, Error)]
pub enum CollectionError {
    /// This user may not.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The session store or the kernel's maps.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The probes.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// No function to probe.
    #[error("{0}")]
    NoAllocator(String),
    /// A specification by hand cannot be followed in this target.
    #[error(transparent)]
    ByHand(#[from] ResolveError),
    /// Other settings than those of the database that is there.
    #[error(
        "the database of process {pid} was made with other {what}: without them on the command line `memscope attach` goes on with its own, `memscope detach {pid}` removes it"
    )]
    OtherSettings {
        /// Whose database.
        pid: u32,
        /// Which settings.
        what: &'static str,
    },
    /// More probed functions than a session can number.
    #[error("process {pid} has more allocation functions than memscope can number")]
    TooManyFunctions {
        /// Which process.
        pid: u32,
    },
    /// An image has more functions with the names of allocators' than are looked at.
    #[error(
        "process {pid} is not attached: {module} defines more functions with the names of allocators' than memscope looks \
         at ({}), and the blocks of the others would be missed; no known program does that",
        crate::allocator::discovery::MAX_DEFINITIONS
    )]
    Overfull {
        /// Which process.
        pid: u32,
        /// Path of the image.
        module: String,
    },
    /// The target's code is not x86-64.
    #[error("process {pid} runs {what}; memscope traces 64-bit x86 programs only")]
    Architecture {
        /// Which process.
        pid: u32,
        /// What it runs.
        what: String,
    },
    /// Attaching could hurt the target.
    #[error("process {pid} is not attached: {finding}")]
    Danger {
        /// Which process.
        pid: u32,
        /// What was found, and the flag that overrides it.
        finding: String,
    },
    /// Probes in what the target has loaded since could hurt it.
    #[error("functions that process {pid} has loaded since collection started are not probed: {finding}")]
    DangerInNewCode {
        /// Which process.
        pid: u32,
        /// What was found, and the flag that overrides it.
        finding: String,
    },
    /// The target has replaced its image by exec since its database was made.
    #[error(
        "process {0} has replaced its program by exec since its database was made: `memscope attach {0}` makes another one \
         for the new program"
    )]
    Replaced(Pid),
    /// Following would make more databases than it may.
    #[error(
        "there are {most} databases of descendants of process {root} already (`--max-children`), each some 24 MiB of the \
         kernel's memory; `memscope detach` of some makes room"
    )]
    TooManyChildren {
        /// The followed target.
        root: u32,
        /// How many there may be.
        most: usize,
    },
    /// Collection would cost more than it may.
    #[error(
        "process {pid} is not attached: its calls cost {percent:.1} % of one CPU now, more than `--max-cpu {budget}`; \
         `--over-budget sample` or `ignore` attaches all the same"
    )]
    OverBudget {
        /// Which process.
        pid: u32,
        /// What it cost in a short count.
        percent: f64,
        /// What it may cost.
        budget: u32,
    },
    /// memscope itself runs in another PID namespace than the kernel's first: the programs would see other numbers.
    #[error(
        "memscope runs inside a {0} namespace; the kernel's programs see the host's process ids and times: run it on the host"
    )]
    Namespace(&'static str),
}

impl CollectionError {
    /// What the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Privilege(_)
            | Self::Architecture { .. }
            | Self::Namespace(_)
            | Self::Danger { .. }
            | Self::DangerInNewCode { .. }
            | Self::TooManyChildren { .. }
            | Self::OverBudget { .. } => ExitCode::NotPermitted,
            Self::Target(error) => match error {
                TargetError::NoSuchProcess(_) | TargetError::Ended(_) | TargetError::NoMatch(_) => ExitCode::NotFound,
                TargetError::KernelThread(_) | TargetError::Unreadable { .. } => ExitCode::NotPermitted,
            },
            Self::Database(error) => database_code(error),
            Self::Attach(AttachError::Database(error)) => database_code(error),
            Self::Attach(_) => ExitCode::NotPermitted,
            Self::NoAllocator(_) => ExitCode::NoAllocator,
            Self::ByHand(error) => match error {
                // The command line contradicts itself; the others depend on what the target has.
                ResolveError::Conflict { .. } => ExitCode::Usage,
                _ => ExitCode::NoAllocator,
            },
            Self::OtherSettings { .. } | Self::Replaced(_) => ExitCode::Usage,
            Self::TooManyFunctions { .. } | Self::Overfull { .. } => ExitCode::NotPermitted,
        }
    }
}

fn database_code(error: &DatabaseError) -> ExitCode {
    match error {
        DatabaseError::Missing(_) | DatabaseError::Unfinished { .. } => ExitCode::NotFound,
        DatabaseError::Exists(_)
        | DatabaseError::Running(_)
        | DatabaseError::NotRunning(_)
        | DatabaseError::Followed(_) => ExitCode::Usage,
        DatabaseError::File { .. }
        | DatabaseError::Suspicious { .. }
        | DatabaseError::SessionFile { .. }
        | DatabaseError::OtherVersion { .. }
        | DatabaseError::Load(_)
        | DatabaseError::FamilyFull(_)
        | DatabaseError::Map { .. } => ExitCode::NotPermitted,
    }
}
