//! Coverage-guided fuzzing of every parser of foreign bytes: builds the targets of `fuzz/`, runs each for a while with
//! bounded memory, and prints what came of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use xtask::toolchain::data_folder;

use crate::{process, setup};

const CARGO_FUZZ_VERSION: &str = "0.13.2";

/// Bounds of every run. A single piece of memory may be what the largest limit of a parser allows (the 128 MiB of a
/// `.gnu_debugdata`, in a vector that grows by doubling). The address sanitizer keeps freed memory for a while.
const LIMITS: [&str; 3] = ["-malloc_limit_mb=300", "-rss_limit_mb=2048", "-timeout=25"];

/// What to run, for how long.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    seconds: u32,
    /// Names of targets; empty for all.
    targets: Vec<String>,
}

impl Options {
    /// Reads the words after `cargo xtask fuzz`.
    pub fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            seconds: 60,
            targets: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            match word {
                "--seconds" => {
                    let number = words.next().and_then(|number| number.parse().ok());
                    options.seconds = number
                        .filter(|number| *number > 0)
                        .context("--seconds takes a number")?;
                }
                flag if flag.starts_with('-') => bail!("`fuzz` does not know `{flag}`"),
                name => options.targets.push(name.to_owned()),
            }
        }
        Ok(options)
    }
}

/// Sets up what is missing, builds, runs, prints the table. It fails if a target did.
pub fn run(options: &Options) -> Result<ExitCode> {
    let all = targets()?;
    if let Some(unknown) = options.targets.iter().find(|name| !all.contains(name)) {
        bail!("there is no target `{unknown}`; there are {}", all.join(", "));
    }
    let chosen = if options.targets.is_empty() {
        &all
    } else {
        &options.targets
    };
    setup::toolchain()?;
    let folder = process::target_dir().join("fuzz");
    build(&cargo_fuzz()?, &folder, chosen)?;
    println!("{}", Outcome::HEADER);
    let mut failed = false;
    for name in chosen {
        let outcome = fuzz(name, &folder, options.seconds)?;
        println!("{}", outcome.line(name));
        failed |= outcome.finding.is_some();
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The names of all targets, in order.
fn targets() -> Result<Vec<String>> {
    let folder = process::workspace().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// The folder with `cargo-fuzz` in it, which is installed there if it is missing.
fn cargo_fuzz() -> Result<PathBuf> {
    let data = data_folder().context("no home folder to install cargo-fuzz in")?;
    let root = data.join(format!("cargo-fuzz-{CARGO_FUZZ_VERSION}"));
    let program = root.join("bin/cargo-fuzz");
    if !program.is_file() {
        eprintln!("xtask: building cargo-fuzz {CARGO_FUZZ_VERSION}, about a minute");
        let mut install = process::cargo();
        let words = [
            "install",
            "--quiet",
            "--locked",
            "cargo-fuzz",
            "--version",
            CARGO_FUZZ_VERSION,
        ];
        install.args(words).arg("--root").arg(&root);
        process::run(&mut install)?;
    }
    Ok(program)
}

/// Builds with coverage counters and the address sanitizer. Both are flags of nightly compilers; the stable one knows
/// them too, and brings the sanitizer's library.
fn build(cargo_fuzz: &Path, folder: &Path, targets: &[String]) -> Result<()> {
    let mut command = Command::new(cargo_fuzz);
    command
        .current_dir(process::workspace().join("fuzz"))
        .args(["fuzz", "build", "--sanitizer", "address"])
        .arg("--target-dir")
        .arg(folder)
        .env("RUSTC_BOOTSTRAP", "1");
    if let [target] = targets {
        command.arg(target);
    }
    process::run(&mut command)
}

/// What one run came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    executions: u64,
    /// Edges of the control flow that some input passed.
    coverage: u64,
    inputs: u64,
    peak_mb: u64,
    /// What ended the run early, and the input that did.
    finding: Option<String>,
}

fn fuzz(name: &str, folder: &Path, seconds: u32) -> Result<Outcome> {
    let (corpus, artifacts) = (folder.join("corpus").join(name), folder.join("artifacts").join(name));
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // One at a time and after everybody else: a fuzzer takes all that it gets.
    let mut command = Command::new("nice");
    command
        .args(["-n", "10"])
        .arg(folder.join("x86_64-unknown-linux-gnu/release").join(name))
        .arg(&corpus)
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .args(["-print_final_stats=1"])
        .args(LIMITS)
        .stdin(Stdio::null());
    eprintln!("$ {}", process::shown(&command));
    let output = command
        .output()
        .with_context(|| format!("cannot run the target {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let log = folder.join(format!("{name}.log"));
    fs::write(&log, said.as_bytes()).with_context(|| format!("cannot write {}", log.display()))?;
    let mut outcome = Outcome::of(&said);
    if !output.status.success() && outcome.finding.is_none() {
        outcome.finding = Some(format!("{}, see {}", output.status, log.display()));
    }
    Ok(outcome)
}

impl Outcome {
    const HEADER: &str = "| target | executions | edges | inputs | peak MB | findings |\n|---|---:|---:|---:|---:|---|";

    /// Reads what libFuzzer said.
    fn of(said: &str) -> Self {
        let mut outcome = Self::default();
        for line in said.lines() {
            if let Some((_, rest)) = line.split_once(" cov: ") {
                outcome.coverage = number(rest);
                outcome.inputs = rest.split_once(" corp: ").map_or(0, |(_, rest)| number(rest));
            } else if let Some(rest) = line.strip_prefix("stat::number_of_executed_units:") {
                outcome.executions = number(rest);
            } else if let Some(rest) = line.strip_prefix("stat::peak_rss_mb:") {
                outcome.peak_mb = number(rest);
            } else if let Some((_, path)) = line.split_once("Test unit written to ") {
                outcome.finding = Some(path.to_owned());
            }
        }
        outcome
    }

    fn line(&self, name: &str) -> String {
        format!(
            "| {name} | {} | {} | {} | {} | {} |",
            self.executions,
            self.coverage,
            self.inputs,
            self.peak_mb,
            self.finding.as_deref().unwrap_or("none")
        )
    }
}

/// The number at the beginning of a text, after spaces.
fn number(text: &str) -> u64 {
    let text = text.trim_start();
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_targets_and_seconds() {
        let options = Options::parse(&["elf", "--seconds", "5", "maps"]).unwrap();
        assert_eq!(
            options,
            Options {
                seconds: 5,
                targets: vec!["elf".to_owned(), "maps".to_owned()]
            }
        );
        assert!(Options::parse(&["--seconds", "0"]).is_err());
        assert!(Options::parse(&["--seconds"]).is_err());
        assert!(Options::parse(&["--second", "5"]).is_err());
    }

    #[test]
    fn the_last_words_of_a_run_are_its_outcome() {
        let said = "#2\tINITED cov: 11 ft: 20 corp: 1/2b exec/s: 0 rss: 30Mb\n\
            #8388\tDONE   cov: 123 ft: 456 corp: 78/90Kb lim: 100 exec/s: 8388 rss: 55Mb\n\
            stat::number_of_executed_units: 8388\nstat::peak_rss_mb:              55\n";
        let clean = Outcome {
            executions: 8388,
            coverage: 123,
            inputs: 78,
            peak_mb: 55,
            finding: None,
        };
        assert_eq!(Outcome::of(said), clean);
        assert_eq!(clean.line("maps"), "| maps | 8388 | 123 | 78 | 55 | none |");
        let crashed = format!("{said}artifact_prefix='/a/'; Test unit written to /a/crash-12\n");
        assert_eq!(Outcome::of(&crashed).finding.as_deref(), Some("/a/crash-12"));
    }

    #[test]
    fn every_target_is_built() {
        let manifest = fs::read_to_string(process::workspace().join("fuzz/Cargo.toml")).unwrap();
        for name in targets().unwrap() {
            assert!(
                manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
                "{name}"
            );
        }
    }
}
