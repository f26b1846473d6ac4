//! `console`: the old menu and keys.

use super::arguments::ConsoleArguments;
use super::run::CommandError;
use crate::exit::ExitCode;

/// Runs `console`.
///
/// # Errors
/// The target is no process; the terminal or pipe fails.
pub fn run(arguments: &ConsoleArguments) -> Result<ExitCode, CommandError> {
    crate::console::run(arguments.target.as_deref())
}
