//! attach: create and start, as far as they are still to be done.

use super::error::CollectionError;
use super::refresh::refresh;
use super::settings::Settings;
use super::status;
use super::steps::{Origin, Started, create, destroy, require_host, start, stop};
use crate::database::error::DatabaseError;
use crate::database::load::Diagnostics;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::database::session_file::SessionFile;
use crate::database::store;
use crate::host::preflight::Accepted;
use crate::report::model::CollectionState;
use crate::target::process::Target;

/// What an attach came to.
pub enum Attached {
    /// Collection started.
    Started(Box<Started>),
    /// It was running.
    AlreadyRunning,
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

fn create_unless_there(roots: &Roots, target: &Target, settings: &Settings) -> Result<bool, CollectionError> {
    match create(roots, target, settings) {
        Ok(()) => Ok(true),
        Err(CollectionError::Database(DatabaseError::Exists(_))) => Ok(false),
        Err(error) => Err(error),
    }
}
