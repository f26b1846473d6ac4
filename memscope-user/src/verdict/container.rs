//! The rule for a few blocks that replaced smaller ones: a buffer that grows by reallocation, without end or not.
//!
//! What counts is when it grew: how often between reports, and how long ago. Filled steadily, a buffer of fixed steps grows
//! in equal times and a vector, which grows by a share of what it has, in times that grow by that share; of either it can be
//! said when the next growth is due.

use super::judgement::{Need, Reason, Verdict};
use super::past::{PastPoint, Series};
use super::rules::SiteView;
use super::thresholds as limit;

/// Few blocks, larger than the many before them.
pub(super) fn replaced_smaller_ones(site: &SiteView<'_>) -> bool {
    let freed = site.allocated.blocks.saturating_sub(site.live.blocks);
    if site.live.blocks == 0 || site.live.blocks > limit::CONTAINER_BLOCKS || freed < limit::CONTAINER_BLOCKS {
        return false;
    }
    let mean_freed = site.allocated.bytes.saturating_sub(site.live.bytes) as f64 / freed as f64;
    let mean_live = site.live.bytes as f64 / site.live.blocks as f64;
    mean_live >= mean_freed * limit::CONTAINER_GREW
}

/// What such a site is; `None` when earlier reports show that its blocks are no buffer that was there all the time.
pub(super) fn decide(site: &SiteView<'_>, series: &Series<'_>) -> Option<(Verdict, Reason)> {
    if !series
        .points()
        .is_sorted_by(|earlier, later| may_be_one(earlier, later))
    {
        return None;
    }
    // One that began late is measured by the time since.
    let began = series.began_after_ms();
    let quiet = site.youngest_ms as f64;
    let grew_for = site.window_ms.saturating_sub(site.youngest_ms).saturating_sub(began) as f64;
    let silent_ms = site.youngest_ms;
    let grew_lately = quiet <= site.window_ms as f64 * limit::CONTAINER_LATELY;
    let needs_growth = Reason::Needs(Need::Growth { grew_lately });
    if site.window_ms.saturating_sub(began) < limit::MIN_OWN_TIME_MS {
        return Some((Verdict::Undecided, needs_growth));
    }
    // A vector that doubles would have doubled again.
    if quiet >= grew_for * limit::CONTAINER_OVERDUE {
        return Some(match began {
            0 => (Verdict::Startup, Reason::BornEarly),
            _ => (Verdict::Cache, Reason::Stopped { silent_ms }),
        });
    }
    let Some(growth) = Growth::of(grew_for, series) else {
        return Some((Verdict::Undecided, needs_growth));
    };
    if quiet > growth.next_due_ms * limit::EXPECTED_IN_SILENCE {
        return Some((Verdict::Cache, Reason::Stopped { silent_ms }));
    }
    let goes_on = grew_lately && quiet <= growth.next_due_ms * limit::CONTAINER_IN_TIME && growth.by_small_steps();
    Some(if goes_on && series.only_grows() {
        (Verdict::Leaking, Reason::GrowingContainer)
    } else {
        (Verdict::Undecided, needs_growth)
    })
}

/// The blocks alive at both moments may be one buffer: those replaced in between were not smaller than it was. Buffers of
/// requests that come and go begin small again and again.
fn may_be_one(earlier: &PastPoint, later: &PastPoint) -> bool {
    if earlier.allocated.blocks == 0 {
        return true;
    }
    let freed = |point: &PastPoint| {
        (
            point.allocated.blocks.saturating_sub(point.live.blocks),
            point.allocated.bytes.saturating_sub(point.live.bytes),
        )
    };
    let ((blocks_before, bytes_before), (blocks, bytes)) = (freed(earlier), freed(later));
    let replaced = blocks.saturating_sub(blocks_before) as f64;
    let mean_replaced = bytes.saturating_sub(bytes_before) as f64 / replaced.max(1.0);
    let mean_alive = earlier.live.bytes as f64 / earlier.live.blocks.max(1) as f64;
    // Of several buffers the small ones may be those that grow.
    let at_least = if earlier.live.blocks == 1 {
        1.0
    } else {
        limit::CONTAINERS_ALIKE
    };
    earlier.live.blocks > 0 && later.live.blocks > 0 && (replaced == 0.0 || mean_replaced >= mean_alive * at_least)
}

/// How a buffer grew in the later half of the time until it last did.
struct Growth {
    /// Time from the last growth to the next, milliseconds.
    next_due_ms: f64,
    /// What it grows by, as a share of what it has; the time until the next growth against that until the last, too.
    share: f64,
}

impl Growth {
    /// By the last report in the first half of that time, or the first one; `None` when it grew too few times since. A report
    /// at which nothing was alive does not tell how much had been allocated.
    fn of(grew_for_ms: f64, series: &Series<'_>) -> Option<Self> {
        let since_began = |point: &PastPoint| point.at_ms.saturating_sub(series.began_after_ms()) as f64;
        let seen = || series.past().iter().filter(|point| point.allocated.blocks > 0);
        let before = seen()
            .take_while(|point| since_began(point) * 2.0 <= grew_for_ms)
            .last()
            .or(seen().next())
            .filter(|point| (1.0..grew_for_ms).contains(&since_began(point)))?;
        let steps = series.now().allocated.blocks.saturating_sub(before.allocated.blocks);
        let in_time = (grew_for_ms / since_began(before)).powf(1.0 / steps.max(1) as f64) - 1.0;
        // Filled steadily, it grows in size as it does in time. Under a load that came late only its size tells.
        let share = in_time.max(grown_in_size(before, series.now()));
        (steps >= limit::CONTAINER_STEPS).then_some(Self {
            next_due_ms: grew_for_ms * share,
            share,
        })
    }

    /// Its steps are so small that an end would show. Of one that doubles it would not, however often it has.
    fn by_small_steps(&self) -> bool {
        self.share <= limit::CONTAINER_SMALL_STEPS
    }
}

/// By how much what was allocated in between was larger than what it replaced, as a share.
fn grown_in_size(before: &PastPoint, now: &PastPoint) -> f64 {
    let freed = |point: &PastPoint| point.allocated.bytes.saturating_sub(point.live.bytes);
    let replaced = freed(now).saturating_sub(freed(before));
    now.live.bytes.saturating_sub(before.live.bytes) as f64 / replaced as f64
}
