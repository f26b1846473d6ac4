//! The same site at earlier reports.

use super::standing::Found;
use super::thresholds as limit;
use crate::report::cohorts::{Cohorts, Kept};
use crate::report::model::SiteId;
use crate::report::sites::Amount;

/// A site at one earlier moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastPoint {
    /// Milliseconds since the judged window began.
    pub at_ms: u64,
    /// Allocated until then, since the window began.
    pub allocated: Amount,
    /// Alive then.
    pub live: Amount,
    /// What was alive, by birth; `None` when that was not kept.
    pub cohorts: Option<Cohorts>,
}

/// Where a database's earlier reports come from.
pub trait PastSites {
    /// The site's points, oldest first; empty when there is none.
    fn of(&self, site: SiteId) -> Vec<PastPoint>;

    /// What the last report held against the site.
    fn found(&self, site: SiteId) -> Option<Found>;

    /// This report will be among the earlier ones of a later report. One of a span of marks will not: of what was alive at
    /// a report it is not known how much was born in a span.
    fn goes_on(&self) -> bool {
        true
    }
}

/// No report before or after this one, as in a span of marks.
impl PastSites for () {
    fn of(&self, _: SiteId) -> Vec<PastPoint> {
        Vec::new()
    }

    fn found(&self, _: SiteId) -> Option<Found> {
        None
    }

    fn goes_on(&self) -> bool {
        false
    }
}

/// Earlier points and the present one.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    past: &'a [PastPoint],
    now: &'a PastPoint,
}

impl<'a> Series<'a> {
    /// Points in the order of time, then the present.
    #[must_use]
    pub const fn new(past: &'a [PastPoint], now: &'a PastPoint) -> Self {
        Self { past, now }
    }

    /// The earlier points.
    #[must_use]
    pub const fn past(&self) -> &'a [PastPoint] {
        self.past
    }

    /// The present one.
    #[must_use]
    pub const fn now(&self) -> &'a PastPoint {
        self.now
    }

    /// All of them, the present one last.
    pub fn points(&self) -> impl Iterator<Item = &'a PastPoint> + use<'a> {
        self.past.iter().chain([self.now])
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

    /// Until when reports saw nothing of it, milliseconds: what began late is measured by the time since.
    #[must_use]
    pub fn began_after_ms(&self) -> u64 {
        let before = self.past.iter().take_while(|point| point.allocated.blocks == 0);
        before.last().map_or(0, |point| point.at_ms)
    }

    /// The earlier report nearest the middle of the time since it began, if it is well inside.
    #[must_use]
    pub fn middle(&self) -> Option<&'a PastPoint> {
        let began = self.began_after_ms();
        let whole = self.now.at_ms.saturating_sub(began);
        let since = |point: &PastPoint| point.at_ms.saturating_sub(began);
        self.past
            .iter()
            .filter(|point| (0.3..=0.8).contains(&(since(point) as f64 / whole.max(1) as f64)))
            .min_by_key(|point| (since(point) * 2).abs_diff(whole))
    }

    /// Growth in blocks a millisecond after a point against that before it; `None` when nothing was alive then.
    fn later_growth(&self, middle: &PastPoint) -> Option<f64> {
        let until_middle = middle.at_ms.saturating_sub(self.began_after_ms());
        let before = middle.live.blocks as f64 / until_middle.max(1) as f64;
        let after = (self.now.live.blocks as f64 - middle.live.blocks as f64)
            / self.now.at_ms.saturating_sub(middle.at_ms).max(1) as f64;
        (before > 0.0).then_some(after / before)
    }

    /// Of the blocks that had a certain age at an earlier report, a share of its window, those alive now.
    fn kept_since(&self, then: &PastPoint, age: f64) -> Option<Kept> {
        let born_before = (then.at_ms as f64 * (1.0 - age)) as u64;
        Some(self.now.cohorts.as_ref()?.kept(then.cohorts.as_ref()?, born_before))
    }

    /// What was old in the middle of the window is alive now: far more of it than if blocks lived a time as long as the
    /// window. The young are left out, in three steps: among them are those of requests under way.
    #[must_use]
    pub fn old_ones_stay(&self) -> bool {
        let Some(middle) = self.middle() else { return false };
        let passed = self.now.at_ms.saturating_sub(middle.at_ms) as f64;
        limit::OLD_AT_A_REPORT
            .iter()
            .filter_map(|age| self.kept_since(middle, *age))
            .any(|kept| {
                let expected = kept.then as f64 * (1.0 - (-passed / self.now.at_ms.max(1) as f64).exp());
                kept.then >= limit::MIN_COHORT
                    && kept.share() >= limit::RETAINED
                    && odds_of_fewer(kept.then - kept.now, expected) >= limit::MIN_LOG_ODDS
            })
    }

    /// Of what was old in the middle of the window much has been freed since, however old.
    #[must_use]
    pub fn old_ones_go(&self) -> bool {
        let Some(middle) = self.middle() else { return false };
        let kept: Vec<Kept> = limit::OLD_AT_A_REPORT
            .iter()
            .filter_map(|age| self.kept_since(middle, *age))
            .filter(|kept| kept.then >= limit::MIN_COHORT)
            .collect();
        !kept.is_empty() && kept.iter().all(|kept| kept.share() < limit::LET_GO)
    }

    /// Of the blocks that were old at an earlier moment, the share that is alive; `None` when too few were.
    #[must_use]
    pub fn kept_of_old_at(&self, at_ms: u64) -> Option<f64> {
        let then = self.past.iter().find(|point| point.at_ms >= at_ms)?;
        let oldest = limit::OLD_AT_A_REPORT[limit::OLD_AT_A_REPORT.len() - 1];
        let kept = self.kept_since(then, oldest)?;
        (kept.then >= limit::MIN_COHORT).then(|| kept.share())
    }

    /// Of what is alive, as much was born since the middle of the window as before, in the same time: the young, who may be
    /// of requests under way, left out.
    #[must_use]
    pub fn grows_on(&self) -> bool {
        let (Some(middle), Some(now)) = (self.middle(), &self.now.cohorts) else {
            return false;
        };
        let settled = (self.now.at_ms as f64 * (1.0 - limit::OLD_AT_A_REPORT[0])) as u64;
        let (until_middle, before) = now.born_before(middle.at_ms);
        let (until_settled, all) = now.born_before(settled);
        let since = all.saturating_sub(before) as f64 / until_settled.saturating_sub(until_middle).max(1) as f64;
        let before = before as f64 / until_middle.saturating_sub(self.began_after_ms()).max(1) as f64;
        before > 0.0 && since >= before * limit::STEADY_GROWTH
    }

    /// It allocates on, and what is alive does not grow: for that the window's earlier part must have grown, and the
    /// later part hardly.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.middle().is_some_and(|middle| {
            middle.live.blocks >= limit::MIN_COHORT
                && self.now.allocated.blocks > middle.allocated.blocks.saturating_add(middle.live.blocks / 4)
                && self
                    .later_growth(middle)
                    .is_some_and(|growth| growth <= limit::BOUNDED_GROWTH)
        })
    }

    /// Share freed in the middle of the window: of all allocated until then.
    #[must_use]
    pub fn share_freed_in_the_middle(&self) -> Option<f64> {
        let middle = self
            .middle()
            .filter(|middle| middle.allocated.blocks >= limit::MIN_COHORT)?;
        let freed = middle.allocated.blocks.saturating_sub(middle.live.blocks);
        Some(freed as f64 / middle.allocated.blocks as f64)
    }

    /// Bytes alive never fell between reports and grew more than once, over a good part of the window.
    #[must_use]
    pub fn only_grows(&self) -> bool {
        let pairs = || self.points().zip(self.points().skip(1));
        let watched_from = self.past.first().map_or(self.now.at_ms, |first| first.at_ms) as f64;
        pairs().all(|(earlier, later)| later.live.bytes >= earlier.live.bytes)
            && pairs()
                .filter(|(earlier, later)| later.live.bytes > earlier.live.bytes)
                .count()
                > 1
            && watched_from <= self.now.at_ms as f64 * limit::CONTAINER_WATCHED_FROM
    }

    /// Bytes alive fell at some report after a moment.
    #[must_use]
    pub fn shrank_since(&self, at_ms: u64) -> bool {
        let since: Vec<u64> = self
            .past
            .iter()
            .filter(|point| point.at_ms >= at_ms)
            .chain([self.now])
            .map(|point| point.live.bytes)
            .collect();
        since.windows(2).any(|pair| pair[1] < pair[0])
    }
}

/// Log likelihood ratio of "none is freed but these few" against so many that were expected to be.
fn odds_of_fewer(freed: u64, expected: f64) -> f64 {
    let freed = freed as f64;
    if freed >= expected {
        return 0.0;
    }
    let of_the_few = if freed == 0.0 {
        0.0
    } else {
        freed * (expected / freed).ln()
    };
    expected - freed - of_the_few
}
