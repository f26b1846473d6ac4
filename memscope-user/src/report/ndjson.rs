//! The same data one object a line, for readers that stream. `kind` says what a line is:
//!
//! | `kind` | members | when |
//! |---|---|---|
//! | `database` | `schema` (first), `kind`, `target`, `collection`, `age_s` | first line of each database |
//! | `site` | `kind`, `pid`, `site`, `cookie`, `complete`, `end`, `by_frame_pointer`, `frames` | once, before the first entry that names it |
//! | `entry` | `kind`, `pid`, `entry`, `address`, `size`, `age_s`, `tid`, `site`, `block_kind`, `before_gap` (if so) | each |
//! | `summary` | `kind`, `pid`, `printed`, `total`, `losses`, `notes`, `suppressions` and `estimate` (if any) | last line of each database: without it the output was cut |
//!
//! The members mean what they mean in [`super::json`].

use std::collections::HashSet;
use std::io;

use super::json_parts::{
    CollectionPart, EstimatePart, NAME, SitePart, SuppressionPart, TargetPart, before_gap, write_entry_members,
};
use super::model::{DatabaseReport, SiteId};
use super::notes;
use super::sink::Sink;

/// Writes databases one after the other, each complete in itself.
pub struct NdjsonReport<'a> {
    sink: Sink<'a>,
}

impl<'a> NdjsonReport<'a> {
    /// Lines on `out`.
    pub fn new(out: &'a mut dyn io::Write) -> Self {
        Self { sink: Sink::new(out) }
    }

    /// Writes one database's lines and flushes them.
    ///
    /// # Errors
    /// Whatever the writer returns; see [`super::is_broken_pipe`].
    pub fn database(&mut self, report: &DatabaseReport) -> io::Result<()> {
        let sink = &mut self.sink;
        sink.text("{\"schema\":\"");
        sink.text(NAME);
        sink.text("\",\"kind\":\"database\",\"target\":");
        sink.json(&TargetPart::from(&report.target))?;
        sink.text(",\"collection\":");
        sink.json(&CollectionPart::of(report))?;
        sink.text(",\"age_s\":");
        sink.decimal(report.age_s);
        sink.text("}\n");
        let mut written = HashSet::new();
        for entry in report.entries.iter() {
            if written.insert(entry.site) {
                write_site(sink, report, entry.site)?;
            }
            start_line(sink, "entry", report);
            write_entry_members(sink, &entry, before_gap(report, &entry));
            sink.text("}\n");
            sink.spill()?;
        }
        start_line(sink, "summary", report);
        sink.text("\"printed\":");
        sink.decimal(report.entries.len() as u64);
        sink.text(",\"total\":");
        sink.decimal(report.total);
        sink.text(",\"losses\":");
        sink.json(&report.losses)?;
        sink.text(",\"notes\":");
        sink.json(&notes::lines(report))?;
        if !report.suppressed.rules.is_empty() {
            sink.text(",\"suppressions\":");
            sink.json(&SuppressionPart::all(&report.suppressed))?;
        }
        if let Some(estimate) = &report.estimate {
            sink.text(",\"estimate\":");
            sink.json(&EstimatePart::from(estimate))?;
        }
        sink.text("}\n");
        sink.flush()
    }
}

fn start_line(sink: &mut Sink<'_>, kind: &str, report: &DatabaseReport) {
    sink.text("{\"kind\":\"");
    sink.text(kind);
    sink.text("\",\"pid\":");
    sink.decimal(u64::from(report.target.id.pid.0));
    sink.text(",");
}

fn write_site(sink: &mut Sink<'_>, report: &DatabaseReport, site: SiteId) -> io::Result<()> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        kind: &'static str,
        pid: u32,
        site: String,
        #[serde(flatten)]
        part: SitePart<'a>,
    }
    sink.json(&Line {
        kind: "site",
        pid: report.target.id.pid.0,
        site: format!("{:#018x}", site.0),
        part: SitePart::of(site, report.sites.get(&site)),
    })?;
    sink.text("\n");
    Ok(())
}
