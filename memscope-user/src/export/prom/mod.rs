//! Metrics for node_exporter's textfile collector: the classic text format 0.0.4, one file for all databases of a host.
//!
//! Series are told apart by command name and executable, never by process id, which would make a new series at every
//! restart: several processes of one program are added up (ages: the greatest). Only `memscope_target_info` names them.
//! What has ended is in that one alone: its database is kept for a day, and would hold an alert for the program that was
//! fixed and started anew. No timestamps (the collector refuses them), no `# EOF` (that is OpenMetrics).

mod sites;
mod text;

use std::collections::BTreeMap;
use std::io;

use crate::report::model::CollectionState;
use crate::report::sites::{SiteFigures, SitesReport};
use crate::report::summary::Summary;
use crate::verdict::{Overall, Verdict};
use text::Metrics;

/// What a host's databases look like at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Every database that could be read.
    pub databases: &'a [Summary],
    /// How many could not.
    pub unreadable: u64,
    /// When: seconds since the Unix epoch.
    pub at_unix_s: u64,
}

/// Writes the metrics.
///
/// # Errors
/// The writer's.
pub fn write(host: Host<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    let mut programs = Programs::new();
    let of_living = |database: &&Summary| !database.report.collection.state.has_ended();
    for database in host.databases.iter().filter(of_living) {
        let target = &database.report.target;
        programs.entry((&target.comm, &target.exe)).or_default().push(database);
    }
    let mut text = Metrics::default();
    about_memscope(host, &mut text);
    about_targets(host, &mut text);
    about_programs(&programs, &mut text);
    about_sampling(&programs, &mut text);
    about_verdicts(&programs, &mut text);
    about_suppressions(&programs, &mut text);
    sites::write(&programs, &mut text);
    out.write_all(text.0.as_bytes())
}

fn about_memscope(host: Host<'_>, text: &mut Metrics) {
    text.family(
        "memscope_build_info",
        "gauge",
        "The memscope that wrote these metrics; always 1.",
    );
    text.sample("memscope_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.family(
        "memscope_last_read_timestamp_seconds",
        "gauge",
        "When the databases were read, seconds since the Unix epoch.",
    );
    text.sample("memscope_last_read_timestamp_seconds", &[], host.at_unix_s);
    text.family(
        "memscope_databases",
        "gauge",
        "Databases on this host; those that cannot be read say nothing in the other metrics.",
    );
    text.sample(
        "memscope_databases",
        &[("readable", "true")],
        host.databases.len() as u64,
    );
    text.sample("memscope_databases", &[("readable", "false")], host.unreadable);
}

fn about_targets(host: Host<'_>, text: &mut Metrics) {
    let mut reports: Vec<&SitesReport> = host.databases.iter().map(|database| &database.report).collect();
    reports.sort_by_key(|report| report.target.id);
    text.family(
        "memscope_target_info",
        "gauge",
        "A traced process: 1 while blocks are collected, 0 once it has exited, replaced its image or collection was stopped; what has exited or replaced its image is in no other metric.",
    );
    for report in reports {
        let target = &report.target;
        let (pid, start) = (target.id.pid.to_string(), target.id.start_time.0.to_string());
        let labels = [
            ("comm", target.comm.as_str()),
            ("exe", &target.exe),
            ("pid", &pid),
            ("start_time", &start),
            ("build_id", target.build_id.as_ref().map_or("", |id| id.as_hex())),
            ("state", report.collection.state.text()),
        ];
        let collecting = report.collection.state == CollectionState::Collecting;
        text.sample("memscope_target_info", &labels, u64::from(collecting));
    }
}

type Programs<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a Summary>>;

/// One number of one database.
type Reading = fn(&SitesReport) -> u64;
type Combining = fn(u64, u64) -> u64;

fn sum_of(report: &SitesReport, value: impl Fn(&SiteFigures) -> u64) -> u64 {
    report.sites.iter().map(value).sum()
}

const fn add(a: u64, b: u64) -> u64 {
    a.saturating_add(b)
}

/// Name, kind, help, what of a database, and how processes of one program are put together.
const PER_PROGRAM: &[(&str, &str, &str, Reading, Combining)] = &[
    (
        "memscope_live_bytes",
        "gauge",
        "Bytes allocated since tracing began and not freed.",
        |report| report.total_live().bytes,
        add,
    ),
    (
        "memscope_live_blocks",
        "gauge",
        "Blocks allocated since tracing began and not freed.",
        |report| report.total_live().blocks,
        add,
    ),
    (
        "memscope_allocated_bytes_total",
        "counter",
        "Bytes allocated since tracing began.",
        |report| sum_of(report, |site| site.allocated.bytes),
        add,
    ),
    (
        "memscope_allocated_blocks_total",
        "counter",
        "Blocks allocated since tracing began.",
        |report| sum_of(report, |site| site.allocated.blocks),
        add,
    ),
    (
        "memscope_freed_bytes_total",
        "counter",
        "Bytes freed, of those allocated since tracing began.",
        |report| sum_of(report, |site| site.freed.bytes),
        add,
    ),
    (
        "memscope_freed_blocks_total",
        "counter",
        "Blocks freed, of those allocated since tracing began.",
        |report| sum_of(report, |site| site.freed.blocks),
        add,
    ),
    (
        "memscope_oldest_block_age_seconds",
        "gauge",
        "Age of the oldest live block.",
        |report| report.sites.iter().filter_map(|site| site.oldest_ms).max().unwrap_or(0) / 1000,
        Ord::max,
    ),
    (
        "memscope_collection_seconds",
        "gauge",
        "How long blocks have been collected; of several processes, the shortest.",
        |report| report.collection.seconds,
        Ord::min,
    ),
    (
        "memscope_sites",
        "gauge",
        "Distinct call stacks that allocated; of several processes, the most.",
        |report| report.sites.len() as u64,
        Ord::max,
    ),
];

fn about_programs(programs: &Programs<'_>, text: &mut Metrics) {
    for (name, kind, help, reading, combining) in PER_PROGRAM {
        text.family(name, kind, help);
        for ((comm, exe), databases) in programs {
            let value = databases
                .iter()
                .map(|database| reading(&database.report))
                .reduce(combining)
                .unwrap_or(0);
            text.sample(name, &[("comm", comm), ("exe", exe)], value);
        }
    }
    text.family(
        "memscope_losses_total",
        "counter",
        "Events that could not be recorded, by reason: while this grows, the other metrics are too low or too high.",
    );
    for ((comm, exe), databases) in programs {
        let mut losses: BTreeMap<&str, u64> = BTreeMap::new();
        for (reason, count) in databases.iter().flat_map(|database| &database.report.losses) {
            *losses.entry(reason).or_default() += count;
        }
        // The sum has a series even while it is 0, so that its first loss is an increase.
        let all: u64 = losses.values().sum();
        text.sample(
            "memscope_losses_total",
            &[("comm", comm), ("exe", exe), ("reason", "any")],
            all,
        );
        for (reason, count) in losses {
            text.sample(
                "memscope_losses_total",
                &[("comm", comm), ("exe", exe), ("reason", reason)],
                count,
            );
        }
    }
}

/// What of a program is not recorded: nothing, unless blocks are sampled.
fn about_sampling(programs: &Programs<'_>, text: &mut Metrics) {
    text.family(
        "memscope_sample_bytes",
        "gauge",
        "Bytes allocated from one recorded block to the next, 0 when every block is recorded; of several processes, the most.",
    );
    for ((comm, exe), databases) in programs {
        let of = |database: &&Summary| database.report.sampling.map_or(0, |sampling| sampling.sample_bytes);
        let most = databases.iter().map(of).max().unwrap_or(0);
        text.sample("memscope_sample_bytes", &[("comm", comm), ("exe", exe)], most);
    }
    text.family(
        "memscope_live_bytes_error",
        "gauge",
        "How far memscope_live_bytes may be from the truth, 95 times in 100: 0 when every block is recorded.",
    );
    for ((comm, exe), databases) in programs {
        let errors = databases.iter().filter_map(|database| database.report.bytes_error());
        let squares: f64 = errors.map(|error| (error as f64).powi(2)).sum();
        text.sample(
            "memscope_live_bytes_error",
            &[("comm", comm), ("exe", exe)],
            squares.sqrt().ceil(),
        );
    }
}

fn about_verdicts(programs: &Programs<'_>, text: &mut Metrics) {
    text.family(
        "memscope_conclusive",
        "gauge",
        "1 when a leak could be told: 0 while collection is too young, lossy or not running; of several processes, the least.",
    );
    for ((comm, exe), databases) in programs {
        let conclusive = |database: &&Summary| !matches!(database.judged.overall, Overall::Inconclusive);
        let all = databases.iter().all(conclusive);
        text.sample("memscope_conclusive", &[("comm", comm), ("exe", exe)], u64::from(all));
    }
    text.family(
        "memscope_verdict_sites",
        "gauge",
        "Call stacks by verdict; of several processes, the sum.",
    );
    for ((comm, exe), databases) in programs {
        for verdict in Verdict::ALL {
            let judgements = databases.iter().flat_map(|database| &database.judged.judgements);
            let count = judgements.filter(|judgement| judgement.verdict == verdict).count();
            let labels = [("comm", *comm), ("exe", exe), ("verdict", verdict.text())];
            text.sample("memscope_verdict_sites", &labels, count as u64);
        }
    }
}

fn about_suppressions(programs: &Programs<'_>, text: &mut Metrics) {
    text.family(
        "memscope_suppressed_live_bytes",
        "gauge",
        "Bytes alive of call stacks that a suppression keeps from being called a leak.",
    );
    for ((comm, exe), databases) in programs {
        let bytes: u64 = databases
            .iter()
            .map(|database| database.suppressed.hidden().live.bytes)
            .sum();
        text.sample("memscope_suppressed_live_bytes", &[("comm", comm), ("exe", exe)], bytes);
    }
}
