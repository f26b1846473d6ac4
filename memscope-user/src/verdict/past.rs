//! The same site at earlier reports.

use super::births::Births;
use super::thresholds::{BOUNDED_GROWTH, CONTAINER_STEPS, MIN_COHORT, RETAINED, STEADY_GROWTH};
use crate::report::model::SiteId;
use crate::report::sites::Amount;

/// A site's totals at one earlier moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastPoint {
    /// Milliseconds since the judged window began.
    pub at_ms: u64,
    /// Allocated until then, since the window began.
    pub allocated: Amount,
    /// Alive then.
    pub live: Amount,
}

/// Where a database's earlier reports come from.
pub trait PastSites {
    /// The site's points, oldest first; empty when there is none.
    fn of(&self, site: SiteId) -> Vec<PastPoint>;
}

/// No earlier report.
impl PastSites for () {
    fn of(&self, _: SiteId) -> Vec<PastPoint> {
        Vec::new()
    }
}

/// Earlier points and the present one.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    past: &'a [PastPoint],
    now: PastPoint,
}

impl<'a> Series<'a> {
    /// Points in the order of time, then the present.
    #[must_use]
    pub const fn new(past: &'a [PastPoint], now: PastPoint) -> Self {
        Self { past, now }
    }

    /// How many earlier reports there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.past.len()
    }

    /// There is no earlier report.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.past.is_empty()
    }

    /// The earlier report nearest the middle of the window, if it is well inside it.
    #[must_use]
    pub fn middle(&self) -> Option<PastPoint> {
        let end = self.now.at_ms as f64;
        self.past
            .iter()
            .filter(|point| (0.3..=0.8).contains(&(point.at_ms as f64 / end)))
            .min_by_key(|point| (point.at_ms * 2).abs_diff(self.now.at_ms))
            .copied()
    }

    /// Growth in blocks a millisecond after a point against that before it; `None` when nothing was alive then.
    fn later_growth(&self, middle: PastPoint) -> Option<f64> {
        let before = middle.live.blocks as f64 / middle.at_ms.max(1) as f64;
        let after = (self.now.live.blocks as f64 - middle.live.blocks as f64)
            / self.now.at_ms.saturating_sub(middle.at_ms).max(1) as f64;
        (before > 0.0).then_some(after / before)
    }

    /// Share of what was alive at a point that still is: from the present birth times, the bin that holds the point
    /// shared in proportion.
    fn retained(&self, middle: PastPoint, births: &Births<'_>, bins: &[Amount]) -> f64 {
        let place = middle.at_ms as f64 / births.bin_ms();
        let kept: f64 = bins
            .iter()
            .enumerate()
            .map(|(index, bin)| bin.blocks as f64 * (place - index as f64).clamp(0.0, 1.0))
            .sum();
        kept / (middle.live.blocks.max(1)) as f64
    }

    /// What was alive in the middle of the window is alive now, and as much has come since.
    #[must_use]
    pub fn grows_steadily(&self, births: &Births<'_>, bins: &[Amount]) -> bool {
        self.middle().is_some_and(|middle| {
            middle.live.blocks >= MIN_COHORT
                && self.later_growth(middle).is_some_and(|growth| growth >= STEADY_GROWTH)
                && self.retained(middle, births, bins) >= RETAINED
        })
    }

    /// It allocates on, and what is alive does not grow: for that the window's earlier part must have grown, and the
    /// later part hardly.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.middle().is_some_and(|middle| {
            middle.live.blocks >= MIN_COHORT
                && self.now.allocated.blocks > middle.allocated.blocks + middle.live.blocks / 4
                && self.later_growth(middle).is_some_and(|growth| growth <= BOUNDED_GROWTH)
        })
    }

    /// Share freed in the middle of the window: of all allocated until then.
    #[must_use]
    pub fn share_freed_in_the_middle(&self) -> Option<f64> {
        let middle = self.middle().filter(|middle| middle.allocated.blocks >= MIN_COHORT)?;
        let freed = middle.allocated.blocks.saturating_sub(middle.live.blocks);
        Some(freed as f64 / middle.allocated.blocks as f64)
    }

    /// Bytes alive grew again and again, never fell, and grew in the last third of the window too.
    #[must_use]
    pub fn only_grows(&self) -> bool {
        let points: Vec<PastPoint> = self.past.iter().copied().chain([self.now]).collect();
        let pairs = || points.windows(2);
        let late = self.now.at_ms * 2 / 3;
        pairs().all(|pair| pair[1].live.bytes >= pair[0].live.bytes)
            && pairs().filter(|pair| pair[1].live.bytes > pair[0].live.bytes).count() >= CONTAINER_STEPS
            && pairs().any(|pair| pair[1].at_ms > late && pair[1].live.bytes > pair[0].live.bytes)
            && points.first().is_some_and(|first| first.at_ms * 2 <= self.now.at_ms)
    }
}
