//! The series of single call stacks: the largest of each program, and the largest of those called a leak.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Programs;
use super::text::Metrics;
use crate::export::label;
use crate::report::own_code::own_frame;
use crate::report::sites::SiteFigures;
use crate::report::summary::Summary;
use crate::verdict::{Judgement, Verdict};

/// Sites of one program that get a series of their own, by bytes alive: more would burden a Prometheus that watches
/// thousands of hosts, and a leak worth an alert is among the first.
const SITES_PER_PROGRAM: usize = 10;

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
    fn add(&mut self, site: &SiteFigures, judgement: &Judgement, suppressed: bool) {
        self.bytes += site.live.bytes;
        self.blocks += site.live.blocks;
        if judgement.verdict == Verdict::Leaking && !suppressed {
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

pub(super) fn write(programs: &Programs<'_>, text: &mut Metrics) {
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
fn shown_sites(databases: &[&Summary]) -> Vec<(u64, SiteSum)> {
    let mut sums: BTreeMap<u64, SiteSum> = BTreeMap::new();
    for database in databases {
        for (site, judgement) in database.judged.with(&database.report) {
            if site.live.bytes > 0 {
                sums.entry(site.id.0)
                    .or_default()
                    .add(site, judgement, database.suppressed.hides(site.id));
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
