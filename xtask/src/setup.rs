//! Set-up: finds the BPF toolchain and the tests' programs, installs what is missing, does nothing twice.

use std::{path::PathBuf, process::Command, time::Instant};

use anyhow::{Context, Result, bail};
use xtask::toolchain::{LINKER_VERSION, Missing, SETUP_COMMAND, Toolchain, cargo_bin, own_root};

use crate::{debian, packages, process, services::HeldBack};

/// The BPF toolchain and everything the tests trace.
pub fn everything() -> Result<Toolchain> {
    let toolchain = toolchain()?;
    cargo_components();
    test_packages()?;
    Ok(toolchain)
}

/// The BPF toolchain, installed as far as it is missing.
pub fn toolchain() -> Result<Toolchain> {
    let missing = match Toolchain::find() {
        Ok(toolchain) => {
            describe(&toolchain);
            return Ok(toolchain);
        }
        Err(missing) => missing,
    };
    let begun = Instant::now();
    eprintln!("xtask: {}", missing.reasons.join("\nxtask: "));
    compiler(&missing)?;
    if let Err(missing) = Toolchain::find() {
        linker(&missing)?;
    }
    let toolchain =
        Toolchain::find().map_err(|still| anyhow::anyhow!("set-up done, and yet: {}", still.reasons.join("; ")))?;
    describe(&toolchain);
    eprintln!("xtask: toolchain set up in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(toolchain)
}

fn describe(toolchain: &Toolchain) {
    eprintln!(
        "xtask: BPF toolchain: {} ({}), {}",
        toolchain.compiler.rustc.display(),
        toolchain.compiler.version,
        toolchain.linker.path.display()
    );
}

/// A compiler with `core` for BPF: from Debian where Debian has it, else from rustup.
fn compiler(missing: &Missing) -> Result<()> {
    let begun = Instant::now();
    if debian::is_here() && (missing.compiler.is_none() || !has_llvm()) {
        let packages = debian::missing(packages::TOOLCHAIN)?;
        if packages.is_empty() {
            return Ok(());
        }
        eprintln!("xtask: installing {} from Debian", packages.join(", "));
        match debian::install(&packages) {
            Ok(()) => {
                eprintln!(
                    "xtask: Debian packages installed in {:.0} s",
                    begun.elapsed().as_secs_f64()
                );
                return Ok(());
            }
            Err(why) => eprintln!("xtask: {why:#}"),
        }
    }
    if missing.compiler.is_some() {
        return Ok(());
    }
    let by_hand = "rustup toolchain install nightly --profile minimal --component rust-src";
    eprintln!("xtask: trying rustup instead");
    let words: Vec<&str> = by_hand.split(' ').collect();
    process::run(Command::new(rustup()).args(&words[1..])).with_context(|| {
        format!(
            "no compiler for BPF. On Debian 12 run `apt-get install {}` as root, elsewhere `{by_hand}`; then \
                                  `{SETUP_COMMAND}` again",
            packages::TOOLCHAIN.join(" ")
        )
    })
}

/// bpf-linker, built against an LLVM that reads the compiler's bitcode.
fn linker(missing: &Missing) -> Result<()> {
    let compiler = missing.compiler.as_ref().with_context(|| missing.to_string())?;
    let binary = format!("cargo binstall bpf-linker@{LINKER_VERSION}");
    if !has_llvm() || compiler.llvm > packages::LLVM_MAJOR {
        bail!(
            "no LLVM {} under {} to build bpf-linker with; install a prebuilt one with `{binary}`, then `{SETUP_COMMAND}` again",
            compiler.llvm,
            packages::LLVM_PREFIX
        );
    }
    let root = own_root(packages::LLVM_MAJOR).context("no home folder to install bpf-linker in")?;
    let begun = Instant::now();
    eprintln!("xtask: building bpf-linker {LINKER_VERSION}, about a minute");
    let mut install = process::cargo();
    install
        .args([
            "install",
            "--quiet",
            "--locked",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
        ])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{}", packages::LLVM_MAJOR),
            "--force",
            "--root",
        ])
        .arg(&root)
        .env("LLVM_PREFIX", packages::LLVM_PREFIX);
    process::run(&mut install)?;
    eprintln!("xtask: bpf-linker built in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn has_llvm() -> bool {
    PathBuf::from(packages::LLVM_PREFIX).join("bin/llvm-config").is_file()
}

fn rustup() -> PathBuf {
    cargo_bin()
        .map(|bin| bin.join("rustup"))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| "rustup".into())
}

/// rustfmt and clippy, which a minimal rustup leaves out. Where they cannot be had, `cargo xtask test` says so.
fn cargo_components() {
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !process::works(process::cargo().args([command, "--version"])) {
            eprintln!("xtask: cargo {command} is missing");
            if let Err(why) = process::run(Command::new(rustup()).args(["component", "add", component])) {
                eprintln!("xtask: {why:#}");
            }
        }
    }
}

/// What the tests trace and build with. Elsewhere than on Debian the names are printed, and the tests name what they miss.
fn test_packages() -> Result<()> {
    if !debian::is_here() {
        eprintln!(
            "xtask: not Debian; the tests want what these packages hold: {}",
            packages::TESTS.join(" ")
        );
        return Ok(());
    }
    let missing = debian::missing(packages::TESTS)?;
    if missing.is_empty() {
        eprintln!(
            "xtask: all {} Debian packages of the tests are installed",
            packages::TESTS.len()
        );
        return Ok(());
    }
    eprintln!("xtask: installing {} for the tests", missing.join(", "));
    let begun = Instant::now();
    let services = packages::SERVICES
        .iter()
        .filter(|(package, _)| missing.contains(package))
        .map(|(_, service)| *service);
    let held = HeldBack::mask(services.collect())?;
    let installed = debian::install(&missing);
    held.disable()?;
    installed?;
    eprintln!(
        "xtask: test packages installed in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}
