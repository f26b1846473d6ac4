//! `memscope.entries/v1`: one JSON document for all databases printed (described in [`super::schemas`]).
//!
//! `{"schema":…,"host":…,"databases":[{"target","collection","age_s","entries":[…],"sites":{…},"printed","total","losses","notes"}]}`
//!
//! Addresses, cookies and site ids are strings in hex (64 bits do not survive every JSON reader's numbers); sizes, counts,
//! offsets and ages are integers. `since` is in seconds since the Unix epoch. Every `site` an entry names is a key of
//! `sites`.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError};

use memscope_ebpf::live::SiteIndex;

use super::json_parts::{
    CollectionPart, EstimatePart, NAME, SitePart, SuppressionPart, TargetPart, before_gap, site_member, site_members,
    write_entry_members, write_site_id,
};
use super::model::{DatabaseReport, Entry, SiteId, Stack};
use super::pieces::PieceText;
use super::row::Row;
use super::sink::Sink;
use super::{notes, pieces};

/// Bytes of an entry's object with each number at its largest, about.
const LONGEST: usize = 200;

/// Writes one document, database by database.
pub struct JsonReport<'a> {
    sink: Sink<'a>,
    databases: u64,
}

impl<'a> JsonReport<'a> {
    /// A document on `out`, of the machine that is called `host`.
    ///
    /// # Errors
    /// The name cannot be written as JSON.
    pub fn new(out: &'a mut dyn io::Write, host: &str) -> io::Result<Self> {
        let mut sink = Sink::new(out);
        sink.text("{\"schema\":\"");
        sink.text(NAME);
        sink.text("\",\"host\":");
        sink.json(&host)?;
        sink.text(",\"databases\":[");
        Ok(Self { sink, databases: 0 })
    }

    /// Adds one database.
    ///
    /// # Errors
    /// Whatever the writer returns; see [`super::is_broken_pipe`].
    pub fn database(&mut self, report: &DatabaseReport) -> io::Result<()> {
        let sink = &mut self.sink;
        sink.text(if self.databases == 0 {
            "{\"target\":"
        } else {
            ",{\"target\":"
        });
        self.databases += 1;
        sink.json(&TargetPart::from(&report.target))?;
        sink.text(",\"collection\":");
        sink.json(&CollectionPart::of(report))?;
        sink.text(",\"age_s\":");
        sink.decimal(report.age_s);
        sink.text(",\"entries\":[");
        let without_stack = write_entries(sink, report)?;
        sink.text("],\"sites\":{");
        let sites = report.sites.iter().map(|(site, stack)| (*site, Some(stack)));
        write_sites(sink, sites.chain(without_stack.into_iter().map(|site| (site, None))))?;
        sink.text("},\"printed\":");
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
        sink.text("}");
        sink.spill()
    }

    /// Ends the document.
    ///
    /// # Errors
    /// Whatever the writer returns.
    pub fn finish(mut self) -> io::Result<()> {
        self.sink.text("]}\n");
        self.sink.flush()
    }
}

/// Writes the entries, and returns the sites that they name and the report has no stack of.
fn write_entries(sink: &mut Sink<'_>, report: &DatabaseReport) -> io::Result<BTreeSet<SiteId>> {
    let members = site_members(&report.entries);
    let has_stack = |site| report.sites.contains_key(site);
    let told: Vec<bool> = report.entries.sites().iter().map(has_stack).collect();
    let without_stack = Mutex::new(BTreeSet::new());
    let row = |out: &mut PieceText, index: SiteIndex, entry: &Entry, first| {
        let index = index.0 as usize;
        if !told.get(index).copied().unwrap_or(false) {
            // A panic while it is held leaves the set whole.
            without_stack
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(entry.site);
        }
        let mut row = Row::new();
        row.text(if first { "{" } else { ",{" });
        let member = members.get(index).copied().unwrap_or_else(|| site_member(entry.site));
        write_entry_members(&mut row, entry, &member, before_gap(report, entry));
        row.text("}");
        out.push(row.bytes());
    };
    pieces::render(sink, &report.entries, LONGEST, row, |_, _| Ok(()))?;
    Ok(without_stack.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn write_sites<'s>(sink: &mut Sink<'_>, sites: impl Iterator<Item = (SiteId, Option<&'s Stack>)>) -> io::Result<()> {
    for (index, (site, stack)) in sites.enumerate() {
        if index > 0 {
            sink.text(",");
        }
        write_site_id(sink, site);
        sink.text(":");
        sink.json(&SitePart::of(site, stack))?;
        sink.spill()?;
    }
    Ok(())
}
