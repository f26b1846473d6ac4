//! Metrics for node_exporter's textfile collector: the classic text format 0.0.4, one file for all databases of a host.
//!
//! Series are told apart by command name and executable, never by process id, which would make a new series at every
//! restart: several processes of one program are added up (ages: the greatest). Only `memscope_target_info` names them.
//! No timestamps (the collector refuses them), no `# EOF` (that is OpenMetrics).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io;

use super::label;
use super::own_code::own_frame;
use crate::report::Escaped;
use crate::report::model::CollectionState;
use crate::report::sites::SitesReport;

/// Sites of one program that get a series of their own, by bytes alive: more would burden a Prometheus that watches
/// thousands of hosts, and a leak worth an alert is among the first.
pub const SITES_PER_PROGRAM: usize = 10;

/// What a host's databases look like at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Every database that could be read.
    pub reports: &'a [SitesReport],
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
    let mut programs: BTreeMap<(&str, &str), Vec<&SitesReport>> = BTreeMap::new();
    for report in host.reports {
        let key = (report.target.comm.as_str(), report.target.exe.as_str());
        programs.entry(key).or_default().push(report);
    }
    let mut text = Metrics::default();
    about_memscope(host, &mut text);
    about_targets(host, &mut text);
    about_programs(&programs, &mut text);
    about_sites(&programs, &mut text);
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
    text.sample("memscope_databases", &[("readable", "true")], host.reports.len() as u64);
    text.sample("memscope_databases", &[("readable", "false")], host.unreadable);
}

fn about_targets(host: Host<'_>, text: &mut Metrics) {
    let mut reports: Vec<&SitesReport> = host.reports.iter().collect();
    reports.sort_by_key(|report| report.target.id);
    text.family(
        "memscope_target_info",
        "gauge",
        "A traced process: 1 while blocks are collected, 0 once it has exited, replaced its image or collection was stopped.",
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

type Programs<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a SitesReport>>;

/// One number of one database.
type Reading = fn(&SitesReport) -> u64;
type Combining = fn(u64, u64) -> u64;

fn sum_of(report: &SitesReport, value: impl Fn(&crate::report::sites::SiteFigures) -> u64) -> u64 {
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
        for ((comm, exe), reports) in programs {
            let value = reports
                .iter()
                .map(|report| reading(report))
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
    for ((comm, exe), reports) in programs {
        let mut losses: BTreeMap<&str, u64> = BTreeMap::new();
        for (reason, count) in reports.iter().flat_map(|report| &report.losses) {
            *losses.entry(reason).or_default() += count;
        }
        // The sum has a series even while it is 0, so that its first loss is an increase.
        let all = losses.values().sum();
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

/// Bytes and blocks of one site, and the function to know it by.
#[derive(Default)]
struct SiteSum {
    bytes: u64,
    blocks: u64,
    function: String,
}

fn about_sites(programs: &Programs<'_>, text: &mut Metrics) {
    let top: Vec<_> = programs
        .iter()
        .flat_map(|((comm, exe), reports)| top_sites(reports).into_iter().map(move |site| (*comm, *exe, site)))
        .collect();
    type Value = fn(&SiteSum) -> u64;
    let families: [(&str, &str, Value); 2] = [
        (
            "memscope_site_live_bytes",
            "Bytes alive of a program's largest call stacks.",
            |sum| sum.bytes,
        ),
        (
            "memscope_site_live_blocks",
            "Blocks alive of a program's largest call stacks.",
            |sum| sum.blocks,
        ),
    ];
    for (name, help, value) in families {
        text.family(name, "gauge", help);
        for (comm, exe, (id, sum)) in &top {
            let site = format!("{id:#018x}");
            let labels = [
                ("comm", *comm),
                ("exe", exe),
                ("site", &site),
                ("function", &sum.function),
            ];
            text.sample(name, &labels, value(sum));
        }
    }
}

fn top_sites(reports: &[&SitesReport]) -> Vec<(u64, SiteSum)> {
    let mut sums: BTreeMap<u64, SiteSum> = BTreeMap::new();
    for report in reports {
        for site in report.sites.iter().filter(|site| site.live.bytes > 0) {
            let sum = sums.entry(site.id.0).or_default();
            sum.bytes += site.live.bytes;
            sum.blocks += site.live.blocks;
            if sum.function.is_empty() {
                let own = own_frame(&site.stack, &report.target);
                sum.function = own.map_or_else(String::new, |frame| label::frame(frame));
            }
        }
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(id, sum)| (Reverse(sum.bytes), *id));
    sums.truncate(SITES_PER_PROGRAM);
    sums
}

/// The text as it grows.
#[derive(Default)]
struct Metrics(String);

impl Metrics {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        if labels.is_empty() {
            return self.line(format_args!("{name} {value}"));
        }
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, text)| format!("{key}=\"{}\"", LabelValue(text)))
            .collect();
        self.line(format_args!("{name}{{{}}} {value}", labels.join(",")));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A label's value: names of the target's made safe, then the format's own escapes (`\\`, `\"`; no newline is left).
struct LabelValue<'a>(&'a str);

impl fmt::Display for LabelValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in Escaped(self.0).to_string().chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
