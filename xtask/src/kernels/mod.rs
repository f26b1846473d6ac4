//! `kernels`: memscope on other kernels than this host's, in emulated machines; the same tests, side by side.

mod cpio;
mod debs;
mod image;
mod machine;
mod release;
mod results;
mod suites;

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};

use self::machine::Emulator;
use self::release::Release;
use self::results::Run;
use crate::{build, packages, process, setup};

/// What to run, and on which kernels.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Series or releases; empty for the newest of each series that apt offers.
    versions: Vec<String>,
    /// `suite` or `suite::test`; empty for the usual ones.
    tests: Vec<String>,
}

impl Options {
    /// Reads the words after `cargo xtask kernels`: what begins with a digit is a version.
    pub fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        for &word in words {
            match word.as_bytes().first() {
                Some(b'-') => bail!("`kernels` does not know `{word}`"),
                Some(first) if first.is_ascii_digit() => options.versions.push(word.to_owned()),
                _ => options.tests.push(word.to_owned()),
            }
        }
        Ok(options)
    }
}

/// Fetches the kernels, runs the tests here and on each, and prints what came of it, kernel beside kernel.
pub fn run(options: &Options) -> Result<ExitCode> {
    let folder = process::target_dir().join("kernels");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let releases = release::chosen(&release::offered()?, &options.versions)?;
    let tools = debs::unpacked(&debs::with_dependencies(packages::KERNELS)?, &folder, "machine")?;
    // The programs that the tests trace are compiled here.
    setup::everything()?;
    let memscope = build::memscope()?;
    let suites = suites::built(&options.tests)?;

    let mut runs = vec![Run::read(&suites::on_this_host(&memscope, &suites)?)];
    let expected: Vec<String> = runs[0].tests.iter().map(|(name, _)| name.clone()).collect();
    if expected.is_empty() {
        bail!("no test has one of these names: {}", options.tests.join(" "));
    }

    let content = image::Content {
        memscope: &memscope,
        busybox: &tools.join("bin/busybox"),
        suites: &suites,
    };
    let image = folder.join("image.cpio");
    fs::write(&image, content.archive()?).with_context(|| format!("cannot write {}", image.display()))?;
    let emulator = Emulator::of(tools);
    for release in &releases {
        runs.push(on(release, &emulator, &image, &folder)?);
    }

    print!("{}", results::tables(&runs, &expected));
    let good = runs.iter().all(|run| run.is_good(&expected));
    if !good {
        eprintln!("xtask: what each kernel said is in {}/*.log", folder.display());
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn on(release: &Release, emulator: &Emulator, image: &Path, folder: &Path) -> Result<Run> {
    let unpacked = debs::unpacked(&[release.package()], folder, &release.name)?;
    let kernel = unpacked.join(format!("boot/vmlinuz-{}", release.name));
    let log = folder.join(format!("{}.log", release.name));
    let mut run = Run::read(&emulator.run(&kernel, image, &log)?);
    if run.kernel.is_empty() {
        // It did not come to its first word, and must have its column all the same.
        release.name.clone_into(&mut run.kernel);
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_begin_with_a_digit_and_tests_do_not() {
        let options = Options::parse(&["6.1", "steps", "cases::a", "6.12.117"]).unwrap();
        assert_eq!(options.versions, ["6.1", "6.12.117"]);
        assert_eq!(options.tests, ["steps", "cases::a"]);
        assert!(Options::parse(&["--all"]).is_err());
    }
}
