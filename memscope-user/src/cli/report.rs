//! `report`: every site with its verdict and the evidence for it.

use std::io::{self, BufWriter, Write};

use super::arguments::Format;
use super::meant::{Meant, say_none};
use super::output;
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
/// A database that was named cannot be read, or the output not written.
pub fn run(arguments: &ReportArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let mut meant = Meant::of_or_say_none(&roots, &arguments.target)?;
    if meant.ids.is_empty() {
        return Ok(ExitCode::NotFound);
    }
    let selection = Selection::from(arguments);
    let mut shown = 0;
    let mut each = |tell: &mut dyn FnMut(Summary) -> Result<(), CommandError>| -> Result<(), CommandError> {
        for id in meant.ids.clone() {
            let read = meant.read(&roots, id, || {
                summarize(&roots, id, &arguments.span, &arguments.suppressions)
            })?;
            if let Some(summary) = read {
                shown += summary.rows(&selection).len();
                tell(summary)?;
            }
        }
        Ok(())
    };
    let rendering = Rendering {
        format: arguments.format,
        selection: &selection,
    };
    if arguments.output.output_dir.is_some() {
        each(&mut |summary| {
            let name = output::file_name(&summary.report.target, rendering.extension());
            let content = |out: &mut dyn Write| rendering.write(out, &[summary]);
            arguments.output.write(&name, false, content)
        })?;
    } else if arguments.output.output.is_some() || arguments.format == Format::Json {
        let mut summaries = Vec::new();
        each(&mut |summary| {
            summaries.push(summary);
            Ok(())
        })?;
        let name = output::host_file_name(rendering.extension());
        arguments
            .output
            .write(&name, false, |out| rendering.write(out, &summaries))?;
    } else {
        // As soon as it is known: the next database may take its time.
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let mut first = true;
        each(&mut |summary| {
            if !first && arguments.format == Format::Text {
                writeln!(out)?;
            }
            first = false;
            rendering.write(&mut out, &[summary])?;
            Ok(out.flush()?)
        })?;
    }
    if meant.is_none() {
        say_none();
    }
    match selection.site {
        Some(site) if shown == 0 => Err(CommandError::Usage(format!(
            "no site {:#018x} in these databases: `memscope report --format json` lists them all",
            site.0
        ))),
        _ => Ok(meant.exit_code()),
    }
}

/// How summaries are shown.
struct Rendering<'a> {
    format: Format,
    selection: &'a Selection,
}

impl Rendering<'_> {
    const fn extension(&self) -> &'static str {
        match self.format {
            Format::Text => "txt",
            Format::Json => "json",
            Format::Ndjson => "ndjson",
        }
    }

    fn write(&self, out: &mut dyn Write, summaries: &[Summary]) -> io::Result<()> {
        match self.format {
            Format::Text => {
                for (index, summary) in summaries.iter().enumerate() {
                    if index > 0 {
                        writeln!(out)?;
                    }
                    summary_text::write(out, summary, self.selection, TimeOfDay::now())?;
                }
                Ok(())
            }
            Format::Json => summary_json::write_document(out, &output::host(), summaries, self.selection),
            Format::Ndjson => summaries
                .iter()
                .try_for_each(|summary| summary_json::write_lines(out, summary, self.selection)),
        }
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
