//! Which tests run on each kernel, and the binaries they are in.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::process;

/// What is run unless tests are named: each thing that depends on the kernel once, since an emulated machine is slow.
const USUAL: &[&str] = &[
    "every_kernel",
    // The signal tracepoint; the exec and exit tracepoints.
    "cases::a_handler_that_interrupts_a_call_has_blocks_of_its_own_and_the_call_keeps_its_block",
    "cases::realloc_that_fails_keeps_the_block",
    "cases::two_hundred_threads_at_once_are_followed",
    "lifecycle::exec_empties_the_database_and_marks_it",
    "lifecycle::a_database_stays_printable_after_sigkill",
    "lifecycle::a_forked_child_changes_nothing_in_the_parents_database",
    // Return probes are system calls on some kernels.
    "lifecycle::a_target_with_a_strict_seccomp_filter_survives_or_attach_refuses",
    "regions::munmap_of_a_middle_keeps_both_sides",
    "regions::mremap_shrinks_grows_moves_and_fails",
    "steps::the_database_of_an_ended_target_stays_printable_until_destroyed",
];

/// A suite, and what of it is run.
#[derive(Debug, PartialEq, Eq)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// Its binary.
    pub binary: PathBuf,
    /// The tests; empty for all.
    pub tests: Vec<String>,
}

impl Suite {
    /// The words after the binary's name.
    pub fn arguments(&self) -> Vec<&str> {
        let mut words = vec!["--test-threads=1"];
        if !self.tests.is_empty() {
            words.push("--exact");
            words.extend(self.tests.iter().map(String::as_str));
        }
        words
    }
}

/// Builds the suites that these tests are in (the usual ones if none is named), optimised as the tests always are.
pub fn built(tests: &[String]) -> Result<Vec<Suite>> {
    let usual = || USUAL.iter().map(|&test| test.to_owned()).collect();
    let grouped = grouped(if tests.is_empty() { usual() } else { tests.to_vec() });
    let mut cargo = process::cargo();
    cargo.args(["test", "--locked", "--no-run", "--package", "memscope-tests"]);
    cargo.args(["--features", "memscope-tests/privileged"]);
    for (suite, _) in &grouped {
        cargo.args(["--test", suite]);
    }
    eprintln!("$ {}", process::shown(&cargo));
    let output = cargo.stdout(Stdio::null()).output().context("cannot run cargo")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!("the suites cannot be built:\n{said}");
    }
    let suite = |(name, tests): (String, Vec<String>)| {
        let binary = executable(&said, &name).with_context(|| format!("cargo names no binary of {name}:\n{said}"))?;
        Ok(Suite {
            binary: process::workspace().join(binary),
            name,
            tests,
        })
    };
    grouped.into_iter().map(suite).collect()
}

/// `suite` and `suite::test` as suites with their tests; a suite that is named as a whole is run as a whole.
fn grouped(selected: Vec<String>) -> Vec<(String, Vec<String>)> {
    let mut suites: Vec<(String, Option<Vec<String>>)> = Vec::new();
    for word in selected {
        let (suite, test) = match word.split_once("::") {
            Some((suite, test)) => (suite.to_owned(), Some(test.to_owned())),
            None => (word, None),
        };
        let at = suites.iter().position(|(name, _)| *name == suite).unwrap_or_else(|| {
            suites.push((suite, Some(Vec::new())));
            suites.len() - 1
        });
        match (&mut suites[at].1, test) {
            (Some(tests), Some(test)) => tests.push(test),
            (tests, None) => *tests = None,
            (None, Some(_)) => {}
        }
    }
    suites
        .into_iter()
        .map(|(suite, tests)| (suite, tests.unwrap_or_default()))
        .collect()
}

/// The path in cargo's line `Executable suites/steps.rs (target/debug/deps/steps-0123)`.
fn executable(said: &str, suite: &str) -> Option<PathBuf> {
    let source = format!("suites/{suite}.rs (");
    let (_, rest) = said.split_once(&source)?;
    rest.split_once(')').map(|(path, _)| path.into())
}

/// Has every selected test run here, as root, and gives what was printed: the row to compare the others with. It also
/// builds the programs that the tests trace, which a machine without a compiler cannot.
pub fn on_this_host(memscope: &std::path::Path, suites: &[Suite]) -> Result<String> {
    let run = |command: &mut Command| -> Result<String> {
        eprintln!("$ {}", process::shown(command));
        let output = command
            .env("MEMSCOPE_BIN", memscope)
            .env("CARGO_MANIFEST_DIR", process::workspace().join("tests"))
            .env("CARGO_TARGET_DIR", process::target_dir())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot run `{}`", process::shown(command)))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let release = run(Command::new("uname").arg("-r"))?;
    let mut said = format!("@@ kernel {release}");
    said += &run(process::as_root(memscope)?.args(["-v", "doctor"]))?;
    for suite in suites {
        said += &format!("@@ suite {}\n", suite.name);
        said += &run(process::as_root(&suite.binary)?.args(suite.arguments()))?;
    }
    Ok(said + "@@ end\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_grouped_by_suite_and_a_whole_suite_swallows_its_tests() {
        let selected = ["cases::a", "steps", "cases::b", "steps::c"].map(str::to_owned);
        let expected = [
            ("cases".to_owned(), vec!["a".to_owned(), "b".to_owned()]),
            ("steps".to_owned(), Vec::new()),
        ];
        assert_eq!(grouped(selected.to_vec()), expected);
    }

    #[test]
    fn cargo_says_where_a_suite_is() {
        let said = "    Finished `test` profile\n  Executable suites/os_keys.rs (target/debug/deps/os_keys-1)\n\
                    \x20 Executable suites/keys.rs (target/debug/deps/keys-2)\n";
        assert_eq!(executable(said, "keys"), Some("target/debug/deps/keys-2".into()));
        assert_eq!(executable(said, "steps"), None);
    }
}
