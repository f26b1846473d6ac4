//! Runs a command: arguments to library calls, errors to one line and an exit code.

use std::io::{self, Write};

use clap::Parser as _;

use super::arguments::{Arguments, Command, SacrificeArguments};
use super::{attach, console, lifecycle, os, print, show, trace};
use crate::collection::budget;
use crate::collection::error::CollectionError;
use crate::compare::saved::SavedError;
use crate::database::error::DatabaseError;
use crate::database::paths::Roots;
use crate::exit::ExitCode;
use crate::export::file::FileError;
use crate::host::calibration::CalibrationError;
use crate::host::privilege::Privileges;
use crate::host::sacrifice;
use crate::os::OsError;
use crate::probe::shared::Sharing;
use crate::report;
use crate::suppress::files::SuppressionError;
use crate::target::process::TargetError;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A step failed.
    #[error(transparent)]
    Collection(#[from] CollectionError),
    /// An OS key.
    #[error(transparent)]
    Os(#[from] OsError),
    /// This host could not be measured.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// Standard output.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// A saved report.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// Suppressions.
    #[error(transparent)]
    Suppression(#[from] SuppressionError),
    /// The command line makes no sense together.
    #[error("{0}")]
    Usage(String),
    /// The command to trace.
    #[error("cannot start {command}: {source}")]
    Spawn {
        /// Its first word.
        command: String,
        /// Why.
        source: io::Error,
    },
}

impl From<DatabaseError> for CommandError {
    fn from(error: DatabaseError) -> Self {
        Self::Collection(error.into())
    }
}

impl From<TargetError> for CommandError {
    fn from(error: TargetError) -> Self {
        Self::Collection(error.into())
    }
}

impl CommandError {
    /// What the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Os(error) => error.exit_code(),
            Self::Collection(error) => error.exit_code(),
            Self::Calibration(_) => ExitCode::NotPermitted,
            // The reader went away: not an error.
            Self::Output(error) if report::is_broken_pipe(error) => ExitCode::Success,
            // As for a PID without a process: what was named is not there.
            Self::Saved(SavedError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                ExitCode::NotFound
            }
            Self::Saved(SavedError::Io { .. }) => ExitCode::NotPermitted,
            Self::Saved(_) | Self::Suppression(_) => ExitCode::Usage,
            Self::File(FileError::Exists(_) | FileError::NoName(_) | FileError::NotAFile { .. }) => ExitCode::Usage,
            Self::Output(_) | Self::File(FileError::Io { .. }) | Self::Spawn { .. } => ExitCode::NotPermitted,
            Self::Usage(_) => ExitCode::Usage,
        }
    }
}

/// The whole program: parses, runs, reports.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap's own codes are 0 for help and version, 2 for the rest: the contract's.
            let code = if error.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Success
            };
            let _ = error.print();
            return code;
        }
    };
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            let code = error.exit_code();
            if code != ExitCode::Success {
                complain(&error);
            }
            code
        }
    }
}

/// Tells of an error on stderr.
pub fn complain(error: &dyn std::error::Error) {
    // Nothing more can be done when stderr is gone.
    let _ = writeln!(io::stderr(), "memscope: {error}");
}

fn run(arguments: &Arguments) -> Result<ExitCode, CommandError> {
    let verbose = arguments.verbose > 0;
    // These look at what each user may look at, and say what the rest would need.
    match &arguments.command {
        Command::Doctor(doctor) => return super::doctor::run(doctor, verbose),
        Command::Console(console) => return console::run(console),
        Command::Os(os) => return os::run(os),
        // Saved reports are read by anybody.
        Command::Diff(diff) if !diff.needs_databases() => return super::diff::run(diff),
        Command::Merge(merge) => return super::merge::run(merge),
        Command::Sacrifice(arguments) => return be_a_sacrifice(arguments),
        _ => {}
    }
    Privileges::of_this_process()
        .and_then(Privileges::require)
        .map_err(CollectionError::from)?;
    // Before anything is done: said in the middle of an attach, it would look like a fault of the host's.
    Sharing::from_environment().map_err(CommandError::Usage)?;
    let _ = budget::take_probes_out(&Roots::from_environment());
    match &arguments.command {
        Command::Attach(attach) => attach::run(attach, verbose),
        Command::Detach(detach) => lifecycle::detach(detach),
        Command::Create(create) => lifecycle::create(create),
        Command::Start(start) => lifecycle::start(start, verbose),
        Command::Refresh(refresh) => lifecycle::refresh(refresh),
        Command::Stop(stop) => lifecycle::stop(stop),
        Command::Destroy(destroy) => lifecycle::destroy(destroy),
        Command::Print(print) => print::run(print),
        Command::Report(report) => super::report::run(report),
        Command::Check(check) => super::check::run(check),
        Command::Mark(mark) => super::mark::run(mark),
        Command::Stats(stats) => show::stats::run(stats),
        Command::List(list) => show::list::run(list),
        Command::Export(export) => super::export::run(export),
        Command::Diff(diff) => super::diff::run(diff),
        Command::Merge(merge) => super::merge::run(merge),
        Command::Suppress(suppress) => super::suppress::run(suppress),
        Command::Trace(trace) => trace::run(trace, verbose),
        Command::Gc(gc) => lifecycle::gc(gc),
        Command::Doctor(doctor) => super::doctor::run(doctor, verbose),
        Command::Console(console) => console::run(console),
        Command::Os(os) => os::run(os),
        Command::Floor(floor) => super::floor::run(floor),
        Command::Sacrifice(arguments) => be_a_sacrifice(arguments),
    }
}

fn be_a_sacrifice(arguments: &SacrificeArguments) -> Result<ExitCode, CommandError> {
    sacrifice::serve(arguments.filtered)?;
    Ok(ExitCode::Success)
}
