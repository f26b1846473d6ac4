//! `check`: for cron — one line a suspect, and the verdict as exit code.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use super::print::databases_or_say_none;
use super::run::CommandError;
use super::summarize::summarize;
use super::verdict_arguments::CheckArguments;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::exit::ExitCode;
use crate::report::Escaped;
use crate::report::model::SiteId;
use crate::report::own_code::own_path;
use crate::report::quantity::{Bytes, Count};
use crate::report::summary::{Row, Selection, Summary};
use crate::verdict::Verdict;

/// Runs `check`. A finding outweighs what cannot be judged; that outweighs clean.
///
/// # Errors
/// A database cannot be read; the baseline is not a report.
pub fn run(arguments: &CheckArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let ids = databases_or_say_none(&roots, &arguments.target)?;
    if ids.is_empty() {
        return Ok(ExitCode::NotFound);
    }
    let known = match &arguments.baseline {
        Some(path) => baseline(path)?,
        None => BTreeSet::new(),
    };
    let mut out = io::stdout().lock();
    let (mut found, mut unsure) = (false, false);
    for id in &ids {
        let summary = summarize(&Session::open(&roots, *id)?, &arguments.span)?;
        match check_one(&mut out, &summary, arguments, &known)? {
            ExitCode::Finding => found = true,
            ExitCode::CannotJudge => unsure = true,
            _ => {}
        }
    }
    out.flush()?;
    Ok(match (found, unsure) {
        (true, _) => ExitCode::Finding,
        (false, true) => ExitCode::CannotJudge,
        (false, false) => ExitCode::Success,
    })
}

fn check_one(
    out: &mut dyn Write,
    summary: &Summary,
    arguments: &CheckArguments,
    known: &BTreeSet<SiteId>,
) -> io::Result<ExitCode> {
    let target = &summary.report.target;
    let who = format!("process {} {}", target.id.pid, Escaped(&target.comm));
    let leaking = Selection {
        verdicts: vec![Verdict::Leaking],
        ..Selection::default()
    };
    let rows = summary.rows(&leaking);
    let counted: Vec<&Row<'_>> = rows.iter().filter(|row| counts(row, arguments, known)).collect();
    for row in &counted {
        writeln!(
            out,
            "{who}: LEAKING site {:#018x} {} in {} blocks, {}/min, oldest {} s, confidence {:.0} %: {}",
            row.figures.id.0,
            Bytes(row.figures.live.bytes),
            Count(row.figures.live.blocks),
            Bytes(row.bytes_per_minute() as u64),
            row.figures.oldest_ms.unwrap_or(0) / 1000,
            row.judgement.evidence.confidence * 100.0,
            Escaped(&own_path(&row.figures.stack))
        )?;
    }
    if !counted.is_empty() {
        return Ok(ExitCode::Finding);
    }
    if !summary.judged.against.is_empty() {
        for line in &summary.judged.against {
            writeln!(out, "{who}: INCONCLUSIVE: {}", Escaped(line))?;
        }
        return Ok(ExitCode::CannotJudge);
    }
    if !arguments.quiet {
        let passed = rows.len();
        writeln!(
            out,
            "{who}: no suspected leaks{}",
            match passed {
                0 => String::new(),
                _ => format!(" beside {passed} that the baseline or the limits let pass"),
            }
        )?;
    }
    Ok(ExitCode::Success)
}

fn counts(row: &Row<'_>, arguments: &CheckArguments, known: &BTreeSet<SiteId>) -> bool {
    !known.contains(&row.figures.id)
        && row.figures.live.bytes >= arguments.min_bytes
        && row.bytes_per_minute() >= arguments.min_rate as f64
        && row.figures.oldest_ms.unwrap_or(0) >= arguments.age.milliseconds()
}

/// The sites that leak in a saved report (`report --format json`).
fn baseline(path: &Path) -> Result<BTreeSet<SiteId>, CommandError> {
    let bad = |why: String| CommandError::Usage(format!("cannot use baseline {}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
    let document: serde_json::Value = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    sites_of(&document).ok_or_else(|| bad("it is not the output of `memscope report --format json`".into()))
}

fn sites_of(document: &serde_json::Value) -> Option<BTreeSet<SiteId>> {
    if document["schema"] != crate::report::summary_json::NAME {
        return None;
    }
    let mut sites = BTreeSet::new();
    for database in document["databases"].as_array()? {
        for site in database["sites"].as_array()? {
            if site["verdict"] == Verdict::Leaking.text() {
                let id = site["site"].as_str()?.strip_prefix("0x")?;
                sites.insert(SiteId(u64::from_str_radix(id, 16).ok()?));
            }
        }
    }
    Some(sites)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_baseline_is_a_saved_report_and_nothing_else() {
        let site = |verdict: &str| json!({"site": "0x00000000000000ff", "verdict": verdict});
        let saved = |site: serde_json::Value| json!({"schema": "memscope.report/v1", "databases": [{"sites": [site]}]});
        assert_eq!(sites_of(&saved(site("LEAKING"))), Some([SiteId(255)].into()));
        assert_eq!(sites_of(&saved(site("CACHE"))), Some(BTreeSet::new()));
        for document in [
            json!({}),
            json!({"schema": "memscope.entries/v1", "databases": []}),
            json!({"schema": "memscope.report/v1"}),
            saved(json!({"verdict": "LEAKING", "site": 7})),
        ] {
            assert_eq!(sites_of(&document), None, "{document}");
        }
    }
}
