//! Key `i`: the target's threads — id, name, state, CPU, where each waits.

use std::io::{self, Write};

use serde::Serialize;

use super::error::OsError;
use super::process_files::{Permitted, ProcessFiles};
use super::syscall_name::syscall_name;
use crate::report::Escaped;

/// What the line at the end says.
pub const MEANS: &str =
    "a thread in state D, or one that waits in the same futex look after look, holds up whoever waits for it";

/// The answer.
#[derive(Debug, Serialize)]
pub struct Threads {
    /// By id.
    pub threads: Vec<Thread>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// One thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// Thread id: the task id of old.
    pub tid: u32,
    /// Name, lossy.
    pub name: String,
    /// One letter, as in proc_pid_stat(5).
    pub state: char,
    /// The CPU it ran on last.
    pub cpu: Option<i32>,
    /// Where it waits; `None` while it runs, or when this user may not know.
    pub waits: Option<Wait>,
}

/// Where a thread waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// The system call it is in.
    pub syscall: Option<String>,
    /// The kernel function it sleeps in.
    pub kernel_function: Option<String>,
}

/// Gathers it.
pub(super) fn gather(files: &ProcessFiles) -> Result<Threads, OsError> {
    let mut threads = Vec::new();
    let mut refused = false;
    for tid in files.threads()? {
        let Some(stat) = files.thread_stat(tid)? else { continue };
        let wait = match wait_of(files, tid, stat.state)? {
            WaitReading::Known(wait) => Some(wait),
            WaitReading::Runs => None,
            WaitReading::Refused => {
                refused = true;
                None
            }
        };
        threads.push(Thread {
            tid,
            name: stat.comm,
            state: stat.state,
            cpu: stat.processor,
            waits: wait,
        });
    }
    if threads.is_empty() {
        return Err(OsError::Ended(files.pid()));
    }
    let mut notes = Vec::new();
    if refused {
        notes.push("where threads wait is shown to root, or with CAP_SYS_PTRACE".to_owned());
    }
    Ok(Threads { threads, notes })
}

/// What can be known of a wait.
pub(super) enum WaitReading {
    /// It waits there.
    Known(Wait),
    /// It does not wait, or has ended.
    Runs,
    /// This user may not know.
    Refused,
}

/// Where a thread waits, by `syscall` and `wchan`.
pub(super) fn wait_of(files: &ProcessFiles, tid: u32, state: char) -> Result<WaitReading, OsError> {
    if matches!(state, 'R' | 'Z' | 'X') {
        return Ok(WaitReading::Runs);
    }
    let mut wait = Wait::default();
    let mut refused = false;
    match files.thread_text_if_permitted(tid, "syscall")? {
        Permitted::Read(text) => wait.syscall = parse_syscall(&text),
        Permitted::Gone => return Ok(WaitReading::Runs),
        Permitted::Refused => refused = true,
    }
    match files.thread_text_if_permitted(tid, "wchan")? {
        // "0": not known, or not for this user.
        Permitted::Read(text) => wait.kernel_function = Some(text).filter(|name| !name.is_empty() && name != "0"),
        Permitted::Gone => return Ok(WaitReading::Runs),
        Permitted::Refused => refused = true,
    }
    Ok(match wait {
        Wait {
            syscall: None,
            kernel_function: None,
        } if refused => WaitReading::Refused,
        Wait {
            syscall: None,
            kernel_function: None,
        } => WaitReading::Runs,
        wait => WaitReading::Known(wait),
    })
}

/// `NUMBER ARGUMENTS… SP PC`, `-1 SP PC` outside of a system call, or `running`.
fn parse_syscall(text: &str) -> Option<String> {
    let number = text.split_whitespace().next()?.parse::<i64>().ok()?;
    let number = u64::try_from(number).ok()?;
    Some(syscall_name(number).map_or_else(|| format!("syscall {number}"), str::to_owned))
}

/// A state letter in words.
pub(super) const fn state_text(state: char) -> &'static str {
    match state {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        't' => "traced",
        'Z' => "zombie",
        'X' | 'x' => "dead",
        'I' => "idle",
        'P' => "parked",
        _ => "?",
    }
}

impl Wait {
    /// `futex (futex_do_wait)`.
    pub(super) fn text(&self) -> String {
        match (&self.syscall, &self.kernel_function) {
            (Some(syscall), Some(function)) => format!("{syscall} ({function})"),
            (Some(only), None) | (None, Some(only)) => only.clone(),
            (None, None) => String::new(),
        }
    }
}

impl Threads {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "  {:>8} {:<16} {:<10} {:>4}  WAITS IN",
            "TASK", "NAME", "STATE", "CPU"
        )?;
        for thread in &self.threads {
            let name = Escaped(&thread.name).to_string();
            let cpu = thread.cpu.map_or_else(|| "?".to_owned(), |cpu| cpu.to_string());
            let waits = thread.waits.as_ref().map(Wait::text).unwrap_or_default();
            let line = format!(
                "  {:>8} {name:<16} {:<10} {cpu:>4}  {waits}",
                thread.tid,
                state_text(thread.state)
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        writeln!(out, "  {} threads", self.threads.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_thread_with_what_is_known_of_it() {
        let thread = |tid, name: &str, state, waits| Thread {
            tid,
            name: name.to_owned(),
            state,
            cpu: Some(1),
            waits,
        };
        let wait = Wait {
            syscall: Some("futex".to_owned()),
            kernel_function: Some("futex_do_wait".to_owned()),
        };
        let threads = Threads {
            threads: vec![
                thread(1234, "redis-server", 'S', Some(wait)),
                thread(1240, "evil\x1b[2J", 'R', None),
            ],
            notes: Vec::new(),
        };
        let mut text = Vec::new();
        threads.write_rows(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "      TASK NAME             STATE       CPU  WAITS IN
      1234 redis-server     sleeping      1  futex (futex_do_wait)
      1240 evil\\x1b[2J      running       1
  2 threads
"
        );
    }

    #[test]
    fn system_calls_are_named_and_unknown_ones_numbered() {
        assert_eq!(
            parse_syscall("202 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8\n").as_deref(),
            Some("futex")
        );
        assert_eq!(parse_syscall("99999 0x1").as_deref(), Some("syscall 99999"));
        for nowhere in ["running\n", "-1 0x7ffc 0x5555\n", "", "x"] {
            assert_eq!(parse_syscall(nowhere), None, "{nowhere:?}");
        }
    }
}
