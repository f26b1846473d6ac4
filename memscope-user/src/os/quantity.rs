//! Bytes, changes and times as people read them.

use std::fmt;
use std::time::Duration;

/// Bytes, in the largest unit of which there is at least one.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        // 1023.95 would be shown as 1024.0.
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        f.pad(&format!("{value:.1} {}", UNITS[unit]))
    }
}

/// A change in bytes, always with its sign.
#[derive(Clone, Copy, Debug)]
pub struct Change(pub i64);

impl Change {
    /// From one figure to another.
    pub const fn between(before: u64, now: u64) -> i64 {
        now.wrapping_sub(before).cast_signed()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        f.pad(&format!("{sign}{}", Bytes(self.0.unsigned_abs())))
    }
}

/// A length of time, to the three digits that matter.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let text = match seconds {
            s if s < 0.001 => format!("{} µs", self.0.as_micros()),
            s if s < 1.0 => format!("{} ms", self.0.as_millis()),
            s if s < 120.0 => format!("{s:.1} s"),
            s if s < 7200.0 => format!("{:.0} min", s / 60.0),
            s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
            s => format!("{:.1} d", s / 86_400.0),
        };
        f.pad(&text)
    }
}

/// Nanoseconds as a [`Span`].
pub fn nanoseconds(ns: u64) -> Span {
    Span(Duration::from_nanos(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_the_unit_in_which_they_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10_240, "10.0 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(format!("{:>8}|", Bytes(5)), "     5 B|");
    }

    #[test]
    fn a_change_has_its_sign() {
        assert_eq!(Change(Change::between(2048, 1024)).to_string(), "-1.0 KiB");
        assert_eq!(Change(0).to_string(), "+0 B");
        assert_eq!(Change(i64::MIN).to_string(), "-8388608.0 TiB");
    }

    #[test]
    fn spans_keep_three_digits() {
        for (ns, text) in [
            (0, "0 µs"),
            (999_999, "999 µs"),
            (12_000_000, "12 ms"),
            (1_500_000_000, "1.5 s"),
            (600_000_000_000, "10 min"),
            (7_200_000_000_000, "2.0 h"),
            (1_000_000_000_000_000, "11.6 d"),
        ] {
            assert_eq!(nanoseconds(ns).to_string(), text);
        }
    }
}
