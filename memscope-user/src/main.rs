//! The `memscope` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    memscope::cli::run::main().into()
}
