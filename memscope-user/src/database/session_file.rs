//! `session.json`: what the kernel cannot keep — identity, what was mapped, which probes sit where, starts and stops.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::DatabaseError;
use super::folder;
use super::generations::MappedGeneration;
use super::load::Capacities;
use crate::allocator::spec::SavedSpec;
use crate::host::preflight::Accepted;
use crate::probe::plan::PlannedCall;
use crate::target::address::BuildId;
use crate::target::identity::{Pid, TargetId};
use crate::target::program::Program;
use crate::unwind::Layout;

/// Name and version of the layout; the maps' layout is a part of it.
pub const SCHEMA: &str = "memscope.session/v2";

/// The file's contents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionFile {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of memscope that made the session.
    pub version: String,
    /// Who.
    pub target: TargetId,
    /// `/proc/PID/comm` at create, lossy.
    pub comm: String,
    /// `/proc/PID/exe` at create, lossy.
    pub exe: String,
    /// The program that it ran at create; `None`: that could not be read.
    #[serde(default)]
    pub program: Option<Program>,
    /// Build id of the executable.
    pub build_id: Option<BuildId>,
    /// When the database was created.
    pub created: Moment,
    /// Sizes of its maps.
    pub capacities: Capacities,
    /// What collection may cost, and whether it samples.
    #[serde(default)]
    pub limits: Limits,
    /// Dangers to the target that the user accepts.
    #[serde(default)]
    pub accepted: Accepted,
    /// Of a process that was attached because its family is followed.
    #[serde(default)]
    pub followed: Option<Followed>,
    /// Functions named by hand.
    pub by_hand: Vec<SavedSpec>,
    /// Times in which collection ran, in order. Written before CONTROL is: while CONTROL says that collection runs, the
    /// last one is open whatever its end says; while it does not, a last one without end never began.
    pub runs: Vec<Run>,
    /// What the target had mapped executable, by generation of the mappings; the last is the present one.
    pub generations: Vec<MappedGeneration>,
    /// Code that has no part in the tables for want of room.
    #[serde(default)]
    pub left_out: LeftOut,
    /// When the target's mappings were last looked at: code loaded since is not unwound through, nor named.
    pub mappings_seen: Moment,
    /// Why functions of code that was loaded since the start are not probed: a danger that was not accepted.
    #[serde(default)]
    pub unwatched: Option<String>,
    /// When its target was first found to have ended, if nothing watched it to its end.
    #[serde(default)]
    pub found_ended: Option<Moment>,
    /// While probes of it are shared with other sessions: how many hits of shared probes no session had been found for before.
    #[serde(default)]
    pub unrouted_before: Option<u64>,
    /// What of the unwind tables is where in the kernel's arrays.
    pub layout: Layout,
    /// Probed functions; a call index is a position in this list.
    pub calls: Vec<PlannedCall>,
}

/// How a process came to be attached by `attach --follow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// The target whose descendant it is.
    pub root: TargetId,
    /// Who forked it, if that was seen.
    pub parent: Option<Pid>,
    /// For how long it, or the program it runs, ran unwatched, at most; milliseconds.
    pub unwatched_ms: u64,
}

/// Names kept of images whose tables found no room.
pub const MOST_NAMES: usize = 64;

/// Code that has no part in the unwind tables for want of room. Stacks end there, or go on by frame pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Executable mappings of the present generation.
    pub mappings: u64,
    /// How many of them are of files with an unwind table.
    #[serde(default)]
    pub mappings_with_table: u64,
    /// Files whose tables found no room, by name, up to [`MOST_NAMES`].
    pub images: Vec<String>,
}

/// What collection may cost the target, and whether it samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Mean distance of two samples, bytes; `None`: every block is recorded.
    pub sample_bytes: Option<u64>,
    /// Percent of one CPU.
    pub max_cpu: Option<u32>,
    /// What hits cost on this host, if that is limited.
    pub prices: Option<HitPrices>,
    /// What happens above that.
    pub over_budget: Exceeded,
}

/// What a hit of a probe costs, CPU nanoseconds; see `memscope_ebpf::state::Prices`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HitPrices {
    /// One.
    pub hit_ns: u32,
    /// How much more one that the kernel single-steps.
    pub step_ns: u32,
}

/// What happens when collection costs more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exceeded {
    /// Collection stops.
    #[default]
    Stop,
    /// Collection goes on by sampling.
    Sample,
    /// Nothing.
    Ignore,
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// CLOCK_REALTIME, seconds since the epoch.
    pub unix_s: u64,
    /// CLOCK_MONOTONIC, milliseconds: the clock of `born`.
    pub monotonic_ms: u64,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let unix_s = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self {
            unix_s,
            monotonic_ms: super::clock::monotonic_ns() / 1_000_000,
        }
    }

    /// A moment that has been, by CLOCK_MONOTONIC.
    #[must_use]
    pub fn at(monotonic_ms: u64) -> Self {
        let now = Self::now();
        let ago_s = now.monotonic_ms.saturating_sub(monotonic_ms) / 1000;
        Self {
            unix_s: now.unix_s.saturating_sub(ago_s),
            monotonic_ms,
        }
    }
}

/// One stretch of collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First moment.
    pub from: Moment,
    /// Last moment; `None` while it runs.
    pub to: Option<Moment>,
}

impl SessionFile {
    /// Reads and checks a session file.
    ///
    /// # Errors
    /// It is missing, does not parse, or is another version's.
    pub fn read(path: &Path, id: TargetId) -> Result<Self, DatabaseError> {
        let text = std::fs::read(path).map_err(DatabaseError::file("read", path))?;
        Self::parse(&text, path, id)
    }

    /// Checks the text of a session file; `path` is for the error.
    ///
    /// # Errors
    /// It does not parse, or is another version's.
    pub fn parse(text: &[u8], path: &Path, id: TargetId) -> Result<Self, DatabaseError> {
        #[derive(Deserialize)]
        struct Header {
            schema: String,
            version: String,
        }
        let broken = |source| DatabaseError::SessionFile {
            path: path.to_path_buf(),
            source,
        };
        let header: Header = serde_json::from_slice(text).map_err(broken)?;
        if header.schema != SCHEMA || header.version != env!("CARGO_PKG_VERSION") {
            return Err(DatabaseError::OtherVersion {
                id,
                theirs: header.version,
                ours: env!("CARGO_PKG_VERSION"),
            });
        }
        serde_json::from_slice(text).map_err(broken)
    }

    /// Writes it whole.
    ///
    /// # Errors
    /// It cannot be written; the old one then stands.
    pub fn write(&self, path: &Path) -> Result<(), DatabaseError> {
        let text = serde_json::to_vec(self).map_err(|source| DatabaseError::SessionFile {
            path: path.to_path_buf(),
            source,
        })?;
        folder::replace_file(path, &text)
    }
}
