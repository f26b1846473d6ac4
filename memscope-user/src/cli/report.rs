//! `report`: every site with its verdict and the evidence for it.

use std::io::{self, BufWriter, Write};

use super::arguments::Format;
use super::output;
use super::print::databases_or_say_none;
use super::run::CommandError;
use super::summarize::summarize;
use super::verdict_arguments::{By, ReportArguments, SortSites, VerdictName};
use crate::database::paths::Roots;
use crate::exit::ExitCode;
use crate::report::clock::TimeOfDay;
use crate::report::summary::{Grouping, Selection, SiteOrder, Summary};
use crate::report::{summary_json, summary_text};
use crate::verdict::Verdict;

/// Runs `report`.
///
/// # Errors
/// A database cannot be read, or the output not written.
pub fn run(arguments: &ReportArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let ids = databases_or_say_none(&roots, &arguments.target)?;
    if ids.is_empty() {
        return Ok(ExitCode::NotFound);
    }
    let selection = Selection::from(arguments);
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let each = ids.iter().map(|id| -> Result<Summary, CommandError> {
        summarize(&roots, *id, &arguments.span, &arguments.suppressions)
    });
    let mut shown = 0;
    let mut count = |summary: &Summary| shown += summary.rows(&selection).len();
    match arguments.format {
        Format::Text => {
            for (index, summary) in each.enumerate() {
                let summary = summary?;
                count(&summary);
                if index > 0 {
                    writeln!(out)?;
                }
                summary_text::write(&mut out, &summary, &selection, TimeOfDay::now())?;
            }
        }
        Format::Json => {
            let summaries: Vec<Summary> = each.collect::<Result<_, _>>()?;
            summaries.iter().for_each(&mut count);
            summary_json::write_document(&mut out, &output::host(), &summaries, &selection)?;
        }
        Format::Ndjson => {
            for summary in each {
                let summary = summary?;
                count(&summary);
                summary_json::write_lines(&mut out, &summary, &selection)?;
            }
        }
    }
    out.flush()?;
    match selection.site {
        Some(site) if shown == 0 => Err(CommandError::Usage(format!(
            "no site {:#018x} in these databases: `memscope report --format json` lists them all",
            site.0
        ))),
        _ => Ok(ExitCode::Success),
    }
}

impl From<&ReportArguments> for Selection {
    fn from(arguments: &ReportArguments) -> Self {
        Self {
            top: arguments.top,
            order: match arguments.sort {
                SortSites::Growth => SiteOrder::Growth,
                SortSites::Bytes => SiteOrder::Bytes,
                SortSites::Blocks => SiteOrder::Blocks,
                SortSites::Oldest => SiteOrder::Oldest,
                SortSites::Confidence => SiteOrder::Confidence,
            },
            verdicts: arguments.verdict.iter().map(|name| Verdict::from(*name)).collect(),
            site: arguments.site,
            grouping: match arguments.by {
                By::Site => Grouping::Site,
                By::Function => Grouping::Function,
                By::Module => Grouping::Module,
            },
        }
    }
}

impl From<VerdictName> for Verdict {
    fn from(name: VerdictName) -> Self {
        match name {
            VerdictName::Leaking => Self::Leaking,
            VerdictName::Undecided => Self::Undecided,
            VerdictName::Cache => Self::Cache,
            VerdictName::Startup => Self::Startup,
            VerdictName::Churn => Self::Churn,
        }
    }
}
