//! Sampling by bytes: a Poisson process along the bytes a target allocates, one sample in `mean` bytes on average.
//!
//! A block is recorded when a sample falls into it: with probability 1 − e^(−size/mean), whatever came before. The
//! distance to the next sample is exponential and has no memory, so it is drawn anew after each recorded block.

/// The longest mean distance: products with it stay within 64 bits.
pub const MOST_BYTES: u64 = 1 << 40;

/// Bytes of a block as sampling sees it: even a block of none can be met.
#[must_use]
#[inline(always)]
pub const fn sampled_size(size: u64) -> u64 {
    match size {
        0 => 1,
        size if size > 1 << 48 => 1 << 48,
        size => size,
    }
}

/// Distance to the next sample, from 32 random bits: −ln(u) · mean for u in (0, 1], at least 1.
///
/// ln by the binary logarithm, bit by bit: its fraction's next bit is whether the square of the mantissa reaches 2.
#[must_use]
#[inline(always)]
pub const fn distance(random: u32, mean: u64) -> u64 {
    /// ln 2 in 16 bits of fraction.
    const LN_2: u64 = 45_426;
    const FRACTION: u32 = 16;
    let value = random as u64 + 1;
    let whole = 63 - value.leading_zeros();
    // 1 ≤ mantissa < 2, with 31 bits of fraction.
    let mut mantissa = (value << (32 - whole)) >> 1;
    let mut log = whole as u64;
    let mut bit = 0;
    while bit < FRACTION {
        mantissa = (mantissa * mantissa) >> 31;
        // 0 or 1, and no branch on it: sixteen of them are tens of thousands of paths to the BPF verifier.
        let next = mantissa >> 32;
        log = log << 1 | next;
        mantissa >>= next;
        bit += 1;
    }
    let minus_log = (32 << FRACTION) - log;
    let distance = (((minus_log * LN_2) >> FRACTION) * mean) >> FRACTION;
    if distance == 0 { 1 } else { distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 32-bit numbers spread evenly, each once (Weyl sequence).
    fn randoms(count: u32) -> impl Iterator<Item = u32> {
        (0..count).map(|n| n.wrapping_mul(0x9e37_79b9))
    }

    #[test]
    fn distances_are_exponential() {
        const COUNT: u32 = 1 << 18;
        let mean = 512 << 10;
        let sum: f64 = randoms(COUNT).map(|random| distance(random, mean) as f64).sum();
        let average = sum / f64::from(COUNT) / mean as f64;
        assert!((average - 1.0).abs() < 0.002, "{average}");
        for size in [1u32 << 10, 64 << 10, 512 << 10, 4 << 20] {
            let met = randoms(COUNT)
                .filter(|random| distance(*random, mean) <= u64::from(size))
                .count();
            let share = met as f64 / f64::from(COUNT);
            let expected = 1.0 - (-f64::from(size) / mean as f64).exp();
            assert!((share - expected).abs() < 0.002, "{size}: {share} for {expected}");
        }
    }

    #[test]
    fn extremes_stay_in_range() {
        assert_eq!(distance(u32::MAX, MOST_BYTES), 1);
        assert!(distance(0, MOST_BYTES) > 22 * MOST_BYTES && distance(0, MOST_BYTES) < 23 * MOST_BYTES);
        assert_eq!(distance(0, 0), 1);
        assert_eq!((sampled_size(0), sampled_size(u64::MAX)), (1, 1 << 48));
    }
}
