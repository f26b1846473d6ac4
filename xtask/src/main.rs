//! `cargo xtask`: set-up, build, test, demo, bench, fuzz and other kernels, each good as the first command on a fresh machine.

mod bench;
mod build;
mod debian;
mod demo;
mod fuzz;
mod kernels;
mod manual;
mod packages;
mod process;
mod services;
mod setup;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};
use manual::Manual;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  setup [--tests]         find the BPF toolchain and install what is missing of it; with --tests also what the tests trace
  build                   build target/release/memscope
  test [--all] [NAME...]  set-up, then format, lints, tests, and tests on the live kernel (as root);
                          --all adds the heavy suites, NAMEs select tests (and leave out format and lints)
  demo [--pid PID] [--wait SECONDS]
                          set-up, build, then trace a small C program that loses memory, or a process of yours
  bench [--quick] [--all] [--rival 'CMD {pid}'] [CASE...]
                          as root: what tracing costs, as ratios, into bench/RESULTS.md; cases: pairs, growth, attach,
                          sessions, real
  kernels [VERSION...] [TEST...]
                          the tests that depend on the kernel, on other kernels, in QEMU: versions as 6.1 (else the newest of
                          each series that apt offers), tests as SUITE or SUITE::TEST (else those that depend on the kernel)
  fuzz [TARGET...] [--seconds N]
                          feed made-up bytes to every parser of foreign ones (fuzz/), N (60) seconds each
  man                     write the man pages to target/man
  completions             write completions for bash, zsh and fish to target/completions
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("xtask: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<ExitCode> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["setup"] => setup::toolchain().map(|_| ExitCode::SUCCESS),
        ["setup", "--tests"] => setup::everything().map(|_| ExitCode::SUCCESS),
        ["build"] => build::memscope().map(|_| ExitCode::SUCCESS),
        ["test", rest @ ..] => test::run(&test::Selection::parse(rest)?),
        ["man"] => manual::generate(Manual::ManPages).map(|_| ExitCode::SUCCESS),
        ["completions"] => manual::generate(Manual::Completions).map(|_| ExitCode::SUCCESS),
        ["demo", rest @ ..] => demo::run(&demo::Options::parse(rest)?),
        ["fuzz", rest @ ..] => fuzz::run(&fuzz::Options::parse(rest)?),
        ["bench", rest @ ..] => bench::run(&bench::Options::parse(rest)?),
        ["kernels", rest @ ..] => kernels::run(&kernels::Options::parse(rest)?),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        [] => bail!("which command?\n{USAGE}"),
        other => bail!("`{}` is not understood\n{USAGE}", other.join(" ")),
    }
}
