//! Puts estimates in the place of what was recorded, where blocks are sampled from the start. After the judgement, which rests
//! on what was seen; every rendering then shows the same figures.
//!
//! Where the budget brought sampling on later, recorded figures would add up blocks that stand for one and blocks that stand
//! for hundreds: there they are estimates from the reading on, and so are those that the history keeps.

use super::sites::{Amount, Sampled, Sampling, SiteFigures, SitesReport};
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
    match report.sampling {
        Some(sampling) if sampling.is_from_the_start() => {
            report.sites.iter_mut().map(|site| estimate(site, sampling)).collect()
        }
        _ => vec![Factor::ONE; report.sites.len()],
    }
}

/// How much each block and byte stands for in figures of this database that were kept at earlier reports, of a site or of
/// all.
#[must_use]
pub fn of_the_past(report: &SitesReport, sampled: Option<Sampled>) -> Factor {
    match report.sampling {
        Some(sampling) if sampling.is_from_the_start() => Factor::of(sampled),
        _ => Factor::ONE,
    }
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
    fn of(sampled: Option<Sampled>) -> Self {
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

/// What was alive is estimated block by block; what was allocated is known in sum only.
fn estimate(site: &mut SiteFigures, sampling: Sampling) -> Factor {
    let factor = Factor::of(site.sampled);
    // After an exec nobody can say what became of these.
    let unknown = Amount {
        blocks: site
            .allocated
            .blocks
            .saturating_sub(site.freed.blocks + site.live.blocks),
        bytes: site.allocated.bytes.saturating_sub(site.freed.bytes + site.live.bytes),
    };
    if let Some(sampled) = site.sampled {
        site.live = sampled.estimated;
    }
    for bin in &mut site.births {
        *bin = factor.apply(*bin);
    }
    // By their own mean size: by that of all, frees of large blocks would be lost among small ones that stay.
    site.freed = sampling.scaled(site.freed);
    site.allocated = site.freed;
    for part in [site.live, sampling.scaled(unknown)] {
        site.allocated.add(part.blocks, part.bytes);
    }
    factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::SiteId;
    use crate::report::samples::{site_stack, sites_report};
    use crate::verdict::judge_database;

    fn amount(blocks: u64, bytes: u64) -> Amount {
        Amount { blocks, bytes }
    }

    fn sampled_report(since_ms: Option<u64>) -> SitesReport {
        let mut report = sites_report(320_000);
        report.sampling = Some(Sampling {
            sample_bytes: 10_000,
            since_ms,
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
        let mut report = sampled_report(None);
        let mut judged = judge_database(&report, &());
        let before = judged.judgements[0];
        unsample(&mut report, &mut judged);
        let (site, after) = (&report.sites[0], judged.judgements[0]);
        assert_eq!(site.live, amount(6432, 643_200));
        // 36 blocks of 100 bytes, each recorded once in 100.5.
        assert_eq!(site.freed, amount(3618, 361_803));
        assert_eq!(site.allocated, amount(10_050, 1_005_003));
        assert_eq!(site.births[0], amount(201, 20_100));
        assert_eq!((after.verdict, after.reason), (before.verdict, before.reason));
        let growth = after.evidence.rate.unwrap().bytes_per_minute / before.evidence.rate.unwrap().bytes_per_minute;
        assert!((growth - 100.5).abs() < 1e-9, "{growth}");
        assert_eq!(report.bytes_error(), Some(157_000));
    }

    #[test]
    fn large_blocks_that_were_freed_are_not_lost_among_small_ones_that_stay() {
        let mut report = sampled_report(None);
        let site = &mut report.sites[0];
        // Each of them is recorded for sure.
        site.freed = amount(50, 50_000_000);
        site.allocated = amount(50 + 64, 50_000_000 + 6400);
        figures(&mut report);
        assert_eq!(report.sites[0].freed, amount(50, 50_000_000));
        assert_eq!(report.sites[0].allocated, amount(6432 + 50, 643_200 + 50_000_000));
    }

    #[test]
    fn what_was_allocated_by_a_program_that_is_gone_is_estimated_though_nobody_knows_what_of_it_lived() {
        let mut report = sampled_report(None);
        let site = &mut report.sites[0];
        (site.live, site.freed, site.sampled) = (Amount::default(), Amount::default(), None);
        figures(&mut report);
        // 100 blocks of 100 bytes, each recorded once in 100.5.
        assert_eq!(report.sites[0].allocated, amount(10_050, 1_005_008));
        assert_eq!(report.sites[0].freed, Amount::default());
    }

    #[test]
    fn figures_of_sampling_that_began_later_are_estimates_already() {
        let mut report = sampled_report(Some(100));
        let before = report.sites.clone();
        assert_eq!(figures(&mut report), [Factor::ONE]);
        assert_eq!(report.sites, before);
        assert_eq!(of_the_past(&report, before[0].sampled), Factor::ONE);
        assert_eq!(report.bytes_error(), Some(157_000));
    }

    #[test]
    fn a_report_of_every_block_stays_as_it_is() {
        let mut report = sampled_report(None);
        report.sampling = None;
        report.sites[0].sampled = None;
        let before = report.sites.clone();
        assert_eq!(figures(&mut report), [Factor::ONE]);
        assert_eq!(report.sites, before);
        assert_eq!(report.bytes_error(), None);
    }
}
