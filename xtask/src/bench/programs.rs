//! The bench's own C programs, compiled where cargo keeps its outputs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::process;

/// The compiled programs.
pub struct Programs {
    folder: PathBuf,
}

const NAMES: [&str; 6] = ["pairs", "grow", "many_sites", "mappings", "cost_of", "walk"];

impl Programs {
    /// Compiles them as distributions compile: optimised, without frame pointers.
    pub fn build() -> Result<Self> {
        let folder = process::target_dir().join("bench-programs");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for name in NAMES {
            let mut compiler = Command::new("cc");
            compiler
                .args(["-O2", "-g", "-fomit-frame-pointer", "-pthread", "-o"])
                .arg(folder.join(name))
                .arg(source(&format!("{name}.c")));
            process::run(&mut compiler).context("the bench needs a C compiler (Debian: gcc)")?;
        }
        Ok(Self { folder })
    }

    /// One of them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A folder for what a case makes, empty.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        // Nothing there is as good as removed.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }
}

/// A source file of the bench.
pub fn source(name: &str) -> PathBuf {
    process::workspace().join("bench/programs").join(name)
}

/// What `cost_of` said of a command.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub wall_ns: f64,
    pub cpu_ns: f64,
    pub resident_kb: u64,
}

impl Cost {
    /// Runs a command that `cost_of` is to run, and reads what it cost. The command must succeed.
    pub fn of(command: &mut Command) -> Result<Self> {
        let output = command
            .output()
            .with_context(|| format!("cannot run `{}`", process::shown(command)))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let fields: Vec<u64> = said.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        match fields.as_slice() {
            [wall, cpu, resident, 0] => Ok(Self {
                wall_ns: *wall as f64,
                cpu_ns: *cpu as f64,
                resident_kb: *resident,
            }),
            _ => anyhow::bail!("`{}` failed: {said}", process::shown(command)),
        }
    }
}

/// The C library that programs here run on, as bpftrace wants it named.
pub fn libc_of(program: &Path) -> Result<String> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.trim().strip_prefix("libc.so.6 => ")?.split(' ').next())
        .map(str::to_owned)
        .with_context(|| format!("{} runs on no libc.so.6", program.display()))
}
