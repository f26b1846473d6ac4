//! The model by site: what each call stack allocated, freed, and still holds. What verdicts, exports and comparisons take.

use std::collections::BTreeMap;
use std::ops::Range;

use super::cohorts::Cohorts;
use super::model::{Collection, Gap, SiteId, Stack, TargetDescription};

/// Blocks and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Blocks.
    pub blocks: u64,
    /// Bytes asked for.
    pub bytes: u64,
}

impl Amount {
    /// Adds blocks and bytes.
    pub fn add(&mut self, blocks: u64, bytes: u64) {
        // Of a saved report they are anybody's numbers.
        self.blocks = self.blocks.saturating_add(blocks);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// One site's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFigures {
    /// Which site.
    pub id: SiteId,
    /// Its call stack, named.
    pub stack: Stack,
    /// Allocated since the database was created.
    pub allocated: Amount,
    /// Of these, freed.
    pub freed: Amount,
    /// Of these, alive now.
    pub live: Amount,
    /// Birth times of what is alive: blocks and bytes in [`BIRTH_BINS`] equal bins over [`SitesReport::window`].
    pub births: Vec<Amount>,
    /// The same blocks on a grid that can be compared with earlier reports'; `None` when none lives.
    pub cohorts: Option<Cohorts>,
    /// Milliseconds since the oldest live block was born; `None` when none lives.
    pub oldest_ms: Option<u64>,
    /// Milliseconds since the youngest live block was born; `None` when none lives.
    pub youngest_ms: Option<u64>,
    /// What its figures rest on when blocks are sampled; `None` when every block is recorded.
    pub sampled: Option<Sampled>,
}

/// What of a site is alive, when only some blocks are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// As recorded.
    pub recorded: Amount,
    /// As estimated.
    pub estimated: Amount,
    /// The true number of bytes is within this distance of the estimate 95 times in 100.
    pub bytes_error: u64,
}

impl Sampled {
    /// Both together: variances add up.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.recorded.add(other.recorded.blocks, other.recorded.bytes);
        self.estimated.add(other.estimated.blocks, other.estimated.bytes);
        self.bytes_error = (self.bytes_error as f64).hypot(other.bytes_error as f64).ceil() as u64;
        self
    }
}

impl SiteFigures {
    /// A site of which nothing is known yet.
    #[must_use]
    pub fn empty(id: SiteId, stack: Stack) -> Self {
        Self {
            id,
            stack,
            allocated: Amount::default(),
            freed: Amount::default(),
            live: Amount::default(),
            births: vec![Amount::default(); BIRTH_BINS],
            cohorts: None,
            oldest_ms: None,
            youngest_ms: None,
            sampled: None,
        }
    }
}

/// Bins of a birth-time histogram.
pub const BIRTH_BINS: usize = 32;

/// How blocks are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Mean distance of two samples, bytes allocated.
    pub sample_bytes: u64,
    /// Since when, milliseconds of CLOCK_MONOTONIC, if not since collection began: then it exceeded its budget, and earlier
    /// blocks were all recorded.
    pub since_ms: Option<u64>,
}

impl Sampling {
    /// Whether no block was ever recorded for sure.
    #[must_use]
    pub const fn is_from_the_start(&self) -> bool {
        self.since_ms.is_none()
    }

    /// Whether any block of a time that ended then can have been sampled, milliseconds of CLOCK_MONOTONIC.
    #[must_use]
    pub fn had_begun_by(&self, end_ms: u64) -> bool {
        self.since_ms.is_none_or(|since_ms| since_ms < end_ms)
    }

    /// How many blocks of about this size each that was recorded stands for.
    #[must_use]
    pub fn stands_for(&self, size: f64) -> f64 {
        // As the programs sample it: no block is smaller than one byte to them.
        1.0 / -(-size.max(1.0) / self.sample_bytes as f64).exp_m1()
    }

    /// What so many recorded blocks stand for, of which only the sum is known: each for as many as one of their mean size, as
    /// pprof's readers of heap profiles take it.
    #[must_use]
    pub fn scaled(&self, recorded: Amount) -> Amount {
        if recorded.blocks == 0 {
            return recorded;
        }
        let factor = self.stands_for(recorded.bytes as f64 / recorded.blocks as f64);
        let times = |amount: u64| (amount as f64 * factor).round() as u64;
        Amount {
            blocks: times(recorded.blocks),
            bytes: times(recorded.bytes),
        }
    }
}

/// A database by site.
#[derive(Clone, Debug)]
pub struct SitesReport {
    /// The target.
    pub target: TargetDescription,
    /// Its collection.
    pub collection: Collection,
    /// When it was read: seconds since the Unix epoch.
    pub at_unix_s: u64,
    /// The same moment, milliseconds of CLOCK_MONOTONIC.
    pub at_monotonic_ms: u64,
    /// Until when births and frees were seen, milliseconds of CLOCK_MONOTONIC: the moment of reading while collection runs and
    /// sees anything, else its end.
    pub watched_until_ms: u64,
    /// The time the birth histograms cover, milliseconds of CLOCK_MONOTONIC: from the first start of collection to the
    /// moment of reading, or to the end of collection.
    pub window: Range<u64>,
    /// Every site that allocated anything, by bytes alive, then by id.
    pub sites: Vec<SiteFigures>,
    /// Times in which collection was stopped.
    pub gaps: Vec<Gap>,
    /// Every counter that is not zero, by its key.
    pub events: BTreeMap<&'static str, u64>,
    /// Losses by reason, only those that are not zero.
    pub losses: BTreeMap<&'static str, u64>,
    /// How blocks are sampled; `None` when each is recorded. Where they are from the start, figures are of what was recorded
    /// until [`super::unsample::unsample`] puts estimates in their place; where sampling began later, they are estimates.
    pub sampling: Option<Sampling>,
    /// Further lines for the reader.
    pub notes: Vec<String>,
}

impl SitesReport {
    /// Length of the window, milliseconds.
    #[must_use]
    pub fn window_ms(&self) -> u64 {
        self.window.end.saturating_sub(self.window.start)
    }

    /// All sites together.
    #[must_use]
    pub fn total_live(&self) -> Amount {
        self.sites.iter().fold(Amount::default(), |mut sum, site| {
            sum.add(site.live.blocks, site.live.bytes);
            sum
        })
    }

    /// How far the true number of live bytes may be from an estimated one (95 %); `None` when every block is recorded.
    #[must_use]
    pub fn bytes_error(&self) -> Option<u64> {
        self.sampling?;
        // Sites are sampled independently of each other: their variances add up.
        let errors = self.sites.iter().filter_map(|site| site.sampled);
        let squares: f64 = errors.map(|sampled| (sampled.bytes_error as f64).powi(2)).sum();
        Some(squares.sqrt().ceil() as u64)
    }
}
