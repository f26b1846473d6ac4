//! Prints the stacks' table: every program of the corpus. `stack-table [NAME…]`: those whose name holds one of these; with
//! `--why`, also some stacks that are not the reference's.

use std::process::ExitCode;

use memscope_tests::stacks::corpus::Subject;
use memscope_tests::stacks::run::{TABLE_HEAD, run, total};

/// Shares below this fail.
const LEAST: f64 = 0.999;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let why = arguments.iter().any(|argument| argument == "--why");
    let names: Vec<&String> = arguments.iter().filter(|argument| *argument != "--why").collect();
    let chosen = |subject: &Subject| names.is_empty() || names.iter().any(|name| subject.name.contains(*name));
    println!("{TABLE_HEAD}");
    let mut rows = Vec::new();
    for subject in Subject::all().iter().filter(|subject| chosen(subject)) {
        let row = run(subject);
        println!("{row}");
        if why {
            row.difference.examples.iter().for_each(|example| println!("{example}"));
        }
        rows.push(row);
    }
    let all = total(&rows);
    println!("{all}");
    let nothing: Vec<&str> = rows
        .iter()
        .filter(|row| row.difference.proven().is_none())
        .map(|row| row.program.as_str())
        .collect();
    if rows.is_empty() || !nothing.is_empty() {
        println!("\nno stacks were recorded of: {}", nothing.join(", "));
        return ExitCode::FAILURE;
    }
    let share = all.difference.proven().unwrap_or(0.0);
    println!(
        "\n{:.3} % of all stacks, the reference's own included, are whole and equal",
        (share * 100_000.0).floor() / 1000.0
    );
    if share >= LEAST {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
