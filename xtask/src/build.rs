//! Builds the `memscope` command.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{process, setup};

/// Sets up the toolchain, builds the command, and returns its path.
pub fn memscope() -> Result<PathBuf> {
    setup::toolchain()?;
    process::run(process::cargo().args(["build", "--release", "--locked", "--package", "memscope-user"]))?;
    let memscope = process::target_dir().join("release/memscope");
    if !memscope.is_file() {
        bail!("cargo built no {}", memscope.display());
    }
    eprintln!("xtask: built {}", memscope.display());
    Ok(memscope)
}
