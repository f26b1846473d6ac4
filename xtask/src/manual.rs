//! Man pages and shell completions, generated from the command line's own definitions.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{process, setup};

/// What is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manual {
    /// `target/man/*.1`.
    ManPages,
    /// `target/completions/*`, for bash, zsh and fish.
    Completions,
}

impl Manual {
    fn word(self) -> &'static str {
        match self {
            Self::ManPages => "man",
            Self::Completions => "completions",
        }
    }
}

/// Generates it anew, and returns the folder.
pub fn generate(manual: Manual) -> Result<PathBuf> {
    setup::toolchain()?;
    let folder = process::target_dir().join(manual.word());
    if folder.exists() {
        // Pages of commands that are gone must not stay.
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    let words = "run --quiet --release --locked --package memscope-user --example manual --";
    let mut run = process::cargo();
    run.args(words.split(' ')).arg(manual.word()).arg(&folder);
    process::run(&mut run)?;
    let count = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .count();
    eprintln!("xtask: {count} files in {}", folder.display());
    Ok(folder)
}
