//! The command that is measured, with state folders of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};

/// memscope, and where its sessions live during the bench.
pub struct Memscope {
    binary: PathBuf,
    run: PathBuf,
    bpf: PathBuf,
}

impl Memscope {
    /// A fresh pair of state folders.
    pub fn new(binary: PathBuf) -> Result<Self> {
        let name = format!("memscope-bench-{}", std::process::id());
        let run = std::env::temp_dir().join(&name);
        fs::create_dir_all(&run).with_context(|| format!("cannot create {}", run.display()))?;
        Ok(Self {
            binary,
            run: run.join("run"),
            bpf: Path::new("/sys/fs/bpf").join(name),
        })
    }

    /// A command line of it.
    pub fn command(&self, words: &[&str]) -> Command {
        self.under(Command::new(&self.binary), words)
    }

    /// A command line of it, run by another program.
    pub fn run_by(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg(&self.binary);
        self.under(command, words)
    }

    fn under(&self, mut command: Command, words: &[&str]) -> Command {
        command
            .args(words)
            .env("MEMSCOPE_RUN_DIR", &self.run)
            .env("MEMSCOPE_BPF_DIR", &self.bpf)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end; it must succeed.
    pub fn ok(&self, words: &[&str]) -> Result<Output> {
        let output = self.command(words).output().context("cannot run memscope")?;
        if !output.status.success() {
            bail!(
                "memscope {}: {}\n{}",
                words.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(output)
    }

    /// Where the session of a process has a map pinned.
    pub fn map(&self, pid: u32, name: &str) -> Result<PathBuf> {
        let sessions = fs::read_dir(&self.bpf).with_context(|| format!("cannot list {}", self.bpf.display()))?;
        sessions
            .flatten()
            .find(|session| session.file_name().to_string_lossy().starts_with(&format!("{pid}-")))
            .map(|session| session.path().join(name))
            .with_context(|| format!("process {pid} has no session"))
    }
}

impl Drop for Memscope {
    fn drop(&mut self) {
        // Whatever ends the bench, nothing of it stays attached; there is nobody left to tell of a failure.
        let _ = self.command(&["detach", "--all"]).output();
        let _ = fs::remove_dir(&self.bpf);
        if let Some(folder) = self.run.parent() {
            let _ = fs::remove_dir_all(folder);
        }
    }
}
