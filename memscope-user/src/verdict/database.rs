//! A database judged: every site, containers against what they hold, and what all of it comes to.

use std::collections::BTreeMap;

use memscope_ebpf::counter::Counter;

use super::births::Births;
use super::judgement::{Judgement, Need, Reason, Verdict};
use super::past::PastSites;
use super::rules::{SiteView, judge_sampled_site, lacking_ms};
use super::sampled::SampledSince;
use super::thresholds as limit;
use crate::report::model::{CollectionState, SiteId};
use crate::report::quantity::Bytes;
use crate::report::sites::{SiteFigures, SitesReport};

/// What was not seen, and what it does to verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Doubts {
    /// Share of allocations lost, 0 to 1.
    pub lost_share: f64,
    /// Frees that were not seen: blocks that seem alive and are not. Known only when the address comes up again, so there
    /// may be about as many still among the survivors.
    pub missed_frees: u64,
    /// Only some blocks are recorded.
    pub sampled: bool,
}

impl Doubts {
    /// Of a database.
    #[must_use]
    pub fn of(report: &SitesReport) -> Self {
        let lost: u64 = report.losses.values().sum();
        let recorded = report.events.get(Counter::Allocated.key()).copied().unwrap_or(0);
        Self {
            lost_share: if lost == 0 {
                0.0
            } else {
                lost as f64 / (lost + recorded) as f64
            },
            missed_frees: report.events.get(Counter::MissedFree.key()).copied().unwrap_or(0),
            sampled: report.sampling.is_some(),
        }
    }

    /// Share of so many survivors that missed frees could explain.
    #[must_use]
    pub fn ghosts_among(&self, survivors: u64) -> f64 {
        if self.missed_frees == 0 {
            return 0.0;
        }
        self.missed_frees as f64 / (self.missed_frees as f64 + survivors as f64)
    }

    /// Share of a confidence in so many survivors that they leave.
    #[must_use]
    pub fn trust_in(&self, survivors: u64) -> f64 {
        (1.0 - self.lost_share) * (1.0 - self.ghosts_among(survivors))
    }
}

/// What a database comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overall {
    /// At least one site leaks.
    Suspects,
    /// None does, and nothing stands against saying so.
    Clean,
    /// None does as far as can be seen, and that is not enough.
    Inconclusive,
}

/// A database and its verdicts.
#[derive(Clone, Debug)]
pub struct JudgedDatabase {
    /// The judgement of each site of the report, in the same order.
    pub judgements: Vec<Judgement>,
    /// What it comes to.
    pub overall: Overall,
    /// What stands against calling it clean, one line each, whatever it comes to.
    pub against: Vec<String>,
}

impl JudgedDatabase {
    /// Sites with their judgements.
    pub fn with<'a>(&'a self, report: &'a SitesReport) -> impl Iterator<Item = (&'a SiteFigures, &'a Judgement)> {
        report.sites.iter().zip(&self.judgements)
    }
}

/// Judges every site of a report.
#[must_use]
pub fn judge_database(report: &SitesReport, past: &dyn PastSites) -> JudgedDatabase {
    judge_database_but(report, past, &|_| false)
}

/// The same with sites that are known and let be: they are judged like the others, but neither make the database suspect
/// nor keep it from being called clean.
#[must_use]
pub fn judge_database_but(
    report: &SitesReport,
    past: &dyn PastSites,
    let_be: &dyn Fn(SiteId) -> bool,
) -> JudgedDatabase {
    let doubts = Doubts::of(report);
    let from_bin = first_bin_after_gaps(report);
    let mut judgements: Vec<Judgement> = report
        .sites
        .iter()
        .map(|site| judge(report, site, from_bin, past, doubts))
        .collect();
    put_containers_behind_contents(report, &mut judgements);
    let against = against(report, &judgements, let_be);
    let leaks = report
        .sites
        .iter()
        .zip(&judgements)
        .any(|(site, judgement)| judgement.verdict == Verdict::Leaking && !let_be(site.id));
    let overall = match (leaks, against.is_empty()) {
        (true, _) => Overall::Suspects,
        (false, true) => Overall::Clean,
        (false, false) => Overall::Inconclusive,
    };
    JudgedDatabase {
        judgements,
        overall,
        against,
    }
}

/// Blocks born before a gap may have been freed in it unseen: only what was born after the last one is judged.
fn first_bin_after_gaps(report: &SitesReport) -> usize {
    let length = report.window_ms().max(1);
    report
        .gaps
        .iter()
        .map(|gap| {
            let ended = report.at_monotonic_ms.saturating_sub(gap.ended_ms_ago);
            let into = ended.saturating_sub(report.window.start);
            (into.saturating_mul(crate::report::sites::BIRTH_BINS as u64)).div_ceil(length) as usize
        })
        .max()
        .unwrap_or(0)
}

fn judge(report: &SitesReport, site: &SiteFigures, from_bin: usize, past: &dyn PastSites, doubts: Doubts) -> Judgement {
    let births = site.births.get(from_bin..).unwrap_or(&[]);
    let whole = report.window_ms();
    let window_ms = whole * births.len() as u64 / site.births.len().max(1) as u64;
    let since_end = report.at_monotonic_ms.saturating_sub(report.window.end);
    let age = |age: Option<u64>| age.unwrap_or(0).saturating_sub(since_end).min(window_ms);
    let (mut live, mut allocated) = (site.live, site.allocated);
    let mut points = Vec::new();
    let (mut cohorts, mut found) = (None, None);
    if from_bin == 0 {
        points = past.of(site.id);
        (cohorts, found) = (site.cohorts.as_ref(), past.found(site.id));
    } else {
        live = Births::new(births, 1.0).total();
        // How much of what was allocated falls into the rest of the window is not known: its share of the time is taken.
        let share = |amount: u64| (u128::from(amount) * u128::from(window_ms) / u128::from(whole.max(1))) as u64;
        allocated = live;
        allocated.add(share(site.freed.blocks), share(site.freed.bytes));
    }
    let view = SiteView {
        allocated,
        live,
        births,
        cohorts,
        window_ms,
        settled_ms: settled_ms(report),
        oldest_ms: age(site.oldest_ms),
        youngest_ms: age(site.youngest_ms),
        found,
    };
    let mut judgement = judge_sampled_site(&view, &points, doubts, sampled_since(report, site, window_ms));
    if let Reason::Needs(Need::Growth { grew_lately }) = judgement.reason
        && !past.goes_on()
    {
        judgement.reason = Reason::Needs(Need::WholeTime { grew_lately });
    }
    judgement
}

/// Sampling that began on the way, if it did: as seen from the beginning of the last so many milliseconds of the window.
fn sampled_since(report: &SitesReport, site: &SiteFigures, window_ms: u64) -> Option<SampledSince> {
    let sampling = report.sampling?;
    let begins = report.window.end.saturating_sub(window_ms);
    Some(SampledSince {
        sampling,
        at_ms: sampling.since_ms?.saturating_sub(begins).min(window_ms),
        recorded: site.sampled.map_or(site.live.blocks, |sampled| sampled.recorded.blocks),
    })
}

/// The vector that merely holds leaked items is not the leak: a container that grows while the elements of a site leak
/// waits for that site's verdict. Which site's: the one that leaks the most blocks.
fn put_containers_behind_contents(report: &SitesReport, judgements: &mut [Judgement]) {
    let leaking = |judgement: &Judgement| judgement.verdict == Verdict::Leaking && !judgement.reason.is_container();
    let contents: Option<SiteId> = report
        .sites
        .iter()
        .zip(&*judgements)
        .filter(|(_, judgement)| leaking(judgement))
        .max_by_key(|(site, judgement)| (judgement.evidence.survivors, site.id))
        .map(|(site, _)| site.id);
    let Some(of) = contents else { return };
    for judgement in judgements {
        if judgement.reason.is_container() {
            judgement.verdict = Verdict::Undecided;
            (judgement.found, judgement.evidence.leaking_for_ms) = (None, None);
            judgement.reason = Reason::Needs(Need::Contents { of });
        }
    }
}

/// Time since the window ended in which frees were still seen: only a span of marks ends before its collection does.
fn settled_ms(report: &SitesReport) -> u64 {
    match report.collection.state {
        CollectionState::Collecting => report.watched_until_ms.saturating_sub(report.window.end),
        _ => 0,
    }
}

fn against(report: &SitesReport, judgements: &[Judgement], let_be: &dyn Fn(SiteId) -> bool) -> Vec<String> {
    let mut against = Vec::new();
    let collected = report.window_ms();
    if let Some(lacking) = lacking_ms(collected, settled_ms(report)) {
        against.push(format!(
            "too young: {} s of collection, {} s more are needed",
            collected / 1000,
            lacking.div_ceil(1000)
        ));
    }
    match report.collection.state {
        CollectionState::Collecting => {}
        state => against.push(format!("collection does not run: {}", state.text())),
    }
    let lost: u64 = report.losses.values().sum();
    if lost > limit::LOSSES_A_CLEAN_ANSWER_BEARS {
        against.push(format!("lossy: {}", reasons(&report.losses)));
    }
    if let Some(gap) = report.gaps.iter().min_by_key(|gap| gap.ended_ms_ago)
        && gap.ended_ms_ago < limit::MIN_WINDOW_MS
    {
        against.push(format!(
            "collection was stopped until {} s ago",
            gap.ended_ms_ago / 1000
        ));
    }
    against.extend(report.notes.iter().cloned());
    // All of them together: a leak behind many call stacks is a little at each.
    let (sites, bytes) = report
        .sites
        .iter()
        .zip(judgements)
        .filter(|(site, judgement)| judgement.verdict == Verdict::Undecided && judgement.grows && !let_be(site.id))
        .fold((0u64, 0u64), |(sites, bytes), (site, _)| {
            // As the report will tell it.
            let live = site.sampled.map_or(site.live, |sampled| sampled.estimated);
            (sites + 1, bytes.saturating_add(live.bytes))
        });
    if bytes >= limit::MATERIAL_BYTES {
        against.push(format!(
            "undecided sites that grow: {sites}, holding {} together",
            Bytes(bytes)
        ));
    }
    against
}

fn reasons(losses: &BTreeMap<&'static str, u64>) -> String {
    let lines: Vec<String> = losses
        .iter()
        .map(|(key, count)| {
            let text = Counter::ALL.iter().find(|counter| counter.key() == *key);
            format!("{count} {}", text.map_or(*key, |counter| counter.text()))
        })
        .collect();
    lines.join("; ")
}
