//! A comparison as JSON: `memscope.diff/v1`.
//!
//! `{"schema","before":{"source","host","bytes","blocks"},"after":{…},"sites":[{"site","change","before":{"blocks","bytes"},
//! "after":{…},"complete","by_frame_pointer","function","file","line","stack":["…"]}],"notes":[…]}`. Numbers are raw integers; `stack` is innermost first,
//! functions by name.

use std::io;

use serde::Serialize;

use super::diff::{Diff, SiteChange};
use super::diff_text::FrameName;
use super::saved::SavedReport;
use crate::report::sites::Amount;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    before: Side<'a>,
    after: Side<'a>,
    sites: Vec<SitePart<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Side<'a> {
    source: &'a str,
    host: &'a str,
    #[serde(flatten)]
    live: AmountPart,
}

/// An amount as JSON has it.
#[derive(Clone, Copy, Serialize)]
pub(super) struct AmountPart {
    blocks: u64,
    bytes: u64,
}

impl From<Amount> for AmountPart {
    fn from(amount: Amount) -> Self {
        Self {
            blocks: amount.blocks,
            bytes: amount.bytes,
        }
    }
}

#[derive(Serialize)]
struct SitePart<'a> {
    site: String,
    change: &'static str,
    before: AmountPart,
    after: AmountPart,
    complete: bool,
    by_frame_pointer: bool,
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    stack: Vec<String>,
}

impl<'a> From<&'a SiteChange> for SitePart<'a> {
    fn from(site: &'a SiteChange) -> Self {
        let own = site.own_frame();
        let source = own.and_then(|frame| frame.source.as_ref());
        Self {
            site: format!("{:#018x}", site.id.0),
            change: site.change.text(),
            before: site.before.into(),
            after: site.after.into(),
            complete: site.stack.complete(),
            by_frame_pointer: site.stack.by_frame_pointer,
            function: own.and_then(|frame| frame.function.as_deref()),
            file: source.map(|source| source.file.as_str()),
            line: source.and_then(|source| source.line),
            stack: site
                .stack
                .frames
                .iter()
                .map(|frame| FrameName(frame).to_string())
                .collect(),
        }
    }
}

/// Writes it.
///
/// # Errors
/// The writer's.
pub fn write(diff: &Diff, before: &SavedReport, after: &SavedReport, out: &mut dyn io::Write) -> io::Result<()> {
    fn side(report: &SavedReport, live: Amount) -> Side<'_> {
        Side {
            source: &report.source,
            host: &report.host,
            live: live.into(),
        }
    }
    let document = Document {
        schema: "memscope.diff/v1",
        before: side(before, diff.before),
        after: side(after, diff.after),
        sites: diff.sites.iter().map(SitePart::from).collect(),
        notes: &diff.notes,
    };
    serde_json::to_writer(&mut *out, &document)?;
    writeln!(out)
}
