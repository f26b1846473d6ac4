//! A report as it was saved: what comparisons need of `memscope.entries/v1` and `memscope.report/v1`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::parse;
use crate::report::model::{DatabaseReport, SiteId, Stack, TargetDescription};
use crate::report::sites::{Amount, SitesReport};

/// One document: the databases that one run of memscope saw on one host.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedReport {
    /// Where it came from, as people name it: the file, or `now`.
    pub source: String,
    /// The host: the document's word, else what the file is named after.
    pub host: String,
    /// It counts by site (`report`), not block by block (`print`).
    pub by_site: bool,
    /// Its databases.
    pub databases: Vec<SavedDatabase>,
}

/// One database of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedDatabase {
    /// Whose.
    pub target: TargetDescription,
    /// For how long blocks were collected, seconds.
    pub seconds: u64,
    /// Least age of the blocks in it, seconds.
    pub age_s: u64,
    /// Blocks that were old enough and are not in it (`--limit`).
    pub left_out: u64,
    /// Only some blocks were recorded: figures by site are estimates, block by block of those recorded.
    pub sampled: bool,
    /// Losses by reason.
    pub losses: BTreeMap<String, u64>,
    /// Every site of which a block is in it.
    pub sites: BTreeMap<SiteId, SavedSite>,
}

/// One site of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedSite {
    /// Its call stack.
    pub stack: Stack,
    /// What was alive.
    pub live: Amount,
    /// The verdict on it, where the report has one (`LEAKING` …).
    pub verdict: Option<String>,
}

/// Why a saved report cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no JSON of ours.
    #[error("{} is no report that memscope saved ({source}); `memscope print --format json` writes one", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It is JSON, of something else.
    #[error(
        "{} holds `{schema}`; what can be compared is memscope.entries/v1 and memscope.report/v1",
        path.display()
    )]
    OtherSchema {
        /// Which.
        path: PathBuf,
        /// What it says it is.
        schema: String,
    },
}

/// Reads a saved report.
///
/// # Errors
/// See [`SavedError`].
pub fn read(path: &Path) -> Result<SavedReport, SavedError> {
    let failed = |source| SavedError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    parse(path, BufReader::with_capacity(1 << 16, file))
}

/// Reads the text of a saved report; `path` names it, and its host if the text does not.
///
/// # Errors
/// [`SavedError::Malformed`] and [`SavedError::OtherSchema`].
pub fn parse(path: &Path, text: impl io::Read) -> Result<SavedReport, SavedError> {
    parse::report(path, text)
}

impl SavedDatabase {
    /// A database as it is now.
    #[must_use]
    pub fn of(report: &DatabaseReport) -> Self {
        let mut sites: BTreeMap<SiteId, SavedSite> = report
            .sites
            .iter()
            .map(|(id, stack)| (*id, SavedSite::of(stack.clone())))
            .collect();
        for entry in report.entries.iter() {
            if let Some(site) = sites.get_mut(&entry.site) {
                site.live.add(1, entry.size);
            }
        }
        Self {
            target: report.target.clone(),
            seconds: report.collection.seconds,
            age_s: report.age_s,
            left_out: report.total - report.entries.len() as u64,
            sampled: report.estimate.is_some(),
            losses: owned(&report.losses),
            sites,
        }
    }

    /// A database by site as it is now.
    #[must_use]
    pub fn of_sites(report: &SitesReport) -> Self {
        let alive = report.sites.iter().filter(|site| site.live.blocks > 0);
        let sites = alive.map(|site| {
            let saved = SavedSite {
                live: site.live,
                ..SavedSite::of(site.stack.clone())
            };
            (site.id, saved)
        });
        Self {
            target: report.target.clone(),
            seconds: report.collection.seconds,
            age_s: 0,
            left_out: 0,
            sampled: report.sampling.is_some(),
            losses: owned(&report.losses),
            sites: sites.collect(),
        }
    }

    /// What stands against counting on it, besides losses.
    pub(super) fn cautions(&self) -> impl Iterator<Item = String> + '_ {
        let pid = self.target.id.pid;
        let left_out = (self.left_out > 0).then(|| format!("{} blocks of process {pid} are not in it", self.left_out));
        let sampled = self
            .sampled
            .then(|| format!("blocks of process {pid} are sampled: its figures are no exact ones"));
        left_out.into_iter().chain(sampled)
    }

    /// What of all sites was alive.
    #[must_use]
    pub fn live(&self) -> Amount {
        let mut sum = Amount::default();
        for site in self.sites.values() {
            sum.add(site.live.blocks, site.live.bytes);
        }
        sum
    }
}

fn owned(losses: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    losses.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect()
}

impl SavedSite {
    /// A site of which nothing is counted yet.
    pub(super) fn of(stack: Stack) -> Self {
        Self {
            stack,
            live: Amount::default(),
            verdict: None,
        }
    }
}

impl SavedReport {
    /// What of all databases was alive.
    #[must_use]
    pub fn live(&self) -> Amount {
        let mut sum = Amount::default();
        for database in &self.databases {
            let live = database.live();
            sum.add(live.blocks, live.bytes);
        }
        sum
    }
}
