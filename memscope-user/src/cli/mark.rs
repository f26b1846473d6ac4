//! `mark`: notes a moment of a session, so that `--since` and `--between` can ask for what was born after it.

use std::io::{self, Write};

use super::arguments::TargetArguments;
use super::run::CommandError;
use super::select;
use super::verdict_arguments::{MarkArguments, SpanArguments};
use crate::collection::site_reading::read_moment;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::exit::ExitCode;
use crate::history::{HistoryError, Span, marks};

/// Runs `mark`.
///
/// # Errors
/// No database; the name cannot be one; the session cannot be written.
pub fn run(arguments: &MarkArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let target = TargetArguments {
        pids: vec![arguments.target],
        ..TargetArguments::default()
    };
    for id in select::databases(&roots, &target)? {
        let session = Session::open(&roots, id)?;
        let mark = set(&session, &arguments.name)?;
        writeln!(
            io::stderr(),
            "process {}: mark {} set after entry {}",
            id.pid,
            mark.name,
            mark.number
        )?;
    }
    Ok(ExitCode::Success)
}

/// Sets a mark in a session.
///
/// # Errors
/// As [`run`].
pub fn set(session: &Session, name: &str) -> Result<marks::Mark, CommandError> {
    let moment = read_moment(session)?;
    Ok(marks::set(&session.paths, name, &moment)?)
}

impl SpanArguments {
    /// The span meant, in a session.
    ///
    /// # Errors
    /// There is no such mark.
    pub fn of(&self, session: &Session) -> Result<Span, CommandError> {
        let target = session.file.target;
        Ok(match (&self.since, self.between.as_slice()) {
            (Some(from), _) => Span::of(&session.paths, target, from, None)?,
            (None, [from, until]) => Span::of(&session.paths, target, from, Some(until))?,
            _ => Span::default(),
        })
    }
}

impl From<HistoryError> for CommandError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Database(error) => error.into(),
            other => Self::Usage(other.to_string()),
        }
    }
}
