//! Puts estimates in the place of what was recorded, where blocks are sampled. After the judgement, which rests on what
//! was seen; every rendering then shows the same figures.

use super::sites::{Amount, Sampled, SiteFigures, SitesReport};
use crate::verdict::JudgedDatabase;

/// Replaces every figure of sampled blocks, and the growth told of them. A report in which every block is recorded stays.
pub fn unsample(report: &mut SitesReport, judged: &mut JudgedDatabase) {
    let factors: Vec<Factor> = figures(report);
    for (judgement, factor) in judged.judgements.iter_mut().zip(factors) {
        if let Some(rate) = &mut judgement.evidence.rate {
            rate.blocks_per_minute *= factor.blocks;
            rate.bytes_per_minute *= factor.bytes;
        }
    }
}

/// The same without verdicts: what stands for how much, site by site.
pub fn figures(report: &mut SitesReport) -> Vec<Factor> {
    let Some(sampling) = report.sampling else {
        return vec![Factor::ONE; report.sites.len()];
    };
    let whole = sampling.from_the_start.then_some(sampling.sample_bytes);
    report.sites.iter_mut().map(|site| estimate(site, whole)).collect()
}

/// How many blocks and bytes each that was recorded stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// Of blocks.
    pub blocks: f64,
    /// Of bytes.
    pub bytes: f64,
}

impl Factor {
    /// Every block was recorded.
    pub const ONE: Self = Self {
        blocks: 1.0,
        bytes: 1.0,
    };

    /// Of a site.
    #[must_use]
    pub fn of(sampled: Option<Sampled>) -> Self {
        let ratio = |estimated: u64, recorded: u64| match recorded {
            0 => 1.0,
            _ => estimated as f64 / recorded as f64,
        };
        sampled.map_or(Self::ONE, |sampled| Self {
            blocks: ratio(sampled.estimated.blocks, sampled.recorded.blocks),
            bytes: ratio(sampled.estimated.bytes, sampled.recorded.bytes),
        })
    }

    /// So much of what was recorded.
    #[must_use]
    pub fn apply(self, amount: Amount) -> Amount {
        Amount {
            blocks: (amount.blocks as f64 * self.blocks).round() as u64,
            bytes: (amount.bytes as f64 * self.bytes).round() as u64,
        }
    }
}

/// What was alive is estimated block by block; what was allocated is known in sum only, and is scaled by its mean size, as
/// pprof's readers of heap profiles do. Where sampling began later, the sum is of both kinds and stays.
fn estimate(site: &mut SiteFigures, sample_bytes: Option<u64>) -> Factor {
    let factor = Factor::of(site.sampled);
    if let Some(sampled) = site.sampled {
        site.live = sampled.estimated;
    }
    for bin in &mut site.births {
        *bin = factor.apply(*bin);
    }
    if let Some(mean) = sample_bytes {
        site.allocated = scaled(site.allocated, mean);
    }
    site.allocated = Amount {
        blocks: site.allocated.blocks.max(site.live.blocks),
        bytes: site.allocated.bytes.max(site.live.bytes),
    };
    site.freed = Amount {
        blocks: site.allocated.blocks - site.live.blocks,
        bytes: site.allocated.bytes - site.live.bytes,
    };
    factor
}

/// Blocks of the same mean size, each recorded with the probability that this size has.
fn scaled(amount: Amount, sample_bytes: u64) -> Amount {
    if amount.blocks == 0 {
        return amount;
    }
    // As the programs sample it: no block is smaller than one byte to them.
    let mean = (amount.bytes as f64 / amount.blocks as f64).max(1.0);
    let factor = 1.0 / -(-mean / sample_bytes as f64).exp_m1();
    Factor {
        blocks: factor,
        bytes: factor,
    }
    .apply(amount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::SiteId;
    use crate::report::samples::{site_stack, sites_report};
    use crate::report::sites::Sampling;
    use crate::verdict::judge_database;

    fn amount(blocks: u64, bytes: u64) -> Amount {
        Amount { blocks, bytes }
    }

    fn sampled_report(from_the_start: bool) -> SitesReport {
        let mut report = sites_report(320_000);
        report.sampling = Some(Sampling {
            sample_bytes: 10_000,
            from_the_start,
        });
        let mut site = SiteFigures::empty(SiteId(1), site_stack("work"));
        site.live = amount(64, 6400);
        site.births = vec![amount(2, 200); site.births.len()];
        site.allocated = amount(100, 10_000);
        site.freed = amount(36, 3600);
        site.oldest_ms = Some(319_000);
        site.youngest_ms = Some(1_000);
        site.sampled = Some(Sampled {
            recorded: site.live,
            estimated: amount(6432, 643_200),
            bytes_error: 157_000,
        });
        report.sites.push(site);
        report
    }

    #[test]
    fn figures_and_growth_become_estimates_and_the_verdict_stays() {
        let mut report = sampled_report(true);
        let mut judged = judge_database(&report, &());
        let before = judged.judgements[0];
        unsample(&mut report, &mut judged);
        let (site, after) = (&report.sites[0], judged.judgements[0]);
        assert_eq!(site.live, amount(6432, 643_200));
        // 100 blocks of 100 bytes, each recorded once in 100.5.
        assert_eq!(site.allocated, amount(10_050, 1_005_008));
        assert_eq!(site.freed.blocks, 10_050 - 6432);
        assert_eq!(site.births[0], amount(201, 20_100));
        assert_eq!((after.verdict, after.reason), (before.verdict, before.reason));
        let growth = after.evidence.rate.unwrap().bytes_per_minute / before.evidence.rate.unwrap().bytes_per_minute;
        assert!((growth - 100.5).abs() < 1e-9, "{growth}");
        assert_eq!(report.bytes_error(), Some(157_000));
    }

    #[test]
    fn sums_from_before_sampling_began_are_not_scaled() {
        let mut report = sampled_report(false);
        figures(&mut report);
        let site = &report.sites[0];
        assert_eq!((site.allocated, site.freed), (amount(6432, 643_200), amount(0, 0)));
    }

    #[test]
    fn a_report_of_every_block_stays_as_it_is() {
        let mut report = sampled_report(true);
        report.sampling = None;
        report.sites[0].sampled = None;
        let before = report.sites.clone();
        assert_eq!(figures(&mut report), [Factor::ONE]);
        assert_eq!(report.sites, before);
        assert_eq!(report.bytes_error(), None);
    }
}
