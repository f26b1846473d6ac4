//! The exit codes: scripts and cron jobs rely on them.

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// It worked; for `check`: clean.
    Success = 0,
    /// `check`, or `print --exit-code`, found something.
    Finding = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Not permitted, or this host cannot.
    NotPermitted = 3,
    /// No such process, or no database.
    NotFound = 4,
    /// No allocator found.
    NoAllocator = 5,
    /// Cannot judge: lossy, or too young.
    CannotJudge = 6,
    /// A bug of ours.
    Internal = 70,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
