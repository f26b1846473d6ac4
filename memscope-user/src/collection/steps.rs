//! create, start, stop, destroy — and attach, which does the first two as far as they are still to be done.

use aya::Ebpf;
use memscope_ebpf::state::{Control, OverBudget, Prices};

use super::calls;
use super::code::{self, Code};
use super::error::CollectionError;
use super::settings::Settings;
use super::status;
use super::survey::{Survey, survey};
use crate::allocator::spec::SavedSpec;
use crate::database::error::DatabaseError;
use crate::database::load::Diagnostics;
use crate::database::paths::{Roots, SessionPaths};
use crate::database::session::Session;
use crate::database::session_file::{Exceeded, Followed, HitPrices, LeftOut, Moment, Run, SCHEMA, SessionFile};
use crate::database::{folder, links, load, store};
use crate::host::kernel_layout;
use crate::host::preflight::{self, Accepted, Finding};
use crate::probe::attach;
use crate::probe::plan::PlannedCall;
use crate::probe::restored::{self, Text};
use crate::report::model::CollectionState;
use crate::target::identity::TargetId;
use crate::target::process::{Target, TargetError};

/// A collection that has been started.
pub struct Started {
    /// What was found in the target.
    pub survey: Survey,
    /// What the preflight found and did not refuse for.
    pub findings: Vec<Finding>,
    /// Where the database came from.
    pub database: Origin,
    /// The loaded programs. They go on without it; a foreground run keeps it to read their diagnostics.
    pub object: Ebpf,
}

/// Where the database of a collection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made by the command that started collection: nobody has anything in it.
    Made,
    /// It was there, and what it holds is somebody's.
    Found,
}

/// What an attach came to.
pub enum Attached {
    /// Collection started.
    Started(Box<Started>),
    /// It was running.
    AlreadyRunning,
}

/// Makes the database of a target: maps pinned, collection stopped.
///
/// # Errors
/// It has one; or the maps or files cannot be made, and then nothing of them stays.
pub fn create(roots: &Roots, target: &Target, settings: &Settings) -> Result<(), CollectionError> {
    require_host()?;
    let paths = roots.session(target.id);
    let _lock = store::lock_or_create(roots, target.id)?;
    if paths.file().exists() {
        return Err(DatabaseError::Exists(target.id).into());
    }
    // What a killed create left.
    links::detach(&paths)?;
    folder::remove(&paths.bpf)?;
    let outcome = make(roots, target, settings);
    if outcome.is_err() {
        // The first error is the one to tell; what cannot be removed now, `destroy` and `gc` still find.
        let _ = folder::remove(&paths.bpf);
        let _ = folder::remove(&paths.run);
    }
    outcome
}

fn make(roots: &Roots, target: &Target, settings: &Settings) -> Result<(), CollectionError> {
    let paths = roots.session(target.id);
    folder::make_private(&paths.bpf)?;
    let code = Code::of(target)?;
    let capacities = code.capacities(settings);
    drop(load::object(&paths, capacities, Diagnostics::Off)?);
    let exe = target.exe()?;
    let build_id = code
        .modules
        .iter()
        .find(|module| module.path.as_os_str() == exe)
        .and_then(|module| module.build_id.clone());
    let file = SessionFile {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        target: target.id,
        comm: target.comm()?,
        exe: exe.to_string_lossy().into_owned(),
        build_id,
        created: Moment::now(),
        capacities,
        limits: settings.limits,
        accepted: settings.accepted,
        followed: None,
        by_hand: settings.by_hand.iter().map(SavedSpec::from).collect(),
        runs: Vec::new(),
        generations: Vec::new(),
        found_ended: None,
        unwatched: None,
        left_out: LeftOut::default(),
        mappings_seen: Moment::now(),
        layout: code::empty_layout(capacities),
        calls: Vec::new(),
    };
    if !target.is_alive() {
        return Err(TargetError::Ended(target.id.pid).into());
    }
    file.write(&paths.file())?;
    let mut session = Session::open(roots, target.id)?;
    code::update(&mut session, code, &[])?;
    Ok(())
}

/// Attaches the probes and starts collecting.
///
/// # Errors
/// No database; it runs already; no allocator found; the kernel refused a probe, and then none stays.
pub fn start(roots: &Roots, target: &Target, diagnostics: Diagnostics) -> Result<Started, CollectionError> {
    require_host()?;
    let paths = roots.session(target.id);
    let _lock = store::lock_existing(&paths, target.id)?;
    let mut session = Session::open(roots, target.id)?;
    match status::state(&session)? {
        CollectionState::Collecting => return Err(DatabaseError::Running(target.id).into()),
        CollectionState::Exited => return Err(TargetError::Ended(target.id.pid).into()),
        CollectionState::Replaced => {
            // Those of the old image are in the new one, too, where it maps the same files.
            take_probes_away(&paths, target.id, &session.file.calls)?;
            return Err(CollectionError::Replaced(target.id.pid));
        }
        CollectionState::Stopped => {}
    }
    let survey = survey(target, Settings::of(&session).wanted())?;
    survey.require_allocator(target)?;
    let findings = preflight::look(target, &survey);
    if let Some(finding) = refused(&findings, &session) {
        // Of a process that has just ended, nothing can be read.
        if !target.is_alive() {
            return Err(TargetError::Ended(target.id.pid).into());
        }
        return Err(CollectionError::Danger {
            pid: target.id.pid.0,
            finding: finding.to_string(),
        });
    }
    if let Some(at) = status::stopped_by_budget(&session)?
        && let Some(run) = session.file.runs.last_mut().filter(|run| run.to.is_none())
    {
        run.to = Some(at);
    }
    links::detach(&paths)?;
    session.forget_open_calls()?;
    // No program runs now that would write there.
    session.forget_last_run()?;
    let outcome = attach_probes(&mut session, target, &survey, diagnostics);
    if outcome.is_err() {
        let _ = take_probes_away(&paths, target.id, &survey.calls);
        // Whatever the kernel refused a process that is no more, its end is the reason.
        if !target.is_alive() {
            return Err(TargetError::Ended(target.id.pid).into());
        }
    }
    outcome.map(|object| Started {
        survey,
        findings,
        database: Origin::Found,
        object,
    })
}

/// A danger to the target that its user has not accepted.
fn refused<'a>(findings: &'a [Finding], session: &Session) -> Option<&'a Finding> {
    let accepted = session.file.accepted;
    findings
        .iter()
        .find(|finding| finding.danger.is_some_and(|danger| !accepted.has(danger)))
}

fn attach_probes(
    session: &mut Session,
    target: &Target,
    survey: &Survey,
    diagnostics: Diagnostics,
) -> Result<Ebpf, CollectionError> {
    let ended = || TargetError::Ended(target.id.pid);
    let thread = target.live_thread().ok_or_else(ended)?;
    let control = Control {
        tgid: target.id.pid.0,
        born_tick: kernel_layout::task_layout().map_or(0, |_| target.id.start_time.0),
        collecting: 0,
        bound_tid: thread,
        ..limits(session)
    };
    session.set_control(control)?;
    // Whatever is started or stopped is written down first; see `SessionFile::runs`.
    session.file.runs.retain(|run| run.to.is_some());
    let numbers = calls::join(&mut session.file.calls, survey, target)?;
    code::refresh(session, target)?;
    let mut object = load::object(&session.paths, session.file.capacities, diagnostics)?;
    session.file.write(&session.paths.file())?;
    let probes = calls::probes(&session.file.calls, &numbers, survey);
    attach::attach(&mut object, &session.paths, thread, &probes)?;
    session.file.runs.push(Run {
        from: Moment::now(),
        to: None,
    });
    session.file.write(&session.paths.file())?;
    session.set_control(Control {
        collecting: 1,
        ..control
    })?;
    // An exec between the look at the target and the flag: the program that watches for it has left its mark. Where the
    // probes sit now, nobody has looked.
    if session.state()?.exec_at_ns != 0 {
        session.set_control(control)?;
        return Err(CollectionError::Replaced(target.id.pid));
    }
    if !target.is_alive() {
        return Err(ended().into());
    }
    Ok(object)
}

/// A hundredth of a second.
const NS_A_PERCENT: u64 = 10_000_000;

/// The part of CONTROL that tells the programs what collection may cost.
fn limits(session: &Session) -> Control {
    let limits = session.file.limits;
    let over_budget = match limits.over_budget {
        Exceeded::Stop => OverBudget::Stop,
        Exceeded::Sample => OverBudget::Sample,
        Exceeded::Ignore => OverBudget::Ignore,
    };
    let mut control = Control {
        over_budget: over_budget as u32,
        sample_bytes: limits.sample_bytes.unwrap_or(0),
        ..Control::default()
    };
    if let (Some(percent), Some(HitPrices { hit_ns, step_ns })) = (limits.max_cpu, limits.prices) {
        control.budget_ns = u64::from(percent) * NS_A_PERCENT;
        control.prices = Prices { hit_ns, step_ns };
    }
    control
}

/// Stops collecting; the database stays. Gives what is left of the probes.
///
/// # Errors
/// No database, or it does not run.
pub fn stop(roots: &Roots, id: TargetId) -> Result<Text, CollectionError> {
    let paths = roots.session(id);
    let _lock = store::lock_existing(&paths, id)?;
    let mut session = Session::open(roots, id)?;
    let control = session.control()?;
    if let Some(at) = status::stopped_by_budget(&session)? {
        // The programs stopped collecting; the probes are still to be taken out.
        if let Some(run) = session.file.runs.last_mut().filter(|run| run.to.is_none()) {
            run.to = Some(at);
            session.file.write(&paths.file())?;
            let left = take_probes_away(&paths, id, &session.file.calls)?;
            session.forget_open_calls()?;
            return Ok(left);
        }
    }
    if control.collecting == 0 {
        // Probes without collection are what a killed start or stop left, or an exec of the target.
        take_probes_away(&paths, id, &session.file.calls)?;
        return Err(DatabaseError::NotRunning(id).into());
    }
    // What came after the probes had gone with their thread was not collected.
    let until = status::blind_since(&session)?.unwrap_or_else(Moment::now);
    if let Some(run) = session.file.runs.last_mut() {
        run.to = Some(until);
    }
    session.file.write(&paths.file())?;
    session.set_control(Control {
        collecting: 0,
        ..control
    })?;
    let left = take_probes_away(&paths, id, &session.file.calls)?;
    session.forget_open_calls()?;
    Ok(left)
}

/// Takes the probes away, and returns when they are gone from the target's text; see [`restored::wait`].
fn take_probes_away(paths: &SessionPaths, id: TargetId, calls: &[PlannedCall]) -> Result<Text, DatabaseError> {
    links::detach(paths)?;
    Ok(restored::wait(Target { id }, calls))
}

/// Destroys a database in whatever state it is. Gives what [`stop`] gives.
///
/// # Errors
/// There is none, or something of it cannot be removed.
pub fn destroy(roots: &Roots, id: TargetId) -> Result<Text, CollectionError> {
    let paths = roots.session(id);
    if !paths.exist() {
        return Err(DatabaseError::Missing(id).into());
    }
    // Of a session that is unfinished nothing says where its probes sat; they go all the same.
    let calls = SessionFile::read(&paths.file(), id)
        .map(|file| file.calls)
        .unwrap_or_default();
    store::remove(&paths)?;
    Ok(restored::wait(Target { id }, &calls))
}

/// Creates and starts as far as that is still to be done: idempotent.
///
/// A database whose target has replaced its image by exec is made anew for the new one; one whose probes went with the
/// thread they were bound to is stopped and started on another, which leaves a gap that reports tell of.
///
/// # Errors
/// As [`create`] and [`start`]. A database made by this call does not stay behind when its start fails.
pub fn attach(
    roots: &Roots,
    target: &Target,
    settings: &Settings,
    diagnostics: Diagnostics,
) -> Result<Attached, CollectionError> {
    match attach_image(roots, target, settings, diagnostics) {
        // It has replaced its image while it was attached.
        Err(CollectionError::Replaced(_)) => attach_image(roots, target, settings, diagnostics),
        other => other,
    }
}

fn attach_image(
    roots: &Roots,
    target: &Target,
    settings: &Settings,
    diagnostics: Diagnostics,
) -> Result<Attached, CollectionError> {
    require_host()?;
    let mut created = create_unless_there(roots, target, settings)?;
    match Session::open(roots, target.id) {
        Ok(session) => {
            settings.require_those_of(&session)?;
            let accepted = accept(&session, settings.accepted)?;
            match status::state(&session)? {
                CollectionState::Replaced => {
                    destroy(roots, target.id)?;
                    let anew = Settings {
                        accepted,
                        ..Settings::of(&session)
                    };
                    created = create_unless_there(roots, target, &anew)?;
                }
                CollectionState::Collecting if status::blind_since(&session)?.is_some() => {
                    stop(roots, target.id)?;
                }
                CollectionState::Collecting => {
                    refresh(roots, target)?;
                }
                _ => {}
            }
        }
        Err(
            DatabaseError::Unfinished { .. } | DatabaseError::OtherVersion { .. } | DatabaseError::SessionFile { .. },
        ) => {
            destroy(roots, target.id)?;
            created = create_unless_there(roots, target, settings)?;
        }
        Err(error) => return Err(error.into()),
    }
    match start(roots, target, diagnostics) {
        Ok(started) => Ok(Attached::Started(Box::new(Started {
            database: if created { Origin::Made } else { Origin::Found },
            ..started
        }))),
        Err(CollectionError::Database(DatabaseError::Running(_))) => Ok(Attached::AlreadyRunning),
        Err(error) => {
            if created {
                let _ = destroy(roots, target.id);
            }
            Err(error)
        }
    }
}

/// Writes down that dangers are accepted that were not when the database was made. All that are.
fn accept(session: &Session, more: Accepted) -> Result<Accepted, CollectionError> {
    if session.file.accepted.with(more) == session.file.accepted {
        return Ok(session.file.accepted);
    }
    let _lock = store::lock_existing(&session.paths, session.file.target)?;
    let mut file = SessionFile::read(&session.paths.file(), session.file.target)?;
    file.accepted = file.accepted.with(more);
    file.write(&session.paths.file())?;
    Ok(file.accepted)
}

/// Notes that a target has been found to have ended, and gives that moment, milliseconds of CLOCK_MONOTONIC.
///
/// # Errors
/// As [`DatabaseError::Missing`], or its file cannot be written.
pub fn note_end(roots: &Roots, id: TargetId) -> Result<u64, DatabaseError> {
    let paths = roots.session(id);
    let _lock = store::lock_existing(&paths, id)?;
    let mut file = SessionFile::read(&paths.file(), id)?;
    let moment = *file.found_ended.get_or_insert_with(Moment::now);
    file.write(&paths.file())?;
    Ok(moment.monotonic_ms)
}

/// Writes down that a target was attached because its family is followed.
///
/// # Errors
/// No database, or its file cannot be written.
pub fn note_followed(roots: &Roots, id: TargetId, followed: Followed) -> Result<(), CollectionError> {
    let paths = roots.session(id);
    let _lock = store::lock_existing(&paths, id)?;
    let mut file = SessionFile::read(&paths.file(), id)?;
    file.followed = Some(followed);
    Ok(file.write(&paths.file())?)
}

/// Brings a database up to date with what its target has mapped since: the mapping table, and, while collection runs, probes
/// in allocators that have been loaded. How many functions more are probed. A library that is loaded again needs no new
/// probes: the kernel puts them into every mapping of its file.
///
/// # Errors
/// No database; the target has ended or replaced its image; the session cannot be written; a function named by hand is no
/// longer there; the kernel refused a probe.
pub fn refresh(roots: &Roots, target: &Target) -> Result<usize, CollectionError> {
    let paths = roots.session(target.id);
    let _lock = store::lock_existing(&paths, target.id)?;
    let mut session = Session::open(roots, target.id)?;
    let state = status::state(&session)?;
    match state {
        CollectionState::Exited => return Err(TargetError::Ended(target.id.pid).into()),
        CollectionState::Replaced => return Err(DatabaseError::NotRunning(target.id).into()),
        CollectionState::Collecting | CollectionState::Stopped => {}
    }
    code::refresh(&mut session, target)?;
    if state == CollectionState::Stopped {
        return Ok(0);
    }
    let survey = survey(target, Settings::of(&session).wanted())?;
    let numbers = calls::join(&mut session.file.calls, &survey, target)?;
    let mut probes = calls::probes(&session.file.calls, &numbers, &survey);
    probes.retain(|probe| !attach::is_attached(&paths, probe));
    // What has been loaded since the start may be what a start would have refused for.
    let findings = if probes.is_empty() {
        Vec::new()
    } else {
        preflight::look(target, &survey)
    };
    let unwatched = refused(&findings, &session).map(Finding::to_string);
    if session.file.unwatched != unwatched {
        let mut file = SessionFile::read(&paths.file(), target.id)?;
        file.unwatched.clone_from(&unwatched);
        file.write(&paths.file())?;
        session.file.unwatched.clone_from(&unwatched);
    }
    if let Some(finding) = unwatched {
        let pid = target.id.pid.0;
        return Err(CollectionError::DangerInNewCode { pid, finding });
    }
    if probes.is_empty() {
        return Ok(0);
    }
    // The names of their sites must be there before the first block of theirs is.
    session.file.write(&paths.file())?;
    let mut object = load::object(&paths, session.file.capacities, Diagnostics::Off)?;
    attach::attach(&mut object, &paths, session.control()?.bound_tid, &probes)?;
    Ok(probes.len())
}

/// Brings the mapping table up to date if the target lives and no other command holds the session: for reports, which must
/// not wait.
///
/// # Errors
/// The session cannot be written.
pub fn refresh_mappings_if_free(roots: &Roots, id: TargetId) -> Result<(), CollectionError> {
    let paths = roots.session(id);
    let Some(_lock) = store::try_lock(&paths)? else {
        return Ok(());
    };
    let target = Target { id };
    let mut session = Session::open(roots, id)?;
    if status::state(&session)? == CollectionState::Collecting {
        match code::refresh(&mut session, &target) {
            Err(CollectionError::Target(_)) | Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn create_unless_there(roots: &Roots, target: &Target, settings: &Settings) -> Result<bool, CollectionError> {
    match create(roots, target, settings) {
        Ok(()) => Ok(true),
        Err(CollectionError::Database(DatabaseError::Exists(_))) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The programs compare process ids as the kernel's first PID namespace numbers them, and births as its first time namespace
/// tells them.
fn require_host() -> Result<(), CollectionError> {
    // PROC_PID_INIT_INO and PROC_TIME_INIT_INO, include/linux/proc_ns.h.
    const FIRST: [(&str, &str); 2] = [("pid", "pid:[4026531836]"), ("time", "time:[4026531834]")];
    for (kind, first) in FIRST {
        match std::fs::read_link(format!("/proc/self/ns/{kind}")) {
            Ok(namespace) if namespace.as_os_str() != first => return Err(CollectionError::Namespace(kind)),
            _ => {}
        }
    }
    Ok(())
}
