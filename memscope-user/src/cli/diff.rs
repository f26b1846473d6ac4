//! `diff`: two saved reports, or a saved one and now.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::{self, OutputArguments};
use super::run::CommandError;
use super::select;
use crate::age::Age;
use crate::cli::arguments::TargetArguments;
use crate::collection::reading::{self, Choice, Order};
use crate::compare::diff::{Diff, diff};
use crate::compare::diff_text::Extent;
use crate::compare::saved::{self, SavedDatabase, SavedReport};
use crate::compare::{diff_json, diff_text};
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::exit::ExitCode;
use crate::export::differential::{self, Differential, differential};
use crate::export::folded;
use crate::report::unsample;

/// `diff`.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// The earlier report: a file that `print --format json` or `report --format json` wrote
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,
    /// The later one; none: the same targets now
    #[arg(value_name = "AFTER")]
    pub after: Option<PathBuf>,
    /// Compare with this process now, instead of those in BEFORE (repeatable)
    #[arg(long, value_name = "PID", conflicts_with = "after")]
    pub pid: Vec<u32>,
    /// As what
    #[arg(long, value_enum, default_value_t)]
    pub format: DiffFormat,
    /// Sites of each kind in the text at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    /// Whole stacks in the text
    #[arg(long)]
    pub stacks: bool,
    /// Where to
    #[command(flatten)]
    pub output: OutputArguments,
}

/// A rendering of a comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// Differential folded stacks: bytes before and after
    Folded,
    /// A differential flame graph
    Svg,
}

impl DiffArguments {
    /// Reads databases, and so needs what that needs.
    #[must_use]
    pub fn needs_databases(&self) -> bool {
        self.after.is_none()
    }
}

/// Runs `diff`.
///
/// # Errors
/// A report or a database cannot be read, or the output not written.
pub fn run(arguments: &DiffArguments) -> Result<ExitCode, CommandError> {
    let before = saved::read(&arguments.before)?;
    let after = match &arguments.after {
        Some(path) => saved::read(path)?,
        None => now(&before, &arguments.pid)?,
    };
    let compared = diff(&before, &after);
    let extension = match arguments.format {
        DiffFormat::Text => "txt",
        DiffFormat::Json => "json",
        DiffFormat::Folded => "folded",
        DiffFormat::Svg => "svg",
    };
    let name = format!("diff-{}", output::host_file_name(extension));
    arguments.output.write(&name, false, |out| match arguments.format {
        DiffFormat::Text => {
            let extent = Extent {
                top: arguments.top,
                stacks: arguments.stacks,
            };
            diff_text::write(&compared, &before, &after, extent, out)
        }
        DiffFormat::Json => diff_json::write(&compared, &before, &after, out),
        DiffFormat::Folded => differential::write(&folded_both(&compared), out),
        DiffFormat::Svg => draw(&folded_both(&compared), &before, &after, out),
    })?;
    Ok(ExitCode::Success)
}

/// The databases of the same targets, or of those named, as they are now: blocks of the least age that the report has.
fn now(before: &SavedReport, pids: &[u32]) -> Result<SavedReport, CommandError> {
    let roots = Roots::from_environment();
    let ids = if pids.is_empty() {
        before.databases.iter().map(|database| database.target.id).collect()
    } else {
        let named = TargetArguments {
            pids: pids.to_vec(),
            ..TargetArguments::default()
        };
        select::databases(&roots, &named)?
    };
    let age_s = before.databases.first().map_or(0, |database| database.age_s);
    let choice = Choice::of_age(Age::from_seconds(age_s), Order::Age);
    let mut databases = Vec::new();
    for id in ids {
        let session = Session::open(&roots, id)?;
        databases.push(if before.by_site {
            let mut report = reading::read_sites(&session)?;
            unsample::figures(&mut report);
            SavedDatabase::of_sites(&report)
        } else {
            SavedDatabase::of(&reading::read(&session, choice)?)
        });
    }
    Ok(SavedReport {
        source: "now".to_owned(),
        host: output::host(),
        by_site: before.by_site,
        databases,
    })
}

fn folded_both(compared: &Diff) -> Differential {
    let (mut before, mut after) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
    for site in &compared.sites {
        let path = folded::path(&site.stack);
        for (side, amount) in [(&mut before, site.before), (&mut after, site.after)] {
            if amount.bytes > 0 {
                *side.entry(path.clone()).or_insert(0) += amount.bytes;
            }
        }
    }
    differential(&before, &after)
}

#[cfg(feature = "flamegraph")]
fn draw(
    both: &Differential,
    before: &SavedReport,
    after: &SavedReport,
    out: &mut dyn std::io::Write,
) -> std::io::Result<()> {
    use crate::export::svg::{Heading, write_differential};
    use crate::report::Escaped;
    let heading = Heading {
        title: "Live memory: change by call stack".to_owned(),
        subtitle: format!(
            "{}: {} bytes, then {}: {} bytes",
            Escaped(&before.source),
            before.live().bytes,
            Escaped(&after.source),
            after.live().bytes
        ),
    };
    write_differential(both, &heading, out)
}

#[cfg(not(feature = "flamegraph"))]
fn draw(_: &Differential, _: &SavedReport, _: &SavedReport, _: &mut dyn std::io::Write) -> std::io::Result<()> {
    Err(crate::export::no_flame_graphs())
}
