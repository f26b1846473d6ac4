//! A comparison as text: change beside total, the largest first, one summary line to grep for.

use std::io;

use super::diff::{Change, Diff, SiteChange};
use super::saved::SavedReport;
use crate::report::Escaped;
use crate::report::quantity::{Bytes, Count, Signed};
use crate::report::text::FrameLine;

/// Which sites are written, and how much of them.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Sites of each kind of change at most.
    pub top: usize,
    /// The whole stacks of the sites, not only the frame to know them by.
    pub stacks: bool,
}

/// Writes it.
///
/// # Errors
/// The writer's.
pub fn write(
    diff: &Diff,
    before: &SavedReport,
    after: &SavedReport,
    extent: Extent,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    for (name, report) in [("Before", before), ("After ", after)] {
        for database in &report.databases {
            let live = database.live();
            writeln!(
                out,
                "{name}: {}: {} (pid {}), {} s collected, {} in {} blocks",
                Escaped(&report.source),
                Escaped(&database.target.comm),
                database.target.id.pid,
                database.seconds,
                Bytes(live.bytes),
                Count(live.blocks)
            )?;
        }
    }
    for kind in Change::ALL.into_iter().filter(|kind| *kind != Change::Same) {
        let sites: Vec<&SiteChange> = diff.sites.iter().filter(|site| site.change == kind).collect();
        for site in sites.iter().take(extent.top) {
            write_site(site, extent.stacks, out)?;
        }
        if sites.len() > extent.top {
            writeln!(out, "{:<6}  … {} more", kind.text(), sites.len() - extent.top)?;
        }
    }
    for note in &diff.notes {
        writeln!(out, "note: {}", Escaped(note))?;
    }
    write_summary(diff, out)
}

fn write_site(site: &SiteChange, stacks: bool, out: &mut dyn io::Write) -> io::Result<()> {
    write!(
        out,
        "{:<6}  {} ({}) in {} blocks ({})  site {:#018x}",
        site.change.text(),
        Bytes(site.after.bytes),
        Signed(site.bytes(), Bytes),
        Count(site.after.blocks),
        Signed(site.blocks(), Count),
        site.id.0
    )?;
    if stacks {
        writeln!(out)?;
        return site
            .stack
            .frames
            .iter()
            .try_for_each(|frame| writeln!(out, "    {}", FrameLine(frame)));
    }
    match site.own_frame() {
        Some(frame) => writeln!(out, "  {}", FrameName(frame)),
        None => writeln!(out),
    }
}

fn write_summary(diff: &Diff, out: &mut dyn io::Write) -> io::Result<()> {
    let count = |kind: Change| diff.sites.iter().filter(|site| site.change == kind).count();
    let signed = |before: u64, after: u64| after.wrapping_sub(before).cast_signed();
    writeln!(
        out,
        "SUMMARY: {} new, {} grown, {} shrunk, {} gone, {} unchanged sites; \
         {:+} bytes ({} now) in {:+} blocks ({} now)",
        count(Change::New),
        count(Change::Grown),
        count(Change::Shrunk),
        count(Change::Gone),
        count(Change::Same),
        signed(diff.before.bytes, diff.after.bytes),
        diff.after.bytes,
        signed(diff.before.blocks, diff.after.blocks),
        diff.after.blocks
    )
}

/// A frame without its address, which differs from run to run.
pub(super) struct FrameName<'a>(pub(super) &'a crate::report::model::Frame);

impl std::fmt::Display for FrameName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = FrameLine(self.0).to_string();
        f.write_str(line.split_once(": ").map_or(line.as_str(), |(_, name)| name))
    }
}
