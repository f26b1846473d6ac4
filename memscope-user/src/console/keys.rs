//! MemScope's own keys: n N o O p P, on the database that the commands use too.

use std::io::Write;

use crate::age::Age;
use crate::cli::print::warn_of_youth;
use crate::cli::run::CommandError;
use crate::cli::show::stats::write_one;
use crate::collection::error::CollectionError;
use crate::collection::reading::{self, Choice, Order};
use crate::collection::settings::Settings;
use crate::collection::steps;
use crate::database::error::DatabaseError;
use crate::database::load::Diagnostics;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::database::session_file::Limits;
use crate::exit::ExitCode;
use crate::host::preflight::Accepted;
use crate::host::privilege::Privileges;
use crate::probe::restored::Text;
use crate::report::clock::TimeOfDay;
use crate::report::model::CollectionState;
use crate::report::text::TextReport;
use crate::target::identity::TargetId;
use crate::target::process::Target;

use super::skip_line::SkipFirstLine;

/// What a key without a database answers.
pub const NO_DATABASE: &str = "MemScope database does not exist";

/// How a key ended that told of its failure itself, or did not fail.
pub type Told = Result<ExitCode, CommandError>;

/// Refuses who may not trace.
pub fn require_privileges() -> Result<(), CommandError> {
    let held = Privileges::of_this_process().and_then(Privileges::require);
    Ok(held.map_err(CollectionError::from)?)
}

/// `n`.
pub fn create(roots: &Roots, id: TargetId, out: &mut dyn Write) -> Told {
    require_privileges()?;
    let settings = Settings {
        live_capacity: None,
        by_hand: Vec::new(),
        regions: false,
        limits: Limits::default(),
        over_budget_given: false,
        accepted: Accepted::default(),
    };
    match steps::create(roots, &Target { id }, &settings) {
        Ok(()) => tell(out, "Creating Memory Scope database", ExitCode::Success),
        Err(CollectionError::Database(DatabaseError::Exists(_))) => tell(
            out,
            "MemScope database exists already: o collects into it, N destroys it",
            ExitCode::Usage,
        ),
        Err(error) => Err(error.into()),
    }
}

/// `o`.
pub fn start(roots: &Roots, id: TargetId, out: &mut dyn Write) -> Told {
    require_privileges()?;
    match steps::start(roots, &Target { id }, Diagnostics::Off) {
        Ok(_) => tell(out, "Memory scope data collection started", ExitCode::Success),
        Err(CollectionError::Database(DatabaseError::Running(_))) => tell(
            out,
            "Memory scope data collection is running already: O stops it",
            ExitCode::Usage,
        ),
        Err(error) => without_database(error.into(), out),
    }
}

/// `O`.
pub fn stop(roots: &Roots, id: TargetId, out: &mut dyn Write) -> Told {
    require_privileges()?;
    match steps::stop(roots, id) {
        Ok(left) => told_with_rest(id, left, out, "Memory scope data collection stopped"),
        Err(CollectionError::Database(DatabaseError::NotRunning(_))) => tell(
            out,
            "Memory scope data collection is not running: o starts it",
            ExitCode::Usage,
        ),
        Err(error) => without_database(error.into(), out),
    }
}

/// `N`.
pub fn destroy(roots: &Roots, id: TargetId, out: &mut dyn Write) -> Told {
    require_privileges()?;
    match steps::destroy(roots, id) {
        Ok(left) => told_with_rest(
            id,
            left,
            out,
            "Memory scope database destroyed, disabling data collection",
        ),
        Err(error) => without_database(error.into(), out),
    }
}

fn told_with_rest(id: TargetId, left: Text, out: &mut dyn Write, text: &str) -> Told {
    let code = tell(out, text, ExitCode::Success)?;
    match left.told(id.pid) {
        Some(note) => tell(out, &note, code),
        None => Ok(code),
    }
}

/// `p`. `age_is_shown`: the terminal has the report's first line already, from the question for the age.
pub fn print(roots: &Roots, id: TargetId, age: Age, age_is_shown: bool, out: &mut dyn Write) -> Told {
    require_privileges()?;
    let mut out = SkipFirstLine::new(out, age_is_shown);
    let mut report = TextReport::new(&mut out, TimeOfDay::now(), false);
    let session = match Session::open(roots, id) {
        Ok(session) => session,
        Err(DatabaseError::Missing(_)) => {
            report.no_database(age)?;
            return Ok(ExitCode::NotFound);
        }
        Err(error) => return Err(error.into()),
    };
    let choice = Choice::of_age(age, Order::Age);
    let read = reading::read(&session, choice)?;
    warn_of_youth(&read);
    report.database(&read)?;
    Ok(ExitCode::Success)
}

/// `P`.
pub fn stats(roots: &Roots, id: TargetId, out: &mut dyn Write) -> Told {
    require_privileges()?;
    let written = Session::open(roots, id)
        .map_err(CommandError::from)
        .and_then(|session| write_one(&session, out));
    match written {
        Ok(()) => Ok(ExitCode::Success),
        Err(error) => without_database(error, out),
    }
}

/// Whether collection for a target runs, as far as this user may know.
pub fn collects(roots: &Roots, id: TargetId) -> bool {
    let state = Session::open(roots, id).and_then(|session| crate::collection::status::state(&session));
    matches!(state, Ok(CollectionState::Collecting))
}

fn without_database(error: CommandError, out: &mut dyn Write) -> Told {
    match error {
        CommandError::Collection(CollectionError::Database(DatabaseError::Missing(_))) => {
            tell(out, NO_DATABASE, ExitCode::NotFound)
        }
        other => Err(other),
    }
}

fn tell(out: &mut dyn Write, text: &str, code: ExitCode) -> Told {
    writeln!(out, "{text}")?;
    Ok(code)
}
