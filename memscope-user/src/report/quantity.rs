//! Quantities as a person reads them: IEC bytes, counts with thousands set apart, times.

use std::fmt;

/// `91.2 MiB`; below 1 KiB `912 B`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        // What would be shown as 1024.0 is shown as 1.0 of the next.
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.1} {}", UNITS[unit])
    }
}

/// `45,612`.
#[derive(Clone, Copy, Debug)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A change with its sign: `+88.0 MiB`, `-3`, `±0`.
#[derive(Clone, Copy, Debug)]
pub struct Signed<T>(pub i64, pub fn(u64) -> T);

impl<T: fmt::Display> fmt::Display for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.0 {
            0 => "±",
            1.. => "+",
            _ => "-",
        };
        write!(f, "{sign}{}", (self.1)(self.0.unsigned_abs()))
    }
}

/// `95 s`, `12 min`, `3.5 h`, `2.1 d`.
#[derive(Clone, Copy, Debug)]
pub struct Seconds(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds @ 0..=599 => write!(f, "{seconds} s"),
            seconds @ 600..=7199 => write!(f, "{} min", seconds / 60),
            seconds @ 7200..=172_799 => write!(f, "{:.1} h", seconds as f64 / 3600.0),
            seconds => write!(f, "{:.1} d", seconds as f64 / 86_400.0),
        }
    }
}

/// A histogram as a row of eight heights; nothing is a blank, the largest is full.
#[must_use]
pub fn sparkline(values: &[u64]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let height = |value: u64| match value {
        0 => ' ',
        _ => HEIGHTS[((u128::from(value) * 8).div_ceil(u128::from(most)) as usize - 1).min(7)],
    };
    values.iter().copied().map(height).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_people_write_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (95_630_131, "91.2 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(Count(count).to_string(), text);
        }
        assert_eq!(Signed(1000, Count).to_string(), "+1,000");
        assert_eq!(Signed(-2048, Bytes).to_string(), "-2.0 KiB");
        assert_eq!(Signed(0, Count).to_string(), "±0");
        for (seconds, text) in [(59, "59 s"), (600, "10 min"), (7200, "2.0 h"), (172_800, "2.0 d")] {
            assert_eq!(Seconds(seconds).to_string(), text);
        }
        assert_eq!(sparkline(&[0, 1, 4, 8, u64::MAX / 2]), " ▁▁▁█");
        assert_eq!(sparkline(&[1, 2, 3, 4, 5, 6, 7, 8]), "▁▂▃▄▅▆▇█");
    }
}
