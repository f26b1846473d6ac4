//! Writes memscope's man pages or shell completions, from the same definitions that the command line is parsed by.
//!
//! `cargo run --package memscope-user --example manual -- man|completions FOLDER`; `cargo xtask man` and
//! `cargo xtask completions` do that. An example and no part of the command, so that the generators stay out of it.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;
use memscope::cli::arguments::Arguments;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let written = match arguments.as_slice() {
        ["man", folder] => man_pages(Path::new(folder)),
        ["completions", folder] => completions(Path::new(folder)),
        _ => {
            eprintln!("usage: manual man|completions FOLDER");
            return ExitCode::from(2);
        }
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("manual: cannot write: {why}");
            ExitCode::FAILURE
        }
    }
}

/// `memscope.1`, and `memscope-COMMAND.1` for each command.
fn man_pages(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Arguments::command(), folder)
}

/// For bash, zsh and fish, by the names under which their folders hold them.
fn completions(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut command = Arguments::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "memscope", folder)?;
    }
    Ok(())
}
