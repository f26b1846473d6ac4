//! create, start, stop, destroy: the four steps of a database's life.

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
use crate::host::preflight::{self, Finding};
use crate::probe::attach;
use crate::probe::plan::PlannedCall;
use crate::probe::restored::{self, Text};
use crate::probe::shared;
use crate::probe::shared::choice::{Bound, Ways};
use crate::report::model::CollectionState;
use crate::target::identity::TargetId;
use crate::target::process::{Target, TargetError};
use crate::target::program::Program;

/// A collection that has been started.
pub struct Started {
    /// What was found in the target.
    pub survey: Survey,
    /// What the preflight found and did not refuse for.
    pub findings: Vec<Finding>,
    /// Where the database came from.
    pub database: Origin,
    /// How its probes were attached.
    pub ways: Ways,
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
    retire_if_possible(&paths);
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
    // Before the rest is looked at: whatever is of another program by then, a start finds out.
    let program = Program::of(target).ok();
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
        program,
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
        unrouted_before: None,
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
    session.keep_unrouted()?;
    links::detach(&paths)?;
    retire_if_possible(&paths);
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
    outcome.map(|(object, ways)| Started {
        survey,
        findings,
        database: Origin::Found,
        ways,
        object,
    })
}

/// A danger to the target that its user has not accepted.
pub(super) fn refused<'a>(findings: &'a [Finding], session: &Session) -> Option<&'a Finding> {
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
) -> Result<(Ebpf, Ways), CollectionError> {
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
    // Written down before there is a part in a shared probe: a kill must not make hits that were lost from then on unknown.
    session.begin_unrouted()?;
    session.file.write(&session.paths.file())?;
    let probes = calls::probes(&session.file.calls, &numbers, survey);
    let process = target.id.pid;
    let ways = attach::attach(&mut object, &session.paths, Bound { process, thread }, &probes)?;
    if ways.shared == 0 {
        session.file.unrouted_before = None;
    }
    session.file.runs.push(Run {
        from: Moment::now(),
        to: None,
    });
    session.file.write(&session.paths.file())?;
    session.set_control(Control {
        collecting: 1,
        ..control
    })?;
    // An exec between the look at the target and the flag: the program that watches for it has left its mark, if it was
    // there already. Where the probes sit now, nobody has looked.
    if session.state()?.exec_at_ns != 0 || status::runs_another_program(session, target) {
        session.set_control(control)?;
        return Err(CollectionError::Replaced(target.id.pid));
    }
    if !target.is_alive() {
        return Err(ended().into());
    }
    Ok((object, ways))
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
            session.keep_unrouted()?;
            let left = take_probes_away(&paths, id, &session.file.calls);
            session.forget_open_calls()?;
            return Ok(left?);
        }
    }
    if control.collecting == 0 {
        // Probes without collection are what a killed start or stop left, or an exec of the target.
        session.keep_unrouted()?;
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
    session.keep_unrouted()?;
    let left = take_probes_away(&paths, id, &session.file.calls);
    session.forget_open_calls()?;
    Ok(left?)
}

/// What others, or a command that was killed, left of shared probes keeps nobody from a beginning or an end: a trace event without
/// breakpoints is a name. Whoever collects garbage is told.
fn retire_if_possible(paths: &SessionPaths) {
    let _ = shared::retire(paths.root(), shared::WaitFor::Freed);
}

/// Takes the probes away, and returns when they are gone from the target's text; see [`restored::wait`].
fn take_probes_away(paths: &SessionPaths, id: TargetId, calls: &[PlannedCall]) -> Result<Text, DatabaseError> {
    // What cannot be read there keeps the session's own probes from nothing.
    let parts = links::shared(paths).unwrap_or_default();
    links::detach(paths)?;
    Ok(wait_for_text(paths, id, calls, &parts))
}

/// Returns when the text of a target is its own again after its session's pins were removed, and removes what nobody shares any more.
fn wait_for_text(paths: &SessionPaths, id: TargetId, calls: &[PlannedCall], parts: &[String]) -> Text {
    let target = Target { id };
    if let Some(thread) = target.live_thread().filter(|_| target.is_alive()) {
        shared::look_again(paths, parts, thread);
    }
    let left = restored::wait(target, calls);
    retire_if_possible(paths);
    left
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
    let parts = links::shared(&paths).unwrap_or_default();
    store::remove(&paths)?;
    Ok(wait_for_text(&paths, id, &calls, &parts))
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

/// The programs compare process ids as the kernel's first PID namespace numbers them, and births as its first time namespace
/// tells them.
pub(super) fn require_host() -> Result<(), CollectionError> {
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
