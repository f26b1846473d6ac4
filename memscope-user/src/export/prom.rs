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
use crate::report::Escaped;
use crate::report::model::CollectionState;
use crate::report::own_code::own_frame;
use crate::report::sites::{SiteFigures, SitesReport};
use crate::verdict::{JudgedDatabase, Judgement, Overall, Verdict};

/// Sites of one program that get a series of their own, by bytes alive: more would burden a Prometheus that watches
/// thousands of hosts, and a leak worth an alert is among the first.
pub const SITES_PER_PROGRAM: usize = 10;

/// One database and its verdicts.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The database by site.
    pub report: SitesReport,
    /// The verdicts on its sites, in the same order.
    pub judged: JudgedDatabase,
}

/// What a host's databases look like at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Every database that could be read.
    pub databases: &'a [Judged],
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
    for database in host.databases {
        let target = &database.report.target;
        programs.entry((&target.comm, &target.exe)).or_default().push(database);
    }
    let mut text = Metrics::default();
    about_memscope(host, &mut text);
    about_targets(host, &mut text);
    about_programs(&programs, &mut text);
    about_verdicts(&programs, &mut text);
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

type Programs<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a Judged>>;

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

fn about_verdicts(programs: &Programs<'_>, text: &mut Metrics) {
    text.family(
        "memscope_conclusive",
        "gauge",
        "1 when a leak could be told: 0 while collection is too young, lossy or not running; of several processes, the least.",
    );
    for ((comm, exe), databases) in programs {
        let conclusive = |database: &&Judged| !matches!(database.judged.overall, Overall::Inconclusive);
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

/// One site over the processes of one program, and the function to know it by.
#[derive(Default)]
struct SiteSum {
    bytes: u64,
    blocks: u64,
    /// Of the processes in which it is called a leak: bytes alive, and growth in bytes a second.
    leaking: Option<(u64, f64)>,
    function: String,
}

impl SiteSum {
    fn add(&mut self, site: &SiteFigures, judgement: &Judgement) {
        self.bytes += site.live.bytes;
        self.blocks += site.live.blocks;
        if judgement.verdict == Verdict::Leaking {
            let rate = judgement.evidence.rate.map_or(0.0, |rate| rate.bytes_per_minute / 60.0);
            let (bytes, sum) = self.leaking.unwrap_or_default();
            self.leaking = Some((bytes + site.live.bytes, sum + rate));
        }
        if self.function.is_empty()
            && let Some(own) = own_frame(&site.stack)
        {
            self.function = label::frame(&site.stack.frames[own]);
        }
    }
}

/// A family of one value a site; sites without it are left out.
type SiteFamily = (&'static str, &'static str, fn(&SiteSum) -> Option<f64>);

const PER_SITE: [SiteFamily; 4] = [
    (
        "memscope_site_live_bytes",
        "Bytes alive of a program's largest call stacks.",
        |sum| Some(sum.bytes as f64),
    ),
    (
        "memscope_site_live_blocks",
        "Blocks alive of a program's largest call stacks.",
        |sum| Some(sum.blocks as f64),
    ),
    (
        "memscope_suspect_live_bytes",
        "Bytes alive of the largest call stacks that are called a leak; no series while none is.",
        |sum| sum.leaking.map(|(bytes, _)| bytes as f64),
    ),
    (
        "memscope_suspect_growth_bytes_per_second",
        "How fast the largest call stacks that are called a leak grow, by the blocks that stay.",
        |sum| sum.leaking.map(|(_, rate)| rate),
    ),
];

fn about_sites(programs: &Programs<'_>, text: &mut Metrics) {
    let shown: Vec<_> = programs
        .iter()
        .flat_map(|((comm, exe), databases)| shown_sites(databases).into_iter().map(move |site| (*comm, *exe, site)))
        .collect();
    for (name, help, value) in PER_SITE {
        text.family(name, "gauge", help);
        for (comm, exe, (id, sum)) in &shown {
            if let Some(value) = value(sum) {
                let site = format!("{id:#018x}");
                let labels = [
                    ("comm", *comm),
                    ("exe", exe),
                    ("site", &site),
                    ("function", &sum.function),
                ];
                text.sample(name, &labels, value);
            }
        }
    }
}

/// The sites that have series: the largest, and the largest of those called a leak.
fn shown_sites(databases: &[&Judged]) -> Vec<(u64, SiteSum)> {
    let mut sums: BTreeMap<u64, SiteSum> = BTreeMap::new();
    for database in databases {
        for (site, judgement) in database.judged.with(&database.report) {
            if site.live.bytes > 0 {
                sums.entry(site.id.0).or_default().add(site, judgement);
            }
        }
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(id, sum)| (Reverse(sum.bytes), *id));
    let (mut all, mut leaking) = (0, 0);
    sums.retain(|(_, sum)| {
        all += 1;
        leaking += usize::from(sum.leaking.is_some());
        all <= SITES_PER_PROGRAM || (sum.leaking.is_some() && leaking <= SITES_PER_PROGRAM)
    });
    sums
}

/// The text as it grows.
#[derive(Default)]
struct Metrics(String);

impl Metrics {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
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
