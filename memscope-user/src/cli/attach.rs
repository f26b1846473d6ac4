//! `attach`: create and start for every match; what was found with `-v`.

use std::io::{self, Write};

use super::arguments::{AttachArguments, OverBudget, SettingsArguments};
use super::run::{CommandError, complain};
use super::select;
use crate::allocator::catalogue::AllocatorName;
use crate::allocator::spec::{CustomSpec, SpecKind, read_file};
use crate::collection::attach::Attached;
use crate::collection::error::CollectionError;
use crate::collection::memory_use::resident;
use crate::collection::settings::Settings;
use crate::collection::site_reading::read_moment;
use crate::collection::steps::{self, Origin};
use crate::collection::survey::Survey;
use crate::collection::{cost, room, status};
use crate::database::load::Diagnostics;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::database::session_file::{Exceeded, Limits};
use crate::database::{bpffs, store};
use crate::exit::ExitCode;
use crate::history;
use crate::host::calibration::Calibration;
use crate::host::preflight::Finding;
use crate::probe::exits::Returns;
use crate::probe::shared::choice::Ways;
use crate::report::model::CollectionState;
use crate::target::process::Target;

impl SettingsArguments {
    /// What a database is to be made with; measures what a hit costs on this host when a budget is asked for.
    ///
    /// # Errors
    /// There is a budget, and no measuring it; or a specification is malformed.
    pub fn settings(&self, roots: &Roots) -> Result<Settings, CommandError> {
        let by_hand = self.by_hand()?;
        if self.sample_bytes.is_some() && matches!(self.over_budget, Some(OverBudget::Sample)) {
            return Err(CommandError::Usage(
                "--over-budget sample can do nothing more about a collection that samples from the first: leave --sample-bytes \
                 out, or give --over-budget stop or ignore"
                    .into(),
            ));
        }
        let mut prices = None;
        if self.max_cpu.is_some() {
            bpffs::ensure_mounted(&roots.bpf)?;
            store::make_root(&roots.run)?;
            prices = Some(Calibration::of_this_host(roots)?.prices());
        }
        Ok(Settings {
            live_capacity: self.max_blocks,
            by_hand,
            regions: self.regions,
            limits: Limits {
                sample_bytes: self.sample_bytes,
                max_cpu: self.max_cpu,
                prices,
                over_budget: match self.over_budget {
                    None | Some(OverBudget::Stop) => Exceeded::Stop,
                    Some(OverBudget::Sample) => Exceeded::Sample,
                    Some(OverBudget::Ignore) => Exceeded::Ignore,
                },
            },
            over_budget_given: self.over_budget.is_some(),
            accepted: self.accept.iter().copied().collect(),
        })
    }

    /// The functions named by hand.
    fn by_hand(&self) -> Result<Vec<CustomSpec>, CommandError> {
        let mut by_hand = Vec::new();
        let options = [
            (SpecKind::Alloc, "--alloc", &self.alloc),
            (SpecKind::Free, "--free", &self.free),
            (SpecKind::Realloc, "--realloc", &self.realloc),
        ];
        for (kind, option, texts) in options {
            for text in texts {
                let wrong = |error| CommandError::Usage(format!("{option}: {error}"));
                by_hand.push(CustomSpec::parse(kind, text).map_err(wrong)?);
            }
        }
        for path in &self.allocators {
            by_hand.extend(read_file(path).map_err(|error| CommandError::Usage(error.to_string()))?);
        }
        Ok(by_hand)
    }
}

/// Runs `attach`. One target that cannot be attached does not keep the others from it.
///
/// # Errors
/// Of the first target that failed, after all were tried.
pub fn run(arguments: &AttachArguments, verbose: bool) -> Result<ExitCode, CommandError> {
    if arguments.follow {
        return super::follow::run(arguments, verbose);
    }
    let roots = Roots::from_environment();
    let targets = select::processes(&arguments.target)?;
    let settings = arguments.settings.settings(&roots)?;
    let mut failures = Vec::new();
    for target in &targets {
        match one(&roots, target, &settings, Diagnostics::Off, verbose) {
            Ok(_) => {}
            Err(error) => failures.push(error),
        }
    }
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else {
        super::lifecycle::collect_old_garbage(&roots);
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
    settings: &Settings,
    diagnostics: Diagnostics,
    verbose: bool,
) -> Result<Attached, CommandError> {
    let attached = crate::collection::attach::attach(roots, target, settings, diagnostics)?;
    if let Attached::Started(started) = &attached {
        refuse_over_budget(roots, target, started.database)?;
    }
    let mut said = Vec::new();
    match &attached {
        Attached::Started(started) => {
            let survey = &started.survey;
            // What could hurt is told even when it was accepted.
            let told = |finding: &&Finding| verbose || finding.danger.is_some();
            for finding in started.findings.iter().filter(told) {
                writeln!(said, "memscope: {finding}")?;
            }
            if verbose {
                describe(survey, &mut said)?;
                writeln!(said, "{}", told_ways(&started.ways))?;
                for note in room::notes(&Session::open(roots, target.id)?.file.left_out) {
                    writeln!(said, "memscope: {note}")?;
                }
            }
            remember(roots, target);
            writeln!(said, "Creating Memory Scope database")?;
            writeln!(said, "Memory scope data collection started")?;
            let name = target.comm().unwrap_or_default();
            writeln!(
                said,
                "process {} ({}): {} functions of {} probed",
                target.id.pid,
                crate::report::Escaped(&name),
                survey.calls.len(),
                allocators(survey)
            )?;
        }
        Attached::AlreadyRunning => writeln!(
            said,
            "process {}: {} already",
            target.id.pid,
            CollectionState::Collecting.text()
        )?,
    }
    // It is attached, whether anybody hears of it or not.
    let _ = io::stderr().lock().write_all(&said);
    Ok(attached)
}

/// Keeps what the target's memory is now: later reports tell its growth from here. Not worth failing for.
pub fn remember(roots: &Roots, target: &Target) {
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

/// A short count of what the target does. Above its budget from the first, or when that cannot be told, it is let go again: a
/// database made for it goes, one that was there before keeps all it holds.
fn refuse_over_budget(roots: &Roots, target: &Target, database: Origin) -> Result<(), CommandError> {
    let within = require_within_budget(roots, target);
    if within.is_err() {
        match database {
            Origin::Made => steps::destroy(roots, target.id)?,
            Origin::Found => steps::stop(roots, target.id)?,
        };
    }
    within
}

fn require_within_budget(roots: &Roots, target: &Target) -> Result<(), CommandError> {
    let session = Session::open(roots, target.id)?;
    let (Some(budget), Exceeded::Stop) = (session.file.limits.max_cpu, session.file.limits.over_budget) else {
        return Ok(());
    };
    let calibration = Calibration::of_this_host(roots)?;
    let cost = cost::now(&[&session], Some(&calibration))?;
    let percent = cost.first().and_then(|cost| cost.percent).unwrap_or(0.0);
    if percent <= f64::from(budget) && status::stopped_by_budget(&session)?.is_none() {
        return Ok(());
    }
    Err(CollectionError::OverBudget {
        pid: target.id.pid.0,
        percent,
        budget,
    }
    .into())
}

fn allocators(survey: &Survey) -> String {
    let mut names: Vec<String> = survey
        .discovery
        .found
        .iter()
        .filter(|found| found.name != AllocatorName::Exceptions)
        .map(|found| found.name.to_string())
        .collect();
    names.dedup();
    names.join(", ")
}

/// Whether probes are shared with other sessions, and why not where that was wanted.
fn told_ways(ways: &Ways) -> String {
    let Ways { own, shared, .. } = ways;
    match &ways.obstacle {
        Some(obstacle) => format!(
            "  {own} probes of its own, {shared} shared with other sessions: more cannot be shared here ({obstacle})"
        ),
        None => format!("  {own} probes of its own, {shared} shared with other sessions"),
    }
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
        match &call.returns {
            Returns::ByReturnProbe => {}
            Returns::ByExits(exits) => {
                write!(out, "      may throw; returns seen at each ret, single-stepped:")?;
                for exit in exits {
                    write!(out, " {:#x}", exit.offset)?;
                }
                writeln!(out)?;
            }
            Returns::InDanger(why) => writeln!(out, "      may throw, and has a return probe: {why}")?,
        }
    }
    Ok(())
}
