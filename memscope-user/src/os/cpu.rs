//! Keys `C`, `c` and `H`: the target's CPU use now, as one line, and as it was.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use procfs::{Current as _, CurrentSI as _, KernelStats, LoadAverage};
use serde::Serialize;

use super::error::OsError;
use super::looks::{Look, Looks};
use super::process_files::ProcessFiles;
use super::quantity::Span;
use crate::report::Escaped;
use crate::report::clock::TimeOfDay;
use crate::target::identity::TargetId;

/// What the line at the end of `C` says.
pub const MEANS: &str =
    "100 % is one CPU wholly busy; a target that uses more CPU as its memory grows may be searching what it leaks";
/// The same for `H`.
pub const HISTORY_MEANS: &str = "one bar a sample, the latest at the right; the tallest bar is the most that was seen";

/// How long the first look measures, for want of an earlier one.
const FIRST_WINDOW: Duration = Duration::from_millis(200);
/// Threads shown; the others are idle or nearly so.
const BUSIEST: usize = 10;
/// Samples kept: ten minutes of the console's, one a second.
const KEPT: usize = 600;
/// Bars on one line.
const BARS: usize = 60;

/// Counters of one moment.
#[derive(Clone, Debug)]
pub struct CpuReading {
    user: Duration,
    system: Duration,
    /// Run time of each thread, with its name.
    threads: BTreeMap<u32, (Duration, String)>,
    /// Busy and whole time of all CPUs, clock ticks.
    host: Option<(u64, u64)>,
}

/// The answer to `C`.
#[derive(Debug, Serialize)]
pub struct CpuUse {
    /// Seconds it was measured over.
    pub seconds: f64,
    /// Of one CPU.
    pub percent: f64,
    /// Of it, outside of the kernel.
    pub user_percent: f64,
    /// Of it, in the kernel.
    pub system_percent: f64,
    /// CPU seconds since the target started, user and system.
    pub total_s: (f64, f64),
    /// The busiest threads, at most ten; idle ones are left out.
    pub threads: Vec<ThreadUse>,
    /// Threads there are.
    pub thread_count: usize,
    /// Of all CPUs together, by everybody.
    pub host_percent: Option<f64>,
    /// CPUs of the host.
    pub cpus: usize,
    /// Load average of 1, 5 and 15 minutes.
    pub load: Option<(f32, f32, f32)>,
}

/// One thread's use.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThreadUse {
    /// Which.
    pub tid: u32,
    /// Name, lossy.
    pub name: String,
    /// Of one CPU.
    pub percent: f64,
}

/// The answer to `H`.
#[derive(Debug, PartialEq, Serialize)]
pub struct CpuHistoryShown {
    /// Seconds from one sample to the next.
    pub interval_s: f64,
    /// Percent of one CPU, oldest first.
    pub percent: Vec<f64>,
}

/// CPU use while the console runs, filled by its sampler.
#[derive(Clone, Debug, Default)]
pub struct CpuHistory(Arc<Mutex<VecDeque<f64>>>);

/// Seconds from one sample of the console's to the next.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(1);

impl CpuHistory {
    /// Adds the latest sample.
    pub fn add(&self, percent: f64) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(percent);
        if samples.len() > KEPT {
            samples.pop_front();
        }
    }

    fn samples(&self) -> Vec<f64> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().copied().collect()
    }
}

/// Samples of a target's CPU use, each since the one before.
pub struct Samples {
    files: ProcessFiles,
    last: (Instant, Duration),
}

impl Samples {
    /// Begins with this moment.
    ///
    /// # Errors
    /// The target has ended.
    pub fn of(target: TargetId) -> Result<Self, OsError> {
        let files = ProcessFiles::open(target)?;
        let last = (Instant::now(), run_time(&files)?);
        Ok(Self { files, last })
    }

    /// Percent of one CPU since the last sample.
    ///
    /// # Errors
    /// The target has ended.
    pub fn percent(&mut self) -> Result<f64, OsError> {
        let now = (Instant::now(), run_time(&self.files)?);
        let seconds = (now.0 - self.last.0).as_secs_f64().max(0.001);
        let used = now.1.saturating_sub(self.last.1);
        self.last = now;
        Ok(used.as_secs_f64() / seconds * 100.0)
    }
}

/// CPU time of the whole process, ended threads too.
fn process_time(files: &ProcessFiles) -> Result<(Duration, Duration), OsError> {
    let stat = files.stat()?;
    Ok((ticks(stat.utime), ticks(stat.stime)))
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs_f64(count as f64 / procfs::ticks_per_second().max(1) as f64)
}

fn read(files: &ProcessFiles) -> Result<CpuReading, OsError> {
    let (user, system) = process_time(files)?;
    let mut threads = BTreeMap::new();
    for tid in files.threads()? {
        let Some(comm) = files.thread_text(tid, "comm")? else {
            continue;
        };
        let Some(time) = thread_time(files, tid)? else { continue };
        threads.insert(tid, (time, comm.trim_end_matches('\n').to_owned()));
    }
    let host = KernelStats::current().ok().map(|stats| {
        let total = stats.total;
        let idle = total.idle + total.iowait.unwrap_or(0);
        let busy = total.user
            + total.nice
            + total.system
            + total.irq.unwrap_or(0)
            + total.softirq.unwrap_or(0)
            + total.steal.unwrap_or(0);
        (busy, busy + idle)
    });
    Ok(CpuReading {
        user,
        system,
        threads,
        host,
    })
}

/// To the nanosecond by `schedstat`; by the tick where the kernel has none.
fn thread_time(files: &ProcessFiles, tid: u32) -> Result<Option<Duration>, OsError> {
    if let Ok(Some(text)) = files.thread_text(tid, "schedstat")
        && let Some(ns) = text.split_whitespace().next().and_then(|ns| ns.parse().ok())
    {
        return Ok(Some(Duration::from_nanos(ns)));
    }
    let stat = files.thread_stat(tid)?;
    Ok(stat.map(|stat| ticks(stat.utime.saturating_add(stat.stime))))
}

/// Gathers `C` and `c`: since the last look, or else over a fifth of a second.
pub(super) fn gather(files: &ProcessFiles, looks: &mut Looks) -> Result<CpuUse, OsError> {
    let before = match looks.cpu.take() {
        Some(look) => look,
        None => {
            let first = Look::now(read(files)?);
            std::thread::sleep(FIRST_WINDOW);
            first
        }
    };
    let now = read(files)?;
    let seconds = before.seconds_ago().max(0.001);
    let load = LoadAverage::current().ok();
    let found = compare(&before.seen, &now, seconds);
    looks.cpu = Some(Look::now(now));
    Ok(CpuUse {
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        load: load.map(|load| (load.one, load.five, load.fifteen)),
        ..found
    })
}

fn compare(before: &CpuReading, now: &CpuReading, seconds: f64) -> CpuUse {
    let percent = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() / seconds * 100.0;
    let mut threads: Vec<ThreadUse> = now
        .threads
        .iter()
        .map(|(tid, (time, name))| {
            // A thread that was not there before has run all its time since.
            let from = before.threads.get(tid).map_or(Duration::ZERO, |(time, _)| *time);
            ThreadUse {
                tid: *tid,
                name: name.clone(),
                percent: percent(from, *time),
            }
        })
        .filter(|thread| thread.percent >= 0.05)
        .collect();
    let (user, system) = (percent(before.user, now.user), percent(before.system, now.system));
    let by_threads = threads.iter().fold(0.0, |sum, thread| sum + thread.percent);
    threads.sort_by(|a, b| b.percent.total_cmp(&a.percent).then(a.tid.cmp(&b.tid)));
    threads.truncate(BUSIEST);
    CpuUse {
        seconds,
        // The process's own counter moves in ticks but knows ended threads, the threads' sum is fine but does not.
        percent: by_threads.max(user + system),
        user_percent: user,
        system_percent: system,
        total_s: (now.user.as_secs_f64(), now.system.as_secs_f64()),
        threads,
        thread_count: now.threads.len(),
        host_percent: before
            .host
            .zip(now.host)
            .and_then(|((busy, all), (busy_now, all_now))| {
                let whole = all_now.checked_sub(all).filter(|whole| *whole > 0)?;
                Some(busy_now.saturating_sub(busy) as f64 / whole as f64 * 100.0)
            }),
        cpus: 1,
        load: None,
    }
}

/// Gathers `H`: what the console's sampler has seen, or else ten samples of a tenth of a second.
pub(super) fn gather_history(files: &ProcessFiles, looks: &Looks) -> Result<CpuHistoryShown, OsError> {
    let samples = looks.history.samples();
    if samples.len() >= 2 {
        return Ok(CpuHistoryShown {
            interval_s: SAMPLE_EVERY.as_secs_f64(),
            percent: samples,
        });
    }
    const SAMPLES: usize = 10;
    const EVERY: Duration = Duration::from_millis(100);
    let mut percent = Vec::with_capacity(SAMPLES);
    let mut samples = Samples::of(files.id)?;
    for _ in 0..SAMPLES {
        std::thread::sleep(EVERY);
        percent.push(samples.percent()?);
    }
    Ok(CpuHistoryShown {
        interval_s: EVERY.as_secs_f64(),
        percent,
    })
}

fn run_time(files: &ProcessFiles) -> Result<Duration, OsError> {
    let mut sum = Duration::ZERO;
    for tid in files.threads()? {
        sum += thread_time(files, tid)?.unwrap_or_default();
    }
    Ok(sum)
}

impl CpuUse {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "  process        {:.1} % of one CPU (user {:.1} %, system {:.1} %) over the last {}",
            self.percent,
            self.user_percent,
            self.system_percent,
            Span(Duration::from_secs_f64(self.seconds))
        )?;
        writeln!(
            out,
            "  since start    user {}, system {}",
            Span(Duration::from_secs_f64(self.total_s.0)),
            Span(Duration::from_secs_f64(self.total_s.1))
        )?;
        if let Some(percent) = self.host_percent {
            write!(out, "  host           {percent:.1} % of {} CPUs", self.cpus)?;
            match self.load {
                Some((one, five, fifteen)) => writeln!(out, ", load {one:.2} {five:.2} {fifteen:.2}")?,
                None => writeln!(out)?,
            }
        }
        writeln!(out, "  threads        {}, the busy ones of them:", self.thread_count)?;
        for thread in &self.threads {
            writeln!(
                out,
                "    {:>8} {:<16} {:>6.1} %",
                thread.tid,
                Escaped(&thread.name).to_string(),
                thread.percent
            )?;
        }
        Ok(())
    }

    /// The line that `c` prints again and again.
    #[must_use]
    pub fn line(&self, at: TimeOfDay) -> String {
        let host = self
            .host_percent
            .map_or_else(String::new, |percent| format!(", host {percent:.1} %"));
        format!(
            "{at} CPU {:.1} % (user {:.1} %, system {:.1} %), {} threads{host}",
            self.percent, self.user_percent, self.system_percent, self.thread_count
        )
    }
}

impl CpuHistoryShown {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        let shown = &self.percent[self.percent.len().saturating_sub(BARS)..];
        let most = shown.iter().copied().fold(0.0, f64::max);
        let mean = shown.iter().sum::<f64>() / shown.len().max(1) as f64;
        let last = shown.last().copied().unwrap_or(0.0);
        writeln!(out, "  {}", sparkline(shown))?;
        writeln!(
            out,
            "  {} samples, {} apart: now {last:.1} %, mean {mean:.1} %, most {most:.1} % of one CPU",
            shown.len(),
            Span(Duration::from_secs_f64(self.interval_s))
        )
    }
}

/// One bar a value; the height is the value's share of the largest, or of one CPU where none is as large.
fn sparkline(values: &[f64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().fold(1.0, f64::max);
    values
        .iter()
        .map(|value| {
            let step = (value / most * 7.0).round();
            BLOCKS[(step.clamp(0.0, 7.0)) as usize]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(user_ms: u64, threads: &[(u32, u64)], host: (u64, u64)) -> CpuReading {
        CpuReading {
            user: Duration::from_millis(user_ms),
            system: Duration::from_millis(user_ms / 4),
            threads: threads
                .iter()
                .map(|(tid, ms)| (*tid, (Duration::from_millis(*ms), format!("worker-{tid}"))))
                .collect(),
            host: Some(host),
        }
    }

    #[test]
    fn use_is_the_change_between_two_readings() {
        let before = reading(1000, &[(1, 500), (2, 100)], (1000, 10_000));
        let now = reading(1400, &[(1, 900), (2, 100), (3, 100)], (1050, 10_200));
        let found = compare(&before, &now, 2.0);
        let mut text = Vec::new();
        found.write_rows(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "  process        25.0 % of one CPU (user 20.0 %, system 5.0 %) over the last 2.0 s
  since start    user 1.4 s, system 350 ms
  host           25.0 % of 1 CPUs
  threads        3, the busy ones of them:
           1 worker-1           20.0 %
           3 worker-3            5.0 %
"
        );
        let at = TimeOfDay {
            hour: 22,
            minute: 10,
            second: 24,
            millisecond: 619,
        };
        assert_eq!(
            found.line(at),
            "22:10:24.619 CPU 25.0 % (user 20.0 %, system 5.0 %), 3 threads, host 25.0 %"
        );
    }

    #[test]
    fn the_sparkline_rises_with_the_values() {
        assert_eq!(sparkline(&[0.0, 50.0, 100.0]), "▁▅█");
        // Nothing near one percent is made to look like a burst.
        assert_eq!(sparkline(&[0.0, 0.1, 0.0]), "▁▂▁");
        assert_eq!(sparkline(&[]), "");
        let shown = CpuHistoryShown {
            interval_s: 1.0,
            percent: vec![0.0, 10.0, 20.0],
        };
        let mut text = Vec::new();
        shown.write_rows(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "  ▁▅█\n  3 samples, 1.0 s apart: now 20.0 %, mean 10.0 %, most 20.0 % of one CPU\n"
        );
    }

    #[test]
    fn only_so_many_samples_are_kept() {
        let history = CpuHistory::default();
        for sample in 0..KEPT + 5 {
            history.add(sample as f64);
        }
        let samples = history.samples();
        assert_eq!((samples.len(), samples[0]), (KEPT, 5.0));
    }
}
