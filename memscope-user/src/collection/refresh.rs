//! refresh: the mapping table and the probes, brought up to date with what the target has mapped since.

use super::error::CollectionError;
use super::settings::Settings;
use super::steps::refused;
use super::survey::survey;
use super::{calls, code, status};
use crate::database::error::DatabaseError;
use crate::database::load::{self, Diagnostics};
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::database::session_file::SessionFile;
use crate::database::store;
use crate::host::preflight::{self, Finding};
use crate::probe::attach;
use crate::probe::shared::choice::Bound;
use crate::report::model::CollectionState;
use crate::target::identity::TargetId;
use crate::target::process::{Target, TargetError};

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
    let shares = session.file.unrouted_before.is_some();
    session.begin_unrouted()?;
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
    // The names of their sites must be there before the first block of theirs is, and what hits of shared probes are to be told.
    session.file.write(&paths.file())?;
    let mut object = load::object(&paths, session.file.capacities, Diagnostics::Off)?;
    let bound = Bound {
        process: target.id.pid,
        thread: session.control()?.bound_tid,
    };
    let ways = attach::attach(&mut object, &paths, bound, &probes)?;
    if ways.shared == 0 && !shares {
        session.file.unrouted_before = None;
        session.file.write(&paths.file())?;
    }
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
