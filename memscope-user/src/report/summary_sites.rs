//! The sites of `report`'s text: suspects with their evidence, the rest in one line each, by verdict; or put together.

use std::io;

use super::escape::Escaped;
use super::model::Stack;
use super::own_code::{own_frame, own_path};
use super::quantity::{Bytes, Count, Seconds, Signed, sparkline};
use super::summary::{Row, Selection, Summary};
use super::text::FrameLine;
use crate::verdict::Verdict;

/// Suspects that are shown with all their evidence when `--top` does not say otherwise.
const WHOLE_SUSPECTS: usize = 3;

/// Suspects that have a line at least.
const SUSPECTS: usize = 10;

/// Sites of the other verdicts that have a line.
const OTHERS: usize = 3;

/// Groups of sites that have a line.
const GROUPS: usize = 20;

/// Frames of a suspect's stack that are shown after the first of the program's own code, unless one site is asked for.
const FRAMES_AFTER_OWN: usize = 4;

/// Writes the sites selected, verdict by verdict. Sites that are let be are left to the list of suppressions, unless one is
/// asked for.
///
/// # Errors
/// The writer's.
pub(super) fn sites(out: &mut dyn io::Write, summary: &Summary, selection: &Selection) -> io::Result<()> {
    let asked_for = selection.site.is_some();
    let rows = summary.rows(selection);
    for verdict in Verdict::ALL {
        let of_verdict: Vec<&Row<'_>> = rows
            .iter()
            .filter(|row| row.judgement.verdict == verdict && (asked_for || row.suppressed_by.is_none()))
            .collect();
        if asked_for {
            for row in of_verdict {
                suspect(out, row, true)?;
            }
        } else if verdict == Verdict::Leaking {
            suspects(out, &of_verdict, selection.top)?;
        } else if !of_verdict.is_empty() {
            others(out, verdict, &of_verdict, selection.top.unwrap_or(OTHERS))?;
        }
    }
    Ok(())
}

fn suspects(out: &mut dyn io::Write, rows: &[&Row<'_>], top: Option<usize>) -> io::Result<()> {
    for row in rows.iter().take(top.unwrap_or(WHOLE_SUSPECTS)) {
        suspect(out, row, false)?;
    }
    let shown = top.unwrap_or(SUSPECTS);
    for row in rows.iter().take(shown).skip(top.unwrap_or(WHOLE_SUSPECTS)) {
        writeln!(
            out,
            "{}  {}, {}/min  {:#018x}  {}",
            row.judgement.verdict,
            amount(row),
            Bytes(row.bytes_per_minute() as u64),
            row.figures.id.0,
            Escaped(&own_path(&row.figures.stack))
        )?;
    }
    more(out, rows.len(), shown, Verdict::Leaking)
}

/// A line for the verdict, with the reason if all have the same, and one for each of the first sites. What holds nothing is
/// counted, not listed.
fn others(out: &mut dyn io::Write, verdict: Verdict, rows: &[&Row<'_>], top: usize) -> io::Result<()> {
    let alive: Vec<&Row<'_>> = rows.iter().copied().filter(|row| row.figures.live.blocks > 0).collect();
    let bytes: u64 = alive.iter().map(|row| row.figures.live.bytes).sum();
    write!(out, "{verdict}  {} sites, ", Count(rows.len() as u64))?;
    match (alive.len(), rows.len() - alive.len()) {
        (0, _) => write!(out, "nothing alive")?,
        (_, 0) => write!(out, "{}", Bytes(bytes))?,
        (_, empty) => write!(out, "{}; nothing alive of {}", Bytes(bytes), Count(empty as u64))?,
    }
    let shared = alive.first().map(|first| first.judgement.reason.to_string());
    let shared = shared.filter(|reason| {
        let same = |row: &&Row<'_>| row.judgement.reason.to_string() == *reason;
        alive.len() > 1 && alive.iter().all(same)
    });
    match &shared {
        Some(reason) => writeln!(out, "; all of them: {reason}")?,
        None => writeln!(out)?,
    }
    for row in alive.iter().take(top) {
        write!(
            out,
            "  {:#018x}  {}  {}",
            row.figures.id.0,
            amount(row),
            Escaped(&own_path(&row.figures.stack))
        )?;
        match &shared {
            Some(_) => writeln!(out)?,
            None => writeln!(out, ": {}", row.judgement.reason)?,
        }
    }
    more(out, alive.len(), top, verdict)
}

fn more(out: &mut dyn io::Write, all: usize, shown: usize, verdict: Verdict) -> io::Result<()> {
    match all.checked_sub(shown) {
        Some(rest @ 1..) => writeln!(
            out,
            "  … and {} more {verdict} (--top {all} lists them)",
            Count(rest as u64)
        ),
        _ => Ok(()),
    }
}

fn amount(row: &Row<'_>) -> String {
    let live = row.figures.live;
    let (mut bytes, mut blocks) = (Bytes(live.bytes).to_string(), Count(live.blocks).to_string());
    if let Some(sampled) = row.figures.sampled {
        bytes = format!("about {bytes} ± {}", Bytes(sampled.bytes_error));
        blocks = format!("about {blocks}");
    }
    match row.change {
        Some(change) => format!(
            "{bytes} ({}) in {blocks} blocks ({})",
            Signed(change.bytes, Bytes),
            Signed(change.blocks, Count)
        ),
        None => format!("{bytes} in {blocks} blocks"),
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
        // Rounded down: nothing is sure.
        (evidence.confidence * 100.0).floor()
    )?;
    if let Some(rule) = row.suppressed_by {
        writeln!(
            out,
            "    let be   by {} ({}:{})",
            Escaped(&rule.pattern),
            rule.origin,
            rule.line
        )?;
    }
    write!(out, "    because  {}", judgement.reason)?;
    match evidence.earlier_reports {
        0 => {}
        1 => write!(out, "; 1 earlier report")?,
        several => write!(out, "; {several} earlier reports")?,
    }
    if let Some(sampled) = figures.sampled {
        write!(out, "; rests on {} recorded blocks", Count(sampled.recorded.blocks))?;
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
        Some(share) if share > 0.0 => write!(out, "{:.1} % freed", share * 100.0)?,
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
            break;
        }
        let mark = if own == Some(index) { '>' } else { ' ' };
        writeln!(out, "    {mark} {}", FrameLine(frame))?;
    }
    for shortcoming in stack.shortcomings() {
        writeln!(out, "      … {shortcoming}")?;
    }
    Ok(())
}

/// Writes the sites selected, put together.
///
/// # Errors
/// The writer's.
pub(super) fn groups(out: &mut dyn io::Write, summary: &Summary, selection: &Selection) -> io::Result<()> {
    let groups = summary.groups(selection);
    let top = selection.top.unwrap_or(GROUPS);
    for group in groups.iter().take(top) {
        let verdict = if group.suppressed {
            "LET BE"
        } else {
            group.verdict.text()
        };
        write!(
            out,
            "{verdict:9}  {} in {} blocks, {} sites",
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
