//! What changed between two reports: by site, new, grown, shrunk and gone.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::saved::SavedReport;
use crate::report::model::{Frame, SiteId, Stack};
use crate::report::own_code::own_frame;
use crate::report::sites::Amount;

/// What became of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing of it was alive before.
    New,
    /// More bytes than before.
    Grown,
    /// Fewer bytes than before.
    Shrunk,
    /// Nothing of it is alive any more.
    Gone,
    /// As many bytes as before.
    Same,
}

impl Change {
    /// Every one, in the order of the text.
    pub const ALL: [Self; 5] = [Self::New, Self::Grown, Self::Shrunk, Self::Gone, Self::Same];

    /// As text and JSON have it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Grown => "grown",
            Self::Shrunk => "shrunk",
            Self::Gone => "gone",
            Self::Same => "same",
        }
    }
}

/// One site of both.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteChange {
    /// Which.
    pub id: SiteId,
    /// What became of it.
    pub change: Change,
    /// Alive in the first report.
    pub before: Amount,
    /// Alive in the second.
    pub after: Amount,
    /// Its call stack.
    pub stack: Stack,
}

impl SiteChange {
    /// The frame to know it by.
    #[must_use]
    pub fn own_frame(&self) -> Option<&Frame> {
        own_frame(&self.stack).map(|index| &*self.stack.frames[index])
    }

    /// How the bytes changed.
    #[must_use]
    pub const fn bytes(&self) -> i64 {
        self.after.bytes.wrapping_sub(self.before.bytes).cast_signed()
    }

    /// How the blocks changed.
    #[must_use]
    pub const fn blocks(&self) -> i64 {
        self.after.blocks.wrapping_sub(self.before.blocks).cast_signed()
    }

    /// Bytes more or fewer.
    #[must_use]
    pub const fn distance(&self) -> u64 {
        self.before.bytes.abs_diff(self.after.bytes)
    }
}

/// Two reports, compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Diff {
    /// Every site of either: by kind of change, then the largest change first.
    pub sites: Vec<SiteChange>,
    /// All that was alive in the first.
    pub before: Amount,
    /// And in the second.
    pub after: Amount,
    /// What makes the comparison weaker than it looks.
    pub notes: Vec<String>,
}

/// Compares two reports; several databases of one document are added up by site.
#[must_use]
pub fn diff(before: &SavedReport, after: &SavedReport) -> Diff {
    let mut sites: BTreeMap<SiteId, SiteChange> = BTreeMap::new();
    for (report, is_after) in [(before, false), (after, true)] {
        for database in &report.databases {
            for (id, site) in &database.sites {
                let change = sites.entry(*id).or_insert_with(|| SiteChange {
                    id: *id,
                    change: Change::Same,
                    before: Amount::default(),
                    after: Amount::default(),
                    stack: site.stack.clone(),
                });
                let side = if is_after {
                    &mut change.after
                } else {
                    &mut change.before
                };
                side.add(site.live.blocks, site.live.bytes);
            }
        }
    }
    let mut sites: Vec<SiteChange> = sites
        .into_values()
        .map(|site| SiteChange {
            change: change_of(site.before, site.after),
            ..site
        })
        .collect();
    sites.sort_by_key(|site| (site.change, Reverse(site.distance()), site.id));
    Diff {
        sites,
        before: before.live(),
        after: after.live(),
        notes: notes(before, after),
    }
}

fn change_of(before: Amount, after: Amount) -> Change {
    match (before.blocks, after.blocks) {
        (0, _) => Change::New,
        (_, 0) => Change::Gone,
        _ if after.bytes > before.bytes => Change::Grown,
        _ if after.bytes < before.bytes => Change::Shrunk,
        _ => Change::Same,
    }
}

fn notes(before: &SavedReport, after: &SavedReport) -> Vec<String> {
    let mut notes = Vec::new();
    let builds = |report: &SavedReport| -> Vec<String> {
        let id = |database: &super::saved::SavedDatabase| {
            database
                .target
                .build_id
                .as_ref()
                .map_or(String::new(), ToString::to_string)
        };
        let mut ids: Vec<String> = report.databases.iter().map(id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    if builds(before) != builds(after) {
        notes.push(
            "the programs are not of the same build: the same call has another site id there, and shows as gone and new"
                .to_owned(),
        );
    }
    let ages = |report: &SavedReport| -> Vec<u64> {
        let mut ages: Vec<u64> = report.databases.iter().map(|database| database.age_s).collect();
        ages.sort_unstable();
        ages.dedup();
        ages
    };
    if ages(before) != ages(after) {
        notes.push(format!(
            "the reports hold blocks of different least ages ({:?} s and {:?} s): what differs may be only young",
            ages(before),
            ages(after)
        ));
    }
    for report in [before, after] {
        for database in &report.databases {
            let pid = database.target.id.pid;
            notes.extend(
                database
                    .cautions()
                    .map(|caution| format!("{}: {caution}", report.source)),
            );
            for (reason, count) in &database.losses {
                notes.push(format!(
                    "{}: process {pid} lost {count} events ({reason})",
                    report.source
                ));
            }
        }
    }
    notes
}
