//! Differential folded stacks: `root;…;leaf before after` a line, what `inferno-flamegraph` and `difffolded.pl` agree on.

use std::collections::BTreeMap;
use std::io;

/// Bytes before and after by folded stack.
pub type Differential = BTreeMap<String, (u64, u64)>;

/// Two sets of folded stacks side by side. A stack that is in only one of them has 0 in the other.
#[must_use]
pub fn differential(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Differential {
    let mut both = Differential::new();
    for (path, bytes) in before {
        both.entry(path.clone()).or_default().0 += bytes;
    }
    for (path, bytes) in after {
        both.entry(path.clone()).or_default().1 += bytes;
    }
    both
}

/// Writes the lines, sorted.
///
/// # Errors
/// The writer's.
pub fn write(differential: &Differential, out: &mut dyn io::Write) -> io::Result<()> {
    for (path, (before, after)) in differential {
        writeln!(out, "{path} {before} {after}")?;
    }
    Ok(())
}
