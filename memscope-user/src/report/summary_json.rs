//! `memscope.report/v1`: `report` as one JSON document, or one object a line (described in [`super::schemas`]).
//!
//! As in `memscope.entries/v1`, site ids are strings in hex, counts raw integers; rates, shares and confidences are
//! numbers. Lines of `ndjson`: `{"type":"report",…}` for each database, then `{"type":"site",…}` for each of its sites.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use super::json_parts::{CollectionPart, SitePart, SuppressionPart, TargetPart};
use super::notes;
use super::own_code::own_frame;
use super::sites::Sampled;
use super::summary::{Change, Group, Grouping, Growth, Row, Selection, Summary};
use crate::verdict::{Overall, Reason};

/// Name of the format.
pub const NAME: &str = "memscope.report/v1";

/// Writes one document.
///
/// # Errors
/// Whatever the writer returns; see [`super::is_broken_pipe`].
pub fn write_document(
    out: &mut dyn io::Write,
    host: &str,
    summaries: &[Summary],
    selection: &Selection,
) -> io::Result<()> {
    write!(out, "{{\"schema\":\"{NAME}\",\"host\":")?;
    serde_json::to_writer(&mut *out, host)?;
    write!(out, ",\"databases\":[")?;
    for (index, summary) in summaries.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        let rows = selected(summary, selection);
        serde_json::to_writer(&mut *out, &DatabasePart::of(summary, selection, Some(&rows)))?;
    }
    writeln!(out, "]}}")?;
    out.flush()
}

/// Writes one database as lines.
///
/// # Errors
/// Whatever the writer returns.
pub fn write_lines(out: &mut dyn io::Write, summary: &Summary, selection: &Selection) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        schema: &'static str,
        r#type: &'static str,
        pid: u32,
        #[serde(flatten)]
        part: &'a T,
    }
    let pid = summary.report.target.id.pid.0;
    let mut line = |r#type, part: &dyn erased::Part| -> io::Result<()> {
        let value = part.value()?;
        serde_json::to_writer(
            &mut *out,
            &Line {
                schema: NAME,
                r#type,
                pid,
                part: &value,
            },
        )?;
        writeln!(out)
    };
    line("report", &DatabasePart::of(summary, selection, None))?;
    for row in selected(summary, selection) {
        line("site", &RowPart::of(&row))?;
    }
    out.flush()
}

mod erased {
    //! One line's part as a value, so that both kinds of lines are written in one place.

    use std::io;

    use serde::Serialize;

    pub(super) trait Part {
        fn value(&self) -> io::Result<serde_json::Value>;
    }

    impl<T: Serialize> Part for T {
        fn value(&self) -> io::Result<serde_json::Value> {
            serde_json::to_value(self).map_err(io::Error::from)
        }
    }
}

fn selected<'a>(summary: &'a Summary, selection: &Selection) -> Vec<Row<'a>> {
    let mut rows = summary.rows(selection);
    if let Some(top) = selection.top {
        rows.truncate(top);
    }
    rows
}

#[derive(Serialize)]
struct DatabasePart<'a> {
    target: TargetPart<'a>,
    collection: CollectionPart,
    at: u64,
    window_ms: u64,
    span: Option<&'a str>,
    allocators: &'a BTreeMap<String, usize>,
    memory: MemoryPart,
    events: &'a BTreeMap<&'static str, u64>,
    losses: &'a BTreeMap<&'static str, u64>,
    whole_stacks: Option<f64>,
    cost: Option<CostPart>,
    sampling: Option<SamplingPart>,
    overall: &'static str,
    against_clean: &'a [String],
    previous_s_ago: Option<u64>,
    total_sites: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    sites: Option<Vec<RowPart<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<GroupPart>>,
    suppressions: Vec<SuppressionPart<'a>>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct CostPart {
    events_per_s: f64,
    percent_of_one_cpu: Option<f64>,
}

/// Every figure of blocks and bytes is an estimate then.
#[derive(Serialize)]
struct SamplingPart {
    sample_bytes: u64,
    from_the_start: bool,
    tracked_bytes_error: u64,
}

#[derive(Serialize)]
struct MemoryPart {
    resident: Option<u64>,
    tracked: u64,
    tracked_blocks: u64,
    with_regions: bool,
    growth: Option<GrowthPart>,
    explained: Option<f64>,
}

#[derive(Serialize)]
struct GrowthPart {
    resident: i64,
    tracked: i64,
    seconds: u64,
}

impl From<Growth> for GrowthPart {
    fn from(growth: Growth) -> Self {
        Self {
            resident: growth.resident,
            tracked: growth.tracked,
            seconds: growth.seconds,
        }
    }
}

#[derive(Serialize)]
struct GroupPart {
    name: String,
    sites: u64,
    verdict: &'static str,
    allocated: AmountPart,
    live: AmountPart,
    bytes_per_minute: f64,
    suppressed: bool,
}

impl From<Group> for GroupPart {
    fn from(group: Group) -> Self {
        Self {
            name: group.name,
            sites: group.sites,
            verdict: group.verdict.text(),
            allocated: group.allocated.into(),
            live: group.live.into(),
            bytes_per_minute: rounded(group.bytes_per_minute),
            suppressed: group.suppressed,
        }
    }
}

impl<'a> DatabasePart<'a> {
    fn of(summary: &'a Summary, selection: &Selection, rows: Option<&[Row<'a>]>) -> Self {
        let report = &summary.report;
        let live = report.total_live();
        let overall = match summary.judged.overall {
            Overall::Suspects => "suspects",
            Overall::Clean => "clean",
            Overall::Inconclusive => "inconclusive",
        };
        Self {
            target: TargetPart::from(&report.target),
            collection: CollectionPart::new(report.collection, &report.gaps),
            at: report.at_unix_s,
            window_ms: report.window_ms(),
            span: summary.span.as_deref(),
            allocators: &summary.allocators,
            memory: MemoryPart {
                resident: summary.memory.resident,
                tracked: live.bytes,
                tracked_blocks: live.blocks,
                with_regions: summary.memory.with_regions,
                growth: summary.growth().map(GrowthPart::from),
                explained: summary.explained().map(rounded),
            },
            events: &report.events,
            losses: &report.losses,
            whole_stacks: summary.whole_stacks().map(rounded),
            cost: summary.cost.map(|cost| CostPart {
                events_per_s: rounded(cost.events_per_s),
                percent_of_one_cpu: cost.percent.map(rounded),
            }),
            sampling: report.sampling.map(|sampling| SamplingPart {
                sample_bytes: sampling.sample_bytes,
                from_the_start: sampling.is_from_the_start(),
                tracked_bytes_error: report.bytes_error().unwrap_or(0),
            }),
            overall,
            against_clean: &summary.judged.against,
            previous_s_ago: summary.previous.as_ref().map(|previous| previous.seconds_ago),
            total_sites: report.sites.len(),
            sites: rows.map(|rows| rows.iter().map(RowPart::of).collect()),
            groups: (selection.grouping != Grouping::Site)
                .then(|| summary.groups(selection).into_iter().map(GroupPart::from).collect()),
            suppressions: SuppressionPart::all(&summary.suppressed),
            notes: notes::of_sites(report),
        }
    }
}

#[derive(Serialize)]
struct AmountPart {
    blocks: u64,
    bytes: u64,
}

impl From<super::sites::Amount> for AmountPart {
    fn from(amount: super::sites::Amount) -> Self {
        Self {
            blocks: amount.blocks,
            bytes: amount.bytes,
        }
    }
}

/// What the estimate of a site rests on.
#[derive(Serialize)]
struct SampledPart {
    blocks: u64,
    bytes: u64,
    bytes_error: u64,
}

impl From<Sampled> for SampledPart {
    fn from(sampled: Sampled) -> Self {
        Self {
            blocks: sampled.recorded.blocks,
            bytes: sampled.recorded.bytes,
            bytes_error: sampled.bytes_error,
        }
    }
}

#[derive(Serialize)]
struct ChangePart {
    blocks: i64,
    bytes: i64,
}

#[derive(Serialize)]
struct RatePart {
    blocks_per_minute: f64,
    bytes_per_minute: f64,
    fit: f64,
}

#[derive(Serialize)]
struct RowPart<'a> {
    site: String,
    verdict: &'static str,
    reason: &'static str,
    because: String,
    needs: Option<String>,
    confidence: f64,
    grows: bool,
    allocated: AmountPart,
    freed: AmountPart,
    live: AmountPart,
    change: Option<ChangePart>,
    rate: Option<RatePart>,
    share_freed: Option<f64>,
    mean_life_ms: Option<u64>,
    survivors: u64,
    earlier_reports: usize,
    leaking_for_s: Option<u64>,
    confirmed_s_ago: Option<u64>,
    oldest_s: Option<u64>,
    youngest_s: Option<u64>,
    births: Vec<[u64; 2]>,
    own_frame: Option<usize>,
    suppressed_by: Option<&'a str>,
    sampled: Option<SampledPart>,
    #[serde(flatten)]
    stack: SitePart<'a>,
}

impl<'a> RowPart<'a> {
    fn of(row: &Row<'a>) -> Self {
        let (figures, judgement) = (row.figures, row.judgement);
        let evidence = judgement.evidence;
        Self {
            site: format!("{:#018x}", figures.id.0),
            verdict: judgement.verdict.text(),
            reason: judgement.reason.key(),
            because: judgement.reason.to_string(),
            needs: match judgement.reason {
                Reason::Needs(need) => Some(need.to_string()),
                _ => None,
            },
            confidence: rounded(evidence.confidence),
            grows: judgement.grows,
            allocated: figures.allocated.into(),
            freed: figures.freed.into(),
            live: figures.live.into(),
            change: row.change.map(|Change { blocks, bytes }| ChangePart { blocks, bytes }),
            rate: evidence.rate.map(|rate| RatePart {
                blocks_per_minute: rounded(rate.blocks_per_minute),
                bytes_per_minute: rounded(rate.bytes_per_minute),
                fit: rounded(rate.fit),
            }),
            share_freed: evidence.share_freed.map(rounded),
            mean_life_ms: evidence.mean_life_ms,
            survivors: evidence.survivors,
            earlier_reports: evidence.earlier_reports,
            leaking_for_s: evidence.leaking_for_ms.map(|since| since / 1000),
            confirmed_s_ago: judgement.confirmed_ms_ago().map(|since| since / 1000),
            oldest_s: figures.oldest_ms.map(|age| age / 1000),
            youngest_s: figures.youngest_ms.map(|age| age / 1000),
            births: figures.births.iter().map(|bin| [bin.blocks, bin.bytes]).collect(),
            own_frame: own_frame(&figures.stack),
            suppressed_by: row.suppressed_by.map(|rule| rule.pattern.as_str()),
            sampled: figures.sampled.map(SampledPart::from),
            stack: SitePart::of(figures.id, Some(&figures.stack)),
        }
    }
}

/// To four decimals: more would claim a precision that is not there.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}
