//! `print`: the old report, for one database or all.

use std::io::{self, BufWriter, Write};

use memscope_ebpf::live::EntryNumber;

use super::arguments::{EntriesArguments, Format, PrintArguments, Sort, TargetArguments};
use super::output;
use super::run::{CommandError, complain};
use super::select;
use super::suppressions::SuppressionArguments;
use super::verdict_arguments::SpanArguments;
use crate::age::Age;
use crate::collection::reading::{self, Choice, Order};
use crate::collection::steps;
use crate::database::error::DatabaseError;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::database::store;
use crate::exit::ExitCode;
use crate::report::clock::TimeOfDay;
use crate::report::json::JsonReport;
use crate::report::model::{CollectionState, DatabaseReport};
use crate::report::ndjson::NdjsonReport;
use crate::report::text::TextReport;
use crate::target::identity::TargetId;

/// Below this many seconds of collection the data says little.
const YOUNG_S: u64 = 60;

/// Runs `print`.
///
/// # Errors
/// A database cannot be read, or the output not written.
pub fn run(arguments: &PrintArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let found = databases(&roots, &arguments.target);
    if !matches!(&found, Ok(ids) if !ids.is_empty()) && found.as_ref().err().is_none_or(is_missing) {
        no_database(arguments.entries.format, arguments.entries.age)?;
    }
    let ids = found?;
    if ids.is_empty() {
        return Ok(ExitCode::NotFound);
    }
    let judgement = print_but(
        &roots,
        &ids,
        &arguments.entries,
        &arguments.span,
        &arguments.suppressions,
    )?;
    Ok(if arguments.exit_code {
        judgement.exit_code()
    } else {
        ExitCode::Success
    })
}

/// The databases meant; every one of this host when none is named.
fn databases(roots: &Roots, target: &TargetArguments) -> Result<Vec<TargetId>, CommandError> {
    if target.is_empty() {
        Ok(store::list(roots)?)
    } else {
        select::databases(roots, target)
    }
}

/// The same for commands without a text of old for "none": they say it on stderr.
///
/// # Errors
/// A PID has no database; nothing matches.
pub fn databases_or_say_none(roots: &Roots, target: &TargetArguments) -> Result<Vec<TargetId>, CommandError> {
    let ids = databases(roots, target)?;
    if ids.is_empty() {
        writeln!(
            io::stderr(),
            "memscope: MemScope database does not exist: `memscope attach PID` makes one"
        )?;
    }
    Ok(ids)
}

fn is_missing(error: &CommandError) -> bool {
    use crate::collection::error::CollectionError;
    matches!(
        error,
        CommandError::Collection(CollectionError::Database(DatabaseError::Missing(_)))
    )
}

fn no_database(format: Format, age: Age) -> Result<(), CommandError> {
    if format == Format::Text {
        let mut out = io::stdout().lock();
        TextReport::new(&mut out, TimeOfDay::now(), false).no_database(age)?;
        out.flush()?;
    }
    Ok(())
}

/// What a print found, for `--exit-code`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judgement {
    found: bool,
    cannot_tell: bool,
}

impl Judgement {
    fn add(&mut self, report: &DatabaseReport) {
        let found = report.total > report.suppressed.hidden().live.blocks;
        self.found |= found;
        // An empty report proves nothing when blocks were lost or only some recorded, when collection does not run, or has
        // not run long enough for a block of that age to exist.
        let young = report.collection.seconds < report.age_s.max(YOUNG_S);
        let blind = report.collection.state != CollectionState::Collecting
            || !report.losses.is_empty()
            // Sampled, out of budget, or the probes' thread has ended.
            || !report.notes.is_empty();
        self.cannot_tell |= !found && (young || blind);
    }

    fn exit_code(self) -> ExitCode {
        match self {
            Self { found: true, .. } => ExitCode::Finding,
            Self { cannot_tell: true, .. } => ExitCode::CannotJudge,
            _ => ExitCode::Success,
        }
    }
}

impl From<&EntriesArguments> for Choice {
    fn from(arguments: &EntriesArguments) -> Self {
        let order = match arguments.sort {
            Sort::Age => Order::Age,
            Sort::Size => Order::Size,
        };
        Self {
            age: arguments.age,
            order,
            limit: arguments.limit,
            after: EntryNumber(0),
            up_to: EntryNumber(u64::MAX),
        }
    }
}

/// Prints databases, one after the other, holding one at a time.
///
/// # Errors
/// A database cannot be read, or the output not written.
pub fn print(roots: &Roots, ids: &[TargetId], entries: &EntriesArguments) -> Result<Judgement, CommandError> {
    print_born(roots, ids, entries, &SpanArguments::default())
}

/// The same of the blocks born in a span.
///
/// # Errors
/// As [`print`]; a mark is not there.
pub fn print_born(
    roots: &Roots,
    ids: &[TargetId],
    entries: &EntriesArguments,
    span: &SpanArguments,
) -> Result<Judgement, CommandError> {
    print_but(roots, ids, entries, span, &SuppressionArguments::default())
}

/// The same with suppressions named beside those of the default files.
///
/// # Errors
/// As [`print_born`]; a file of suppressions cannot be used.
pub fn print_but(
    roots: &Roots,
    ids: &[TargetId],
    entries: &EntriesArguments,
    span: &SpanArguments,
    suppressions: &SuppressionArguments,
) -> Result<Judgement, CommandError> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut judgement = Judgement::default();
    let mut each = |write: &mut dyn FnMut(&DatabaseReport) -> io::Result<()>| -> Result<(), CommandError> {
        for id in ids {
            // Stacks taken from now on go through what has been loaded since; a report does not fail for want of that.
            if let Err(error) = steps::refresh_mappings_if_free(roots, *id) {
                complain(&error);
            }
            let session = Session::open(roots, *id)?;
            let mut choice = Choice::from(entries);
            let born = span.of(&session)?;
            choice.after = born.from.map_or(choice.after, |edge| EntryNumber(edge.mark.number));
            choice.up_to = born.until.map_or(choice.up_to, |edge| EntryNumber(edge.mark.number));
            let (rules, unread) = suppressions.rules(&session)?;
            let mut report = reading::read_but(&session, choice, &rules)?;
            warn_of_youth(&report);
            judgement.add(&report);
            report.notes.extend(unread);
            write(&report)?;
        }
        Ok(())
    };
    match entries.format {
        Format::Text => {
            let mut renderer = TextReport::new(&mut out, TimeOfDay::now(), ids.len() > 1);
            each(&mut |report| renderer.database(report))?;
        }
        Format::Json => {
            let mut renderer = JsonReport::new(&mut out, &output::host())?;
            each(&mut |report| renderer.database(report))?;
            renderer.finish()?;
        }
        Format::Ndjson => {
            let host = output::host();
            let mut renderer = NdjsonReport::new(&mut out, &host);
            each(&mut |report| renderer.database(report))?;
        }
    }
    out.flush()?;
    Ok(judgement)
}

/// Says on stderr that a collection has run too briefly to say much.
pub(crate) fn warn_of_youth(report: &DatabaseReport) {
    if report.collection.seconds < YOUNG_S && report.collection.state == CollectionState::Collecting {
        let _ = writeln!(
            io::stderr(),
            "memscope: collection for process {} has run for {} s only: the data says little before {YOUNG_S} s",
            report.target.id.pid,
            report.collection.seconds
        );
    }
}
