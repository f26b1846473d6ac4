//! What sampled blocks stand for: each for as many as its probability of being sampled says (Horvitz and Thompson, 1952).

use memscope_ebpf::live::{BlockFields, LiveBlock};
use memscope_ebpf::sample::sampled_size;

use crate::database::error::DatabaseError;
use crate::database::session::Session;
use crate::report::model::Estimate;
use crate::report::sites::{Amount, Sampled, Sampling};

/// The estimate of a session's blocks; `None` when it records every block.
///
/// # Errors
/// Its maps cannot be read.
pub fn of(session: &Session, blocks: impl Iterator<Item = LiveBlock>) -> Result<Option<Estimate>, DatabaseError> {
    let Some(odds) = Odds::of(session)? else {
        return Ok(None);
    };
    let mut sum = Sum::default();
    for block in blocks {
        sum.add(&odds, &block.unpack());
    }
    Ok(Some(sum.estimate(odds.sampling.sample_bytes)))
}

/// With which probability a session records a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Odds {
    /// How it samples.
    pub(super) sampling: Sampling,
}

impl Odds {
    /// Of a session; `None` when it records every block.
    ///
    /// # Errors
    /// Its maps cannot be read.
    pub(super) fn of(session: &Session) -> Result<Option<Self>, DatabaseError> {
        let distance = session.sampling()?;
        Ok(distance.map(|distance| Self {
            sampling: Sampling {
                sample_bytes: distance.bytes,
                since_ms: distance.since_ns.map(|ns| ns / 1_000_000),
            },
        }))
    }

    /// The block itself says whether there was a choice: there is none for regions, nor for what was asked for before the
    /// budget brought sampling on.
    fn of_block(&self, fields: &BlockFields) -> f64 {
        if fields.sampled {
            probability(fields.size, self.sampling.sample_bytes)
        } else {
            1.0
        }
    }
}

/// The probability with which a block of this size is recorded. Exact for small sizes too, where 1 − e^(−x) would cancel.
fn probability(size: u64, mean: u64) -> f64 {
    -(-(sampled_size(size) as f64) / mean as f64).exp_m1()
}

/// Blocks added up, each as often as it stands for one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    blocks: f64,
    bytes: f64,
    variance: f64,
}

impl Sum {
    /// Adds a recorded block.
    pub(super) fn add(&mut self, odds: &Odds, fields: &BlockFields) {
        self.add_with(fields.size, odds.of_block(fields));
    }

    fn add_with(&mut self, size: u64, probability: f64) {
        let size = size as f64;
        self.blocks += 1.0 / probability;
        self.bytes += size / probability;
        self.variance += size * size * (1.0 - probability) / (probability * probability);
    }

    /// The bound is 1.96 standard deviations, and that of a normal distribution: fair from some twenty samples on.
    fn estimate(self, sample_bytes: u64) -> Estimate {
        Estimate {
            sample_bytes,
            blocks: self.blocks,
            bytes: self.bytes,
            bytes_error: 1.96 * self.variance.sqrt(),
        }
    }

    /// In whole blocks and bytes.
    pub(super) fn amount(self) -> Amount {
        Amount {
            blocks: self.blocks.round() as u64,
            bytes: self.bytes.round() as u64,
        }
    }

    /// The same of a site of which so much was recorded.
    pub(super) fn sampled(self, recorded: Amount) -> Sampled {
        Sampled {
            recorded,
            estimated: self.amount(),
            bytes_error: (1.96 * self.variance.sqrt()).ceil() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use memscope_ebpf::sample::distance;

    use super::*;

    const MEAN: u64 = 64 << 10;

    /// Samples `blocks` blocks as the programs do, and estimates them.
    fn sampled(seed: u32, blocks: u32, size: impl Fn(u32) -> u64) -> Estimate {
        let mut random = seed;
        let mut draw = || {
            // xorshift32 (Marsaglia 2003).
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            distance(random, MEAN)
        };
        let (mut sum, mut until) = (Sum::default(), draw());
        for size in (0..blocks).map(size) {
            if until <= size {
                sum.add_with(size, probability(size, MEAN));
                until = draw();
            } else {
                until -= size;
            }
        }
        sum.estimate(MEAN)
    }

    #[test]
    fn estimates_are_unbiased_and_their_bounds_hold() {
        let size = |n: u32| u64::from(16 + n % 4096) + if n.is_multiple_of(100) { 200_000 } else { 0 };
        const BLOCKS: u32 = 20_000;
        let bytes: u64 = (0..BLOCKS).map(size).sum();
        let (mut sum, mut blocks, mut within) = (0.0, 0.0, 0);
        const RUNS: u32 = 400;
        for seed in 1..=RUNS {
            let estimate = sampled(seed.wrapping_mul(0x9e37_79b9), BLOCKS, size);
            sum += estimate.bytes;
            blocks += estimate.blocks;
            within += u32::from((estimate.bytes - bytes as f64).abs() <= estimate.bytes_error);
        }
        let mean = sum / f64::from(RUNS) / bytes as f64;
        assert!((mean - 1.0).abs() < 0.01, "bytes {mean}");
        let mean = blocks / f64::from(RUNS) / f64::from(BLOCKS);
        assert!((mean - 1.0).abs() < 0.05, "blocks {mean}");
        assert!(within >= RUNS * 90 / 100, "{within} of {RUNS} within the bound");
    }

    #[test]
    fn a_block_recorded_for_sure_adds_no_error() {
        let mut sum = Sum::default();
        sum.add_with(100, 1.0);
        let estimate = sum.estimate(MEAN);
        assert_eq!(
            (estimate.blocks, estimate.bytes, estimate.bytes_error),
            (1.0, 100.0, 0.0)
        );
    }
}
