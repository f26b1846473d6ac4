//! Ages and durations as a person writes them on the command line: `3600`, `90s`, `15m`, `1h`, `2d`.

use std::fmt;
use std::str::FromStr;

/// A length of time in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Age(u64);

/// Why a text is no [`Age`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgeError {
    /// It is not a number with an optional unit.
    #[error(
        "`{0}` is not a time: write seconds as a plain number, or a number with s, m, h or d (3600, 90s, 15m, 1h, 2d)"
    )]
    Malformed(String),
    /// It is a number, and more seconds than 64 bits hold.
    #[error("`{0}` is too long a time: at most {max} seconds can be written", max = u64::MAX)]
    TooLong(String),
}

impl Age {
    /// The age of this many seconds.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// Milliseconds; an age past what 64 bits hold is the longest there is, which no block reaches either.
    #[must_use]
    pub const fn milliseconds(self) -> u64 {
        self.0.saturating_mul(1000)
    }

    /// As the standard library's duration, for timers.
    #[must_use]
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0)
    }
}

impl FromStr for Age {
    type Err = AgeError;

    fn from_str(text: &str) -> Result<Self, AgeError> {
        let (digits, unit_seconds) = match text.as_bytes().last() {
            Some(b's') => (&text[..text.len() - 1], 1),
            Some(b'm') => (&text[..text.len() - 1], 60),
            Some(b'h') => (&text[..text.len() - 1], 60 * 60),
            Some(b'd') => (&text[..text.len() - 1], 24 * 60 * 60),
            _ => (text, 1),
        };
        // `u64::from_str` alone would take a leading `+`.
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AgeError::Malformed(text.escape_debug().collect()));
        }
        digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit_seconds))
            .map(Self)
            .ok_or_else(|| AgeError::TooLong(text.to_owned()))
    }
}

/// Whole seconds, as the report's first line prints them.
impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_read() {
        for (text, seconds) in [
            ("0", 0),
            ("3600", 3600),
            ("0090", 90),
            ("90s", 90),
            ("15m", 900),
            ("1h", 3600),
            ("2d", 172_800),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Age::from_seconds(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_and_told_what_is() {
        for text in [
            "", "s", "-1", "+1", "1.5h", " 1", "1 ", "1w", "1H", "h1", "1hh", "0x10", "\u{661}", "1\u{fc}",
        ] {
            let error = text.parse::<Age>().unwrap_err();
            assert_eq!(error, AgeError::Malformed(text.to_owned()), "{text}");
            assert!(error.to_string().contains("3600, 90s, 15m, 1h, 2d"), "{error}");
        }
        let error = "\x1b[2J".parse::<Age>().unwrap_err();
        assert!(!error.to_string().contains('\x1b'), "{error}");
    }

    #[test]
    fn more_seconds_than_fit_are_refused_not_wrapped() {
        for text in [
            "18446744073709551616",
            "307445734561825861m",
            "213503982334602d",
            "99999999999999999999h",
        ] {
            assert_eq!(text.parse::<Age>(), Err(AgeError::TooLong(text.to_owned())));
        }
        assert_eq!(Age::from_seconds(u64::MAX).milliseconds(), u64::MAX);
    }

    #[test]
    fn clap_takes_it_as_a_value() {
        use clap::Parser;
        #[derive(Parser)]
        struct Arguments {
            #[arg(long)]
            age: Age,
        }
        let arguments = Arguments::try_parse_from(["memscope", "--age", "1h"]).unwrap();
        assert_eq!(arguments.age, Age::from_seconds(3600));
        assert!(Arguments::try_parse_from(["memscope", "--age", "1y"]).is_err());
    }
}
