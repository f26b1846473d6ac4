//! A leak once found stands until evidence contradicts it: a report that merely sees too little takes nothing back.
//!
//! It is taken back when a rule decides otherwise (growth has stopped, flattened, is bounded; all is freed), when blocks
//! that were old when it was last confirmed have been freed, when growth clearly slows, when a container shrinks; when
//! missed frees could explain it, or losses leave too little confidence; and when it has gone unconfirmed for longer than
//! it was watched before.

use super::births::Births;
use super::database::Doubts;
use super::judgement::{Judgement, Need, Reason, Verdict};
use super::past::Series;
use super::rules::SiteView;
use super::sampled::SampledSince;
use super::thresholds as limit;

/// The rule by which a leak was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// [`Reason::SteadySurvivors`].
    SteadySurvivors,
    /// [`Reason::SteadyGrowth`].
    SteadyGrowth,
    /// [`Reason::GrowingContainer`].
    GrowingContainer,
}

impl Ground {
    /// Every ground; a file has its place here.
    pub const ALL: [Self; 3] = [Self::SteadySurvivors, Self::SteadyGrowth, Self::GrowingContainer];

    /// Of the reason of a leak; none of what is not one.
    #[must_use]
    pub const fn of(reason: Reason) -> Option<Self> {
        match reason {
            Reason::SteadySurvivors => Some(Self::SteadySurvivors),
            Reason::SteadyGrowth => Some(Self::SteadyGrowth),
            Reason::GrowingContainer => Some(Self::GrowingContainer),
            _ => None,
        }
    }

    /// The reason.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::SteadySurvivors => Reason::SteadySurvivors,
            Self::SteadyGrowth => Reason::SteadyGrowth,
            Self::GrowingContainer => Reason::GrowingContainer,
        }
    }
}

/// A leak as it was found. Times are milliseconds since the judged window began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// By which rule it was last confirmed.
    pub ground: Ground,
    /// The first report that found it.
    pub first_ms: u64,
    /// The last report that did by its own evidence.
    pub confirmed_ms: u64,
    /// Confidence then, in thousandths, by what was seen: what was missed is taken off at each report anew.
    pub permille: u16,
}

impl Found {
    /// Confidence now by what was seen then: less, the longer it is unconfirmed.
    fn confidence(&self, now_ms: u64) -> f64 {
        f64::from(self.permille) / 1000.0 * self.confirmed_ms as f64 / now_ms.max(1) as f64
    }

    fn confirmed(ground: Ground, now_ms: u64, confidence: f64, before: Option<Self>) -> Self {
        Self {
            ground,
            first_ms: before.map_or(now_ms, |found| found.first_ms.min(now_ms)),
            confirmed_ms: now_ms,
            permille: (confidence.clamp(0.0, 1.0) * 1000.0) as u16,
        }
    }
}

/// What there is to hold against a leak found earlier.
pub(super) struct Seen<'a> {
    /// The site, with what was found.
    pub site: &'a SiteView<'a>,
    /// Its births, from the first one on if it frees nothing.
    pub births: &'a Births<'a>,
    /// With earlier reports.
    pub series: &'a Series<'a>,
    /// Where sampling began on the way.
    pub sampled: Option<SampledSince>,
    /// What was not seen.
    pub doubts: Doubts,
}

/// The judgement with what an earlier report found taken into account.
#[must_use]
pub(super) fn hold(fresh: Judgement, seen: &Seen<'_>) -> Judgement {
    let (before, now_ms) = (seen.site.found, seen.site.window_ms);
    if fresh.verdict == Verdict::Leaking {
        let confidence = |ground| fresh.evidence.confidence / seen.trust(ground);
        let found = Ground::of(fresh.reason).map(|ground| Found::confirmed(ground, now_ms, confidence(ground), before));
        let mut confirmed = Judgement { found, ..fresh };
        confirmed.evidence.leaking_for_ms = found.map(|found| now_ms - found.first_ms);
        return confirmed;
    }
    let Reason::Needs(
        need @ (Need::Sample { .. }
        | Need::Events { .. }
        | Need::Course { .. }
        | Need::LaterReport
        | Need::Growth { .. }),
    ) = fresh.reason
    else {
        return fresh;
    };
    let Some(found) = before.filter(|found| seen.lets_stand(*found)) else {
        return fresh;
    };
    let mut held = Judgement {
        verdict: Verdict::Leaking,
        reason: Reason::Standing {
            ground: found.ground,
            first_ms_ago: now_ms.saturating_sub(found.first_ms),
            confirmed_ms_ago: now_ms.saturating_sub(found.confirmed_ms),
            need,
        },
        grows: true,
        found: Some(found),
        ..fresh
    };
    held.evidence.confidence = seen.confidence(found);
    held.evidence.leaking_for_ms = Some(now_ms.saturating_sub(found.first_ms));
    held
}

impl Seen<'_> {
    fn lets_stand(&self, found: Found) -> bool {
        let (now_ms, confirmed) = (self.site.window_ms, found.confirmed_ms as f64);
        let in_time = (1.0..=now_ms as f64).contains(&confirmed) && confirmed >= now_ms as f64 * limit::STANDS;
        let contradicted = match found.ground {
            Ground::GrowingContainer => self.series.shrank_since(found.confirmed_ms),
            Ground::SteadySurvivors | Ground::SteadyGrowth => {
                self.series
                    .kept_of_old_at(found.confirmed_ms)
                    .is_some_and(|kept| kept < limit::LET_GO)
                    || self.slows_surely()
            }
        };
        let ghosts = self.doubts.ghosts_among(self.survivors(found.ground));
        in_time && !contradicted && ghosts <= limit::MAX_GHOSTS && self.confidence(found) >= limit::MIN_CONFIDENCE
    }

    fn confidence(&self, found: Found) -> f64 {
        found.confidence(self.site.window_ms) * self.trust(found.ground)
    }

    fn trust(&self, ground: Ground) -> f64 {
        self.doubts.trust_in(self.survivors(ground))
    }

    /// What a leak found by this rule rests on: a container is one block, on those it replaced.
    pub(super) fn survivors(&self, ground: Ground) -> u64 {
        match ground {
            Ground::GrowingContainer => self.site.allocated.blocks.saturating_sub(self.site.live.blocks),
            Ground::SteadySurvivors | Ground::SteadyGrowth => {
                let recorded = self.sampled.map_or(u64::MAX, |sampled| sampled.recorded);
                self.births.survivors().blocks.min(recorded)
            }
        }
    }

    /// Births slow, and not only in a sample that would have few of them anyway.
    fn slows_surely(&self) -> bool {
        self.births.slows_surely() && self.sampled.is_none_or(|sampled| sampled.shows_fewer(self.site))
    }
}
