//! Everything that must hold before a change goes in: format, lints, pure tests, tests on the live kernel.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{build, process, setup};

/// Which tests to run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Also the suites that take minutes.
    all: bool,
    /// Parts of test names; empty for every test, and then also format and lints.
    names: Vec<String>,
}

impl Selection {
    /// Reads the words after `cargo xtask test`.
    pub fn parse(words: &[&str]) -> Result<Self> {
        let mut selection = Self::default();
        for &word in words {
            match word {
                "--all" => selection.all = true,
                "--" => {}
                flag if flag.starts_with('-') => bail!("`test` does not know `{flag}`"),
                name => selection.names.push(name.to_owned()),
            }
        }
        Ok(selection)
    }
}

/// Sets up the machine, runs what was selected, and ends with the line `N passed, M failed`.
pub fn run(selection: &Selection) -> Result<ExitCode> {
    setup::everything()?;
    let memscope = build::memscope()?;
    let mut tally = Tally::default();

    if selection.names.is_empty() {
        tally.check("fmt", process::cargo().args(["fmt", "--all", "--check"]));
        // The suites for the live kernel are linted too, though not run here.
        let suites = ["--features", "memscope-tests/privileged"];
        let mut clippy = process::cargo();
        clippy
            .args(["clippy", "--workspace", "--all-targets", "--locked"])
            .args(suites)
            .args(["--", "-D", "warnings"]);
        tally.check("clippy", &mut clippy);
        // A workspace of its own, which nothing else here compiles: it must not fall behind unseen.
        let mut fuzz = process::cargo();
        fuzz.args([
            "check",
            "--quiet",
            "--locked",
            "--bins",
            "--manifest-path",
            "fuzz/Cargo.toml",
        ])
        .arg("--target-dir")
        .arg(process::target_dir());
        tally.run(&mut fuzz);
    }

    let mut pure = process::cargo();
    pure.args(["test", "--workspace", "--locked", "--no-fail-fast", "--"])
        .args(&selection.names);
    tally.tests("tests", &mut pure)?;

    let mut live = process::cargo();
    let suites = "test --locked --no-fail-fast --package memscope-tests --tests --features privileged";
    live.args(suites.split(' '));
    // Compiled as the user, run as root: cargo's files keep their owner.
    if let Some(runner) = root_runner()? {
        live.args(["--config", &runner]);
    }
    // One at a time: a test may fill a CPU, or count every probe on the machine.
    live.args(["--", "--test-threads=1"])
        .args(&selection.names)
        .env("MEMSCOPE_BIN", &memscope);
    if selection.all {
        live.env("MEMSCOPE_TEST_ALL", "1");
    }
    tally.tests("tests on the live kernel", &mut live)?;

    for what in &tally.not_run {
        println!("not run: {what}");
    }
    for what in &tally.broken {
        println!("failed: {what}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.passed + tally.failed == 0 {
        bail!("no test has {} in its name", selection.names.join(" or "));
    }
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn root_runner() -> Result<Option<String>> {
    let prefix = process::root_prefix().context("the tests on the live kernel load BPF programs")?;
    Ok((!prefix.is_empty()).then(|| format!("target.'cfg(all())'.runner = {prefix:?}")))
}

#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    broken: Vec<String>,
    not_run: Vec<String>,
}

impl Tally {
    /// A check counts as one test. One that this machine has no tool for counts as neither, and is named at the end.
    fn check(&mut self, name: &str, command: &mut Command) {
        if !process::works(process::cargo().args([name, "--version"])) {
            self.not_run.push(format!("cargo {name} (not installed)"));
            return;
        }
        self.run(command);
    }

    fn run(&mut self, command: &mut Command) {
        match process::run(command) {
            Ok(()) => self.passed += 1,
            Err(why) => {
                self.failed += 1;
                self.broken.push(why.to_string());
            }
        }
    }

    /// Runs `cargo test`; one that ends badly without a failed test to show for it counts as a failure.
    fn tests(&mut self, name: &str, command: &mut Command) -> Result<()> {
        eprintln!("$ {}", process::shown(command));
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run cargo test")?;
        let before = self.failed;
        if let Some(output) = child.stdout.take() {
            self.read(output, &mut std::io::stdout())?;
        }
        let status = child.wait().context("cannot wait for cargo test")?;
        if !status.success() && self.failed == before {
            // Not built, or ended without a result: a failure that no result line counts.
            self.failed += 1;
            self.broken.push(format!("{name}: cargo test ended with {status}"));
        }
        Ok(())
    }

    /// Adds up the result lines of `cargo test`'s output, and passes all of it on.
    fn read(&mut self, output: impl Read, on: &mut impl Write) -> Result<()> {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("cannot read cargo test's output")?;
            let line = String::from_utf8_lossy(&line);
            if let Some((passed, failed)) = result_line(&line) {
                self.passed += passed;
                self.failed += failed;
            }
            if let Some(test) = line
                .strip_prefix("test ")
                .and_then(|rest| rest.strip_suffix(" ... FAILED"))
            {
                self.broken.push(test.to_owned());
            }
            writeln!(on, "{line}").context("cannot pass cargo test's output on")?;
        }
        Ok(())
    }
}

/// Passed and failed of a line `test result: ok. 3 passed; 0 failed; …`.
fn result_line(line: &str) -> Option<(usize, usize)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = counts.split("; ");
    let passed = counts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = counts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_added_up_and_others_are_not() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(result_line(line), Some((12, 3)));
        assert_eq!(result_line("test result_lines ... ok"), None);
    }

    #[test]
    fn a_name_selects_tests_and_an_unknown_flag_is_refused() {
        let selection = Selection::parse(&["--all", "realloc"]).unwrap();
        assert_eq!(
            selection,
            Selection {
                all: true,
                names: vec!["realloc".to_owned()]
            }
        );
        assert!(Selection::parse(&["--al"]).is_err());
    }

    #[test]
    fn results_of_several_binaries_are_summed_and_failures_named() {
        let output = "test a ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored\n\
                      test b ... FAILED\ntest result: FAILED. 2 passed; 1 failed; 0 ignored\n";
        let (mut tally, mut passed_on) = (Tally::default(), Vec::new());
        tally.read(output.as_bytes(), &mut passed_on).unwrap();
        assert_eq!((tally.passed, tally.failed, tally.broken), (3, 1, vec!["b".to_owned()]));
        assert_eq!(passed_on, output.as_bytes());
    }

    #[test]
    fn a_test_run_that_ends_without_a_result_is_a_failure() {
        let mut tally = Tally::default();
        tally
            .tests("tests", Command::new("sh").args(["-c", "exit 101"]))
            .unwrap();
        assert_eq!((tally.passed, tally.failed), (0, 1));
    }
}
