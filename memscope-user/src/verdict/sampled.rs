//! Where the budget brought sampling on: whether births that are not seen any more would have been seen.
//!
//! Until then every block was recorded, since then perhaps one in thousands. That none has come since is no end of births,
//! if hardly any would have been in the sample.

use super::judgement::{Judgement, Need, Reason, Verdict};
use super::thresholds::MIN_SURVIVORS;
use crate::report::sites::{SiteFigures, SitesReport};

/// Births that would have been sampled in a silence before it counts as an end: e^-10 is 1 in 22 000. More than of births that
/// are all seen, for every site of a database meets the same moment at which sampling begins.
const EXPECTED_IN_SAMPLE: f64 = 10.0;

/// Standard deviations by which fewer births must have been sampled than if they had gone on as before.
const SURELY_FEWER: f64 = 3.0;

/// Takes back a verdict that says that births have ended, where births that went on as before would have left fewer than
/// [`EXPECTED_IN_SAMPLE`] blocks in the sample; and one that says that they have become fewer, where chance could have left
/// as few there.
pub fn hold_back(report: &SitesReport, site: &SiteFigures, judgement: &mut Judgement) {
    let Some((sampling, since_ms)) = report.sampling.and_then(|it| Some((it, it.since_ms?))) else {
        return;
    };
    let window = &report.window;
    let since = since_ms.clamp(window.start, window.end);
    let mean_size = site.live.bytes as f64 / site.live.blocks.max(1) as f64;
    // In blocks as the sample has them: those from before it began make up one together.
    let weight = sampling.stands_for(mean_size);
    let exact = born_until(report, site, since);
    let (exact, seen) = (exact / weight, (site.live.blocks as f64 - exact).max(0.0) / weight);
    // From when on births are missed, and at least how many there were before.
    let (missed_from, before) = match judgement.reason {
        Reason::BornEarly | Reason::Stopped { .. } => {
            let youngest = report.at_monotonic_ms.saturating_sub(site.youngest_ms.unwrap_or(0));
            let surely_seen = (seen - 2.0 * seen.sqrt()).max(0.0);
            (since.max(youngest.min(window.end)), exact + surely_seen)
        }
        // What was born since is a sample like any other.
        Reason::Flattened { .. } | Reason::Bounded if exact == 0.0 => return,
        Reason::Flattened { .. } | Reason::Bounded => (since, exact),
        _ => return,
    };
    let sampled_a_ms = before / missed_from.saturating_sub(window.start).max(1) as f64;
    let expected = sampled_a_ms * window.end.saturating_sub(missed_from) as f64;
    let (says_so, needed) = match judgement.reason {
        Reason::BornEarly | Reason::Stopped { .. } => (expected >= EXPECTED_IN_SAMPLE, EXPECTED_IN_SAMPLE),
        // So many that half of them would surely be fewer.
        _ => (
            expected - seen >= SURELY_FEWER * expected.sqrt(),
            (2.0 * SURELY_FEWER).powi(2),
        ),
    };
    if says_so {
        return;
    }
    let need = if before > 0.0 {
        let lacking_ms = (needed - expected).max(1.0) / sampled_a_ms;
        Need::Time {
            seconds: (lacking_ms / 1000.0).ceil() as u64,
        }
    } else {
        Need::Events {
            survivors: MIN_SURVIVORS,
        }
    };
    judgement.verdict = Verdict::Undecided;
    judgement.reason = Reason::Needs(need);
    judgement.evidence.confidence = judgement.evidence.confidence.min(0.5);
}

/// Blocks alive that were born until a moment; the bin that holds it is shared in proportion.
fn born_until(report: &SitesReport, site: &SiteFigures, until_ms: u64) -> f64 {
    let bin_ms = report.window_ms().max(1) as f64 / site.births.len().max(1) as f64;
    let place = until_ms.saturating_sub(report.window.start) as f64 / bin_ms;
    let births = site.births.iter().enumerate();
    births
        .map(|(index, bin)| bin.blocks as f64 * (place - index as f64).clamp(0.0, 1.0))
        .sum()
}
