//! Cohorts: blocks alive by birth on a grid that nests, so that two moments can be compared block for block.
//!
//! The grid begins with the window and has steps of a second, doubled until [`MOST_COHORTS`] of them hold it. A later
//! moment's steps are whole numbers of an earlier one's: what was alive of a stretch then, and what of it still is, are
//! both sums of whole cohorts, and nothing is shared out by proportion.

/// Cohorts at most.
pub const MOST_COHORTS: usize = 32;

/// The finest step, milliseconds.
const FINEST_MS: u64 = 1_000;

/// Blocks alive at one moment, by birth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cohorts {
    step_ms: u64,
    /// Without empty ones at the end.
    blocks: Vec<u64>,
}

/// Of the blocks that were alive at an earlier moment, those that still are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Alive then.
    pub then: u64,
    /// Of these, alive now.
    pub now: u64,
}

impl Kept {
    /// Their share, 0 to 1; nothing is lost of nothing.
    #[must_use]
    pub fn share(self) -> f64 {
        match self.then {
            0 => 1.0,
            then => self.now as f64 / then as f64,
        }
    }
}

impl Cohorts {
    /// None alive, in a window of such a length.
    #[must_use]
    pub const fn of_window(window_ms: u64) -> Self {
        let mut step_ms = FINEST_MS;
        while window_ms / step_ms >= MOST_COHORTS as u64 {
            step_ms *= 2;
        }
        Self {
            step_ms,
            blocks: Vec::new(),
        }
    }

    /// As a file has them; `None` when no window has such cohorts.
    #[must_use]
    pub fn from_parts(step_ms: u64, mut blocks: Vec<u64>) -> Option<Self> {
        let doubled = step_ms / FINEST_MS;
        let plausible = step_ms.is_multiple_of(FINEST_MS) && doubled.is_power_of_two() && blocks.len() <= MOST_COHORTS;
        while blocks.last() == Some(&0) {
            blocks.pop();
        }
        plausible.then_some(Self { step_ms, blocks })
    }

    /// Length of a cohort, milliseconds.
    #[must_use]
    pub const fn step_ms(&self) -> u64 {
        self.step_ms
    }

    /// The cohorts, oldest first, without empty ones at the end.
    #[must_use]
    pub fn blocks(&self) -> &[u64] {
        &self.blocks
    }

    /// Adds a block, born so long after the window began.
    pub fn add(&mut self, born_ms: u64) {
        let cohort = (born_ms / self.step_ms).min(MOST_COHORTS as u64 - 1) as usize;
        if self.blocks.len() <= cohort {
            self.blocks.resize(cohort + 1, 0);
        }
        self.blocks[cohort] += 1;
    }

    /// Adds others of the same window.
    pub fn add_all(&mut self, others: &Self) {
        if self.blocks.len() < others.blocks.len() {
            self.blocks.resize(others.blocks.len(), 0);
        }
        for (sum, blocks) in self.blocks.iter_mut().zip(&others.blocks) {
            *sum += blocks;
        }
    }

    /// All of them together; a file may hold anybody's numbers.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.blocks
            .iter()
            .fold(0, |sum: u64, blocks| sum.saturating_add(*blocks))
    }

    /// Of what was alive at an earlier moment of the same window and was born before another, what is alive now: as far
    /// as whole cohorts of both go.
    #[must_use]
    pub fn kept(&self, then: &Self, born_before_ms: u64) -> Kept {
        let step = self.step_ms.max(then.step_ms);
        let until = born_before_ms / step * step;
        let (_, alive) = then.born_before(until);
        Kept {
            then: alive,
            now: self.born_before(until).1.min(alive),
        }
    }

    /// Blocks of the cohorts that had ended by a moment, and when the last of these ended.
    #[must_use]
    pub fn born_before(&self, until_ms: u64) -> (u64, u64) {
        let ended = until_ms / self.step_ms;
        let whole = ended.min(self.blocks.len() as u64) as usize;
        let blocks = self.blocks[..whole].iter();
        (
            ended * self.step_ms,
            blocks.fold(0, |sum: u64, blocks| sum.saturating_add(*blocks)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cohorts(window_ms: u64, births: impl Iterator<Item = u64>) -> Cohorts {
        let mut cohorts = Cohorts::of_window(window_ms);
        births.for_each(|born| cohorts.add(born));
        cohorts
    }

    #[test]
    fn any_window_has_between_half_as_many_and_all_cohorts() {
        for (window, step) in [(0, 1000), (31_999, 1000), (32_000, 2000), (120_000, 4000)] {
            assert_eq!(Cohorts::of_window(window).step_ms(), step, "{window}");
        }
        for shift in 0..64 {
            let window = u64::MAX >> shift;
            let step = Cohorts::of_window(window).step_ms();
            assert!(window / step < MOST_COHORTS as u64, "{window}");
            assert!(
                step == FINEST_MS || window / step >= MOST_COHORTS as u64 / 2,
                "{window}"
            );
        }
    }

    #[test]
    fn what_is_kept_is_exact_though_the_steps_have_grown() {
        // One block a second; those of every fourth second are freed between the reports.
        let then = cohorts(60_000, (0..60).map(|second| second * 1000));
        let now = cohorts(
            1_000_000,
            (0..1000).filter(|second| second % 4 != 0).map(|second| second * 1000),
        );
        assert_eq!((then.step_ms(), now.step_ms()), (2_000, 32_000));
        assert_eq!(now.kept(&then, 60_000), Kept { then: 32, now: 24 });
        assert_eq!(now.kept(&then, 31_999), Kept::default());
        assert_eq!(then.kept(&then, 60_000), Kept { then: 60, now: 60 });
        assert!((now.kept(&then, 60_000).share() - 0.75).abs() < 1e-9);
    }

    #[test]
    fn cohorts_that_no_window_has_are_none() {
        for (step, blocks) in [(0, 1), (999, 1), (3000, 1), (1500, 1), (1000, 33), (u64::MAX, 1)] {
            assert_eq!(Cohorts::from_parts(step, vec![1; blocks]), None, "{step} {blocks}");
        }
        let huge = Cohorts::from_parts(1000, vec![u64::MAX, u64::MAX, 0]).unwrap();
        assert_eq!((huge.total(), huge.blocks().len()), (u64::MAX, 2));
        assert_eq!(huge.kept(&huge, u64::MAX).now, u64::MAX);
    }
}
