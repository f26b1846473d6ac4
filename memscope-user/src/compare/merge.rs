//! Reports of many hosts in one: by site, on how many hosts, how much, and where it is worst.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::saved::{SavedDatabase, SavedReport};
use crate::report::model::{Frame, SiteId, Stack};
use crate::report::own_code::own_frame;
use crate::report::sites::Amount;
use crate::target::identity::TargetId;

/// One site over all hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedSite {
    /// Which.
    pub id: SiteId,
    /// Its call stack, as the first report has it.
    pub stack: Stack,
    /// Hosts that have it.
    pub hosts: BTreeSet<String>,
    /// Hosts whose report calls it a leak; empty where reports have no verdicts.
    pub leaking_on: BTreeSet<String>,
    /// Databases that have it.
    pub databases: u64,
    /// Alive on all of them.
    pub live: Amount,
    /// Where most bytes of it are.
    pub worst: Worst,
}

/// The database that holds most of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Worst {
    /// Host.
    pub host: String,
    /// Process.
    pub pid: u32,
    /// Its command name.
    pub comm: String,
    /// Alive there.
    pub live: Amount,
}

impl MergedSite {
    /// The frame to know it by.
    #[must_use]
    pub fn own_frame(&self) -> Option<&Frame> {
        own_frame(&self.stack).map(|index| &*self.stack.frames[index])
    }
}

/// Many reports in one.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// Every site: those called a leak on most hosts first, then by bytes.
    pub sites: Vec<MergedSite>,
    /// All hosts.
    pub hosts: BTreeSet<String>,
    /// All databases, each once however many reports have it.
    pub databases: u64,
    /// All that is alive.
    pub live: Amount,
    /// What is missing from it.
    pub notes: Vec<String>,
}

/// What the reports have of one process of one host.
struct Looks<'a> {
    /// The look that counts: the one after most time of collection, of several the first.
    latest: (&'a SavedReport, &'a SavedDatabase),
    /// How many there are.
    count: u64,
}

impl Looks<'_> {
    fn note(&self) -> Option<String> {
        let (report, database) = self.latest;
        (self.count > 1).then(|| {
            format!(
                "{}: process {} is there {} times: it counts once, as {} has it, after {} s of collection",
                report.host, database.target.id.pid, self.count, report.source, database.seconds
            )
        })
    }
}

/// Every process of every host once, in the order of the reports.
fn looks_at_each(reports: &[SavedReport]) -> Vec<Looks<'_>> {
    let mut places: BTreeMap<(&str, TargetId), usize> = BTreeMap::new();
    let mut all: Vec<Looks<'_>> = Vec::new();
    for report in reports {
        for database in &report.databases {
            let place = *places.entry((&report.host, database.target.id)).or_insert(all.len());
            match all.get_mut(place) {
                None => all.push(Looks {
                    latest: (report, database),
                    count: 1,
                }),
                Some(looks) => {
                    looks.count += 1;
                    if database.seconds > looks.latest.1.seconds {
                        looks.latest = (report, database);
                    }
                }
            }
        }
    }
    all
}

/// Puts reports together.
#[must_use]
pub fn merge(reports: &[SavedReport]) -> Merged {
    let mut sites: BTreeMap<SiteId, MergedSite> = BTreeMap::new();
    let mut merged = Merged {
        sites: Vec::new(),
        hosts: reports.iter().map(|report| report.host.clone()).collect(),
        databases: 0,
        live: Amount::default(),
        notes: Vec::new(),
    };
    for looks in looks_at_each(reports) {
        let (report, database) = looks.latest;
        merged.notes.extend(looks.note());
        merged.databases += 1;
        for (id, found) in &database.sites {
            let site = sites.entry(*id).or_insert_with(|| MergedSite {
                id: *id,
                stack: found.stack.clone(),
                hosts: BTreeSet::new(),
                leaking_on: BTreeSet::new(),
                databases: 0,
                live: Amount::default(),
                worst: Worst::default(),
            });
            site.hosts.insert(report.host.clone());
            if found.verdict.as_deref() == Some("LEAKING") {
                site.leaking_on.insert(report.host.clone());
            }
            site.databases += 1;
            for sum in [&mut site.live, &mut merged.live] {
                sum.add(found.live.blocks, found.live.bytes);
            }
            if found.live.bytes > site.worst.live.bytes || site.databases == 1 {
                site.worst = Worst {
                    host: report.host.clone(),
                    pid: database.target.id.pid.0,
                    comm: database.target.comm.clone(),
                    live: found.live,
                };
            }
        }
        let lost: u64 = database
            .losses
            .values()
            .fold(0, |sum, count| sum.saturating_add(*count));
        if lost > 0 {
            merged.notes.push(format!(
                "{}: process {} lost {lost} events",
                report.host, database.target.id.pid
            ));
        }
        let cautions = database.cautions();
        merged
            .notes
            .extend(cautions.map(|caution| format!("{}: {caution}", report.host)));
    }
    merged.sites = sites.into_values().collect();
    merged
        .sites
        .sort_by_key(|site| (Reverse(site.leaking_on.len()), Reverse(site.live.bytes), site.id));
    merged
}
