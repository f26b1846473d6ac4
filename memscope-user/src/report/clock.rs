//! The local time of day on the report's second line.

use std::fmt;

/// A local wall-clock time to the millisecond, shown as `HH:MM:SS.mmm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDay {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59; a leap second is shown as 59, as the kernel's clock repeats it.
    pub second: u8,
    /// 0 to 999.
    pub millisecond: u16,
}

impl TimeOfDay {
    /// Now, in the time zone of `TZ` or `/etc/localtime`; UTC where neither can be read.
    #[must_use]
    pub fn now() -> Self {
        let time = jiff::Zoned::now().time();
        Self {
            hour: time.hour().unsigned_abs(),
            minute: time.minute().unsigned_abs(),
            second: time.second().unsigned_abs(),
            millisecond: time.millisecond().unsigned_abs(),
        }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:02}:{:02}:{:02}.{:03}",
            self.hour, self.minute, self.second, self.millisecond
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_keeps_its_width() {
        let time = TimeOfDay {
            hour: 2,
            minute: 3,
            second: 4,
            millisecond: 5,
        };
        assert_eq!(time.to_string(), "02:03:04.005");
    }

    #[test]
    fn now_is_a_time_of_day() {
        let now = TimeOfDay::now();
        assert!(
            now.hour < 24 && now.minute < 60 && now.second < 60 && now.millisecond < 1000,
            "{now}"
        );
    }
}
