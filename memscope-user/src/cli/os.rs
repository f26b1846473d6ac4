//! `os`: one of the console's OS keys, once, for scripts.

use std::io::{self, BufWriter, Write};

use super::arguments::{Format, OsArguments};
use super::run::CommandError;
use super::select;
use crate::exit::ExitCode;
use crate::os::{Looks, Question, ask};

/// Runs `os`.
///
/// # Errors
/// The target is no process, has ended, or may not be looked at; the output cannot be written.
pub fn run(arguments: &OsArguments) -> Result<ExitCode, CommandError> {
    if arguments.tid.is_some() && !arguments.key.of_one_thread() {
        return Err(CommandError::Usage(format!(
            "key {} speaks of the whole process: leave the thread id out",
            arguments.key.letter()
        )));
    }
    let question = Question {
        key: arguments.key,
        target: select::one_process(&arguments.target)?.id,
        tid: arguments.tid,
    };
    let answer = ask(question, &mut Looks::default())?;
    let mut out = BufWriter::new(io::stdout().lock());
    match arguments.format {
        Format::Text => answer.write_text(&mut out)?,
        Format::Json | Format::Ndjson => answer.write_json(&mut out)?,
    }
    out.flush()?;
    Ok(ExitCode::Success)
}
