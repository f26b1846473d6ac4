//! `stats` and `list`: what is collected, and what was lost.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

use memscope_ebpf::counter::{Counter, Weight};
use memscope_ebpf::limits::SITE_CAPACITY;
use serde::Serialize;

use super::arguments::{Format, ListArguments, ShowArguments, TargetArguments};
use super::meant::Meant;
use super::run::{CommandError, complain};
use crate::collection::cost::{self, Cost};
use crate::collection::error::CollectionError;
use crate::collection::{region_owner, stack_shares, status};
use crate::database::clock::monotonic_ns;
use crate::database::error::DatabaseError;
use crate::database::paths::Roots;
use crate::database::session::{LiveTotals, Session};
use crate::database::session_file::{Followed, LeftOut};
use crate::exit::ExitCode;
use crate::host::calibration::Calibration;
use crate::report::Escaped;
use crate::report::model::CollectionState;
use crate::report::stack_shares::StackShares;
use crate::target::identity::TargetId;

/// Names of the formats.
const STATS: &str = "memscope.stats/v1";
const LIST: &str = "memscope.list/v1";

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
    cost: Option<CostPart>,
    live: Live,
    /// With `--regions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    regions: Option<Live>,
    mappings: Mappings,
    left_out: LeftOut,
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

/// What collection costs the target now.
#[derive(Debug, Serialize)]
struct CostPart {
    events_per_s: u64,
    percent_of_one_cpu: Option<f64>,
}

impl From<Cost> for CostPart {
    fn from(cost: Cost) -> Self {
        Self {
            events_per_s: cost.events_per_s.round() as u64,
            // A thousandth of a percent is finer than it is known.
            percent_of_one_cpu: cost.percent.map(|percent| (percent * 1000.0).round() / 1000.0),
        }
    }
}

impl fmt::Display for CostPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.percent_of_one_cpu {
            Some(percent) => write!(f, "{percent:.1} % of one CPU, {} events/s", self.events_per_s),
            None => write!(f, "{} events/s", self.events_per_s),
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
    writeln!(out, "  functions      {} probed", stats.functions)?;
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
    for note in status::room_notes(&stats.left_out) {
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
pub(crate) fn write_stats(session: &Session, out: &mut dyn Write) -> Result<(), CommandError> {
    Ok(write_text(&measure(session, None)?, out)?)
}

/// What each collection costs; `None` for those that do not run.
fn costs(sessions: &[Session], calibration: Option<&Calibration>) -> Result<Vec<Option<Cost>>, DatabaseError> {
    let mut running = Vec::new();
    let mut runs = Vec::new();
    for session in sessions {
        let collects = status::state(session)? == CollectionState::Collecting;
        runs.push(collects);
        if collects {
            running.push(session);
        }
    }
    let mut costs = cost::now(&running, calibration)?.into_iter();
    Ok(runs
        .into_iter()
        .map(|collects| if collects { costs.next() } else { None })
        .collect())
}

/// Runs `stats`.
///
/// # Errors
/// A database cannot be read, or the output not written.
pub fn stats(arguments: &ShowArguments) -> Result<ExitCode, CommandError> {
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

/// One line of `list`.
#[derive(Debug, Serialize)]
struct Listed {
    pid: u32,
    start_time: u64,
    comm: String,
    state: String,
    seconds: u64,
    blocks: u64,
    bytes: u64,
    cost: Option<CostPart>,
}

fn listed(session: &Session, cost: Option<Cost>) -> Result<Listed, DatabaseError> {
    let id = session.file.target;
    let collection = status::collection(session)?;
    let totals = session.live_totals()?;
    Ok(Listed {
        pid: id.pid.0,
        start_time: id.start_time.0,
        comm: session.file.comm.clone(),
        state: collection.state.text().to_owned(),
        seconds: collection.seconds,
        blocks: totals.blocks,
        bytes: totals.bytes,
        cost: cost.map(CostPart::from),
    })
}

/// Runs `list`. A database that cannot be read is listed as such, and told of on stderr.
///
/// # Errors
/// The store cannot be read, or the output not written.
pub fn list(arguments: &ListArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let mut all = Vec::new();
    let unreadable = |id: TargetId, error: DatabaseError| {
        complain(&error);
        Listed {
            pid: id.pid.0,
            start_time: id.start_time.0,
            comm: String::new(),
            state: "unreadable".to_owned(),
            seconds: 0,
            blocks: 0,
            bytes: 0,
            cost: None,
        }
    };
    let mut sessions = Vec::new();
    // One that is being made just now is none yet.
    for id in Meant::of(&roots, &TargetArguments::default())?.ids {
        match Session::open(&roots, id) {
            Ok(session) => sessions.push(session),
            Err(error) => all.push(unreadable(id, error)),
        }
    }
    // Measuring this host takes a moment: `stats` does.
    let calibration = Calibration::kept(&roots);
    // A session that goes away meanwhile is told of below.
    let costs = costs(&sessions, calibration.as_ref()).unwrap_or_default();
    let costs = costs.into_iter().chain(std::iter::repeat(None));
    for (session, cost) in sessions.iter().zip(costs) {
        let id = session.file.target;
        all.push(listed(session, cost).unwrap_or_else(|error| unreadable(id, error)));
    }
    all.sort_by_key(|one| (one.pid, one.start_time));
    let mut out = io::stdout().lock();
    match arguments.format {
        Format::Text => {
            writeln!(
                out,
                "{:>8} {:<16} {:<11} {:>9} {:>12} {:>15} {:>9} {:>6}",
                "PID", "COMM", "STATE", "SECONDS", "BLOCKS", "BYTES", "EVENTS/S", "CPU%"
            )?;
            for one in &all {
                let comm = Escaped(&one.comm).to_string();
                let cost = one.cost.as_ref();
                let events = cost.map_or_else(|| "-".to_owned(), |cost| cost.events_per_s.to_string());
                let percent = cost.and_then(|cost| cost.percent_of_one_cpu);
                let percent = percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}"));
                let Listed {
                    pid,
                    state,
                    seconds,
                    blocks,
                    bytes,
                    ..
                } = one;
                writeln!(
                    out,
                    "{pid:>8} {comm:<16} {state:<11} {seconds:>9} {blocks:>12} {bytes:>15} {events:>9} {percent:>6}"
                )?;
            }
        }
        Format::Json => write_document(&mut out, LIST, &all)?,
        Format::Ndjson => write_lines(&mut out, &all)?,
    }
    out.flush()?;
    Ok(ExitCode::Success)
}

#[derive(Serialize)]
struct Document<'a, T> {
    schema: &'static str,
    databases: &'a [T],
}

fn write_document<T: Serialize>(out: &mut dyn Write, schema: &'static str, databases: &[T]) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Document { schema, databases })?;
    writeln!(out)
}

fn write_lines<T: Serialize>(out: &mut dyn Write, databases: &[T]) -> io::Result<()> {
    for one in databases {
        serde_json::to_writer(&mut *out, one)?;
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
