//! `report` as text: what cannot be seen first, then suspects with their evidence, the rest in one line each, one
//! greppable `SUMMARY:` line, and the next command to run.

use std::io;

use super::clock::TimeOfDay;
use super::escape::Escaped;
use super::model::CollectionState;
use super::notes;
use super::quantity::{Bytes, Count, Seconds, Signed};
use super::summary::{Grouping, Row, Selection, Summary};
use super::summary_sites::{groups, sites};
use crate::suppress;
use crate::target::identity::Pid;
use crate::verdict::{Overall, Verdict};

/// Writes one database's report.
///
/// # Errors
/// Whatever the writer returns; see [`super::is_broken_pipe`].
pub fn write(out: &mut dyn io::Write, summary: &Summary, selection: &Selection, at: TimeOfDay) -> io::Result<()> {
    header(out, summary, at)?;
    data(out, summary)?;
    memory(out, summary)?;
    if selection.grouping == Grouping::Site {
        sites(out, summary, selection)?;
    } else {
        groups(out, summary, selection)?;
    }
    suppress::render::write(&summary.suppressed, out)?;
    conclusion(out, summary)
}

fn header(out: &mut dyn io::Write, summary: &Summary, at: TimeOfDay) -> io::Result<()> {
    let report = &summary.report;
    let target = &report.target;
    writeln!(
        out,
        "{at} MemScope report: process {} {} ({})",
        target.id.pid,
        Escaped(&target.comm),
        Escaped(&target.exe)
    )?;
    write!(
        out,
        "  window     {} of collection, {}",
        Seconds(report.window_ms() / 1000),
        report.collection.state.text()
    )?;
    match &summary.previous {
        Some(previous) => writeln!(
            out,
            "; changes are since the look {} ago",
            Seconds(previous.seconds_ago)
        )?,
        None => writeln!(out)?,
    }
    if let Some(span) = &summary.span {
        writeln!(out, "             {span}")?;
    }
    let allocators: Vec<String> = summary
        .allocators
        .iter()
        .map(|(name, functions)| format!("{} ({functions} functions probed)", Escaped(name)))
        .collect();
    writeln!(out, "  allocator  {}", allocators.join(", "))
}

fn data(out: &mut dyn io::Write, summary: &Summary) -> io::Result<()> {
    let report = &summary.report;
    let event = |key: &str| report.events.get(key).copied().unwrap_or(0);
    let events = event("allocated") + event("freed") + event("free_unknown");
    write!(
        out,
        "  data       {} events ({}/s",
        Count(events),
        Count(events / report.collection.seconds.max(1))
    )?;
    match summary.cost.and_then(|cost| cost.percent) {
        Some(percent) => write!(out, ", costing {percent:.2} % of one CPU)")?,
        None => write!(out, ")")?,
    }
    match report.losses.is_empty() {
        true => write!(out, "; no losses")?,
        false => write!(out, "; LOSSY, see the notes")?,
    }
    if let Some(share) = summary.whole_stacks() {
        // Rounded down: 100 % is said of all only.
        write!(
            out,
            "; {:.1} % of blocks have whole stacks",
            (share * 1000.0).floor() / 10.0
        )?;
    }
    writeln!(out)?;
    let unseen = event("free_unknown");
    writeln!(
        out,
        "             not seen: blocks from before attach ({} of them were freed since)",
        Count(unseen)
    )?;
    for line in notes::of_sites(report) {
        writeln!(out, "  note       {}", Escaped(&line))?;
    }
    Ok(())
}

fn memory(out: &mut dyn io::Write, summary: &Summary) -> io::Result<()> {
    let report = &summary.report;
    let live = report.total_live();
    write!(out, "  memory     ")?;
    match (summary.memory.resident, summary.growth()) {
        (Some(resident), Some(growth)) => write!(
            out,
            "RSS {} ({} in {}); ",
            Bytes(resident),
            Signed(growth.resident, Bytes),
            Seconds(growth.seconds)
        )?,
        (Some(resident), None) => write!(out, "RSS {}; ", Bytes(resident))?,
        (None, _) => write!(out, "RSS not known; ")?,
    }
    match report.bytes_error() {
        Some(error) => write!(
            out,
            "tracked about {} ± {} in about {} blocks",
            Bytes(live.bytes),
            Bytes(error),
            Count(live.blocks)
        )?,
        None => write!(out, "tracked {} in {} blocks", Bytes(live.bytes), Count(live.blocks))?,
    }
    if let Some(growth) = summary.growth() {
        write!(out, " ({})", Signed(growth.tracked, Bytes))?;
    }
    match summary.explained() {
        Some(share) if share > 1.0 => writeln!(out, "; explains all of the growth")?,
        Some(share) => writeln!(out, "; explains {:.0} % of the growth", share * 100.0)?,
        None => writeln!(out)?,
    }
    writeln!(
        out,
        "             not tracked: stacks, mapped files, the allocator's own overhead, memory from before attach"
    )?;
    // A runtime with an allocator on mapped memory of its own, as CPython's for small objects, grows there.
    if !summary.memory.with_regions {
        writeln!(
            out,
            "             nor what the program maps itself: `memscope attach --regions` tracks that, too"
        )?;
    }
    Ok(())
}

fn conclusion(out: &mut dyn io::Write, summary: &Summary) -> io::Result<()> {
    let report = &summary.report;
    let pid = report.target.id.pid;
    let all = summary.rows(&Selection::default());
    let leaking: Vec<&Row<'_>> = all.iter().filter(|row| row.is_suspect()).collect();
    let live = report.total_live();
    let error = match report.bytes_error() {
        Some(error) => format!(" ± {error} (estimated)"),
        None => String::new(),
    };
    let let_be = all
        .iter()
        .filter(|row| row.judgement.verdict == Verdict::Leaking)
        .count()
        - leaking.len();
    let let_be = match let_be {
        0 => String::new(),
        sites => format!(", and {sites} that suppressions let be"),
    };
    let verdict = match &summary.judged.overall {
        Overall::Suspects => {
            let blocks: u64 = leaking.iter().map(|row| row.figures.live.blocks).sum();
            let bytes: u64 = leaking.iter().map(|row| row.figures.live.bytes).sum();
            let rate: f64 = leaking.iter().map(|row| row.bytes_per_minute()).sum();
            format!(
                "{} suspected leak{}: {bytes} bytes in {blocks} blocks, {rate:.0} bytes/min",
                leaking.len(),
                if leaking.len() == 1 { "" } else { "s" }
            )
        }
        Overall::Clean => "no suspected leaks".to_owned(),
        Overall::Inconclusive => {
            for line in &summary.judged.against {
                writeln!(out, "INCONCLUSIVE: {}", Escaped(line))?;
            }
            "INCONCLUSIVE: no suspected leaks in what could be seen".to_owned()
        }
    };
    writeln!(
        out,
        "SUMMARY: process {pid} {}: {verdict}{let_be}; {} bytes{error} in {} blocks tracked",
        Escaped(&report.target.comm),
        live.bytes,
        live.blocks
    )?;
    match (leaking.first(), &summary.judged.overall) {
        (Some(first), _) => writeln!(
            out,
            "next: memscope report {pid} --site {:#018x}   (its whole stack; memscope print {pid} --age AGE lists the blocks)",
            first.figures.id.0
        ),
        (None, Overall::Clean) => Ok(()),
        (None, _) if !report.losses.is_empty() => writeln!(
            out,
            "next: memscope stats {pid}   (what was lost, and what the maps hold)"
        ),
        (None, _) => writeln!(out, "next: {}", evidence(report.collection.state, pid)),
    }
}

/// The command that brings more evidence.
fn evidence(state: CollectionState, pid: Pid) -> String {
    match state {
        CollectionState::Collecting => {
            format!("memscope report {pid}   (again, later: growth between reports is evidence)")
        }
        CollectionState::Stopped => {
            format!("memscope start {pid}   (collection is stopped: no later report can say more until then)")
        }
        CollectionState::Exited => {
            "memscope attach PROCESS   (this one has ended, and no later report can say more: attach to its successor)"
                .into()
        }
        CollectionState::Replaced => {
            format!(
                "memscope attach {pid}   (it runs another program now, and no later report can say more of this one)"
            )
        }
    }
}
