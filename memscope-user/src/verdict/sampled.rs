//! Where the budget brought sampling on: whether births that are not seen any more would have been seen.
//!
//! Until then every block was recorded, since then perhaps one in thousands. That none has come since is no end of births,
//! if hardly any would have been in the sample.

use super::births::Births;
use super::container;
use super::judgement::{Need, Reason, Verdict};
use super::past::PastPoint;
use super::rules::SiteView;
use super::thresholds::MIN_SURVIVORS;
use crate::report::sites::Sampling;

/// Births that would have been sampled in a silence before it counts as an end: e^-10 is 1 in 22 000. More than of births that
/// are all seen, for every site of a database meets the same moment at which sampling begins.
const EXPECTED_IN_SAMPLE: f64 = 10.0;

/// Standard deviations by which fewer births must have been sampled than if they had gone on as before.
const SURELY_FEWER: f64 = 3.0;

/// Sampling that began within the judged window.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampledSince {
    /// How blocks are sampled.
    pub sampling: Sampling,
    /// Since when, milliseconds since the window began.
    pub at_ms: u64,
    /// Blocks of the site that are alive, as recorded: what they stand for is no more evidence than they are.
    pub recorded: u64,
}

/// A site's births as the sample could have them, if they went on as they were. In blocks of the sample: those from before
/// it began make up one together.
struct Expected {
    /// From when on births are missed, milliseconds since the window began.
    missed_from_ms: u64,
    /// At least so many before.
    before: f64,
    /// Since then, until now, if they went on.
    since: f64,
}

impl SampledSince {
    /// What to say in the place of a verdict: of one that says that births have ended, where births that went on as before
    /// would have left fewer than [`EXPECTED_IN_SAMPLE`] blocks in the sample; and of one that says that they have become
    /// fewer, where chance could have left as few there. `None` when it holds. That of a buffer always does: had it grown
    /// unseen, the block that is alive would be gone. Only one that has always been alone: of several, the one that is left
    /// may be another.
    pub(super) fn hold_back(
        &self,
        site: &SiteView<'_>,
        past: &[PastPoint],
        reason: Reason,
    ) -> Option<(Verdict, Reason)> {
        let alone = site.live.blocks == 1 && !past.is_empty() && past.iter().all(|point| point.live.blocks <= 1);
        if alone && container::replaced_smaller_ones(site) {
            return None;
        }
        let (expected, says_so, needed) = match reason {
            Reason::BornEarly | Reason::Stopped { .. } => {
                let expected = self.expected_in_silence(site);
                let says_so = expected.since >= EXPECTED_IN_SAMPLE;
                (expected, says_so, EXPECTED_IN_SAMPLE)
            }
            // So many that half of them would surely be fewer.
            Reason::Flattened { .. } | Reason::Bounded => (
                self.expected_as_before(site),
                self.shows_fewer(site),
                (2.0 * SURELY_FEWER).powi(2),
            ),
            _ => return None,
        };
        if says_so {
            return None;
        }
        let need = if expected.before > 0.0 {
            let sampled_a_ms = expected.before / expected.missed_from_ms.max(1) as f64;
            let lacking_ms = (needed - expected.since).max(1.0) / sampled_a_ms;
            Need::Sample {
                seconds: (lacking_ms / 1000.0).ceil() as u64,
            }
        } else {
            Need::Events {
                survivors: MIN_SURVIVORS,
            }
        };
        Some((Verdict::Undecided, Reason::Needs(need)))
    }

    /// Fewer blocks are in the sample than chance would leave there of births that went on as before. Of a site without
    /// births from before, what was born since is a sample like any other.
    pub(super) fn shows_fewer(&self, site: &SiteView<'_>) -> bool {
        let expected = self.expected_as_before(site);
        expected.before == 0.0 || expected.since - self.seen(site) >= SURELY_FEWER * expected.since.sqrt()
    }

    /// Births until sampling began: these are all known.
    pub(super) fn births_before<'a>(&self, site: &SiteView<'a>) -> Births<'a> {
        let bins = (self.at_ms as f64 / bin_ms(site)) as usize;
        Births::new(&site.births[..bins.min(site.births.len())], bin_ms(site))
    }

    fn expected_as_before(&self, site: &SiteView<'_>) -> Expected {
        Expected::of(site, self.at_ms, self.exact(site))
    }

    fn expected_in_silence(&self, site: &SiteView<'_>) -> Expected {
        let youngest_ms = site.window_ms.saturating_sub(site.youngest_ms);
        let seen = self.seen(site);
        let surely_seen = (seen - 2.0 * seen.sqrt()).max(0.0);
        Expected::of(site, self.at_ms.max(youngest_ms), self.exact(site) + surely_seen)
    }

    /// Of what is alive, that from before.
    fn exact(&self, site: &SiteView<'_>) -> f64 {
        self.blocks_before(site) / self.weight(site)
    }

    /// Of what is alive, that from since then.
    fn seen(&self, site: &SiteView<'_>) -> f64 {
        (site.live.blocks as f64 - self.blocks_before(site)).max(0.0) / self.weight(site)
    }

    fn weight(&self, site: &SiteView<'_>) -> f64 {
        let mean_size = site.live.bytes as f64 / site.live.blocks.max(1) as f64;
        self.sampling.stands_for(mean_size)
    }

    /// Blocks alive that were born before; the bin that holds the moment is shared in proportion.
    fn blocks_before(&self, site: &SiteView<'_>) -> f64 {
        let place = self.at_ms as f64 / bin_ms(site);
        let births = site.births.iter().enumerate();
        births
            .map(|(index, bin)| bin.blocks as f64 * (place - index as f64).clamp(0.0, 1.0))
            .sum()
    }
}

impl Expected {
    fn of(site: &SiteView<'_>, missed_from_ms: u64, before: f64) -> Self {
        let sampled_a_ms = before / missed_from_ms.max(1) as f64;
        Self {
            missed_from_ms,
            before,
            since: sampled_a_ms * site.window_ms.saturating_sub(missed_from_ms) as f64,
        }
    }
}

fn bin_ms(site: &SiteView<'_>) -> f64 {
    site.window_ms.max(1) as f64 / site.births.len().max(1) as f64
}
