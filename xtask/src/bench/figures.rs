//! Medians and spreads: a handful of measurements, told by the one in the middle and the two at the ends.

use std::fmt;

/// Measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, sample: f64) {
        self.0.push(sample);
        self.0.sort_by(f64::total_cmp);
    }

    /// The one in the middle, or the mean of the two there; 0 of none.
    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.as_slice() {
            [] => 0.0,
            sorted if sorted.len() % 2 == 1 => sorted[middle],
            sorted => (sorted[middle - 1] + sorted[middle]) / 2.0,
        }
    }

    fn ends(&self) -> (f64, f64) {
        match (self.0.first(), self.0.last()) {
            (Some(least), Some(most)) => (*least, *most),
            _ => (0.0, 0.0),
        }
    }

    /// This over that: medians divided, and the ends of this over the median of that.
    pub fn over(&self, base: &Self) -> Ratio {
        let base = base.median();
        let (least, most) = self.ends();
        Ratio {
            median: self.median() / base,
            least: least / base,
            most: most / base,
        }
    }
}

/// A ratio with its spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, least, most } = *self;
        let digits = if median < 10.0 { 2 } else { usize::from(median < 100.0) };
        write!(f, "{median:.digits$}× ({least:.digits$}–{most:.digits$})")
    }
}

/// Nanoseconds as a person reads them.
pub fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e4 => format!("{ns:.0} ns"),
        ns if ns < 1e7 => format!("{:.0} µs", ns / 1e3),
        ns if ns < 1e10 => format!("{:.0} ms", ns / 1e6),
        ns => format!("{:.1} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        let mut samples = Samples::default();
        values.iter().for_each(|value| samples.add(*value));
        samples
    }

    #[test]
    fn a_ratio_is_told_by_medians_and_its_spread_by_the_ends() {
        let ratio = samples(&[9.0, 3.0, 6.0]).over(&samples(&[1.0, 2.0, 3.0, 2.0]));
        assert_eq!(
            ratio,
            Ratio {
                median: 3.0,
                least: 1.5,
                most: 4.5
            }
        );
        assert_eq!(ratio.to_string(), "3.00× (1.50–4.50)");
    }

    #[test]
    fn times_have_units() {
        assert_eq!(time(950.4), "950 ns");
        assert_eq!(time(12_400.0), "12 µs");
        assert_eq!(time(2.5e9), "2500 ms");
    }
}
