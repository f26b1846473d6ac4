//! create, start, stop, destroy — and attach, which does the first two as far as they are still to be done.

use memscope_ebpf::state::Control;

use super::calls;
use super::code::{self, Code};
use super::error::CollectionError;
use super::settings::Settings;
use super::status;
use super::survey::{Survey, survey};
use crate::allocator::spec::SavedSpec;
use crate::database::error::DatabaseError;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::database::session_file::{Moment, Run, SCHEMA, SessionFile};
use crate::database::{folder, links, load, store};
use crate::probe::attach;
use crate::report::model::CollectionState;
use crate::target::identity::TargetId;
use crate::target::process::{Target, TargetError};

/// What an attach came to.
pub enum Attached {
    /// Collection started.
    Started(Box<Survey>),
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
    let code = Code::of(target, |_| false)?;
    let capacities = code.capacities(settings);
    drop(load::object(&paths, capacities)?);
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
        by_hand: settings.by_hand.iter().map(SavedSpec::from).collect(),
        runs: Vec::new(),
        generations: Vec::new(),
        layout: code::empty_layout(capacities),
        calls: Vec::new(),
    };
    if !target.is_alive() {
        return Err(TargetError::Ended(target.id.pid).into());
    }
    file.write(&paths.file())?;
    let mut session = Session::open(roots, target.id)?;
    code::update(&mut session, code)?;
    Ok(())
}

/// Attaches the probes and starts collecting.
///
/// # Errors
/// No database; it runs already; no allocator found; the kernel refused a probe, and then none stays.
pub fn start(roots: &Roots, target: &Target) -> Result<Survey, CollectionError> {
    require_host()?;
    let paths = roots.session(target.id);
    let _lock = store::lock_existing(&paths, target.id)?;
    let mut session = Session::open(roots, target.id)?;
    match status::state(&session)? {
        CollectionState::Collecting => return Err(DatabaseError::Running(target.id).into()),
        CollectionState::Exited => return Err(TargetError::Ended(target.id.pid).into()),
        CollectionState::Stopped | CollectionState::Replaced => {}
    }
    let survey = survey(target, Settings::of(&session).wanted())?;
    survey.require_allocator(target)?;
    links::detach(&paths)?;
    session.forget_open_calls()?;
    let outcome = attach_probes(&mut session, target, &survey);
    if outcome.is_err() {
        let _ = links::detach(&paths);
    }
    outcome.map(|()| survey)
}

fn attach_probes(session: &mut Session, target: &Target, survey: &Survey) -> Result<(), CollectionError> {
    let ended = || TargetError::Ended(target.id.pid);
    let thread = target.live_thread().ok_or_else(ended)?;
    let control = Control {
        tgid: target.id.pid.0,
        collecting: 0,
        bound_tid: thread,
        padding: 0,
    };
    session.set_control(control)?;
    // Whatever is started or stopped is written down first; see `SessionFile::runs`.
    session.file.runs.retain(|run| run.to.is_some());
    let numbers = calls::join(&mut session.file.calls, survey, target)?;
    code::refresh(session, target)?;
    let mut object = load::object(&session.paths, session.file.capacities)?;
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
    // An exec between the look at the target and the flag: the program that watches for it has left its mark.
    if session.state()?.exec_at_ns != 0 {
        session.set_control(control)?;
    }
    if !target.is_alive() {
        return Err(ended().into());
    }
    Ok(())
}

/// Stops collecting; the database stays.
///
/// # Errors
/// No database, or it does not run.
pub fn stop(roots: &Roots, id: TargetId) -> Result<(), CollectionError> {
    let paths = roots.session(id);
    let _lock = store::lock_existing(&paths, id)?;
    let mut session = Session::open(roots, id)?;
    let control = session.control()?;
    if control.collecting == 0 {
        // Probes without collection are what a killed start or stop left, or an exec of the target.
        links::detach(&paths)?;
        return Err(DatabaseError::NotRunning(id).into());
    }
    if let Some(run) = session.file.runs.last_mut() {
        run.to = Some(Moment::now());
    }
    session.file.write(&paths.file())?;
    session.set_control(Control {
        collecting: 0,
        ..control
    })?;
    links::detach(&paths)?;
    Ok(session.forget_open_calls()?)
}

/// Destroys a database in whatever state it is.
///
/// # Errors
/// There is none, or something of it cannot be removed.
pub fn destroy(roots: &Roots, id: TargetId) -> Result<(), CollectionError> {
    let paths = roots.session(id);
    if !paths.exist() {
        return Err(DatabaseError::Missing(id).into());
    }
    Ok(store::remove(&paths)?)
}

/// Creates and starts as far as that is still to be done: idempotent.
///
/// A database whose target has replaced its image by exec is made anew for the new one; one whose probes went with the
/// thread they were bound to is stopped and started on another, which leaves a gap that reports tell of.
///
/// # Errors
/// As [`create`] and [`start`]. A database made by this call does not stay behind when its start fails.
pub fn attach(roots: &Roots, target: &Target, settings: &Settings) -> Result<Attached, CollectionError> {
    require_host()?;
    let mut created = create_unless_there(roots, target, settings)?;
    match Session::open(roots, target.id) {
        Ok(session) => {
            settings.require_those_of(&session)?;
            match status::state(&session)? {
                CollectionState::Replaced => {
                    destroy(roots, target.id)?;
                    created = create_unless_there(roots, target, &Settings::of(&session))?;
                }
                CollectionState::Collecting if session.state()?.bound_exit_at_ns != 0 => stop(roots, target.id)?,
                CollectionState::Collecting => refresh(roots, target)?,
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
    match start(roots, target) {
        Ok(survey) => Ok(Attached::Started(Box::new(survey))),
        Err(CollectionError::Database(DatabaseError::Running(_))) => Ok(Attached::AlreadyRunning),
        Err(error) => {
            if created {
                let _ = destroy(roots, target.id);
            }
            Err(error)
        }
    }
}

/// Brings the mapping table of a running collection up to date with what the target has mapped since.
///
/// # Errors
/// The target has ended, or the session cannot be written.
pub fn refresh(roots: &Roots, target: &Target) -> Result<(), CollectionError> {
    let _lock = store::lock_existing(&roots.session(target.id), target.id)?;
    let mut session = Session::open(roots, target.id)?;
    code::refresh(&mut session, target)?;
    Ok(())
}

fn create_unless_there(roots: &Roots, target: &Target, settings: &Settings) -> Result<bool, CollectionError> {
    match create(roots, target, settings) {
        Ok(()) => Ok(true),
        Err(CollectionError::Database(DatabaseError::Exists(_))) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The programs compare process ids as the kernel's first PID namespace numbers them.
fn require_host() -> Result<(), CollectionError> {
    // PROC_PID_INIT_INO, include/linux/proc_ns.h.
    const FIRST: &str = "pid:[4026531836]";
    match std::fs::read_link("/proc/self/ns/pid") {
        Ok(namespace) if namespace.as_os_str() != FIRST => Err(CollectionError::PidNamespace),
        _ => Ok(()),
    }
}
