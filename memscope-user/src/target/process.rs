//! The edge to procfs: a target's identity, names, threads and mappings, read while it may be changing or going away.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use procfs::ProcError;
use procfs::process::Process;
use thiserror::Error;

use super::identity::{Pid, StartTime, TargetId};
use super::mapping::{Mapping, parse_maps};

/// Why a target cannot be looked at.
#[derive(Debug, Error)]
pub enum TargetError {
    /// No process has this PID.
    #[error("no process {0}: `ps -e` lists the running ones")]
    NoSuchProcess(Pid),
    /// It went away, or its PID belongs to another process now.
    #[error("process {0} has ended")]
    Ended(Pid),
    /// It has no memory of its own.
    #[error("process {0} is a kernel thread: it has no allocator to watch")]
    KernelThread(Pid),
    /// No process matched.
    #[error("no process matches {0}")]
    NoMatch(String),
    /// procfs refused.
    #[error("cannot read {what} of process {pid}: {source}{}", if source.kind() == io::ErrorKind::PermissionDenied { "; run memscope as root (sudo)" } else { "" })]
    Unreadable {
        /// What was read.
        what: &'static str,
        /// Whose.
        pid: Pid,
        /// Why it failed.
        source: io::Error,
    },
}

/// A process, by PID and start time.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Who it is.
    pub id: TargetId,
}

impl Target {
    /// The process that has this PID now.
    ///
    /// # Errors
    /// There is none, it is a zombie or a kernel thread.
    pub fn of_pid(pid: Pid) -> Result<Self, TargetError> {
        let stat = stat(pid)?;
        // PF_KTHREAD, include/linux/sched.h.
        if stat.flags & 0x0020_0000 != 0 {
            return Err(TargetError::KernelThread(pid));
        }
        let target = Self {
            id: TargetId {
                pid,
                start_time: StartTime(stat.starttime),
            },
        };
        if target.is_alive() {
            Ok(target)
        } else {
            Err(TargetError::Ended(pid))
        }
    }

    /// Whether it runs: same start time, and at least one thread that is not a zombie. (A main thread that has called
    /// pthread_exit is a zombie while the others go on.)
    #[must_use]
    pub fn is_alive(&self) -> bool {
        stat(self.id.pid).is_ok_and(|stat| {
            stat.starttime == self.id.start_time.0 && (runs(stat.state) || self.live_thread().is_some())
        })
    }

    /// A thread that probes can be bound to: the main one while it lives, else the first that does.
    #[must_use]
    pub fn live_thread(&self) -> Option<u32> {
        let tasks = Process::new(self.pid_i32()).ok()?.tasks().ok()?;
        let mut alive: Vec<u32> = tasks
            .flatten()
            .filter(|task| task.stat().is_ok_and(|stat| runs(stat.state)))
            .filter_map(|task| u32::try_from(task.tid).ok())
            .collect();
        alive.sort_unstable();
        alive
            .iter()
            .copied()
            .find(|tid| *tid == self.id.pid.0)
            .or_else(|| alive.first().copied())
    }

    /// `/proc/PID/comm`, lossy.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn comm(&self) -> Result<String, TargetError> {
        let text = self.read("comm", "its name")?;
        Ok(String::from_utf8_lossy(&text).trim_end_matches('\n').to_owned())
    }

    /// Target of `/proc/PID/exe`, as the target sees it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn exe(&self) -> Result<OsString, TargetError> {
        std::fs::read_link(self.path("exe"))
            .map(PathBuf::into_os_string)
            .map_err(|source| self.unreadable("its executable", source))
    }

    /// Its mappings, sorted by address.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn mappings(&self) -> Result<Vec<Mapping>, TargetError> {
        Ok(parse_maps(&self.read("maps", "its mappings")?))
    }

    fn read(&self, file: &str, what: &'static str) -> Result<Vec<u8>, TargetError> {
        std::fs::read(self.path(file)).map_err(|source| self.unreadable(what, source))
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.memory_pid()))
    }

    /// The id under which procfs shows the target's memory and files: its own, or once its main thread has ended, which holds
    /// no memory any more (`exit_mm`, kernel/exit.c), that of a thread that lives.
    #[must_use]
    pub fn memory_pid(&self) -> Pid {
        let main_has_ended = std::fs::read_link(format!("/proc/{}/exe", self.id.pid)).is_err();
        match self.live_thread() {
            Some(thread) if main_has_ended => Pid(thread),
            _ => self.id.pid,
        }
    }

    fn pid_i32(&self) -> i32 {
        i32::try_from(self.id.pid.0).unwrap_or(i32::MAX)
    }

    fn unreadable(&self, what: &'static str, source: io::Error) -> TargetError {
        if matches!(source.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) {
            return TargetError::Ended(self.id.pid);
        }
        TargetError::Unreadable {
            what,
            pid: self.id.pid,
            source,
        }
    }
}

/// Processes whose comm or executable is wanted, this one left out, by PID.
///
/// # Errors
/// procfs cannot be listed, or nothing matches.
pub fn matching(comms: &[String], exes: &[PathBuf]) -> Result<Vec<Target>, TargetError> {
    let own = std::process::id();
    let processes = procfs::process::all_processes().map_err(|error| TargetError::Unreadable {
        what: "the list",
        pid: Pid(own),
        source: io::Error::other(error),
    })?;
    let mut found: Vec<Target> = processes
        .flatten()
        .filter_map(|process| u32::try_from(process.pid).ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| Target::of_pid(Pid(pid)).ok())
        .filter(|target| {
            target.comm().is_ok_and(|comm| comms.contains(&comm))
                || target
                    .exe()
                    .is_ok_and(|exe| exes.iter().any(|wanted| wanted.as_os_str() == exe))
        })
        .collect();
    found.sort_unstable_by_key(|target| target.id);
    if found.is_empty() {
        let comms = comms.iter().map(|comm| format!("--comm {comm}"));
        let exes = exes.iter().map(|exe| format!("--exe {}", exe.display()));
        return Err(TargetError::NoMatch(comms.chain(exes).collect::<Vec<_>>().join(" or ")));
    }
    Ok(found)
}

fn stat(pid: Pid) -> Result<procfs::process::Stat, TargetError> {
    let number = i32::try_from(pid.0).map_err(|_| TargetError::NoSuchProcess(pid))?;
    Process::new(number)
        .and_then(|process| process.stat())
        .map_err(|error| match error {
            ProcError::NotFound(_) => TargetError::NoSuchProcess(pid),
            ProcError::Io(source, _) if source.raw_os_error() == Some(libc::ESRCH) => TargetError::NoSuchProcess(pid),
            ProcError::PermissionDenied(_) => TargetError::Unreadable {
                what: "its state",
                pid,
                source: io::Error::from(io::ErrorKind::PermissionDenied),
            },
            other => TargetError::Unreadable {
                what: "its state",
                pid,
                source: io::Error::other(other),
            },
        })
}

/// Not a zombie and not dead (proc_pid_stat(5)).
fn runs(state: char) -> bool {
    !matches!(state, 'Z' | 'X' | 'x')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_maps_its_own_executable() {
        let target = Target::of_pid(Pid(std::process::id())).unwrap();
        assert!(target.is_alive());
        let exe = target.exe().unwrap();
        assert!(
            target
                .mappings()
                .unwrap()
                .iter()
                .any(|mapping| mapping.path == exe && mapping.executable)
        );
    }

    #[test]
    fn another_start_time_is_another_process() {
        let mut target = Target::of_pid(Pid(std::process::id())).unwrap();
        target.id.start_time.0 += 1;
        assert!(!target.is_alive());
    }

    #[test]
    fn a_pid_past_the_limit_is_no_process() {
        assert!(matches!(
            Target::of_pid(Pid(u32::MAX)),
            Err(TargetError::NoSuchProcess(_))
        ));
    }
}
