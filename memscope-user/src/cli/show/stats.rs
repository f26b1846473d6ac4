//! `stats`: what is collected, and what was lost.

use std::collections::BTreeMap;
use std::io::{self, Write};

use memscope_ebpf::counter::{Counter, Weight};
use memscope_ebpf::limits::SITE_CAPACITY;
use serde::Serialize;

use super::{CostPart, costs, write_document, write_lines};
use crate::cli::arguments::{Format, ShowArguments};
use crate::cli::meant::Meant;
use crate::cli::run::CommandError;
use crate::collection::cost::Cost;
use crate::collection::error::CollectionError;
use crate::collection::{region_owner, room, stack_shares, status};
use crate::database::clock::monotonic_ns;
use crate::database::links;
use crate::database::paths::Roots;
use crate::database::session::{LiveTotals, Session};
use crate::database::session_file::{Followed, LeftOut};
use crate::exit::ExitCode;
use crate::host::calibration::Calibration;
use crate::report::Escaped;
use crate::report::stack_shares::StackShares;

/// Name of the format.
const STATS: &str = "memscope.stats/v1";

/// One database, counted.
#[derive(Debug, Serialize)]
struct Stats {
    pid: u32,
    start_time: u64,
    comm: String,
    exe: String,
    state: &'static str,
    since_unix_s: Option<u64>,
    seconds: u64,
    /// Of a process that `attach --follow` attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    followed: Option<FollowedPart>,
    functions: usize,
    /// Probes that are parts in such as other sessions share.
    shared_probes: usize,
    cost: Option<CostPart>,
    live: Live,
    /// With `--regions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    regions: Option<Live>,
    mappings: Mappings,
    left_out: LeftOut,
    /// Files whose addresses have no names, for want of room.
    unnamed_files: u64,
    sites: Used,
    /// Sites by why their stacks end.
    stack_ends: BTreeMap<&'static str, u64>,
    stacks: StackShares,
    events: BTreeMap<&'static str, u64>,
    anomalies: BTreeMap<&'static str, u64>,
    losses: BTreeMap<&'static str, u64>,
}

/// How a process came to be attached with its family.
#[derive(Debug, Serialize)]
struct FollowedPart {
    root: u32,
    parent: Option<u32>,
    unwatched_ms: u64,
}

impl From<Followed> for FollowedPart {
    fn from(followed: Followed) -> Self {
        Self {
            root: followed.root.pid.0,
            parent: followed.parent.map(|parent| parent.0),
            unwatched_ms: followed.unwatched_ms,
        }
    }
}

#[derive(Debug, Serialize)]
struct Live {
    blocks: u64,
    bytes: u64,
    capacity: u32,
}

/// How fresh the table of the target's code is.
#[derive(Debug, Serialize)]
struct Mappings {
    generation: u64,
    seen_s_ago: u64,
}

#[derive(Debug, Serialize)]
struct Used {
    used: u64,
    capacity: u32,
}

fn measure(session: &Session, cost: Option<Cost>) -> Result<Stats, CollectionError> {
    let target = status::description(session);
    let collection = status::collection(session)?;
    let totals = session.live_totals()?;
    let tally = session.tally()?;
    let sites = session.sites()?;
    let mut stack_ends = BTreeMap::new();
    for (_, site) in sites.iter() {
        *stack_ends.entry(site.end().text()).or_insert(0) += 1;
    }
    Ok(Stats {
        pid: target.id.pid.0,
        start_time: target.id.start_time.0,
        comm: target.comm,
        exe: target.exe,
        state: collection.state.text(),
        since_unix_s: collection.since_unix_s,
        seconds: collection.seconds,
        followed: session.file.followed.map(FollowedPart::from),
        functions: session.file.calls.len(),
        shared_probes: links::shared(&session.paths)?.len(),
        cost: cost.map(CostPart::from),
        live: Live {
            blocks: totals.blocks,
            bytes: totals.bytes,
            capacity: session.file.capacities.live,
        },
        regions: match session.file.capacities.regions {
            0 => None,
            capacity => {
                let LiveTotals { blocks, bytes } = region_owner::totals(session)?;
                Some(Live {
                    blocks,
                    bytes,
                    capacity,
                })
            }
        },
        mappings: Mappings {
            generation: session.generation()?,
            seen_s_ago: (monotonic_ns() / 1_000_000).saturating_sub(session.file.mappings_seen.monotonic_ms) / 1000,
        },
        left_out: session.file.left_out.clone(),
        unnamed_files: room::unnamed_files(&session.file.generations),
        sites: Used {
            used: sites.iter().count() as u64,
            capacity: SITE_CAPACITY,
        },
        stack_ends,
        stacks: stack_shares::of(session, &sites),
        events: tally.nonzero(Weight::Event),
        anomalies: tally.nonzero(Weight::Anomaly),
        losses: tally.nonzero(Weight::Loss),
    })
}

fn write_text(stats: &Stats, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Target: {} {}", stats.pid, Escaped(&stats.comm))?;
    writeln!(out, "  collection     {}, {} s", stats.state, stats.seconds)?;
    if let Some(followed) = &stats.followed {
        let parent = followed.parent.map(|parent| format!(", forked by {parent}"));
        writeln!(
            out,
            "  family         of {}{}; at most its first {} ms were not watched",
            followed.root,
            parent.unwrap_or_default(),
            followed.unwatched_ms
        )?;
    }
    write!(out, "  functions      {} probed", stats.functions)?;
    match stats.shared_probes {
        0 => writeln!(out)?,
        shared => writeln!(out, ", by {shared} probes shared with other sessions")?,
    }
    if let Some(cost) = &stats.cost {
        writeln!(out, "  cost           {cost}")?;
    }
    writeln!(
        out,
        "  live           {} blocks, {} bytes ({} blocks at most)",
        stats.live.blocks, stats.live.bytes, stats.live.capacity
    )?;
    writeln!(
        out,
        "  code           generation {}, as it was {} s ago (`memscope refresh {}`)",
        stats.mappings.generation, stats.mappings.seen_s_ago, stats.pid
    )?;
    let unnamed = room::unnamed_files_note(stats.unnamed_files);
    for note in room::notes(&stats.left_out).into_iter().chain(unnamed) {
        writeln!(out, "    note: {}", Escaped(&note))?;
    }
    if let Some(regions) = &stats.regions {
        writeln!(
            out,
            "  regions        {} regions, {} bytes ({} regions at most)",
            regions.blocks, regions.bytes, regions.capacity
        )?;
    }
    writeln!(
        out,
        "  sites          {} of {} at most",
        stats.sites.used, stats.sites.capacity
    )?;
    stats.stacks.write(out)?;
    let text = |key: &str| {
        Counter::ALL
            .iter()
            .find(|counter| counter.key() == key)
            .map_or("", |found| found.text())
    };
    for (title, counts) in [
        ("events", &stats.events),
        ("anomalies", &stats.anomalies),
        ("losses", &stats.losses),
    ] {
        writeln!(out, "  {title}{}", if counts.is_empty() { ": none" } else { "" })?;
        for (key, count) in counts {
            writeln!(out, "    {count:>12} {}", text(key))?;
        }
    }
    Ok(())
}

/// Writes one database's statistics as text.
///
/// # Errors
/// The database cannot be read, or the output not written.
pub(crate) fn write_one(session: &Session, out: &mut dyn Write) -> Result<(), CommandError> {
    Ok(write_text(&measure(session, None)?, out)?)
}

/// Runs `stats`.
///
/// # Errors
/// A database cannot be read, or the output not written.
pub fn run(arguments: &ShowArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let mut meant = Meant::of(&roots, &arguments.target)?;
    let mut sessions = Vec::new();
    for id in meant.ids.clone() {
        sessions.extend(meant.read(&roots, id, || Ok(Session::open(&roots, id)?))?);
    }
    // What cannot be measured is not told; the counts are all the same.
    let calibration = Calibration::of_this_host(&roots).ok();
    // Of a session that goes away meanwhile nothing can be told but its counts.
    let costs = costs(&sessions, calibration.as_ref()).unwrap_or_default();
    let mut all = Vec::new();
    for (session, cost) in sessions.iter().zip(costs.into_iter().chain(std::iter::repeat(None))) {
        all.push(measure(session, cost)?);
    }
    let mut out = io::stdout().lock();
    match arguments.format {
        Format::Text if meant.is_none() => writeln!(out, "MemScope database does not exist")?,
        Format::Text => all.iter().try_for_each(|stats| write_text(stats, &mut out))?,
        Format::Json => write_document(&mut out, STATS, &all)?,
        Format::Ndjson => write_lines(&mut out, &all)?,
    }
    out.flush()?;
    Ok(meant.exit_code())
}

#[cfg(test)]
mod tests;
