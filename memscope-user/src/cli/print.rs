//! `print`: the old report, for one database or all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd as _;

use memscope_ebpf::live::EntryNumber;

use super::arguments::{EntriesArguments, Format, PrintArguments, Sort};
use super::meant::Meant;
use super::output;
use super::run::{CommandError, complain};
use super::suppressions::SuppressionArguments;
use super::verdict_arguments::SpanArguments;
use crate::age::Age;
use crate::collection::reading::{self, Choice, Order};
use crate::collection::refresh;
use crate::database::clock::monotonic_ns;
use crate::database::error::DatabaseError;
use crate::database::paths::Roots;
use crate::database::session::Session;
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
    let found = Meant::of(&roots, &arguments.target);
    let EntriesArguments { format, age, .. } = arguments.entries;
    if !matches!(&found, Ok(meant) if !meant.ids.is_empty()) && found.as_ref().err().is_none_or(is_missing) {
        no_database(format, age)?;
    }
    let mut meant = found?;
    if meant.ids.is_empty() {
        return Ok(ExitCode::NotFound);
    }
    let judgement = print_but(
        &roots,
        &mut meant,
        &arguments.entries,
        &arguments.span,
        &arguments.suppressions,
    )?;
    if meant.is_none() {
        no_database(format, age)?;
        return Ok(ExitCode::NotFound);
    }
    Ok(if arguments.exit_code {
        judgement.exit_code(meant.is_all_seen())
    } else {
        meant.exit_code()
    })
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
    /// `since_mark_s`: seconds since the mark that the blocks asked for are younger than.
    fn add(&mut self, report: &DatabaseReport, since_mark_s: Option<u64>) {
        let found = report.total > report.suppressed.hidden().live.blocks;
        self.found |= found;
        // An empty report proves nothing when blocks were lost or only some recorded, when collection does not run, or has
        // not run long enough, since it last began or since the mark, for a block of that age to exist.
        let seen_s = report.unbroken_s().min(since_mark_s.unwrap_or(u64::MAX));
        let young = seen_s < report.age_s.max(YOUNG_S);
        let blind = report.collection.state != CollectionState::Collecting
            || !report.losses.is_empty()
            // Sampled, out of budget, or the probes' thread has ended.
            || !report.notes.is_empty();
        self.cannot_tell |= !found && (young || blind);
    }

    /// `all_seen`: no database was left out that was meant.
    fn exit_code(self, all_seen: bool) -> ExitCode {
        match self {
            Self { found: true, .. } => ExitCode::Finding,
            Self { cannot_tell: false, .. } if all_seen => ExitCode::Success,
            _ => ExitCode::CannotJudge,
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

/// Prints one database.
///
/// # Errors
/// It cannot be read, or the output not written.
pub fn print(roots: &Roots, id: TargetId, entries: &EntriesArguments) -> Result<(), CommandError> {
    print_born(roots, id, entries, &SpanArguments::default())
}

/// The same of the blocks born in a span.
///
/// # Errors
/// As [`print`]; a mark is not there.
pub fn print_born(
    roots: &Roots,
    id: TargetId,
    entries: &EntriesArguments,
    span: &SpanArguments,
) -> Result<(), CommandError> {
    let of_files = SuppressionArguments::default();
    print_but(roots, &mut Meant::exactly(id), entries, span, &of_files).map(drop)
}

/// Prints databases, one after the other, holding one at a time, with suppressions named beside those of the default files.
///
/// # Errors
/// As [`print_born`]; a file of suppressions cannot be used.
fn print_but(
    roots: &Roots,
    meant: &mut Meant,
    entries: &EntriesArguments,
    span: &SpanArguments,
    suppressions: &SuppressionArguments,
) -> Result<Judgement, CommandError> {
    let mut out = BufWriter::with_capacity(1 << 16, plain_stdout()?);
    let mut judgement = Judgement::default();
    let several = meant.ids.len() > 1;
    let mut each = |write: &mut dyn FnMut(&DatabaseReport) -> io::Result<()>| -> Result<(), CommandError> {
        for id in meant.ids.clone() {
            let read = meant.read(roots, id, || read_one(roots, id, entries, span, suppressions))?;
            let Some(Read {
                mut report,
                unread,
                since_mark_s,
            }) = read
            else {
                continue;
            };
            warn_of_youth(&report);
            judgement.add(&report, since_mark_s);
            report.notes.extend(unread);
            write(&report)?;
        }
        Ok(())
    };
    match entries.format {
        Format::Text => {
            let mut renderer = TextReport::new(&mut out, TimeOfDay::now(), several);
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

/// The standard output without the library's own buffer, which looks for the last line's end in all that passes.
fn plain_stdout() -> io::Result<File> {
    let mut stdout = io::stdout().lock();
    stdout.flush()?;
    Ok(File::from(stdout.as_fd().try_clone_to_owned()?))
}

/// A database as it is to be printed.
struct Read {
    report: DatabaseReport,
    /// Why the target's own suppressions could not be read.
    unread: Option<String>,
    /// Seconds since the mark that all its entries are younger than.
    since_mark_s: Option<u64>,
}

fn read_one(
    roots: &Roots,
    id: TargetId,
    entries: &EntriesArguments,
    span: &SpanArguments,
    suppressions: &SuppressionArguments,
) -> Result<Read, CommandError> {
    let refreshed = refresh::refresh_mappings_if_free(roots, id);
    let session = Session::open(roots, id)?;
    // Stacks taken from now on go through what has been loaded since; a report does not fail for want of that.
    if let Err(error) = refreshed {
        complain(&error);
    }
    let mut choice = Choice::from(entries);
    let born = span.of(&session)?;
    choice.after = born
        .from
        .as_ref()
        .map_or(choice.after, |edge| EntryNumber(edge.mark.number));
    choice.up_to = born.until.map_or(choice.up_to, |edge| EntryNumber(edge.mark.number));
    let (rules, unread) = suppressions.rules(&session)?;
    let report = reading::read_but(&session, choice, &rules)?;
    let now_ms = monotonic_ns() / 1_000_000;
    Ok(Read {
        report,
        unread,
        since_mark_s: born
            .from
            .map(|edge| now_ms.saturating_sub(edge.mark.at.monotonic_ms) / 1000),
    })
}

/// Says on stderr that a collection has run too briefly to say much.
pub(crate) fn warn_of_youth(report: &DatabaseReport) {
    let seen_s = report.unbroken_s();
    if seen_s < YOUNG_S && report.collection.state == CollectionState::Collecting {
        let again = if report.gaps.is_empty() { "" } else { " again" };
        let _ = writeln!(
            io::stderr(),
            "memscope: collection for process {} has run{again} for {seen_s} s only: the data says little before {YOUNG_S} s",
            report.target.id.pid,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Gap;
    use crate::report::samples::{design_sample, empty};

    fn of(report: &DatabaseReport, since_mark_s: Option<u64>) -> ExitCode {
        let mut judgement = Judgement::default();
        judgement.add(report, since_mark_s);
        judgement.exit_code(true)
    }

    /// Nothing found, of blocks at least a minute old, after an hour of collection.
    fn nothing_found() -> DatabaseReport {
        let mut report = empty(1234, "gateway");
        report.age_s = 60;
        report.collection.seconds = 3_600;
        report
    }

    #[test]
    fn nothing_found_is_clean_only_where_something_could_have_been() {
        assert_eq!(of(&nothing_found(), None), ExitCode::Success);
        let mut young = nothing_found();
        young.age_s = 3_601;
        assert_eq!(of(&young, None), ExitCode::CannotJudge);
        for (seen_s, code) in [(59, ExitCode::CannotJudge), (60, ExitCode::Success)] {
            let mut report = nothing_found();
            report.gaps = vec![Gap {
                lasted_ms: 3_600_000,
                ended_ms_ago: seen_s * 1000,
            }];
            assert_eq!(of(&report, None), code, "{seen_s} s since the gap");
            assert_eq!(of(&nothing_found(), Some(seen_s)), code, "{seen_s} s since the mark");
        }
    }

    #[test]
    fn what_was_not_looked_at_is_not_clean_and_hides_no_finding() {
        let mut judgement = Judgement::default();
        judgement.add(&nothing_found(), None);
        assert_eq!(judgement.exit_code(false), ExitCode::CannotJudge);
        judgement.add(&design_sample(), None);
        assert_eq!(judgement.exit_code(false), ExitCode::Finding);
    }
}
