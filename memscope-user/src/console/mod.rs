//! The console: MemScope's own keys, and the OS menu around them.
//!
//! Two levels, as in the gateway: `>` chooses the target, `os>` has the keys. On a terminal lines are edited and the
//! prompt shown; from a pipe the same commands are read, a line each, without prompts, and the exit code is that of the
//! first that failed. The keys call the library that the commands call: the database is the same, whoever made it.
//!
//! Absent on purpose: a port to connect to (`ssh -t host sudo memscope console nginx` is the way from afar), and a history
//! file (what root looked at stays with root's terminal).

mod command;
mod completion;
mod input;
mod keys;
mod menu;
mod sampler;
mod session;
mod skip_line;

use std::io::{self, IsTerminal as _};

use crate::cli::run::CommandError;
use crate::database::paths::Roots;
use crate::exit::ExitCode;
use input::{Input, Script, Terminal};
use session::Console;

/// Runs the console until it is left, beginning with this target.
///
/// # Errors
/// The target is no process, several, or none; the input or output fails.
pub fn run(target: Option<&str>) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let mut input: Box<dyn Input> = if on_terminal {
        Box::new(Terminal::open().map_err(io::Error::other)?)
    } else {
        Box::new(Script::new(io::stdin().lock()))
    };
    let mut console = Console::new(roots, input.as_mut());
    if let Some(target) = target {
        console.choose(target)?;
    }
    console.run()
}
