//! The items of `doctor`: each tried, not guessed from a version.

use std::fmt;
use std::path::Path;

use super::privilege::{NEEDED, Privileges};
use crate::database::load::Verified;
use crate::database::paths::Roots;
use crate::database::{bpffs, folder, load, store};
use crate::target::identity::{Pid, StartTime, TargetId};

/// One item.
#[derive(Debug)]
pub struct Check {
    /// What was looked at.
    pub item: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a check came to.
#[derive(Debug)]
pub enum Outcome {
    /// It is there; with what was seen.
    Present(String),
    /// It is missing.
    Lacking {
        /// What was seen.
        seen: String,
        /// What to do about it.
        remedy: String,
    },
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Present(seen) => write!(f, "ok       {:<22} {seen}", self.item),
            Outcome::Lacking { seen, remedy } => write!(f, "LACKING  {:<22} {seen}; {remedy}", self.item),
        }
    }
}

/// Every check of this host, in the order in which they matter; `verbose`: with what each BPF program took.
#[must_use]
pub fn host(verbose: bool) -> Vec<Check> {
    let mut checks = vec![machine(), kernel(), btf(), uprobes()];
    checks.extend(capabilities());
    let roots = Roots::from_environment();
    checks.push(bpf_file_system(&roots.bpf));
    checks.push(run_folder(&roots.run));
    checks.extend(programs(&roots, verbose));
    checks
}

fn check(item: impl Into<String>, there: bool, seen: impl Into<String>, remedy: &str) -> Check {
    let (seen, remedy) = (seen.into(), remedy.to_owned());
    let outcome = if there {
        Outcome::Present(seen)
    } else {
        Outcome::Lacking { seen, remedy }
    };
    Check {
        item: item.into(),
        outcome,
    }
}

fn machine() -> Check {
    let uname = rustix::system::uname();
    let machine = uname.machine().to_string_lossy().into_owned();
    check(
        "machine",
        machine == "x86_64",
        machine,
        "memscope runs on 64-bit x86 only",
    )
}

fn kernel() -> Check {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    check(
        "kernel",
        version >= (6, 1),
        release,
        "memscope needs Linux 6.1 or later",
    )
}

fn btf() -> Check {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    check(
        "BTF",
        path.exists(),
        path.display().to_string(),
        "the kernel must be built with CONFIG_DEBUG_INFO_BTF",
    )
}

fn uprobes() -> Check {
    let path = Path::new("/sys/bus/event_source/devices/uprobe/type");
    check(
        "uprobes",
        path.exists(),
        path.display().to_string(),
        "the kernel must be built with CONFIG_UPROBE_EVENTS",
    )
}

fn capabilities() -> Vec<Check> {
    let held = Privileges::of_this_process();
    NEEDED
        .iter()
        .map(|capability| {
            let there = held.as_ref().is_ok_and(|held| held.has(*capability));
            check(
                capability.name,
                there,
                capability.purpose,
                "run memscope as root (sudo)",
            )
        })
        .collect()
}

fn bpf_file_system(root: &Path) -> Check {
    match bpffs::ensure_mounted(root) {
        Ok(()) => check("BPF file system", true, root.display().to_string(), ""),
        Err(error) => check(
            "BPF file system",
            false,
            error.to_string(),
            "mount -t bpf bpf /sys/fs/bpf",
        ),
    }
}

fn run_folder(root: &Path) -> Check {
    let outcome = folder::make_private(root);
    let seen = outcome
        .as_ref()
        .map_or_else(ToString::to_string, |()| root.display().to_string());
    check(
        "session folder",
        outcome.is_ok(),
        seen,
        "it must be a folder of root's, and writable",
    )
}

/// Loads every program, in a session of process 0, which no process can be.
fn programs(roots: &Roots, verbose: bool) -> Vec<Check> {
    let paths = roots.session(TargetId {
        pid: Pid(0),
        start_time: StartTime(u64::from(std::process::id())),
    });
    let outcome = folder::make_private(&roots.bpf)
        .and_then(|()| folder::make_private(&paths.bpf))
        .and_then(|()| load::every_program(&paths));
    let removed = store::remove(&paths);
    let loaded = match outcome.and_then(|loaded| removed.map(|()| loaded)) {
        Ok(loaded) => loaded,
        Err(error) => return vec![check("BPF programs", false, error.to_string(), "see the items above")],
    };
    let all = format!("verified and loaded: {}", took(&loaded));
    let mut checks = vec![check("BPF programs", true, all, "")];
    if verbose {
        checks.extend(
            loaded
                .iter()
                .map(|one| check(format!("  {}", one.program), true, took(std::slice::from_ref(one)), "")),
        );
    }
    checks
}

/// What the verifier and the JIT took for these programs.
fn took(programs: &[Verified]) -> String {
    let time: f64 = programs.iter().map(|one| one.time.as_secs_f64() * 1e3).sum();
    let instructions: Option<u64> = programs.iter().map(|one| one.instructions.map(u64::from)).sum();
    match instructions {
        Some(instructions) => format!("{instructions} instructions followed, {time:.1} ms"),
        None => format!("{time:.1} ms"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn instructions_are_summed_and_left_out_where_one_is_not_known() {
        let one = |instructions| Verified {
            program: "free_enter",
            instructions,
            time: Duration::from_micros(1500),
        };
        assert_eq!(took(&[one(Some(40)), one(Some(2))]), "42 instructions followed, 3.0 ms");
        assert_eq!(took(&[one(Some(40)), one(None)]), "3.0 ms");
    }
}
