//! `attach`: create and start for every match; what was found with `-v`.

use std::io::{self, Write};

use super::arguments::{AttachArguments, SettingsArguments};
use super::run::{CommandError, complain};
use super::select;
use crate::allocator::spec::{CustomSpec, SpecKind, read_file};
use crate::collection::settings::Settings;
use crate::collection::steps::{self, Attached};
use crate::collection::survey::Survey;
use crate::database::paths::Roots;
use crate::exit::ExitCode;
use crate::report::model::CollectionState;
use crate::target::process::Target;

impl TryFrom<&SettingsArguments> for Settings {
    type Error = CommandError;

    fn try_from(arguments: &SettingsArguments) -> Result<Self, CommandError> {
        let mut by_hand = Vec::new();
        let options = [
            (SpecKind::Alloc, "--alloc", &arguments.alloc),
            (SpecKind::Free, "--free", &arguments.free),
            (SpecKind::Realloc, "--realloc", &arguments.realloc),
        ];
        for (kind, option, texts) in options {
            for text in texts {
                let wrong = |error| CommandError::Usage(format!("{option}: {error}"));
                by_hand.push(CustomSpec::parse(kind, text).map_err(wrong)?);
            }
        }
        for path in &arguments.allocators {
            by_hand.extend(read_file(path).map_err(|error| CommandError::Usage(error.to_string()))?);
        }
        Ok(Self {
            live_capacity: arguments.max_blocks,
            by_hand,
            regions: arguments.regions,
        })
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
    let settings = Settings::try_from(&arguments.settings)?;
    let targets = select::processes(&arguments.target)?;
    super::lifecycle::collect_garbage(&roots, KEPT_AFTER_EXIT_S)?;
    let mut failures = Vec::new();
    for target in &targets {
        if let Err(error) = one(&roots, target, &settings, verbose) {
            failures.push(error);
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
pub fn one(roots: &Roots, target: &Target, settings: &Settings, verbose: bool) -> Result<(), CommandError> {
    let mut stderr = io::stderr().lock();
    match steps::attach(roots, target, settings)? {
        Attached::Started(survey) => {
            if verbose {
                describe(&survey, &mut stderr)?;
            }
            writeln!(stderr, "Creating Memory Scope database")?;
            writeln!(stderr, "Memory scope data collection started")?;
            let name = target.comm().unwrap_or_default();
            writeln!(
                stderr,
                "process {} ({}): {} functions of {} probed",
                target.id.pid,
                crate::report::Escaped(&name),
                survey.calls.len(),
                allocators(&survey)
            )?;
        }
        Attached::AlreadyRunning => writeln!(
            stderr,
            "process {}: {} already",
            target.id.pid,
            CollectionState::Collecting.text()
        )?,
    }
    Ok(())
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
