//! `report` as text: what cannot be seen first, then suspects with their evidence, the rest in one line each, one
//! greppable `SUMMARY:` line, and the next command to run.

use std::io;

use super::clock::TimeOfDay;
use super::escape::Escaped;
use super::model::Stack;
use super::notes;
use super::own_code::{own_frame, own_path};
use super::quantity::{Bytes, Count, Seconds, Signed, sparkline};
use super::summary::{Change, Grouping, Row, Selection, Summary};
use super::text::FrameLine;
use crate::verdict::{Overall, Verdict};

/// Sites of a verdict that are shown when `--top` does not say otherwise.
const USUAL_TOP: usize = 10;

/// Frames of a suspect's stack that are shown after the first of the program's own code, unless one site is asked for.
const FRAMES_AFTER_OWN: usize = 4;

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
    writeln!(
        out,
        "  window     {} of collection, {}",
        Seconds(report.window_ms() / 1000),
        report.collection.state.text()
    )?;
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
        "  data       {} events ({}/s)",
        Count(events),
        Count(events / report.collection.seconds.max(1))
    )?;
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
    let live = summary.report.total_live();
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
    write!(out, "tracked {} in {} blocks", Bytes(live.bytes), Count(live.blocks))?;
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
    )
}

fn sites(out: &mut dyn io::Write, summary: &Summary, selection: &Selection) -> io::Result<()> {
    let rows = summary.rows(selection);
    let top = selection.top.unwrap_or(USUAL_TOP);
    for verdict in Verdict::ALL {
        let of_verdict: Vec<&Row<'_>> = rows.iter().filter(|row| row.judgement.verdict == verdict).collect();
        if of_verdict.is_empty() {
            continue;
        }
        let whole = verdict == Verdict::Leaking || selection.site.is_some();
        if !whole {
            let bytes: u64 = of_verdict.iter().map(|row| row.figures.live.bytes).sum();
            writeln!(
                out,
                "{verdict}  {} sites, {}",
                Count(of_verdict.len() as u64),
                Bytes(bytes)
            )?;
        }
        for row in of_verdict.iter().take(top) {
            if whole {
                suspect(out, row, selection.site.is_some())?;
            } else {
                line(out, row)?;
            }
        }
        if of_verdict.len() > top {
            writeln!(out, "  … and {} more {verdict}", Count((of_verdict.len() - top) as u64))?;
        }
    }
    Ok(())
}

fn amount(row: &Row<'_>) -> String {
    let live = row.figures.live;
    match row.change {
        Some(Change { blocks, bytes }) => format!(
            "{} ({}) in {} blocks ({})",
            Bytes(live.bytes),
            Signed(bytes, Bytes),
            Count(live.blocks),
            Signed(blocks, Count)
        ),
        None => format!("{} in {} blocks", Bytes(live.bytes), Count(live.blocks)),
    }
}

fn suspect(out: &mut dyn io::Write, row: &Row<'_>, every_frame: bool) -> io::Result<()> {
    let (figures, judgement) = (row.figures, row.judgement);
    let evidence = judgement.evidence;
    writeln!(
        out,
        "{}  {}  site {:#018x}  confidence {:.0} %",
        judgement.verdict,
        amount(row),
        figures.id.0,
        evidence.confidence * 100.0
    )?;
    write!(out, "    because  {}", judgement.reason)?;
    if evidence.earlier_reports > 0 {
        write!(out, "; {} earlier reports", evidence.earlier_reports)?;
    }
    writeln!(out)?;
    write!(out, "    growth   ")?;
    match evidence.rate {
        Some(rate) => write!(
            out,
            "{}/min, {:.1} blocks/min (fit {:.3}); ",
            Bytes(rate.bytes_per_minute as u64),
            rate.blocks_per_minute,
            rate.fit
        )?,
        None => write!(out, "no survivors; ")?,
    }
    match evidence.share_freed {
        Some(share) if figures.freed.blocks > 0 => write!(out, "{:.1} % freed", share * 100.0)?,
        Some(_) => write!(out, "nothing was ever freed")?,
        None => write!(out, "nothing was allocated")?,
    }
    writeln!(
        out,
        "; mean size {}; oldest {}",
        Bytes(figures.live.bytes / figures.live.blocks.max(1)),
        Seconds(figures.oldest_ms.unwrap_or(0) / 1000)
    )?;
    let births: Vec<u64> = figures.births.iter().map(|bin| bin.blocks).collect();
    writeln!(
        out,
        "    births   [{}] alive, by birth: start to now",
        sparkline(&births)
    )?;
    frames(out, &figures.stack, every_frame)
}

fn frames(out: &mut dyn io::Write, stack: &Stack, every: bool) -> io::Result<()> {
    let own = own_frame(stack);
    let last = own.map_or(0, |own| own + FRAMES_AFTER_OWN);
    for (index, frame) in stack.frames.iter().enumerate() {
        if !every && index > last {
            writeln!(out, "      … {} more frames", stack.frames.len() - index)?;
            return Ok(());
        }
        let mark = if own == Some(index) { '>' } else { ' ' };
        writeln!(out, "    {mark} {}", FrameLine(frame))?;
    }
    if !stack.complete() {
        writeln!(out, "      … stack ends here: {}", stack.end.text())?;
    }
    Ok(())
}

fn line(out: &mut dyn io::Write, row: &Row<'_>) -> io::Result<()> {
    let name = own_path(&row.figures.stack);
    writeln!(
        out,
        "  {:#018x}  {}  {}: {}",
        row.figures.id.0,
        amount(row),
        Escaped(&name),
        row.judgement.reason
    )
}

fn groups(out: &mut dyn io::Write, summary: &Summary, selection: &Selection) -> io::Result<()> {
    let groups = summary.groups(selection);
    let top = selection.top.unwrap_or(USUAL_TOP * 2);
    for group in groups.iter().take(top) {
        write!(
            out,
            "{:9}  {} in {} blocks, {} sites",
            group.verdict,
            Bytes(group.live.bytes),
            Count(group.live.blocks),
            Count(group.sites)
        )?;
        if group.bytes_per_minute > 0.0 {
            write!(out, ", {}/min", Bytes(group.bytes_per_minute as u64))?;
        }
        writeln!(out, "  {}", Escaped(&group.name))?;
    }
    if groups.len() > top {
        writeln!(out, "  … and {} more", Count((groups.len() - top) as u64))?;
    }
    Ok(())
}

fn conclusion(out: &mut dyn io::Write, summary: &Summary) -> io::Result<()> {
    let report = &summary.report;
    let pid = report.target.id.pid;
    let all = summary.rows(&Selection::default());
    let leaking: Vec<&Row<'_>> = all
        .iter()
        .filter(|row| row.judgement.verdict == Verdict::Leaking)
        .collect();
    let live = report.total_live();
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
        "SUMMARY: process {pid} {}: {verdict}; {} bytes in {} blocks tracked",
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
        (None, _) => writeln!(
            out,
            "next: memscope report {pid}   (again, later: growth between reports is evidence)"
        ),
    }
}
