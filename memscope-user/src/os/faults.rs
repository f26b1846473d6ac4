//! Key `f`: page faults and their rates, OOM score, pending and caught signals, core settings.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::cgroup;
use super::error::OsError;
use super::looks::{Look, Looks};
use super::process_files::ProcessFiles;
use super::signal_name;
use crate::report::Escaped;

/// What the line at the end says.
pub const MEANS: &str = "minor faults that go on without end are memory being taken; major ones are reads from disk or swap; \
                         the higher the OOM score, the sooner the kernel kills the target for want of memory";

/// How long the first look measures, for want of an earlier one.
const FIRST_WINDOW: Duration = Duration::from_millis(200);

/// Page faults since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FaultCounts {
    /// Served without reading anything.
    pub minor: u64,
    /// Served from disk or swap.
    pub major: u64,
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct Faults {
    /// Page faults since the target started.
    pub faults: FaultCounts,
    /// Seconds the rates were measured over.
    pub seconds: f64,
    /// Minor faults a second.
    pub minor_per_s: f64,
    /// Major faults a second.
    pub major_per_s: f64,
    /// 0 to 2000 (proc_pid_oom_score(5)); the highest is killed first.
    pub oom_score: Option<u32>,
    /// What the target's owner added to it, −1000 to 1000.
    pub oom_score_adjustment: Option<i32>,
    /// Processes of its control group that were killed for want of memory.
    pub oom_kills_in_group: Option<u64>,
    /// Signals that wait to be delivered to the process or its main thread.
    pub pending: Vec<String>,
    /// Signals it has handlers for.
    pub caught: Vec<String>,
    /// Signals it ignores.
    pub ignored: Vec<String>,
    /// Signals its main thread blocks.
    pub blocked: Vec<String>,
    /// Queued signals, and how many its user may queue.
    pub queued: (u64, u64),
    /// Largest core file, bytes; `None` for no limit.
    pub core_limit: Option<u64>,
    /// Where cores go (`kernel.core_pattern`).
    pub core_pattern: String,
    /// Kinds of memory that go into a core (core(5)), a bit mask; `None` when it may not be read.
    pub core_filter: Option<u32>,
    /// Its core is being written now.
    pub dumping: bool,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// Gathers it.
pub(super) fn gather(files: &ProcessFiles, looks: &mut Looks) -> Result<Faults, OsError> {
    let before = match looks.faults.take() {
        Some(look) => look,
        None => {
            let first = Look::now(counts(files)?);
            std::thread::sleep(FIRST_WINDOW);
            first
        }
    };
    let now = counts(files)?;
    let seconds = before.seconds_ago().max(0.001);
    let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
    let (minor_per_s, major_per_s) = (rate(before.seen.minor, now.minor), rate(before.seen.major, now.major));
    looks.faults = Some(Look::now(now));
    let status = files.status()?;
    let mut notes = Vec::new();
    let core_filter = match files.memory_text("coredump_filter") {
        Ok(text) => u32::from_str_radix(text.trim(), 16).ok(),
        Err(error @ OsError::NotPermitted { .. }) => {
            notes.push(error.to_string());
            None
        }
        Err(error) => return Err(error),
    };
    Ok(Faults {
        faults: now,
        seconds,
        minor_per_s,
        major_per_s,
        oom_score: files.text("oom_score")?.trim().parse().ok(),
        oom_score_adjustment: files.text("oom_score_adj")?.trim().parse().ok(),
        oom_kills_in_group: cgroup::of(files)?.oom_kills(),
        pending: signal_name::of_mask(status.sigpnd | status.shdpnd),
        caught: signal_name::of_mask(status.sigcgt),
        ignored: signal_name::of_mask(status.sigign),
        blocked: signal_name::of_mask(status.sigblk),
        queued: status.sigq,
        core_limit: core_limit(&files.text("limits")?),
        core_pattern: std::fs::read_to_string("/proc/sys/kernel/core_pattern")
            .unwrap_or_default()
            .trim_end()
            .to_owned(),
        core_filter,
        dumping: status.core_dumping == Some(true),
        notes,
    })
}

fn counts(files: &ProcessFiles) -> Result<FaultCounts, OsError> {
    let stat = files.stat()?;
    Ok(FaultCounts {
        minor: stat.minflt,
        major: stat.majflt,
    })
}

/// `Max core file size  SOFT  HARD  bytes`.
fn core_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Faults {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "  page faults    {} minor, {} major; {:.0} and {:.0} a second over the last {:.1} s",
            self.faults.minor, self.faults.major, self.minor_per_s, self.major_per_s, self.seconds
        )?;
        let number = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
        writeln!(
            out,
            "  OOM            score {} (adjusted by {}), {} processes of its control group killed so far",
            number(self.oom_score.map(|score| score.to_string())),
            number(self.oom_score_adjustment.map(|score| score.to_string())),
            number(self.oom_kills_in_group.map(|kills| kills.to_string()))
        )?;
        for (title, signals) in [
            ("pending", &self.pending),
            ("caught", &self.caught),
            ("ignored", &self.ignored),
            ("blocked", &self.blocked),
        ] {
            let names = if signals.is_empty() {
                "none".to_owned()
            } else {
                signals.join(" ")
            };
            writeln!(out, "  {title:<14} {names}")?;
        }
        writeln!(out, "  queued         {} of {} signals", self.queued.0, self.queued.1)?;
        let limit = match self.core_limit {
            Some(0) => "none is written (limit 0)".to_owned(),
            Some(limit) => format!("at most {limit} bytes"),
            None => "of any size".to_owned(),
        };
        let filter = self
            .core_filter
            .map_or_else(|| "?".to_owned(), |mask| format!("{mask:#x}"));
        writeln!(
            out,
            "  core           {limit}, to {}, filter {filter}{}",
            Escaped(&self.core_pattern),
            if self.dumping { "; being written now" } else { "" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_its_place() {
        let faults = Faults {
            faults: FaultCounts {
                minor: 123_456,
                major: 7,
            },
            seconds: 2.0,
            minor_per_s: 512.4,
            major_per_s: 0.0,
            oom_score: Some(667),
            oom_score_adjustment: Some(0),
            oom_kills_in_group: None,
            pending: Vec::new(),
            caught: signal_name::of_mask(0b10_0000_0000_0011),
            ignored: vec!["SIGPIPE".to_owned()],
            blocked: Vec::new(),
            queued: (0, 96_000),
            core_limit: Some(0),
            core_pattern: "|/bin/false\x1b".to_owned(),
            core_filter: Some(0x33),
            dumping: false,
            notes: Vec::new(),
        };
        let mut text = Vec::new();
        faults.write_rows(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "  page faults    123456 minor, 7 major; 512 and 0 a second over the last 2.0 s
  OOM            score 667 (adjusted by 0), ? processes of its control group killed so far
  pending        none
  caught         SIGHUP SIGINT SIGALRM
  ignored        SIGPIPE
  blocked        none
  queued         0 of 96000 signals
  core           none is written (limit 0), to |/bin/false\\x1b, filter 0x33
"
        );
    }

    #[test]
    fn the_core_limit_is_the_soft_one() {
        let line = "Limit   Soft Limit   Hard Limit  Units\nMax core file size        0                    unlimited            bytes\n";
        assert_eq!(core_limit(line), Some(0));
        assert_eq!(
            core_limit("Max core file size        unlimited   unlimited  bytes"),
            None
        );
        assert_eq!(core_limit(""), None);
    }
}
