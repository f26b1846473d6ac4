//! Builds the `memscope` command.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{process, setup};

/// Sets up the toolchain, builds the command, and returns its path.
pub fn memscope() -> Result<PathBuf> {
    built("release", &["--release"])
}

/// As [`memscope`], unoptimised.
pub fn memscope_debug() -> Result<PathBuf> {
    built("debug", &[])
}

fn built(profile: &str, flags: &[&str]) -> Result<PathBuf> {
    setup::toolchain()?;
    let mut cargo = process::cargo();
    cargo
        .args(["build", "--locked", "--package", "memscope-user"])
        .args(flags);
    process::run(&mut cargo)?;
    let memscope = process::target_dir().join(profile).join("memscope");
    if !memscope.is_file() {
        bail!("cargo built no {}", memscope.display());
    }
    eprintln!("xtask: built {}", memscope.display());
    Ok(memscope)
}
