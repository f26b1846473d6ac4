//! Where the budget brought sampling on: whether births that are not seen any more would have been seen.
//!
//! Until then every block was recorded, since then perhaps one in thousands. That none has come since is no end of births,
//! if hardly any would have been in the sample.

use super::judgement::{Judgement, Need, Reason, Verdict};
use super::thresholds::EXPECTED_IN_SILENCE;
use crate::report::sites::{SiteFigures, SitesReport};

/// Takes back a verdict that says that births have ended or become fewer, where births that went on as before would have left
/// fewer than [`EXPECTED_IN_SILENCE`] blocks in the sample.
pub fn hold_back(report: &SitesReport, site: &SiteFigures, judgement: &mut Judgement) {
    let Some((sampling, since_ms)) = report.sampling.and_then(|it| Some((it, it.since_ms?))) else {
        return;
    };
    let window = &report.window;
    let since = since_ms.clamp(window.start, window.end);
    // From when on births are missed, and how many there were before.
    let (missed_from, before) = match judgement.reason {
        Reason::BornEarly | Reason::Stopped { .. } => {
            let youngest = report.at_monotonic_ms.saturating_sub(site.youngest_ms.unwrap_or(0));
            (since.max(youngest.min(window.end)), site.live.blocks as f64)
        }
        Reason::Flattened { .. } | Reason::Bounded => (since, born_until(report, site, since)),
        _ => return,
    };
    if before == 0.0 {
        return;
    }
    let mean_size = site.live.bytes as f64 / site.live.blocks.max(1) as f64;
    let time_before = missed_from.saturating_sub(window.start).max(1) as f64;
    let sampled_a_ms = before / time_before / sampling.stands_for(mean_size);
    let expected = sampled_a_ms * window.end.saturating_sub(missed_from) as f64;
    if expected >= EXPECTED_IN_SILENCE {
        return;
    }
    let lacking_ms = (EXPECTED_IN_SILENCE - expected) / sampled_a_ms;
    judgement.verdict = Verdict::Undecided;
    judgement.reason = Reason::Needs(Need::Time {
        seconds: (lacking_ms / 1000.0).ceil() as u64,
    });
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
