//! From JSON to a [`SavedReport`]. Entries are added up as they are read: a report of a million needs no memory for them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use memscope_ebpf::site::StackEnd;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::saved::{SavedDatabase, SavedError, SavedReport, SavedSite};
use crate::report::model::{Frame, SiteId, SourceLine, Stack, TargetDescription};
use crate::report::sites::Amount;
use crate::target::address::{BuildId, FileOffset, RuntimeAddress};
use crate::target::identity::{Pid, StartTime, TargetId};

const BY_BLOCK: &str = "memscope.entries/v1";
const BY_SITE: &str = "memscope.report/v1";

/// Reads the document of a file.
pub(super) fn report(path: &Path, text: impl Read) -> Result<SavedReport, SavedError> {
    let document: Document = serde_json::from_reader(text).map_err(|source| SavedError::Malformed {
        path: path.to_owned(),
        source,
    })?;
    if ![BY_BLOCK, BY_SITE].contains(&document.schema.as_str()) {
        return Err(SavedError::OtherSchema {
            path: path.to_owned(),
            schema: crate::report::Escaped(&document.schema).to_string(),
        });
    }
    let databases: Vec<SavedDatabase> = document.databases.into_iter().map(SavedDatabase::from).collect();
    let named_after = databases.first().map(|database| &database.target);
    Ok(SavedReport {
        source: path.display().to_string(),
        host: document.host.unwrap_or_else(|| host_in_name(path, named_after)),
        by_site: document.schema == BY_SITE,
        databases,
    })
}

/// The host that `--output-dir` put into a file's name (`memscope-HOST-COMM-PID.json`); else the name without its ending.
fn host_in_name(path: &Path, target: Option<&TargetDescription>) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let stem = name.split_once(".json").map_or(&*name, |(stem, _)| stem);
    let host = target.and_then(|target| {
        let host = stem.strip_prefix("memscope-")?;
        host.strip_suffix(&format!("-{}-{}", target.comm, target.id.pid))
    });
    host.unwrap_or(stem).to_owned()
}

#[derive(Deserialize)]
struct Document {
    schema: String,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    databases: Vec<DatabasePart>,
}

#[derive(Deserialize)]
struct DatabasePart {
    target: TargetPart,
    collection: CollectionPart,
    #[serde(default)]
    age_s: u64,
    #[serde(default)]
    entries: Summed,
    sites: SitesPart,
    printed: Option<u64>,
    total: Option<u64>,
    memory: Option<MemoryPart>,
    estimate: Option<IgnoredAny>,
    sampling: Option<IgnoredAny>,
    #[serde(default)]
    losses: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct MemoryPart {
    tracked_blocks: u64,
}

#[derive(Deserialize)]
struct TargetPart {
    pid: u32,
    start_time: u64,
    comm: String,
    exe: String,
    build_id: Option<BuildId>,
}

#[derive(Deserialize)]
struct CollectionPart {
    seconds: u64,
}

/// `memscope.entries/v1` has its sites by id, `memscope.report/v1` in order, each with its id.
#[derive(Deserialize)]
#[serde(untagged)]
enum SitesPart {
    ById(BTreeMap<HexId, SitePart>),
    InOrder(Vec<SiteWithId>),
}

#[derive(Deserialize)]
struct SiteWithId {
    site: HexId,
    #[serde(flatten)]
    part: SitePart,
}

#[derive(Deserialize)]
struct SitePart {
    complete: bool,
    end: String,
    /// Reports of earlier versions do not have it.
    #[serde(default)]
    by_frame_pointer: bool,
    frames: Vec<FramePart>,
    #[serde(default)]
    live: AmountPart,
    verdict: Option<String>,
    suppressed_by: Option<String>,
}

#[derive(Default, Deserialize)]
struct AmountPart {
    blocks: u64,
    bytes: u64,
}

#[derive(Deserialize)]
struct FramePart {
    address: HexId,
    function: Option<String>,
    offset: u64,
    module: String,
    build_id: Option<BuildId>,
    file_offset: Option<u64>,
    file: Option<String>,
    line: Option<u32>,
    inlined: bool,
}

/// A 64-bit number as `0x…`, as site ids and addresses are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct HexId(u64);

impl<'de> Deserialize<'de> for HexId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;
        impl Visitor<'_> for Hex {
            type Value = HexId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number in hex, as \"0x1f\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HexId, E> {
                let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
                let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
                number
                    .map(HexId)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Hex)
    }
}

/// The entries, added up by site.
#[derive(Default)]
struct Summed(HashMap<HexId, Amount>);

impl<'de> Deserialize<'de> for Summed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct EntryPart {
            site: HexId,
            size: u64,
        }
        struct Sum;
        impl<'de> Visitor<'de> for Sum {
            type Value = Summed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Summed, A::Error> {
                let mut sums: HashMap<HexId, Amount> = HashMap::new();
                while let Some(entry) = entries.next_element::<EntryPart>()? {
                    let sum = sums.entry(entry.site).or_default();
                    // Sizes are anybody's numbers here.
                    sum.blocks += 1;
                    sum.bytes = sum.bytes.saturating_add(entry.size);
                }
                Ok(Summed(sums))
            }
        }
        deserializer.deserialize_seq(Sum)
    }
}

impl From<DatabasePart> for SavedDatabase {
    fn from(part: DatabasePart) -> Self {
        let sites: Vec<(HexId, SitePart)> = match part.sites {
            SitesPart::ById(sites) => sites.into_iter().collect(),
            SitesPart::InOrder(sites) => sites.into_iter().map(|site| (site.site, site.part)).collect(),
        };
        let mut sums = part.entries.0;
        let sites = sites.into_iter().map(|(id, site)| {
            let mut saved = SavedSite::from(site);
            if let Some(sum) = sums.remove(&id) {
                saved.live = sum;
            }
            (SiteId(id.0), saved)
        });
        let sites: BTreeMap<SiteId, SavedSite> = sites.filter(|(_, site)| site.live.blocks > 0).collect();
        // By site, `--top` and `--verdict` leave out what the totals have.
        let here = sites
            .values()
            .fold(0u64, |sum, site| sum.saturating_add(site.live.blocks));
        let left_out = match part.memory {
            Some(memory) => memory.tracked_blocks.saturating_sub(here),
            None => part.total.unwrap_or(0).saturating_sub(part.printed.unwrap_or(0)),
        };
        let target = part.target;
        Self {
            sites,
            target: TargetDescription {
                id: TargetId {
                    pid: Pid(target.pid),
                    start_time: StartTime(target.start_time),
                },
                comm: target.comm,
                exe: target.exe,
                build_id: target.build_id,
            },
            seconds: part.collection.seconds,
            age_s: part.age_s,
            left_out,
            sampled: part.estimate.is_some() || part.sampling.is_some(),
            losses: part.losses,
        }
    }
}

impl From<SitePart> for SavedSite {
    fn from(part: SitePart) -> Self {
        let end = StackEnd::ALL.into_iter().find(|end| end.text() == part.end);
        Self {
            stack: Stack {
                frames: part.frames.into_iter().map(|frame| Arc::new(frame.into())).collect(),
                end: match (part.complete, end) {
                    (true, _) => StackEnd::Outermost,
                    (false, Some(StackEnd::Outermost)) if part.by_frame_pointer => StackEnd::Outermost,
                    // A reason of another version: whatever it was, the stack is not whole.
                    (false, None | Some(StackEnd::Outermost)) => StackEnd::NotRecorded,
                    (false, Some(end)) => end,
                },
                by_frame_pointer: part.by_frame_pointer,
            },
            live: Amount {
                blocks: part.live.blocks,
                bytes: part.live.bytes,
            },
            // What is let be is accused nowhere.
            verdict: part.verdict.filter(|_| part.suppressed_by.is_none()),
        }
    }
}

impl From<FramePart> for Frame {
    fn from(part: FramePart) -> Self {
        Self {
            address: RuntimeAddress(part.address.0),
            function: part.function,
            offset: part.offset,
            module: part.module,
            build_id: part.build_id,
            file_offset: part.file_offset.map(FileOffset),
            source: part.file.map(|file| SourceLine { file, line: part.line }),
            inlined: part.inlined,
        }
    }
}
