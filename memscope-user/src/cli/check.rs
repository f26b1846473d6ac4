//! `check`: for cron — one line a suspect, and the verdict as exit code.

mod finding;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use super::arguments::Format;
use super::meant::{Meant, say_none};
use super::output;
use super::run::CommandError;
use super::summarize::summarize;
use super::verdict_arguments::CheckArguments;
use crate::database::paths::Roots;
use crate::exit::ExitCode;
use crate::report::model::SiteId;
use crate::target::process::Target;
use crate::verdict::Verdict;
use finding::{Asked, Finding, Limits, Outcome, Seen};

/// Runs `check`. A finding outweighs what cannot be judged; that outweighs clean.
///
/// # Errors
/// A database that was named cannot be read; the baseline is not a report.
pub fn run(arguments: &CheckArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let mut meant = Meant::of_or_say_none(&roots, &arguments.target)?;
    if meant.ids.is_empty() {
        return Ok(ExitCode::NotFound);
    }
    let known = match &arguments.baseline {
        Some(path) => baseline(path)?,
        None => BTreeSet::new(),
    };
    let limits = Limits {
        age_ms: arguments.age.milliseconds(),
        min_bytes: arguments.min_bytes,
        min_rate: arguments.min_rate,
        known: &known,
    };
    let asked = if arguments.target.is_empty() {
        Asked::Host
    } else {
        Asked::Named
    };
    let mut out = io::stdout().lock();
    let mut findings = Vec::new();
    for id in meant.ids.clone() {
        let read = meant.read(&roots, id, || {
            summarize(&roots, id, &arguments.span, &arguments.suppressions)
        })?;
        let Some(summary) = read else { continue };
        let finding = Finding::of(&summary, &limits, (Target { id }).is_alive());
        // As soon as it is known: the next database may take its time.
        match arguments.format {
            Format::Text => finding.write_text(asked, arguments.quiet, &mut out)?,
            Format::Ndjson => finding.write_line(asked, arguments.quiet, &mut out)?,
            Format::Json => {}
        }
        findings.push(finding);
    }
    if meant.is_none() {
        say_none();
        return Ok(ExitCode::NotFound);
    }
    let untraced: Vec<u32> = meant.untraced.iter().map(|id| id.pid.0).collect();
    let seen = Seen {
        unreadable: meant.unreadable(),
        untraced: &untraced,
    };
    let outcome = Outcome::of(&findings, asked, seen);
    let silent = outcome == Outcome::Clean && findings.iter().all(|finding| finding.is_silent(asked));
    if arguments.format == Format::Json && !(arguments.quiet && silent) {
        finding::write_document(&output::host(), outcome, seen, &findings, &mut out)?;
    }
    out.flush()?;
    if asked == Asked::Host
        && !findings.is_empty()
        && findings
            .iter()
            .all(|finding| finding.has_ended() && !finding.runs_unwatched())
    {
        writeln!(
            io::stderr(),
            "memscope: every database is of a process that has ended: nothing that runs was looked at"
        )?;
    }
    Ok(match outcome {
        Outcome::Finding => ExitCode::Finding,
        Outcome::CannotJudge => ExitCode::CannotJudge,
        Outcome::Clean => ExitCode::Success,
    })
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
