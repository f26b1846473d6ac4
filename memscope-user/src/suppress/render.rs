//! The lists after a report: suppressions that hid something, as LeakSanitizer prints them, and those that hid nothing.

use std::io;

use super::apply::Applied;
use crate::report::Escaped;

/// Writes both lists; nothing where there are no rules.
///
/// # Errors
/// The writer's.
pub fn write(applied: &Applied, out: &mut dyn io::Write) -> io::Result<()> {
    let (used, unused) = applied.used_and_unused();
    if !used.is_empty() {
        writeln!(
            out,
            "Suppressions used:\n  {:>7} {:>9} {:>12} template",
            "sites", "blocks", "bytes"
        )?;
        for (rule, hidden) in used {
            writeln!(
                out,
                "  {:>7} {:>9} {:>12} {}",
                hidden.sites,
                hidden.live.blocks,
                hidden.live.bytes,
                Escaped(&rule.pattern)
            )?;
        }
    }
    if !unused.is_empty() {
        writeln!(out, "Suppressions that matched nothing:")?;
        for (rule, _) in unused {
            writeln!(out, "  {} ({}:{})", Escaped(&rule.pattern), rule.origin, rule.line)?;
        }
    }
    Ok(())
}
