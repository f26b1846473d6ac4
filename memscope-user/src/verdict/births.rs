//! The birth-time histogram of what is alive, as the rules look at it.

use super::judgement::Rate;
use super::thresholds::{
    GOING_ON_LOG_ODDS, GOING_ON_SURE, GROUPS, MAX_EFFECTIVE, MIN_LOG_ODDS, OLD_HEAD, SLOWING_SURE, SLOWING_SURE_Z,
    SLOWING_TREND, YOUNG_TAIL,
};
use crate::report::sites::Amount;

/// The bins of the judged window, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Births<'a> {
    bins: &'a [Amount],
    bin_ms: f64,
    /// Share at the young end that does not count.
    tail: f64,
}

/// The older and the newer half of the settled survivors.
#[derive(Clone, Copy, Debug)]
pub struct Halves {
    /// Blocks of the older half.
    pub older: f64,
    /// Blocks of the newer half.
    pub newer: f64,
    /// How many standard deviations the newer half is above the older, births in bursts allowed for.
    pub z: f64,
}

impl Halves {
    /// Newer over older; infinite when the older half is empty.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.older == 0.0 {
            f64::INFINITY
        } else {
            self.newer / self.older
        }
    }
}

impl<'a> Births<'a> {
    /// The bins of a window, each `bin_ms` milliseconds long.
    #[must_use]
    pub const fn new(bins: &'a [Amount], bin_ms: f64) -> Self {
        Self {
            bins,
            bin_ms,
            tail: YOUNG_TAIL,
        }
    }

    /// The same of a site that frees nothing: from the bin of the oldest survivor on, since one that began late is judged by
    /// the time since; and to the end, since none of its blocks is of a request under way.
    #[must_use]
    pub fn of_what_is_never_freed(&self) -> Self {
        let first = self.bins.iter().position(|bin| bin.blocks > 0).unwrap_or(0);
        Self {
            bins: &self.bins[first..],
            bin_ms: self.bin_ms,
            tail: 0.0,
        }
    }

    /// Length of the window, milliseconds.
    #[must_use]
    pub fn window_ms(&self) -> f64 {
        self.bin_ms * self.bins.len() as f64
    }

    /// How many bins there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bins.len()
    }

    /// There is no bin.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bins.is_empty()
    }

    /// All of them together.
    #[must_use]
    pub fn total(&self) -> Amount {
        sum(self.bins)
    }

    /// Without the youngest and the oldest part.
    fn settled(&self) -> &'a [Amount] {
        let count = self.bins.len();
        let head = (count as f64 * OLD_HEAD).ceil() as usize;
        let tail = (count as f64 * self.tail).ceil() as usize;
        self.bins.get(head..count.saturating_sub(tail)).unwrap_or(&[])
    }

    /// Survivors that count.
    #[must_use]
    pub fn survivors(&self) -> Amount {
        sum(self.settled())
    }

    /// The settled survivors in [`GROUPS`] equal parts of time; a bin that lies in two is shared between them.
    #[must_use]
    pub fn groups(&self) -> [f64; GROUPS] {
        let mut groups = [0.0; GROUPS];
        let settled = self.settled();
        let per_bin = GROUPS as f64 / settled.len().max(1) as f64;
        for (index, bin) in settled.iter().enumerate() {
            let (from, to) = (index as f64 * per_bin, (index + 1) as f64 * per_bin);
            for (group, sum) in groups.iter_mut().enumerate() {
                let overlap = (to.min((group + 1) as f64) - from.max(group as f64)).max(0.0);
                *sum += bin.blocks as f64 * overlap / per_bin;
            }
        }
        groups
    }

    /// Groups that hold survivors: at least half a block, since a bin's blocks may be shared between two.
    #[must_use]
    pub fn occupied(&self) -> usize {
        self.groups().iter().filter(|blocks| **blocks >= 0.5).count()
    }

    /// How much more the groups differ than chance would make them: 1 for independent births, more for bursts.
    #[must_use]
    pub fn dispersion(&self) -> f64 {
        dispersion(&self.groups())
    }

    /// The settled survivors by half.
    #[must_use]
    pub fn halves(&self) -> Halves {
        let groups = self.groups();
        let (older, newer) = groups.split_at(GROUPS / 2);
        let (older, newer): (f64, f64) = (older.iter().sum(), newer.iter().sum());
        let spread = ((older + newer) * self.dispersion()).sqrt();
        let z = if spread == 0.0 { 0.0 } else { (newer - older) / spread };
        Halves { older, newer, z }
    }

    /// Settled survivors in the older and in the newer half.
    #[must_use]
    pub fn in_both_halves(&self) -> bool {
        let halves = self.halves();
        halves.older >= 1.0 && halves.newer >= 1.0
    }

    /// Survivors as independent ones would count: those of a burst count little more than once, whether bursts are longer
    /// or shorter than a group.
    #[must_use]
    pub fn effective(&self) -> f64 {
        let bins: Vec<f64> = self.settled().iter().map(|bin| bin.blocks as f64).collect();
        self.survivors().blocks as f64 / self.dispersion().max(dispersion(&bins))
    }

    /// Log likelihood ratio of "born evenly, never freed" against "every block lives an exponential time of this mean".
    #[must_use]
    pub fn log_odds_of_even(&self, mean_life_ms: f64) -> f64 {
        let step = self.bin_ms / mean_life_ms.max(self.bin_ms * 1e-3);
        let last = self.settled().len().saturating_sub(1);
        // The younger, the more likely alive; only differences of age matter.
        self.log_odds_against(|index| -step * (last - index) as f64)
    }

    /// The same against "born ever more rarely, as a high-water mark rises": with the square root of the time.
    #[must_use]
    pub fn log_odds_of_going_on(&self) -> f64 {
        let head = (self.bins.len() as f64 * OLD_HEAD).ceil();
        self.log_odds_against(|index| -0.5 * (head + index as f64 + 0.5).ln())
    }

    /// Standard deviations by which the settled survivors are younger in the mean than even births would be, bursts allowed
    /// for (Laplace's test of a trend).
    #[must_use]
    pub fn trend(&self) -> f64 {
        let settled = self.settled();
        let blocks = sum(settled).blocks as f64;
        if blocks == 0.0 {
            return 0.0;
        }
        let count = settled.len() as f64;
        let places = settled.iter().enumerate();
        let mean = places
            .map(|(index, bin)| (index as f64 + 0.5) * bin.blocks as f64)
            .sum::<f64>()
            / blocks;
        (mean / count - 0.5) * (12.0 * self.effective()).sqrt()
    }

    /// Births may be slowing: they are not better explained by going on, or not clearly and tend to slow.
    #[must_use]
    pub fn may_slow(&self) -> bool {
        let odds = self.log_odds_of_going_on();
        odds < GOING_ON_LOG_ODDS || (odds < GOING_ON_SURE && self.trend() < SLOWING_TREND) || self.slows_surely()
    }

    /// Births are slowing beyond doubt.
    #[must_use]
    pub fn slows_surely(&self) -> bool {
        let halves = self.halves();
        self.log_odds_of_going_on() <= -MIN_LOG_ODDS || (halves.ratio() < SLOWING_SURE && halves.z < SLOWING_SURE_Z)
    }

    /// Log likelihood ratio against births (of what is alive) in proportion to the exponentials of these logarithms.
    fn log_odds_against(&self, logarithm: impl Fn(usize) -> f64) -> f64 {
        let settled = self.settled();
        // Kept as logarithms, or an age of a thousand lives would be an infinite one.
        let total: f64 = (0..settled.len()).map(|index| logarithm(index).exp()).sum();
        let even = -(settled.len().max(1) as f64).ln();
        let blocks = sum(settled).blocks as f64;
        let odds: f64 = settled
            .iter()
            .enumerate()
            .map(|(index, bin)| bin.blocks as f64 * (even - (logarithm(index) - total.ln())))
            .sum();
        let effective = self.effective().min(MAX_EFFECTIVE);
        if blocks == 0.0 { 0.0 } else { odds * effective / blocks }
    }

    /// Bins since the last birth, and the longest run of empty bins between two births before that.
    #[must_use]
    pub fn silence(&self) -> (usize, usize) {
        let mut longest = 0;
        let mut run = 0;
        let mut born = false;
        for bin in self.bins {
            if bin.blocks == 0 {
                run += 1;
                continue;
            }
            if born {
                longest = longest.max(run);
            }
            born = true;
            run = 0;
        }
        (run, longest)
    }

    /// Growth by the settled survivors; `None` without any.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        let settled = self.settled();
        let survivors = sum(settled);
        if survivors.blocks == 0 {
            return None;
        }
        let minutes = self.bin_ms * settled.len() as f64 / 60_000.0;
        Some(Rate {
            blocks_per_minute: survivors.blocks as f64 / minutes,
            bytes_per_minute: survivors.bytes as f64 / minutes,
            fit: fit(settled),
        })
    }

    /// Length of a bin, milliseconds.
    #[must_use]
    pub const fn bin_ms(&self) -> f64 {
        self.bin_ms
    }
}

/// Variance over mean, around each half's own mean, so that a trend is not taken for bursts; at least 1.
fn dispersion(parts: &[f64]) -> f64 {
    let mean = parts.iter().sum::<f64>() / parts.len().max(1) as f64;
    if mean == 0.0 || parts.len() <= 2 {
        return 1.0;
    }
    let squares: f64 = parts
        .chunks(parts.len().div_ceil(2))
        .map(|half| {
            let mean = half.iter().sum::<f64>() / half.len() as f64;
            half.iter().map(|blocks| (blocks - mean).powi(2)).sum::<f64>()
        })
        .sum();
    (squares / (parts.len() - 2) as f64 / mean).max(1.0)
}

fn sum(bins: &[Amount]) -> Amount {
    bins.iter().fold(Amount::default(), |mut sum, bin| {
        sum.add(bin.blocks, bin.bytes);
        sum
    })
}

/// R² of the least-squares line through the cumulated blocks.
fn fit(bins: &[Amount]) -> f64 {
    let mut cumulated = 0.0;
    let points: Vec<f64> = std::iter::once(0.0)
        .chain(bins.iter().map(|bin| {
            cumulated += bin.blocks as f64;
            cumulated
        }))
        .collect();
    let count = points.len() as f64;
    let mean_x = (count - 1.0) / 2.0;
    let mean_y = points.iter().sum::<f64>() / count;
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (index, y) in points.iter().enumerate() {
        let (dx, dy) = (index as f64 - mean_x, y - mean_y);
        xx += dx * dx;
        xy += dx * dy;
        yy += dy * dy;
    }
    if xx == 0.0 || yy == 0.0 {
        0.0
    } else {
        (xy * xy / (xx * yy)).clamp(0.0, 1.0)
    }
}
