//! `attach`: create and start for every match; what was found with `-v`.

use std::io::{self, Write};

use super::arguments::{AttachArguments, SettingsArguments};
use super::run::{CommandError, complain};
use super::select;
use crate::collection::memory_use::resident;
use crate::collection::site_reading::read_moment;
use crate::collection::steps::{self, Attached, Settings};
use crate::collection::survey::Survey;
use crate::database::load::Diagnostics;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::exit::ExitCode;
use crate::history;
use crate::report::model::CollectionState;
use crate::target::process::Target;

impl From<&SettingsArguments> for Settings {
    fn from(arguments: &SettingsArguments) -> Self {
        Self {
            live_capacity: arguments.max_blocks,
        }
    }
}

/// Databases of targets that ended longer ago than this are removed by an attach.
const KEPT_AFTER_EXIT_S: u64 = 24 * 3600;

/// Runs `attach`. One target that cannot be attached does not keep the others from it.
///
/// # Errors
/// Of the first target that failed, after all were tried.
pub fn run(arguments: &AttachArguments, verbose: bool) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let targets = select::processes(&arguments.target)?;
    super::lifecycle::collect_garbage(&roots, KEPT_AFTER_EXIT_S)?;
    let mut failures = Vec::new();
    for target in &targets {
        match one(
            &roots,
            target,
            Settings::from(&arguments.settings),
            Diagnostics::Off,
            verbose,
        ) {
            Ok(_) => {}
            Err(error) => failures.push(error),
        }
    }
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else {
        return Ok(ExitCode::Success);
    };
    for other in failures {
        complain(&other);
    }
    Err(first)
}

/// Attaches one target and says so.
///
/// # Errors
/// It cannot be attached.
pub fn one(
    roots: &Roots,
    target: &Target,
    settings: Settings,
    diagnostics: Diagnostics,
    verbose: bool,
) -> Result<Attached, CommandError> {
    let attached = steps::attach(roots, target, settings, diagnostics)?;
    let mut stderr = io::stderr().lock();
    match &attached {
        Attached::Started(started) => {
            let survey = &started.survey;
            if verbose {
                describe(survey, &mut stderr)?;
            }
            remember(roots, target);
            writeln!(stderr, "Creating Memory Scope database")?;
            writeln!(stderr, "Memory scope data collection started")?;
            let name = target.comm().unwrap_or_default();
            writeln!(
                stderr,
                "process {} ({}): {} functions of {} probed",
                target.id.pid,
                crate::report::Escaped(&name),
                survey.calls.len(),
                allocators(survey)
            )?;
        }
        Attached::AlreadyRunning => writeln!(
            stderr,
            "process {}: {} already",
            target.id.pid,
            CollectionState::Collecting.text()
        )?,
    }
    Ok(attached)
}

/// Keeps what the target's memory is now: later reports tell its growth from here. Not worth failing for.
fn remember(roots: &Roots, target: &Target) {
    let snapshot = Session::open(roots, target.id)
        .map_err(CommandError::from)
        .and_then(|session| {
            let mut snapshot = read_moment(&session)?;
            snapshot.resident = resident(target);
            Ok(history::store::save(&session.paths, &snapshot)?)
        });
    if let Err(error) = snapshot {
        complain(&error);
    }
}

fn allocators(survey: &Survey) -> String {
    let mut names: Vec<String> = survey
        .discovery
        .found
        .iter()
        .map(|found| found.name.to_string())
        .collect();
    names.dedup();
    names.join(", ")
}

/// What was found and where each probe sits.
///
/// # Errors
/// The output cannot be written.
pub fn describe(survey: &Survey, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{}", survey.discovery)?;
    for call in &survey.calls {
        let site = &call.site;
        writeln!(
            out,
            "  {}+{:#x}  {}  {}",
            call.function, site.offset, site.instruction, site.class
        )?;
        if let Some(obstacle) = &site.obstacle {
            writeln!(out, "      expensive: {obstacle}")?;
        }
    }
    Ok(())
}
