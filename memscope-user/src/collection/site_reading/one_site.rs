//! One site while it is read: what of it is alive, and what its totals come to beside that.

use std::ops::Range;

use memscope_ebpf::live::BlockFields;
use memscope_ebpf::site::SiteRecord;

use crate::collection::estimate::{Odds, Sum};
use crate::report::cohorts::Cohorts;
use crate::report::sites::{Amount, BIRTH_BINS, Sampling, SiteFigures};

/// A site while it is read.
pub(super) struct SiteReading {
    /// Its figures; allocated and freed as recorded.
    pub(super) figures: SiteFigures,
    /// Of what was allocated, what was recorded while blocks were sampled.
    sampled: Amount,
    /// Alive, as recorded.
    alive: Amount,
    /// Of these, those that are sampled.
    alive_sampled: Amount,
}

impl SiteReading {
    pub(super) fn of(figures: SiteFigures) -> Self {
        Self {
            figures,
            sampled: Amount::default(),
            alive: Amount::default(),
            alive_sampled: Amount::default(),
        }
    }

    pub(super) fn add_totals(&mut self, record: &SiteRecord) {
        self.figures.allocated.add(record.allocated, record.allocated_bytes);
        self.figures.freed.add(record.freed, record.freed_bytes);
        self.sampled.add(record.sampled, record.sampled_bytes);
    }

    pub(super) fn add_alive(&mut self, alive: &Alive, now_ms: u64) {
        self.alive.add(alive.amount.blocks, alive.amount.bytes);
        self.alive_sampled.add(alive.sampled.blocks, alive.sampled.bytes);
        alive.add_to(&mut self.figures, now_ms);
    }

    /// What was allocated is alive or was freed. Of blocks born since the totals were read only those alive are known; in a
    /// span of marks only frees of blocks born in it count, and these are the blocks born in it that are not alive.
    ///
    /// Where sampling began later, both are estimated: each block that is alive for itself, those freed by their own mean
    /// size. By the mean of all, frees of large blocks would be lost among small ones that stay.
    pub(super) fn settle(&mut self, sampling: Option<Sampling>) {
        let freed = less(self.figures.allocated, self.alive);
        let freed = estimated(freed, less(self.sampled, self.alive_sampled), sampling);
        let live = self.figures.live;
        self.figures.freed = freed;
        self.figures.allocated = freed;
        self.figures.allocated.add(live.blocks, live.bytes);
    }

    /// The same of a site of which nobody can say what is alive.
    pub(super) fn estimate_allocated(&mut self, sampling: Option<Sampling>) {
        self.figures.allocated = estimated(self.figures.allocated, self.sampled, sampling);
    }
}

/// What was recorded of which, at most, so much was sampled: as it is, unless sampling began later.
fn estimated(recorded: Amount, sampled: Amount, sampling: Option<Sampling>) -> Amount {
    let Some(sampling) = sampling.filter(|sampling| !sampling.is_from_the_start()) else {
        return recorded;
    };
    let sampled = Amount {
        blocks: sampled.blocks.min(recorded.blocks),
        bytes: sampled.bytes.min(recorded.bytes),
    };
    let stand_for = sampling.scaled(sampled);
    let mut all = less(recorded, sampled);
    all.add(stand_for.blocks, stand_for.bytes);
    all
}

fn less(amount: Amount, part: Amount) -> Amount {
    Amount {
        blocks: amount.blocks.saturating_sub(part.blocks),
        bytes: amount.bytes.saturating_sub(part.bytes),
    }
}

/// How blocks are sorted by birth, and what each stands for.
#[derive(Clone, Copy)]
pub(super) struct BirthTimes<'a> {
    pub(super) window: &'a Range<u64>,
    pub(super) odds: Option<Odds>,
}

/// What of a site is alive, while it is being added up.
#[derive(Default)]
pub(super) struct Alive {
    amount: Amount,
    /// Of these, the sampled.
    sampled: Amount,
    estimate: Option<Sum>,
    births: Vec<Amount>,
    /// Of the blocks that stand for many, where others stand for one; apart, since they do so in fractions.
    estimated_births: Vec<Sum>,
    odds_changed: bool,
    cohorts: Option<Cohorts>,
    first_ms: u64,
    last_ms: u64,
}

impl Alive {
    pub(super) fn add(&mut self, fields: &BlockFields, times: BirthTimes<'_>) {
        let BlockFields { size, born_ms, .. } = *fields;
        let window = times.window;
        if let Some(odds) = &times.odds {
            self.estimate.get_or_insert_default().add(odds, fields);
        }
        if self.births.is_empty() {
            self.births = vec![Amount::default(); BIRTH_BINS];
            self.first_ms = born_ms;
        }
        let length = window.end.saturating_sub(window.start).max(1);
        let born_after = born_ms.saturating_sub(window.start);
        self.cohorts
            .get_or_insert_with(|| Cohorts::of_window(length))
            .add(born_after);
        let bin = born_after.saturating_mul(BIRTH_BINS as u64) / length;
        let bin = (bin as usize).min(BIRTH_BINS - 1);
        let changed = times.odds.filter(|odds| !odds.sampling.is_from_the_start());
        self.odds_changed = changed.is_some();
        match changed.filter(|_| fields.sampled) {
            Some(odds) => {
                self.estimated_births.resize(BIRTH_BINS, Sum::default());
                self.estimated_births[bin].add(&odds, fields);
            }
            None => self.births[bin].add(1, size),
        }
        self.amount.add(1, size);
        if fields.sampled {
            self.sampled.add(1, size);
        }
        self.first_ms = self.first_ms.min(born_ms);
        self.last_ms = self.last_ms.max(born_ms);
    }

    fn add_to(&self, figures: &mut SiteFigures, now_ms: u64) {
        if self.births.is_empty() {
            return;
        }
        let mut live = self.amount;
        if let Some(estimate) = self.estimate {
            let sampled = estimate.sampled(self.amount);
            if self.odds_changed {
                live = sampled.estimated;
            }
            figures.sampled = Some(figures.sampled.map_or(sampled, |known| known.and(sampled)));
        }
        figures.live.add(live.blocks, live.bytes);
        for (sum, bin) in figures.births.iter_mut().zip(&self.births) {
            sum.add(bin.blocks, bin.bytes);
        }
        for (sum, bin) in figures.births.iter_mut().zip(&self.estimated_births) {
            let bin = bin.amount();
            sum.add(bin.blocks, bin.bytes);
        }
        if let Some(cohorts) = &self.cohorts {
            match &mut figures.cohorts {
                Some(sum) => sum.add_all(cohorts),
                none => *none = Some(cohorts.clone()),
            }
        }
        let (oldest, youngest) = (
            now_ms.saturating_sub(self.first_ms),
            now_ms.saturating_sub(self.last_ms),
        );
        figures.oldest_ms = Some(figures.oldest_ms.map_or(oldest, |known| known.max(oldest)));
        figures.youngest_ms = Some(figures.youngest_ms.map_or(youngest, |known| known.min(youngest)));
    }
}

#[cfg(test)]
mod tests {
    use memscope_ebpf::live::{BlockKind, EntryNumber, SiteIndex};
    use memscope_ebpf::sample::distance;

    use super::*;
    use crate::report::model::SiteId;
    use crate::report::samples::{site_stack, sites_report};
    use crate::report::sites::SitesReport;
    use crate::verdict::{Verdict, judge_database};

    const SIZE: u64 = 1_000;
    const SAMPLE_BYTES: u64 = 500_000;

    /// A site as the programs count it: recorded one and all until a moment, then sampled.
    struct Recorded {
        random: u32,
        until_next: u64,
        since_ms: u64,
        record: SiteRecord,
        alive: Alive,
        report: SitesReport,
    }

    impl Recorded {
        /// Of ten minutes, sampled `since_ms` milliseconds after their beginning.
        fn new(seed: u32, since_ms: u64) -> Self {
            let mut report = sites_report(600_000);
            report.sampling = Some(Sampling {
                sample_bytes: SAMPLE_BYTES,
                since_ms: Some(report.window.start + since_ms),
            });
            let mut site = Self {
                random: seed,
                until_next: 0,
                since_ms,
                record: SiteRecord::default(),
                alive: Alive::default(),
                report,
            };
            site.until_next = site.draw();
            site
        }

        fn draw(&mut self) -> u64 {
            // xorshift32 (Marsaglia 2003).
            self.random ^= self.random << 13;
            self.random ^= self.random >> 17;
            self.random ^= self.random << 5;
            distance(self.random, SAMPLE_BYTES)
        }

        /// A block born so long after the beginning, freed at once or never.
        fn add(&mut self, after_ms: u64, size: u64, is_freed: bool) {
            let sampled = after_ms >= self.since_ms;
            if sampled && self.until_next > size {
                self.until_next -= size;
                return;
            }
            if sampled {
                self.until_next = self.draw();
                self.record.sampled += 1;
                self.record.sampled_bytes += size;
            }
            self.record.allocated += 1;
            self.record.allocated_bytes += size;
            if is_freed {
                self.record.freed += 1;
                self.record.freed_bytes += size;
                return;
            }
            let times = BirthTimes {
                window: &self.report.window,
                odds: self.report.sampling.map(|sampling| Odds { sampling }),
            };
            let fields = BlockFields {
                number: EntryNumber(self.record.allocated),
                size,
                born_ms: times.window.start + after_ms,
                tid: 1,
                site: SiteIndex(1),
                kind: BlockKind::Heap,
                sampled,
            };
            self.alive.add(&fields, times);
        }

        fn read(mut self) -> (SitesReport, u64) {
            let mut site = SiteReading::of(SiteFigures::empty(SiteId(1), site_stack("work")));
            site.add_totals(&self.record);
            site.add_alive(&self.alive, self.report.window.end);
            site.settle(self.report.sampling);
            self.report.sites.push(site.figures);
            (self.report, self.record.sampled)
        }
    }

    /// Blocks are born evenly.
    fn steady_leak(seed: u32, blocks: u64, since_ms: u64) -> (SitesReport, u64) {
        let mut site = Recorded::new(seed, since_ms);
        (0..blocks).for_each(|number| site.add(number * 600_000 / blocks, SIZE, false));
        site.read()
    }

    #[test]
    fn large_blocks_that_are_freed_are_not_lost_among_small_ones_that_stay() {
        for one_freed_of in [1, 10, 100] {
            let (mut freed, mut allocated) = (0, 0);
            const RUNS: u64 = 20;
            const BLOCKS: u64 = 20_000;
            for seed in 1..=RUNS as u32 {
                let mut site = Recorded::new(seed.wrapping_mul(0x9e37_79b9), 60_000);
                for number in 0..BLOCKS {
                    let at = number * 600_000 / BLOCKS;
                    site.add(at, SIZE, false);
                    if number % one_freed_of == 0 {
                        site.add(at, 1_000_000, true);
                    }
                }
                let (report, _) = site.read();
                let site = &report.sites[0];
                assert_eq!(site.allocated.blocks, site.live.blocks + site.freed.blocks);
                freed += site.freed.blocks;
                allocated += site.allocated.blocks;
            }
            let truly = RUNS * BLOCKS / one_freed_of;
            let of_truth = freed as f64 / truly as f64;
            assert!(
                (of_truth - 1.0).abs() < 0.05,
                "1 of {one_freed_of}: {of_truth} of the frees"
            );
            let of_truth = allocated as f64 / (truly + RUNS * BLOCKS) as f64;
            assert!((of_truth - 1.0).abs() < 0.05, "1 of {one_freed_of}: {of_truth} of all");
        }
    }

    #[test]
    fn a_span_counts_frees_of_its_own_blocks_alone() {
        let mut site = Recorded::new(1, 0);
        for number in 0..60_000 {
            site.add(number * 10, SIZE, number % 2 == 0);
        }
        let sampling = site.report.sampling;
        let mut reading = SiteReading::of(SiteFigures::empty(SiteId(1), site_stack("work")));
        reading.add_totals(&site.record);
        // Nothing of it is alive, and a tenth was recorded in the span.
        let in_span = site.record.sampled / 10;
        reading.figures.allocated = Amount {
            blocks: in_span,
            bytes: in_span * SIZE,
        };
        reading.settle(sampling);
        let weight = sampling.unwrap().stands_for(SIZE as f64);
        assert_eq!(reading.figures.freed.blocks, (in_span as f64 * weight).round() as u64);
    }

    #[test]
    fn a_span_that_ended_before_sampling_began_is_as_it_was_recorded() {
        let sampling = Sampling {
            sample_bytes: SAMPLE_BYTES,
            since_ms: Some(60_000),
        };
        let freed_until = |end_ms| {
            let mut reading = SiteReading::of(SiteFigures::empty(SiteId(1), site_stack("work")));
            // Since then five hundred have been sampled, and freed.
            reading.add_totals(&SiteRecord {
                allocated: 10_500,
                allocated_bytes: 10_500 * SIZE,
                sampled: 500,
                sampled_bytes: 500 * SIZE,
                ..SiteRecord::default()
            });
            reading.figures.allocated = Amount {
                blocks: 10_000,
                bytes: 10_000 * SIZE,
            };
            reading.settle(Some(sampling).filter(|sampling| sampling.had_begun_by(end_ms)));
            reading.figures.freed.blocks
        };
        assert_eq!(freed_until(60_000), 10_000);
        assert!(freed_until(60_001) > 10_000);
    }

    #[test]
    fn a_steady_leak_stays_one_or_undecided_when_its_blocks_are_sampled_on_the_way() {
        let mut leaking = 0;
        for seed in 1..=100u32 {
            for blocks in [600, 6_000, 60_000] {
                for since_ms in [20_000, 60_000, 300_000, 580_000] {
                    let (report, sampled) = steady_leak(seed.wrapping_mul(0x9e37_79b9), blocks, since_ms);
                    let judgement = judge_database(&report, &()).judgements[0];
                    assert!(
                        matches!(judgement.verdict, Verdict::Leaking | Verdict::Undecided),
                        "seed {seed}: of {blocks} blocks, sampled since {since_ms} ms, {sampled} were: {judgement:?}"
                    );
                    leaking += u32::from(judgement.verdict == Verdict::Leaking);
                }
            }
        }
        // Whoever never decides is never wrong.
        assert!(leaking > 400, "{leaking} of 1200");
    }

    #[test]
    fn figures_of_blocks_sampled_on_the_way_are_the_truth_within_their_error() {
        let (mut within, mut sum) = (0, 0.0);
        const RUNS: u32 = 200;
        const BLOCKS: u64 = 60_000;
        for seed in 1..=RUNS {
            let (report, sampled) = steady_leak(seed.wrapping_mul(0x9e37_79b9), BLOCKS, 300_000);
            let site = &report.sites[0];
            let recorded = site.sampled.unwrap().recorded;
            assert_eq!(recorded.blocks, BLOCKS / 2 + sampled);
            let (early, late) = site.births.split_at(BIRTH_BINS / 2);
            let blocks = |bins: &[Amount]| bins.iter().map(|bin| bin.blocks).sum::<u64>();
            assert_eq!(blocks(early), BLOCKS / 2, "recorded one and all");
            // Each bin is rounded to whole blocks.
            assert!((blocks(early) + blocks(late)).abs_diff(site.live.blocks) <= BIRTH_BINS as u64 / 2);
            // Nothing was freed, and nothing reads as freed but for rounding.
            assert!(site.freed.blocks <= 1, "{:?}", site.freed);
            let error = site.live.bytes.abs_diff(BLOCKS * SIZE);
            within += u32::from(error <= report.bytes_error().unwrap());
            sum += site.live.bytes as f64 / (BLOCKS * SIZE) as f64;
        }
        let mean = sum / f64::from(RUNS);
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!(within >= RUNS * 90 / 100, "{within} of {RUNS} within the bound");
    }
}
