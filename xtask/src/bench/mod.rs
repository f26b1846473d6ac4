//! `cargo xtask bench`: what tracing costs, as ratios within one run; the results go into `bench/RESULTS.md`.
//!
//! Times of a run on one machine compare with nothing but each other: every figure is a ratio of medians, measured turn
//! about, with the least and the most that was seen. The absolute beside it only tells what was divided.

mod attaching;
mod figures;
mod growth;
mod machine;
mod memscope;
mod pairs;
mod programs;
mod real;
mod report;
mod results;
mod sessions;
mod talker;
mod tracer;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::{build, process};
use memscope::Memscope;
use programs::Programs;
use results::Results;

/// What to measure.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Less than two minutes: fewer rounds, no real programs, no 50 sessions.
    quick: bool,
    /// Also what takes many minutes: 10 million live blocks.
    all: bool,
    /// The debug build, for trying the bench itself.
    debug: bool,
    /// Commands of rivals; `{pid}` stands for the target.
    rivals: Vec<String>,
    /// Cases to run; all when empty.
    cases: Vec<String>,
}

const CASES: [&str; 6] = ["pairs", "growth", "report", "attach", "sessions", "real"];

impl Options {
    /// Reads the words after `cargo xtask bench`.
    pub fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            match word {
                "--quick" => options.quick = true,
                "--all" => options.all = true,
                "--debug" => options.debug = true,
                "--rival" => {
                    let command = words.next().context("`--rival` wants a command after it")?;
                    if !command.contains("{pid}") {
                        bail!("`--rival '{command}'` must say {{pid}} where the target's PID goes");
                    }
                    options.rivals.push((*command).to_owned());
                }
                case if CASES.contains(&case) => options.cases.push(case.to_owned()),
                other => bail!("`bench` does not know `{other}`; its cases are {}", CASES.join(", ")),
            }
        }
        Ok(options)
    }

    fn wants(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|wanted| wanted == case)
    }

    /// How often each figure is measured.
    fn rounds(&self) -> usize {
        if self.quick { 3 } else { 7 }
    }
}

/// Everything a case needs.
struct Bench<'a> {
    options: &'a Options,
    memscope: Memscope,
    programs: Programs,
    results: Results,
}

/// One case of the bench.
type Case = fn(&mut Bench<'_>) -> Result<()>;

/// Runs the cases, prints their tables, and writes them into `bench/RESULTS.md` when all of them ran.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !process::is_root() {
        bail!("the bench attaches probes and reads the kernel's counts: run it as root (`sudo -E cargo xtask bench`)");
    }
    let binary = if options.debug {
        build::memscope_debug()?
    } else {
        build::memscope()?
    };
    let mut bench = Bench {
        options,
        memscope: Memscope::new(binary)?,
        programs: Programs::build()?,
        results: Results::new(machine::description()?),
    };
    let cases: [(&str, Case); 6] = [
        ("pairs", pairs::run),
        ("growth", growth::run),
        ("report", report::run),
        ("attach", attaching::run),
        ("sessions", sessions::run),
        ("real", real::run),
    ];
    for (name, case) in cases {
        if options.wants(name) {
            case(&mut bench).with_context(|| format!("case {name}"))?;
        }
    }
    if options.cases.is_empty() && !options.debug {
        let path = bench.results.write(options.quick)?;
        eprintln!("xtask: written to {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_unknown_ones_refused() {
        let options = Options::parse(&["--quick", "pairs", "--rival", "leak {pid}"]).unwrap();
        assert!(options.quick && options.wants("pairs") && !options.wants("real"));
        assert_eq!(options.rivals, ["leak {pid}"]);
        assert!(Options::parse(&["--rival", "leak"]).is_err());
        assert!(Options::parse(&["--rival"]).is_err());
        assert!(Options::parse(&["pair"]).is_err());
    }
}
