//! Mangled names of Rust and C++ made readable, within bounds: a few bytes of mangled name can stand for gigabytes.

use std::fmt::{self, Write};

/// Longest name that is demangled; names past it stay mangled. Real templates reach some tens of kilobytes.
const NAME_LIMIT: usize = 64 << 10;
/// Bytes of a name that are shown. What is left out of a longer one is said in its place.
const SHOWN: usize = 4 << 10;
/// No name shown is longer, in bytes.
pub(super) const LONGEST: usize = SHOWN + 40;

/// The name as its source has it; any other name as it is.
#[must_use]
pub fn demangle(name: &str) -> String {
    // Rust before C++: its legacy names are well-formed C++ ones too.
    shortened(rust(name).or_else(|| cpp(name)).unwrap_or_else(|| name.to_owned()))
}

/// The beginning of a text of thousands of bytes, with how much is missing.
pub(super) fn shortened(mut text: String) -> String {
    if text.len() > SHOWN {
        let end = (0..=SHOWN).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let missing = text.len() - end;
        text.truncate(end);
        text.push_str(&format!("…({missing} bytes more)"));
        text.shrink_to_fit();
    }
    text
}

fn rust(name: &str) -> Option<String> {
    let demangled = rustc_demangle::try_demangle(name).ok()?;
    let mut out = Limited::default();
    // The alternate form leaves the hash out: it changes with every build.
    write!(out, "{demangled:#}").ok()?;
    Some(out.0)
}

fn cpp(name: &str) -> Option<String> {
    let symbol = cpp_demangle::Symbol::new(name).ok()?;
    let mut out = Limited::default();
    symbol
        .structured_demangle(&mut out, &cpp_demangle::DemangleOptions::default())
        .ok()?;
    Some(out.0)
}

/// A string that refuses to grow past the limit, which ends the demangling.
#[derive(Default)]
struct Limited(String);

impl Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > NAME_LIMIT {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_as_their_source() {
        for (mangled, readable) in [
            ("malloc", "malloc"),
            ("_ZN4Pool4takeEm", "Pool::take(unsigned long)"),
            (
                "_ZN4core9panicking9panic_fmt17h5f1a6fd39197ad62E",
                "core::panicking::panic_fmt",
            ),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("_Znwm", "operator new(unsigned long)"),
            ("_Z", "_Z"),
            ("", ""),
        ] {
            assert_eq!(demangle(mangled), readable);
        }
    }

    #[test]
    fn a_name_that_stands_for_gigabytes_stays_mangled() {
        // Each substitution is a pair of the one before: 2^40 letters.
        let mut bomb = "_Z1fSt4pairIiiE".to_owned();
        for at in 0..40_u32 {
            let back = char::from_digit(at, 36).map_or_else(|| format!("1{}", at - 36), |digit| digit.to_string());
            bomb.push_str(&format!("St4pairIS{0}_S{0}_E", back.to_uppercase()));
        }
        assert!(demangle(&bomb).len() <= NAME_LIMIT);
        let deep = format!("_Z{}i", "P".repeat(1 << 20));
        let shown = demangle(&deep);
        assert!(
            shown.starts_with(&deep[..SHOWN]) && shown.len() <= LONGEST,
            "{}",
            shown.len()
        );
        let more = format!("…({} bytes more)", deep.len() - SHOWN);
        assert!(shown.ends_with(&more), "{}", &shown[SHOWN..]);
    }
}
