//! speedscope's JSON (<https://www.speedscope.app/file-format-schema.json>): two sampled profiles, bytes and blocks alive.

use std::collections::HashMap;
use std::io;

use serde::Serialize;

use super::label;
use crate::report::Escaped;
use crate::report::sites::SitesReport;

#[derive(Serialize)]
struct Document {
    #[serde(rename = "$schema")]
    schema: &'static str,
    shared: Shared,
    profiles: [Profile; 2],
    name: String,
    #[serde(rename = "activeProfileIndex")]
    active: usize,
    exporter: &'static str,
}

#[derive(Serialize)]
struct Shared {
    frames: Vec<FramePart>,
}

#[derive(Clone, Hash, PartialEq, Eq, Serialize)]
struct FramePart {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
struct Profile {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    /// `bytes` or `none`: of the units the format knows, the two that are not time.
    unit: &'static str,
    #[serde(rename = "startValue")]
    start: u64,
    #[serde(rename = "endValue")]
    end: u64,
    /// Frame numbers, outermost first.
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

impl Profile {
    fn new(name: &'static str, unit: &'static str, samples: Vec<Vec<usize>>, weights: Vec<u64>) -> Self {
        Self {
            kind: "sampled",
            name,
            unit,
            start: 0,
            end: weights.iter().sum(),
            samples,
            weights,
        }
    }
}

/// Writes the document.
///
/// # Errors
/// The writer's.
pub fn write(report: &SitesReport, out: &mut dyn io::Write) -> io::Result<()> {
    let mut frames = Frames::default();
    let (mut samples, mut bytes, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
    for site in report.sites.iter().filter(|site| site.live.blocks > 0) {
        let missing = label::missing(&site.stack).map(|name| FramePart {
            name,
            file: None,
            line: None,
        });
        let named = site.stack.frames.iter().rev().map(|frame| FramePart {
            name: label::frame(frame),
            file: frame.source.as_ref().map(|source| Escaped(&source.file).to_string()),
            line: frame.source.as_ref().and_then(|source| source.line),
        });
        samples.push(
            missing
                .into_iter()
                .chain(named)
                .map(|part| frames.number(part))
                .collect(),
        );
        bytes.push(site.live.bytes);
        blocks.push(site.live.blocks);
    }
    let document = Document {
        schema: "https://www.speedscope.app/file-format-schema.json",
        shared: Shared { frames: frames.list },
        profiles: [
            Profile::new("live bytes", "bytes", samples.clone(), bytes),
            Profile::new("live blocks", "none", samples, blocks),
        ],
        name: format!(
            "{} (pid {}){}",
            Escaped(&report.target.comm),
            report.target.id.pid,
            label::estimated(report).map_or_else(String::new, |how| format!(", {how}"))
        ),
        active: 0,
        exporter: concat!("memscope ", env!("CARGO_PKG_VERSION")),
    };
    serde_json::to_writer(&mut *out, &document)?;
    writeln!(out)
}

/// Frames by number, in the order they came up.
#[derive(Default)]
struct Frames {
    list: Vec<FramePart>,
    numbers: HashMap<FramePart, usize>,
}

impl Frames {
    fn number(&mut self, part: FramePart) -> usize {
        if let Some(number) = self.numbers.get(&part) {
            return *number;
        }
        let number = self.list.len();
        self.list.push(part.clone());
        self.numbers.insert(part, number);
        number
    }
}
