//! The rules, in the order they are tried; the first that holds decides.

use super::births::Births;
use super::confidence::{Grounds, confidence};
use super::container;
use super::database::Doubts;
use super::judgement::{Evidence, Judgement, Need, Reason, Verdict};
use super::past::{PastPoint, Series};
use super::sampled::SampledSince;
use super::standing::{Found, Ground, Seen, hold};
use super::thresholds as limit;
use crate::report::cohorts::Cohorts;
use crate::report::sites::Amount;

/// One site as it is judged. Everything counts from the beginning of the judged window.
#[derive(Clone, Copy, Debug)]
pub struct SiteView<'a> {
    /// Allocated in the window.
    pub allocated: Amount,
    /// Alive, of these.
    pub live: Amount,
    /// Their birth times: equal bins over the window, oldest first.
    pub births: &'a [Amount],
    /// The same on a grid that can be compared with earlier reports'.
    pub cohorts: Option<&'a Cohorts>,
    /// Length of the window, milliseconds.
    pub window_ms: u64,
    /// Time since the end of the window in which frees were still seen, milliseconds: 0 for a window that lasts.
    pub settled_ms: u64,
    /// Age of the oldest at the end of the window, milliseconds.
    pub oldest_ms: u64,
    /// Age of the youngest at the end of the window, milliseconds.
    pub youngest_ms: u64,
    /// What the last report found.
    pub found: Option<Found>,
}

impl SiteView<'_> {
    fn share_freed(&self) -> Option<f64> {
        let allocated = self.allocated.blocks;
        (allocated > 0).then(|| allocated.saturating_sub(self.live.blocks) as f64 / allocated as f64)
    }

    /// Little's law: what is alive is the rate of births times their mean life.
    fn mean_life_ms(&self) -> Option<f64> {
        (self.allocated.blocks > 0)
            .then(|| self.live.blocks as f64 * self.window_ms as f64 / self.allocated.blocks as f64)
    }

    fn share_of_window(&self, age_ms: u64) -> f64 {
        age_ms as f64 / self.window_ms.max(1) as f64
    }

    fn frees_nothing(&self) -> bool {
        self.share_freed().is_some_and(|share| share < limit::FREES_NOTHING)
    }
}

/// How much longer a window must last, or settle after its end, to be judged, milliseconds; `None` when it can be.
#[must_use]
pub fn lacking_ms(window_ms: u64, settled_ms: u64) -> Option<u64> {
    let lasting = limit::MIN_WINDOW_MS.checked_sub(window_ms.saturating_add(settled_ms));
    let settling = limit::SETTLED_MS.checked_sub(settled_ms);
    match (lasting, settling) {
        (Some(lasting), Some(settling)) if lasting > 0 && settling > 0 => {
            Some(if settled_ms > 0 { lasting.min(settling) } else { lasting })
        }
        _ => None,
    }
}

/// Judges one site.
#[must_use]
pub fn judge_site(site: &SiteView<'_>, past: &[PastPoint], doubts: Doubts) -> Judgement {
    judge_sampled_site(site, past, doubts, None)
}

/// The same where sampling may have begun on the way.
pub(super) fn judge_sampled_site(
    site: &SiteView<'_>,
    past: &[PastPoint],
    doubts: Doubts,
    sampled: Option<SampledSince>,
) -> Judgement {
    let bin_ms = site.window_ms as f64 / site.births.len().max(1) as f64;
    let mut births = Births::new(site.births, bin_ms);
    if site.frees_nothing() {
        // The oldest is the first there was: what the site did before it was made is nothing to judge.
        births = births.of_what_is_never_freed();
    }
    let now = PastPoint {
        at_ms: site.window_ms,
        allocated: site.allocated,
        live: site.live,
        cohorts: site.cohorts.cloned(),
    };
    let series = Series::new(past, &now);
    let (mut verdict, mut reason) = decide(site, &births, &series);
    let held_back = sampled.and_then(|sampled| sampled.hold_back(site, past, reason));
    (verdict, reason) = held_back.unwrap_or((verdict, reason));
    let survivors = births.survivors().blocks;
    let seen = Seen {
        site,
        births: &births,
        series: &series,
        sampled,
        doubts,
    };
    let mut grounds = Grounds {
        // A span between two marks that has ended was watched on: what it left had that time to be freed.
        window_ms: births.window_ms() + site.settled_ms as f64,
        events: match Ground::of(reason) {
            Some(ground) => seen.survivors(ground),
            None => site.allocated.blocks,
        },
        rate: births.rate(),
        never_freed: site.frees_nothing(),
        earlier_reports: series.len(),
        doubts,
    };
    if reason == Reason::GrowingContainer {
        // Its growth is in bytes: births of its one block say nothing of how steady it is.
        grounds.rate = None;
    }
    let mut sure = confidence(verdict, grounds);
    if verdict == Verdict::Leaking {
        if doubts.ghosts_among(grounds.events) > limit::MAX_GHOSTS {
            (verdict, reason) = (Verdict::Undecided, Reason::Needs(Need::SeenFrees));
        } else if sure < limit::MIN_CONFIDENCE {
            let survivors = limit::MIN_SURVIVORS;
            (verdict, reason) = (Verdict::Undecided, Reason::Needs(Need::Events { survivors }));
        }
        sure = if verdict == Verdict::Leaking {
            sure
        } else {
            sure.min(0.5)
        };
    }
    let fresh = Judgement {
        verdict,
        reason,
        evidence: Evidence {
            rate: grounds.rate,
            share_freed: site.share_freed(),
            mean_life_ms: site.mean_life_ms().map(|life| life as u64),
            survivors,
            earlier_reports: series.len(),
            confidence: sure,
            leaking_for_ms: None,
        },
        // What grew until sampling began has more than it had, however empty the sample is.
        grows: grows(verdict, reason, &births)
            || held_back.is_some() && sampled.is_some_and(|sampled| sampled.births_before(site).in_both_halves()),
        found: None,
    };
    hold(fresh, &seen)
}

/// Survivors in both halves, or a container that has grown: whatever it is called, it has more than it had.
fn grows(verdict: Verdict, reason: Reason, births: &Births<'_>) -> bool {
    match verdict {
        Verdict::Leaking => true,
        Verdict::Undecided => {
            matches!(
                reason,
                Reason::Needs(Need::LaterReport | Need::Growth { .. } | Need::SeenFrees)
            ) || births.in_both_halves()
        }
        _ => false,
    }
}

fn decide(site: &SiteView<'_>, births: &Births<'_>, series: &Series<'_>) -> (Verdict, Reason) {
    let undecided = |need| (Verdict::Undecided, Reason::Needs(need));
    let alive = site.live.blocks;
    if alive == 0 {
        return (Verdict::Churn, Reason::AllFreed);
    }
    if let Some(lacking_ms) = lacking_ms(site.window_ms, site.settled_ms) {
        let seconds = lacking_ms.div_ceil(1000);
        return undecided(Need::Time { seconds });
    }
    if site.births.len() < limit::MIN_BINS {
        let seconds = site.window_ms.div_ceil(1000);
        return undecided(Need::Time { seconds });
    }
    if container::replaced_smaller_ones(site)
        && let Some(decided) = container::decide(site, series)
    {
        return decided;
    }
    let as_long_again = site.window_ms / 1000;
    let oldest = site.share_of_window(site.oldest_ms);
    if oldest <= limit::YOUNG_ONLY {
        return young_only(site);
    }
    if let Some(decided) = no_more(site, births) {
        return decided;
    }
    if series.is_bounded() {
        return (Verdict::Cache, Reason::Bounded);
    }
    let survivors = births.survivors().blocks;
    if survivors < limit::MIN_SURVIVORS {
        let survivors = limit::MIN_SURVIVORS - survivors;
        return undecided(Need::Events { survivors });
    }
    if let Some(need) = lacking_since_first(site, births) {
        return undecided(need);
    }
    let halves = births.halves();
    let ratio = halves.ratio();
    if ratio <= limit::FLATTENED && halves.z <= limit::FLATTENED_Z {
        return (Verdict::Cache, Reason::Flattened { ratio });
    }
    let effective = births.effective() as u64;
    if effective < limit::MIN_SURVIVORS {
        return undecided(match site.settled_ms {
            0 => Need::Events {
                survivors: limit::MIN_SURVIVORS - effective,
            },
            _ => Need::LongerSpan,
        });
    }
    if births.may_slow() || births.occupied() < limit::MIN_GROUPS {
        return undecided(match site.settled_ms {
            0 => Need::Course { seconds: as_long_again },
            _ => Need::LongerSpan,
        });
    }
    if site.frees_nothing() {
        return (Verdict::Leaking, Reason::SteadySurvivors);
    }
    among_freed(site, births, series, site.share_freed().unwrap_or(0.0))
}

/// What a site that began late lacks to be judged by the time since.
fn lacking_since_first(site: &SiteView<'_>, births: &Births<'_>) -> Option<Need> {
    let (filled, all, need) = (births.len() as u64, site.births.len() as u64, limit::MIN_BINS as u64);
    if filled == all {
        return None;
    }
    let missing = need.saturating_sub(filled);
    if site.settled_ms >= limit::SETTLED_MS {
        return (missing > 0).then_some(Need::LongerSpan);
    }
    let lasts = births.window_ms() as u64 + site.settled_ms;
    // Bins grow with the window W: of n, b are filled; `need` are after W (need - b) / (n - need) more.
    let for_bins = site.window_ms.saturating_mul(missing) / (all - need.min(all)).max(1);
    let lacking = limit::MIN_OWN_TIME_MS.saturating_sub(lasts).max(for_bins);
    let seconds = lacking.div_ceil(1000);
    (lacking > 0).then_some(Need::Time { seconds })
}

fn young_only(site: &SiteView<'_>) -> (Verdict, Reason) {
    if site.allocated.blocks < site.live.blocks.saturating_mul(limit::TURNOVERS) {
        // It began to allocate only lately: wait until that is most of the window.
        let seconds = site.window_ms.saturating_sub(site.oldest_ms).div_ceil(1000).max(1);
        return (Verdict::Undecided, Reason::Needs(Need::Time { seconds }));
    }
    let life = site.mean_life_ms().unwrap_or(0.0) / site.window_ms as f64;
    if life >= limit::CACHE_LIFE && site.live.blocks >= limit::MIN_SURVIVORS {
        (Verdict::Cache, Reason::TurnsOver)
    } else {
        (Verdict::Churn, Reason::YoungOnly)
    }
}

/// Births that have come to an end: at the start, or later.
fn no_more(site: &SiteView<'_>, births: &Births<'_>) -> Option<(Verdict, Reason)> {
    let silent = site.share_of_window(site.youngest_ms);
    let expected = site.live.blocks as f64 * silent / (1.0 - silent).max(0.01);
    let enough = if silent >= 0.75 {
        limit::EXPECTED_AFTER_START
    } else {
        limit::EXPECTED_IN_SILENCE
    };
    if silent >= limit::EARLY_ONLY && expected >= enough {
        return Some((Verdict::Startup, Reason::BornEarly));
    }
    let (since, longest) = births.silence();
    // Two bins are added since neither end of a silence is known better than its bin.
    let is_end = since as f64 >= longest as f64 * limit::SILENCE_FACTOR + 2.0;
    (is_end && expected >= limit::EXPECTED_IN_SILENCE * births.dispersion().sqrt()).then_some((
        Verdict::Cache,
        Reason::Stopped {
            silent_ms: site.youngest_ms,
        },
    ))
}

/// The site frees some of its blocks: are those alive leaked, or merely not freed yet?
fn among_freed(site: &SiteView<'_>, births: &Births<'_>, series: &Series<'_>, freed: f64) -> (Verdict, Reason) {
    let halves = births.halves();
    let catching_up = series
        .share_freed_in_the_middle()
        .is_some_and(|before| freed > before * limit::FREES_CATCH_UP);
    if series.grows_on() && series.old_ones_stay() {
        return (Verdict::Leaking, Reason::SteadyGrowth);
    }
    let turned_over = site.allocated.blocks >= site.live.blocks.saturating_mul(limit::TURNOVERS);
    if halves.ratio() >= limit::RISING_SURE && halves.z >= -limit::FLATTENED_Z && turned_over {
        return (Verdict::Cache, Reason::TurnsOver);
    }
    let survivors = births.survivors().blocks;
    // One look does not tell a leak from a cache that has been filling and lets go since, until that has turned over.
    let even = turned_over && halves.ratio() <= limit::RISING && survivors >= limit::MIN_SURVIVORS_AMONG_FREED;
    if even && !catching_up && !series.old_ones_go() && outlasts(site, births, freed) {
        return (Verdict::Leaking, Reason::SteadySurvivors);
    }
    (Verdict::Undecided, Reason::Needs(Need::LaterReport))
}

/// Survivors are better explained by "never freed" than by the life behind the share freed, if all blocks are alike, and
/// than by one as long as the window, if a few live on after most are freed.
fn outlasts(site: &SiteView<'_>, births: &Births<'_>, freed: f64) -> bool {
    let alike = life_behind(freed, site.window_ms as f64);
    births.log_odds_of_even(alike) >= limit::MIN_LOG_ODDS
        && births.log_odds_of_even(births.window_ms()) >= limit::GOING_ON_LOG_ODDS
}

/// The longest mean life that would explain the share freed if nothing leaked: that of a pool which was as large as it is
/// now all the time, so that its frees were `live × window ÷ life`. One that had to fill first frees as much only with a
/// shorter life, and is told apart the more easily.
fn life_behind(freed: f64, window_ms: f64) -> f64 {
    window_ms * (1.0 - freed) / freed
}
