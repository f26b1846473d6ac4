//! The model of `report`: a database by site with its verdicts, the process's memory, and what changed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::model::SiteId;
use super::own_code::own_name;
use super::sites::{Amount, SiteFigures, SitesReport};
use crate::collection::cost::Cost;
use crate::suppress::apply::Applied;
use crate::suppress::rules::Rule;
use crate::verdict::{JudgedDatabase, Judgement, Verdict};

/// The process's memory beside what was tracked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident now, bytes; `None` when the target cannot be asked.
    pub resident: Option<u64>,
    /// The first that is known of it since collection began.
    pub first: Option<FirstMemory>,
    /// What the program maps itself is tracked, too (`--regions`).
    pub with_regions: bool,
}

/// Memory at an earlier moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstMemory {
    /// Resident then, bytes.
    pub resident: u64,
    /// Tracked then, bytes.
    pub tracked: u64,
    /// How long ago, seconds.
    pub seconds_ago: u64,
}

/// Growth of the process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Of resident memory, bytes.
    pub resident: i64,
    /// Of what is tracked, bytes.
    pub tracked: i64,
    /// Over how long, seconds.
    pub seconds: u64,
}

/// What was alive at the previous report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// How long ago, seconds.
    pub seconds_ago: u64,
    /// By site.
    pub live: BTreeMap<SiteId, Amount>,
    /// Every site was in it: one that is missing had nothing alive.
    pub complete: bool,
}

/// Everything a report shows of one database.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The sites.
    pub report: SitesReport,
    /// Their verdicts.
    pub judged: JudgedDatabase,
    /// The process's memory.
    pub memory: Memory,
    /// The previous report; `None` when this is the first.
    pub previous: Option<Previous>,
    /// Allocators and how many functions of each are probed.
    pub allocators: BTreeMap<String, usize>,
    /// Which blocks are meant, if not all.
    pub span: Option<String>,
    /// What collection has cost the target since it began; `None` when that is not known.
    pub cost: Option<Cost>,
    /// Sites that are known and let be: never accused, and in every total.
    pub suppressed: Applied,
}

/// Growth since the previous report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Blocks.
    pub blocks: i64,
    /// Bytes.
    pub bytes: i64,
}

impl Change {
    fn between(before: Amount, now: Amount) -> Self {
        let difference = |now: u64, before: u64| now.wrapping_sub(before) as i64;
        Self {
            blocks: difference(now.blocks, before.blocks),
            bytes: difference(now.bytes, before.bytes),
        }
    }
}

/// One site as a report lists it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its figures.
    pub figures: &'a SiteFigures,
    /// Its judgement.
    pub judgement: &'a Judgement,
    /// Since the previous report; `None` when it is not known.
    pub change: Option<Change>,
    /// The rule that lets it be.
    pub suppressed_by: Option<&'a Rule>,
}

impl Row<'_> {
    /// It is accused.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.judgement.verdict == Verdict::Leaking && self.suppressed_by.is_none()
    }

    /// Growth by survivors, bytes a minute.
    #[must_use]
    pub fn bytes_per_minute(&self) -> f64 {
        self.judgement.evidence.rate.map_or(0.0, |rate| rate.bytes_per_minute)
    }
}

/// Order of the sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SiteOrder {
    /// Fastest growing first.
    #[default]
    Growth,
    /// Most bytes alive first.
    Bytes,
    /// Most blocks alive first.
    Blocks,
    /// Oldest live block first.
    Oldest,
    /// Surest verdict first.
    Confidence,
}

/// What sites are put together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grouping {
    /// Each for itself.
    #[default]
    Site,
    /// By the function of the first frame of the program's own code.
    Function,
    /// By that frame's module.
    Module,
}

/// Which sites are shown, and how.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// At most this many of each verdict.
    pub top: Option<usize>,
    /// Order.
    pub order: SiteOrder,
    /// Only these verdicts; empty: all.
    pub verdicts: Vec<Verdict>,
    /// Only this site.
    pub site: Option<SiteId>,
    /// Put together.
    pub grouping: Grouping,
}

/// Sites put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Function or module.
    pub name: String,
    /// Sites.
    pub sites: u64,
    /// The first verdict of [`Verdict::ALL`] that one of them has.
    pub verdict: Verdict,
    /// All of them are let be.
    pub suppressed: bool,
    /// Allocated.
    pub allocated: Amount,
    /// Alive.
    pub live: Amount,
    /// Growth of those that leak, bytes a minute.
    pub bytes_per_minute: f64,
}

impl Summary {
    /// The sites selected, in order; `--top` is left to the renderer, which says how many it left out.
    #[must_use]
    pub fn rows(&self, selection: &Selection) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = self
            .judged
            .with(&self.report)
            .filter(|(figures, judgement)| {
                selection.site.is_none_or(|site| site == figures.id)
                    && (selection.verdicts.is_empty() || selection.verdicts.contains(&judgement.verdict))
            })
            .map(|(figures, judgement)| Row {
                figures,
                judgement,
                change: self.change(figures),
                suppressed_by: self.suppressed.rule_of(figures.id),
            })
            .collect();
        rows.sort_by(|a, b| {
            let key = |row: &Row<'_>| match selection.order {
                SiteOrder::Growth => row.bytes_per_minute(),
                SiteOrder::Bytes => row.figures.live.bytes as f64,
                SiteOrder::Blocks => row.figures.live.blocks as f64,
                SiteOrder::Oldest => row.figures.oldest_ms.unwrap_or(0) as f64,
                SiteOrder::Confidence => row.judgement.evidence.confidence,
            };
            key(b)
                .total_cmp(&key(a))
                .then(Reverse(a.figures.live.bytes).cmp(&Reverse(b.figures.live.bytes)))
                .then(a.figures.id.cmp(&b.figures.id))
        });
        rows
    }

    fn change(&self, figures: &SiteFigures) -> Option<Change> {
        let previous = self.previous.as_ref()?;
        let before = match previous.live.get(&figures.id) {
            Some(before) => *before,
            None if previous.complete => Amount::default(),
            None => return None,
        };
        Some(Change::between(before, figures.live))
    }

    /// Share of the blocks allocated whose stacks are whole, 0 to 1; `None` when nothing was allocated.
    #[must_use]
    pub fn whole_stacks(&self) -> Option<f64> {
        let (mut whole, mut all) = (0u64, 0u64);
        for site in &self.report.sites {
            let blocks = site.allocated.blocks.max(site.live.blocks);
            all += blocks;
            if site.stack.complete() {
                whole += blocks;
            }
        }
        (all > 0).then(|| whole as f64 / all as f64)
    }

    /// Growth of resident memory and of what is tracked, since the first that is known.
    #[must_use]
    pub fn growth(&self) -> Option<Growth> {
        let (now, first) = (self.memory.resident?, self.memory.first?);
        let tracked = self.report.total_live().bytes;
        Some(Growth {
            resident: now.wrapping_sub(first.resident) as i64,
            tracked: tracked.wrapping_sub(first.tracked) as i64,
            seconds: first.seconds_ago,
        })
    }

    /// Share of the growth of resident memory that tracked blocks explain; `None` when it has not grown by a mebibyte.
    #[must_use]
    pub fn explained(&self) -> Option<f64> {
        let growth = self.growth()?;
        (growth.resident >= 1 << 20).then(|| growth.tracked.max(0) as f64 / growth.resident as f64)
    }

    /// The sites selected, put together, most bytes alive first.
    #[must_use]
    pub fn groups(&self, selection: &Selection) -> Vec<Group> {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for row in self.rows(selection) {
            let name = match selection.grouping {
                Grouping::Module => super::own_code::own_frame(&row.figures.stack)
                    .map_or_else(String::new, |index| row.figures.stack.frames[index].module.clone()),
                Grouping::Function | Grouping::Site => own_name(&row.figures.stack),
            };
            let group = groups.entry(name.clone()).or_insert_with(|| Group {
                name,
                sites: 0,
                verdict: row.judgement.verdict,
                suppressed: row.suppressed_by.is_some(),
                allocated: Amount::default(),
                live: Amount::default(),
                bytes_per_minute: 0.0,
            });
            group.sites += 1;
            // A verdict that is let be is none of the group's, unless all of it is.
            group.verdict = match (group.suppressed, row.suppressed_by.is_some()) {
                (true, false) => row.judgement.verdict,
                (false, true) => group.verdict,
                _ => group.verdict.min(row.judgement.verdict),
            };
            group.suppressed &= row.suppressed_by.is_some();
            group
                .allocated
                .add(row.figures.allocated.blocks, row.figures.allocated.bytes);
            group.live.add(row.figures.live.blocks, row.figures.live.bytes);
            if row.is_suspect() {
                group.bytes_per_minute += row.bytes_per_minute();
            }
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by(|a, b| {
            let rate = b.bytes_per_minute.total_cmp(&a.bytes_per_minute);
            a.verdict
                .cmp(&b.verdict)
                .then(rate)
                .then(b.live.bytes.cmp(&a.live.bytes))
                .then_with(|| a.name.cmp(&b.name))
        });
        groups
    }
}
