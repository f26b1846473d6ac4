//! Key `y`: run time, waits for a CPU, switches and migrations of each thread since the last look.

use std::collections::BTreeMap;
use std::io::{self, Write};

use procfs::process::Status;
use serde::Serialize;

use super::error::OsError;
use super::looks::{Look, Looks};
use super::process_files::ProcessFiles;
use super::quantity::nanoseconds;
use crate::report::Escaped;

/// What the line at the end says.
pub const MEANS: &str = "much waiting beside little running is a thread that gets no CPU; voluntary switches are waits of its \
                         own, the others are the scheduler's";

/// A thread's counters since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TaskCounters {
    /// Nanoseconds on a CPU.
    pub run_ns: u64,
    /// Nanoseconds ready to run, waiting for a CPU.
    pub wait_ns: u64,
    /// Switches of its own accord.
    pub voluntary: u64,
    /// Switches against its will.
    pub involuntary: u64,
    /// Moves to another CPU.
    pub migrations: Option<u64>,
}

impl TaskCounters {
    fn since(self, before: Self) -> Self {
        Self {
            run_ns: self.run_ns.saturating_sub(before.run_ns),
            wait_ns: self.wait_ns.saturating_sub(before.wait_ns),
            voluntary: self.voluntary.saturating_sub(before.voluntary),
            involuntary: self.involuntary.saturating_sub(before.involuntary),
            migrations: self
                .migrations
                .map(|now| now.saturating_sub(before.migrations.unwrap_or(0))),
        }
    }
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct Tasks {
    /// Seconds since the last look; `None`: the figures are since each thread's start.
    pub seconds: Option<f64>,
    /// By id.
    pub tasks: Vec<Task>,
    /// Threads of the last look that have ended.
    pub ended: usize,
}

/// One thread.
#[derive(Debug, Serialize)]
pub struct Task {
    /// Which.
    pub tid: u32,
    /// Name, lossy.
    pub name: String,
    /// It was not there at the last look.
    pub new: bool,
    /// The change, or all of it.
    #[serde(flatten)]
    pub counters: TaskCounters,
}

/// Gathers it.
pub(super) fn gather(files: &ProcessFiles, looks: &mut Looks) -> Result<Tasks, OsError> {
    let mut now = BTreeMap::new();
    let mut names = BTreeMap::new();
    for tid in files.threads()? {
        let Some(status) = files.thread_status(tid)? else {
            continue;
        };
        now.insert(tid, counters_of(files, tid, &status));
        names.insert(tid, status.name);
    }
    if now.is_empty() {
        return Err(OsError::Ended(files.pid()));
    }
    let found = compare(
        looks.tasks.as_ref().map(|look| (look.seconds_ago(), &look.seen)),
        &now,
        &names,
    );
    looks.tasks = Some(Look::now(now));
    Ok(found)
}

/// A thread's counters.
pub(super) fn counters_of(files: &ProcessFiles, tid: u32, status: &Status) -> TaskCounters {
    let mut counters = TaskCounters {
        voluntary: status.voluntary_ctxt_switches.unwrap_or(0),
        involuntary: status.nonvoluntary_ctxt_switches.unwrap_or(0),
        ..TaskCounters::default()
    };
    // Kernels built without CONFIG_SCHED_INFO or CONFIG_SCHED_DEBUG lack these two.
    if let Ok(Some(text)) = files.thread_text(tid, "schedstat") {
        (counters.run_ns, counters.wait_ns) = parse_schedstat(&text);
    }
    if let Ok(Some(text)) = files.thread_text(tid, "sched") {
        counters.migrations = parse_migrations(&text);
    }
    counters
}

fn compare(
    before: Option<(f64, &BTreeMap<u32, TaskCounters>)>,
    now: &BTreeMap<u32, TaskCounters>,
    names: &BTreeMap<u32, String>,
) -> Tasks {
    let earlier = before.map(|(_, counters)| counters);
    let tasks = now.iter().map(|(tid, counters)| {
        let last = earlier.and_then(|earlier| earlier.get(tid));
        Task {
            tid: *tid,
            name: names.get(tid).cloned().unwrap_or_default(),
            new: earlier.is_some() && last.is_none(),
            counters: counters.since(last.copied().unwrap_or_default()),
        }
    });
    Tasks {
        seconds: before.map(|(seconds, _)| seconds),
        tasks: tasks.collect(),
        ended: earlier.map_or(0, |earlier| earlier.keys().filter(|tid| !now.contains_key(tid)).count()),
    }
}

/// `RUN_NS WAIT_NS TIMESLICES`.
fn parse_schedstat(text: &str) -> (u64, u64) {
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// `se.nr_migrations  :  12`.
fn parse_migrations(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("se.nr_migrations"))?;
    line.trim_start_matches([' ', ':']).trim().parse().ok()
}

impl Tasks {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.seconds {
            Some(seconds) => writeln!(out, "  since the last look, {seconds:.1} s ago")?,
            None => writeln!(out, "  this is the first look: since each thread's start")?,
        }
        writeln!(
            out,
            "  {:>8} {:<16} {:>9} {:>9} {:>10} {:>10} {:>6}",
            "TASK", "NAME", "RUN", "WAIT", "VOLUNTARY", "OTHERWISE", "MOVES"
        )?;
        for task in &self.tasks {
            let counters = &task.counters;
            let moves = counters
                .migrations
                .map_or_else(|| "?".to_owned(), |moves| moves.to_string());
            writeln!(
                out,
                "  {:>8} {:<16} {:>9} {:>9} {:>10} {:>10} {moves:>6}{}",
                task.tid,
                Escaped(&task.name).to_string(),
                nanoseconds(counters.run_ns),
                nanoseconds(counters.wait_ns),
                counters.voluntary,
                counters.involuntary,
                if task.new { "  new" } else { "" }
            )?;
        }
        writeln!(out, "  {} threads, {} ended since", self.tasks.len(), self.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_new_threads_and_ended_ones_are_told() {
        let counters = |run_ms: u64, voluntary| TaskCounters {
            run_ns: run_ms * 1_000_000,
            wait_ns: 1000,
            voluntary,
            involuntary: 1,
            migrations: Some(2),
        };
        let before = BTreeMap::from([(1, counters(100, 5)), (2, counters(1, 1))]);
        let now = BTreeMap::from([(1, counters(350, 9)), (3, counters(2, 2))]);
        let names = BTreeMap::from([(1, "main".to_owned()), (3, "worker".to_owned())]);
        let mut text = Vec::new();
        compare(Some((1.5, &before)), &now, &names)
            .write_rows(&mut text)
            .unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "  since the last look, 1.5 s ago
      TASK NAME                   RUN      WAIT  VOLUNTARY  OTHERWISE  MOVES
         1 main                250 ms      0 µs          4          0      0
         3 worker                2 ms      1 µs          2          1      2  new
  2 threads, 1 ended since
"
        );
    }

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(parse_schedstat("123 456 7\n"), (123, 456));
        assert_eq!(parse_schedstat(""), (0, 0));
        let sched = "x (1, #threads: 1)\nse.nr_migrations                             :                   42\n";
        assert_eq!(parse_migrations(sched), Some(42));
        assert_eq!(parse_migrations("nothing"), None);
    }
}
