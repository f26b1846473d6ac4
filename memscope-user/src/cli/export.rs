//! `export`: databases as profiles, pictures and metrics of other tools.

use std::io::{self, Write as _};

use clap::{Args, ValueEnum};

use super::arguments::TargetArguments;
use super::meant::{Meant, say_none};
use super::output::{self, OutputArguments};
use super::run::CommandError;
use super::summarize::summarize;
use super::suppressions::SuppressionArguments;
use super::verdict_arguments::SpanArguments;
use crate::collection::reading::read_sites;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::database::session_file::Moment;
use crate::exit::ExitCode;
use crate::export::{self, Exported, ProfileFormat, prom};
use crate::report::unsample;
use crate::symbol::SavedModule;

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// Whom; none: every database
    #[command(flatten)]
    pub target: TargetArguments,
    /// As what
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// Which call stacks are never accused, in metrics
    #[command(flatten)]
    pub suppressions: SuppressionArguments,
    /// Where to
    #[command(flatten)]
    pub output: OutputArguments,
}

/// A format of another tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// pprof's protobuf, gzipped (`go tool pprof`)
    Pprof,
    /// Folded stacks and their live bytes
    Folded,
    /// A flame graph of live bytes
    Svg,
    /// speedscope's JSON
    Speedscope,
    /// Metrics for node_exporter's textfile collector, all targets in one file
    Prom,
}

impl ExportFormat {
    /// The format, if it is one of one database a file.
    #[must_use]
    pub const fn profile(self) -> Option<ProfileFormat> {
        match self {
            Self::Pprof => Some(ProfileFormat::Pprof),
            Self::Folded => Some(ProfileFormat::Folded),
            Self::Svg => Some(ProfileFormat::Svg),
            Self::Speedscope => Some(ProfileFormat::Speedscope),
            Self::Prom => None,
        }
    }
}

/// Runs `export`.
///
/// # Errors
/// A database cannot be read, or a file not written.
pub fn run(arguments: &ExportArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let meant = Meant::of(&roots, &arguments.target)?;
    match arguments.format.profile() {
        Some(format) => profiles(&roots, meant, format, &arguments.output),
        None => metrics(&roots, meant.forgiving(), arguments),
    }
}

/// Writes one file a database.
fn profiles(
    roots: &Roots,
    mut meant: Meant,
    format: ProfileFormat,
    output: &OutputArguments,
) -> Result<ExitCode, CommandError> {
    if meant.ids.is_empty() {
        say_none();
        return Ok(ExitCode::NotFound);
    }
    if meant.ids.len() > 1 && !output.takes_several() {
        return Err(CommandError::Usage(format!(
            "{} databases: name one target, or give --output-dir for a file each",
            meant.ids.len()
        )));
    }
    for id in meant.ids.clone() {
        let read = meant.read(roots, id, || {
            let session = Session::open(roots, id)?;
            let mut report = read_sites(&session)?;
            unsample::figures(&mut report);
            Ok((session, report))
        })?;
        let Some((session, report)) = read else { continue };
        let database = Exported {
            report: &report,
            modules: present_modules(&session),
        };
        let name = output::file_name(&report.target, format.extension());
        output.write(&name, format.is_binary(), |out| export::write(format, database, out))?;
        if let Some(caution) = export::caution(&report) {
            tell(&format!("process {}: {caution}", id.pid));
        }
    }
    if meant.is_none() {
        say_none();
    }
    Ok(meant.exit_code())
}

/// Tells something on stderr. Nothing more can be done when that is gone.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "memscope: {line}");
}

/// Writes one file for the host. A database that cannot be read is counted in it, and told of on stderr.
fn metrics(roots: &Roots, mut meant: Meant, arguments: &ExportArguments) -> Result<ExitCode, CommandError> {
    let mut databases = Vec::new();
    for id in meant.ids.clone() {
        databases.extend(meant.read(roots, id, || {
            summarize(roots, id, &SpanArguments::default(), &arguments.suppressions)
        })?);
    }
    let host = prom::Host {
        databases: &databases,
        unreadable: meant.unreadable() as u64,
        at_unix_s: Moment::now().unix_s,
    };
    let write = |out: &mut dyn io::Write| prom::write(host, out);
    let name = output::host_file_name("prom");
    arguments.output.write(&name, false, write)?;
    // A host without databases has metrics, too.
    Ok(if meant.is_none() {
        ExitCode::Success
    } else {
        meant.exit_code()
    })
}

/// What the target has mapped now; frames of mappings that are gone are known by their modules' names.
pub(super) fn present_modules(session: &Session) -> &[SavedModule] {
    let last = session.file.generations.last();
    last.map_or(&[], |generation| &generation.modules)
}
