//! The lists after a report: suppressions that hid something, as LeakSanitizer prints them, and those that hid nothing.

use std::io;

use super::apply::Applied;
use crate::report::Escaped;

/// Writes both lists; nothing where there are no rules.
///
/// # Errors
/// The writer's.
pub fn write(applied: &Applied, out: &mut dyn io::Write) -> io::Result<()> {
    if applied.used().next().is_some() {
        writeln!(
            out,
            "Suppressions used:\n  {:>7} {:>9} {:>12} template",
            "sites", "blocks", "bytes"
        )?;
        for (rule, hidden) in applied.used() {
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
    if applied.unused().next().is_some() {
        writeln!(out, "Suppressions that matched nothing:")?;
        for (rule, _) in applied.unused() {
            writeln!(out, "  {} ({}:{})", Escaped(&rule.pattern), rule.origin, rule.line)?;
        }
    }
    Ok(())
}
