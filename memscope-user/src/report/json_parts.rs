//! The parts that `json` and `ndjson` have in common, their keys in the order of the contract (memscope.entries/v1).

use std::sync::Arc;

use memscope_ebpf::live::BlockKind;
use serde::Serialize;
use serde::ser::{SerializeSeq as _, Serializer};

use super::model::{Collection, DatabaseReport, Entry, Estimate, Frame, Gap, SiteId, Stack, TargetDescription};
use super::sink::Sink;
use crate::suppress::apply::{Applied, Hidden};
use crate::suppress::rules::Rule;

/// Name of the format, in the first key of every document.
pub(super) const NAME: &str = "memscope.entries/v1";

/// The end of a stack that the database holds no record of.
pub(super) const NOT_RECORDED: &str = "stack was not recorded";

#[derive(Serialize)]
pub(super) struct TargetPart<'a> {
    pid: u32,
    start_time: u64,
    comm: &'a str,
    exe: &'a str,
    build_id: Option<&'a str>,
}

impl<'a> From<&'a TargetDescription> for TargetPart<'a> {
    fn from(target: &'a TargetDescription) -> Self {
        Self {
            pid: target.id.pid.0,
            start_time: target.id.start_time.0,
            comm: &target.comm,
            exe: &target.exe,
            build_id: target.build_id.as_ref().map(|id| id.as_hex()),
        }
    }
}

#[derive(Serialize)]
pub(super) struct CollectionPart {
    state: &'static str,
    since: Option<u64>,
    seconds: u64,
    gaps: Vec<GapPart>,
}

#[derive(Serialize)]
struct GapPart {
    seconds: u64,
    ended_s_ago: u64,
}

impl CollectionPart {
    pub(super) fn of(report: &DatabaseReport) -> Self {
        Self::new(report.collection, &report.gaps)
    }

    pub(super) fn new(collection: Collection, gaps: &[Gap]) -> Self {
        let Collection {
            state,
            since_unix_s,
            seconds,
        } = collection;
        let gaps = gaps.iter().map(|gap| GapPart {
            seconds: gap.lasted_ms.div_ceil(1000),
            ended_s_ago: gap.ended_ms_ago / 1000,
        });
        Self {
            state: state.text(),
            since: since_unix_s,
            seconds,
            gaps: gaps.collect(),
        }
    }
}

/// Of sampled blocks: whole numbers, like all counts.
#[derive(Serialize)]
pub(super) struct EstimatePart {
    sample_bytes: u64,
    blocks: u64,
    bytes: u64,
    bytes_error: u64,
}

impl From<&Estimate> for EstimatePart {
    fn from(estimate: &Estimate) -> Self {
        Self {
            sample_bytes: estimate.sample_bytes,
            blocks: estimate.blocks.round() as u64,
            bytes: estimate.bytes.round() as u64,
            bytes_error: estimate.bytes_error.ceil() as u64,
        }
    }
}

/// A rule and what it hides.
#[derive(Serialize)]
pub(super) struct SuppressionPart<'a> {
    pattern: &'a str,
    origin: String,
    line: usize,
    sites: u64,
    blocks: u64,
    bytes: u64,
}

impl<'a> SuppressionPart<'a> {
    /// Every rule that was applied, whether it hides anything or not.
    pub(super) fn all(applied: &'a Applied) -> Vec<Self> {
        let part = |(rule, hidden): &'a (Rule, Hidden)| Self {
            pattern: &rule.pattern,
            origin: rule.origin.to_string(),
            line: rule.line,
            sites: hidden.sites,
            blocks: hidden.live.blocks,
            bytes: hidden.live.bytes,
        };
        applied.rules.iter().map(part).collect()
    }
}

#[derive(Serialize)]
pub(super) struct SitePart<'a> {
    cookie: String,
    complete: bool,
    end: &'static str,
    by_frame_pointer: bool,
    frames: FramesPart<'a>,
}

impl<'a> SitePart<'a> {
    /// `stack`: `None` for a site the database holds no stack of.
    pub(super) fn of(site: SiteId, stack: Option<&'a Stack>) -> Self {
        Self {
            cookie: format!("{:#010x}", site.cookie()),
            complete: stack.is_some_and(Stack::complete),
            end: stack.map_or(NOT_RECORDED, |stack| stack.end.text()),
            by_frame_pointer: stack.is_some_and(|stack| stack.by_frame_pointer),
            frames: FramesPart(stack.map_or(&[], |stack| &stack.frames)),
        }
    }
}

struct FramesPart<'a>(&'a [Arc<Frame>]);

impl Serialize for FramesPart<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut frames = serializer.serialize_seq(Some(self.0.len()))?;
        for frame in self.0 {
            frames.serialize_element(&FramePart::from(&**frame))?;
        }
        frames.end()
    }
}

#[derive(Serialize)]
struct FramePart<'a> {
    address: String,
    function: Option<&'a str>,
    offset: u64,
    module: &'a str,
    build_id: Option<&'a str>,
    file_offset: Option<u64>,
    file: Option<&'a str>,
    line: Option<u32>,
    inlined: bool,
}

impl<'a> From<&'a Frame> for FramePart<'a> {
    fn from(frame: &'a Frame) -> Self {
        Self {
            address: format!("{:#x}", frame.address),
            function: frame.function.as_deref(),
            offset: frame.offset,
            module: &frame.module,
            build_id: frame.build_id.as_ref().map(|id| id.as_hex()),
            file_offset: frame.file_offset.map(|offset| offset.0),
            file: frame.source.as_ref().map(|source| source.file.as_str()),
            line: frame.source.as_ref().and_then(|source| source.line),
            inlined: frame.inlined,
        }
    }
}

/// Writes a site id as the string it is a key by: `0x` and 16 digits.
pub(super) fn write_site_id(sink: &mut Sink<'_>, site: SiteId) {
    sink.text("\"");
    sink.hex(site.0, 16);
    sink.text("\"");
}

/// Writes the members of one entry's object, without its braces. By hand: there may be a million of them.
pub(super) fn write_entry_members(sink: &mut Sink<'_>, entry: &Entry, before_gap: bool) {
    sink.text("\"entry\":");
    sink.decimal(entry.number.0);
    sink.text(",\"address\":\"");
    sink.hex(entry.address.0, 1);
    sink.text("\",\"size\":");
    sink.decimal(entry.size);
    sink.text(",\"age_s\":");
    sink.decimal(entry.age_s());
    sink.text(",\"tid\":");
    sink.decimal(u64::from(entry.tid));
    sink.text(",\"site\":");
    write_site_id(sink, entry.site);
    sink.text(match entry.kind {
        BlockKind::Heap => ",\"block_kind\":\"heap\"",
        BlockKind::Region => ",\"block_kind\":\"region\"",
    });
    if before_gap {
        sink.text(",\"before_gap\":true");
    }
}

/// Whether frees of the entry may have gone unseen while collection was stopped.
pub(super) fn before_gap(report: &DatabaseReport, entry: &Entry) -> bool {
    report.gaps.iter().any(|gap| gap.doubts(entry))
}
