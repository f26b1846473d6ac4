//! Key `I`: one thread in detail.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::error::OsError;
use super::process_files::ProcessFiles;
use super::quantity::{Bytes, Span, nanoseconds};
use super::signal_name;
use super::stacks::{StackExtent, StackFinder, StackFound};
use super::tasks::{TaskCounters, counters_of};
use super::threads::{Wait, WaitReading, state_text, wait_of};
use crate::report::Escaped;

/// What the line at the end says.
pub const MEANS: &str = "a thread that runs much on one CPU only, or waits long to run, is short of CPU; signals that stay \
                         pending are blocked or not looked at";

/// The answer.
#[derive(Debug, Serialize)]
pub struct ThreadDetail {
    /// Which thread.
    pub tid: u32,
    /// Its name, lossy.
    pub name: String,
    /// One letter, as in proc_pid_stat(5).
    pub state: char,
    /// Where it waits.
    pub waits: Option<Wait>,
    /// Seconds since it was started.
    pub age_s: Option<f64>,
    /// The CPU it ran on last.
    pub cpu: Option<i32>,
    /// CPUs it may run on: `0-3,6`.
    pub affinity: String,
    /// Scheduling policy (sched(7)).
    pub policy: &'static str,
    /// Nice value, −20 to 19.
    pub nice: i64,
    /// Real-time priority, 1 to 99; 0 under the other policies.
    pub real_time_priority: u32,
    /// Since its start.
    pub counters: TaskCounters,
    /// Page faults since its start: minor, major.
    pub faults: (u64, u64),
    /// Signals pending for it alone.
    pub pending: Vec<String>,
    /// Signals it blocks.
    pub blocked: Vec<String>,
    /// Its stack; `None` when it could not be found.
    pub stack: Option<StackExtent>,
    /// Process that traces it (ptrace), 0 for none.
    pub traced_by: i32,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// Gathers it.
pub(super) fn gather(files: &ProcessFiles, tid: Option<u32>) -> Result<ThreadDetail, OsError> {
    let tid = tid.unwrap_or(files.pid().0);
    let gone = || files.without_thread(tid);
    let status = files.thread_status(tid)?.ok_or_else(gone)?;
    let stat = files.thread_stat(tid)?.ok_or_else(gone)?;
    let mut notes = Vec::new();
    let waits = match wait_of(files, tid, stat.state)? {
        WaitReading::Known(wait) => Some(wait),
        WaitReading::Runs => None,
        WaitReading::Refused => {
            notes.push("where it waits is shown to root, or with CAP_SYS_PTRACE".to_owned());
            None
        }
    };
    let found = StackFinder::new(files).and_then(|mut finder| finder.of_thread(tid));
    let stack = match found {
        Ok(StackFound::At(stack)) => Some(stack),
        Ok(StackFound::Unknown) => {
            notes.push("its stack is not known while it runs".to_owned());
            None
        }
        Ok(StackFound::Refused) | Err(OsError::NotPermitted { .. }) => {
            notes.push("its stack is shown to root, or with CAP_SYS_PTRACE".to_owned());
            None
        }
        Ok(StackFound::Gone) => return Err(gone()),
        Err(error) => return Err(error),
    };
    Ok(ThreadDetail {
        tid,
        name: status.name.clone(),
        state: stat.state,
        waits,
        age_s: age_s(stat.starttime),
        cpu: stat.processor,
        affinity: affinity(status.cpus_allowed_list.as_deref().unwrap_or(&[])),
        policy: policy(stat.policy.unwrap_or(u32::MAX)),
        nice: stat.nice,
        real_time_priority: stat.rt_priority.unwrap_or(0),
        counters: counters_of(files, tid, &status),
        faults: (stat.minflt, stat.majflt),
        pending: signal_name::of_mask(status.sigpnd),
        blocked: signal_name::of_mask(status.sigblk),
        stack,
        traced_by: status.tracerpid,
        notes,
    })
}

/// Seconds since a start given in clock ticks since boot.
fn age_s(start_ticks: u64) -> Option<f64> {
    use procfs::Current as _;
    let uptime = procfs::Uptime::current().ok()?.uptime;
    Some((uptime - start_ticks as f64 / procfs::ticks_per_second().max(1) as f64).max(0.0))
}

fn affinity(ranges: &[(u32, u32)]) -> String {
    let texts = ranges.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    texts.collect::<Vec<_>>().join(",")
}

/// include/uapi/linux/sched.h.
const fn policy(number: u32) -> &'static str {
    match number {
        0 => "SCHED_OTHER",
        1 => "SCHED_FIFO",
        2 => "SCHED_RR",
        3 => "SCHED_BATCH",
        5 => "SCHED_IDLE",
        6 => "SCHED_DEADLINE",
        7 => "SCHED_EXT",
        _ => "?",
    }
}

impl ThreadDetail {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "  task           {} ({}), {}",
            self.tid,
            Escaped(&self.name),
            state_text(self.state)
        )?;
        match &self.waits {
            Some(wait) => writeln!(out, " in {}", wait.text())?,
            None => writeln!(out)?,
        }
        if let Some(age) = self.age_s {
            writeln!(out, "  started        {} ago", Span(Duration::from_secs_f64(age)))?;
        }
        writeln!(
            out,
            "  scheduling     {}, nice {}, real-time priority {}; last on CPU {}, allowed on {}",
            self.policy,
            self.nice,
            self.real_time_priority,
            self.cpu.map_or_else(|| "?".to_owned(), |cpu| cpu.to_string()),
            self.affinity
        )?;
        let counters = &self.counters;
        writeln!(
            out,
            "  CPU            ran {}, waited {} to run",
            nanoseconds(counters.run_ns),
            nanoseconds(counters.wait_ns)
        )?;
        writeln!(
            out,
            "  switches       {} of its own accord, {} otherwise; {} migrations",
            counters.voluntary,
            counters.involuntary,
            counters
                .migrations
                .map_or_else(|| "?".to_owned(), |moves| moves.to_string())
        )?;
        writeln!(out, "  page faults    {} minor, {} major", self.faults.0, self.faults.1)?;
        for (title, signals) in [("pending", &self.pending), ("blocked", &self.blocked)] {
            let names = if signals.is_empty() {
                "none".to_owned()
            } else {
                signals.join(" ")
            };
            writeln!(out, "  {title:<14} {names}")?;
        }
        if let Some(stack) = &self.stack {
            writeln!(
                out,
                "  stack          {:#x}-{:#x}, {} used of {}",
                stack.start,
                stack.end,
                Bytes(stack.used),
                stack
                    .size
                    .map_or_else(|| "any size".to_owned(), |size| Bytes(size).to_string())
            )?;
        }
        if self.traced_by != 0 {
            writeln!(out, "  traced by      process {}", self.traced_by)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_its_place() {
        let detail = ThreadDetail {
            tid: 1240,
            name: "worker".to_owned(),
            state: 'S',
            waits: Some(Wait {
                syscall: Some("epoll_wait".to_owned()),
                kernel_function: Some("ep_poll".to_owned()),
            }),
            age_s: Some(90.0),
            cpu: Some(1),
            affinity: affinity(&[(0, 3), (6, 6)]),
            policy: policy(0),
            nice: 0,
            real_time_priority: 0,
            counters: TaskCounters {
                run_ns: 2_000_000,
                wait_ns: 5000,
                voluntary: 10,
                involuntary: 2,
                migrations: Some(1),
            },
            faults: (5, 0),
            pending: Vec::new(),
            blocked: vec!["SIGUSR1".to_owned()],
            stack: Some(StackExtent {
                start: 0x7f00_0000_0000,
                end: 0x7f00_0080_0000,
                size: Some(8 << 20),
                used: 2048,
                peak: None,
                guard: 4096,
            }),
            traced_by: 77,
            notes: Vec::new(),
        };
        let mut text = Vec::new();
        detail.write_rows(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "  task           1240 (worker), sleeping in epoll_wait (ep_poll)
  started        90.0 s ago
  scheduling     SCHED_OTHER, nice 0, real-time priority 0; last on CPU 1, allowed on 0-3,6
  CPU            ran 2 ms, waited 5 µs to run
  switches       10 of its own accord, 2 otherwise; 1 migrations
  page faults    5 minor, 0 major
  pending        none
  blocked        SIGUSR1
  stack          0x7f0000000000-0x7f0000800000, 2.0 KiB used of 8.0 MiB
  traced by      process 77
"
        );
    }
}
