//! `create`, `start`, `stop`, `destroy`, `detach`, `gc`: the four steps of old, and their short forms.

use std::io::{self, Write};

use super::arguments::{CreateArguments, DetachArguments, GcArguments, TargetArguments};
use super::run::{CommandError, complain};
use super::{attach, select};
use crate::collection::error::CollectionError;
use crate::collection::{refresh, status, steps};
use crate::database::clock::monotonic_ns;
use crate::database::error::DatabaseError;
use crate::database::family;
use crate::database::load::Diagnostics;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::database::store;
use crate::exit::ExitCode;
use crate::probe::restored::Text;
use crate::probe::shared::{self, WaitFor};
use crate::target::identity::TargetId;
use crate::target::process::Target;

/// Runs `create`.
///
/// # Errors
/// Of the first target that failed.
pub fn create(arguments: &CreateArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let settings = arguments.settings.settings(&roots)?;
    for target in select::processes(&arguments.target)? {
        steps::create(&roots, &target, &settings)?;
        say("Creating Memory Scope database");
    }
    Ok(ExitCode::Success)
}

/// Runs `start`.
///
/// # Errors
/// Of the first target that failed.
pub fn start(arguments: &TargetArguments, verbose: bool) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    for target in select::processes(arguments)? {
        let started = steps::start(&roots, &target, Diagnostics::Off)?;
        if verbose {
            attach::describe(&started.survey, &mut io::stderr().lock())?;
        }
        say("Memory scope data collection started");
    }
    Ok(ExitCode::Success)
}

/// Runs `refresh`.
///
/// # Errors
/// Of the first target that failed.
pub fn refresh(arguments: &TargetArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    for target in select::processes(arguments)? {
        let added = refresh::refresh(&roots, &target)?;
        say(&format!(
            "process {}: up to date, {added} functions more probed",
            target.id.pid
        ));
    }
    Ok(ExitCode::Success)
}

/// Runs `stop`.
///
/// # Errors
/// Of the first database that failed.
pub fn stop(arguments: &TargetArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    for id in named_databases(&roots, arguments)? {
        let left = steps::stop(&roots, id)?;
        say("Memory scope data collection stopped");
        say_what_is_left(id, left);
    }
    Ok(ExitCode::Success)
}

/// Runs `destroy`.
///
/// # Errors
/// Of the first database that failed.
pub fn destroy(arguments: &TargetArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    retire_remains(&roots, WaitFor::All);
    destroy_all(&roots, named_remains(&roots, arguments)?)
}

/// Runs `detach`.
///
/// # Errors
/// Of the first database that failed, after all were tried.
pub fn detach(arguments: &DetachArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    retire_remains(&roots, WaitFor::All);
    let ids = if arguments.all {
        remains(&roots)?
    } else {
        named_remains(&roots, &arguments.target)?
    };
    destroy_all(&roots, ids)
}

/// Removes what a command that was killed left of shared probes, even if it had removed its session already. What cannot be removed keeps
/// nothing else from being.
fn retire_remains(roots: &Roots, wait_for: WaitFor) {
    if let Err(error) = shared::retire(&roots.bpf, wait_for) {
        complain(&error);
    }
}

fn destroy_all(roots: &Roots, ids: Vec<TargetId>) -> Result<ExitCode, CommandError> {
    let mut failed = None;
    for id in ids {
        // Whoever follows its children must not attach more of them.
        let followed = match family::remove(roots, id) {
            Ok(followed) => followed,
            Err(error) => {
                failed = keep_first(failed, error.into());
                continue;
            }
        };
        if followed && !roots.session(id).exist() {
            // A command was killed between the two.
            say("Its children are no longer followed; it has no Memory Scope database");
            continue;
        }
        // A database that was never started, or is unfinished, has no collection to stop.
        match steps::stop(roots, id) {
            Ok(_) => say("Memory scope data collection stopped"),
            Err(CollectionError::Database(DatabaseError::Missing(missing))) => {
                failed = keep_first(failed, DatabaseError::Missing(missing).into());
                continue;
            }
            Err(_) => {}
        }
        match steps::destroy(roots, id) {
            Ok(left) => {
                say("Memory scope database destroyed, disabling data collection");
                say_what_is_left(id, left);
            }
            Err(error) => failed = keep_first(failed, error),
        }
    }
    retire_remains(roots, WaitFor::All);
    failed.map_or(Ok(ExitCode::Success), |error| Err(error.into()))
}

fn say_what_is_left(id: TargetId, left: Text) {
    if let Some(text) = left.told(id.pid) {
        say(&text);
    }
}

fn keep_first(first: Option<CollectionError>, error: CollectionError) -> Option<CollectionError> {
    match first {
        None => Some(error),
        Some(first) => {
            complain(&error);
            Some(first)
        }
    }
}

fn named_databases(roots: &Roots, arguments: &TargetArguments) -> Result<Vec<TargetId>, CommandError> {
    named(arguments, store::list(roots)?)
}

fn named_remains(roots: &Roots, arguments: &TargetArguments) -> Result<Vec<TargetId>, CommandError> {
    named(arguments, remains(roots)?)
}

/// Databases, and followed families that have none: what a follower that was killed at its beginning leaves.
fn remains(roots: &Roots) -> Result<Vec<TargetId>, DatabaseError> {
    let mut all = [store::list(roots)?, family::list(roots)?].concat();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn named(arguments: &TargetArguments, existing: Vec<TargetId>) -> Result<Vec<TargetId>, CommandError> {
    if arguments.is_empty() {
        return Err(CommandError::Usage(
            "no target: give a PID, --comm NAME or --exe PATH".into(),
        ));
    }
    select::among(&existing, arguments)
}

/// Databases of targets that ended longer ago than this are removed by an attach.
const KEPT_AFTER_EXIT_S: u64 = 24 * 3600;

/// Runs `gc`.
///
/// # Errors
/// Something cannot be removed.
pub fn gc(arguments: &GcArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let removed = collect_garbage(&roots, arguments.older_than.seconds());
    retire_remains(&roots, WaitFor::All);
    let removed = removed?;
    say(&format!("{removed} databases of ended targets removed"));
    Ok(ExitCode::Success)
}

/// Removes the databases of targets that ended at least so long ago, and what killed commands left unfinished. How many.
///
/// # Errors
/// Of the first that cannot be removed, or whose end cannot be told, after all were tried.
pub fn collect_garbage(roots: &Roots, older_than_s: u64) -> Result<usize, CommandError> {
    let mut removed = 0;
    let mut failed = family::collect_garbage(roots).err().map(CollectionError::from);
    for id in store::list(roots)? {
        match remove_if_old(roots, id, older_than_s) {
            Ok(was_old) => removed += usize::from(was_old),
            // Another command was first.
            Err(DatabaseError::Missing(_)) => {}
            Err(error) => failed = keep_first(failed, error.into()),
        }
    }
    failed.map_or(Ok(removed), |error| Err(error.into()))
}

/// Whether it was old, or unfinished, and is removed.
fn remove_if_old(roots: &Roots, id: TargetId, older_than_s: u64) -> Result<bool, DatabaseError> {
    let paths = roots.session(id);
    if !paths.file().exists() || !paths.bpf.exists() {
        return store::remove_unfinished(&paths);
    }
    // What cannot be told now may be a moment ago.
    if (Target { id }).is_alive() || ended_s_ago(roots, id)? < older_than_s {
        return Ok(false);
    }
    store::remove(&paths)?;
    Ok(true)
}

/// Beside an attach, which others' remains do not keep from its work.
pub fn collect_old_garbage(roots: &Roots) {
    if let Err(error) = collect_garbage(roots, KEPT_AFTER_EXIT_S) {
        complain(&error);
    }
    retire_remains(roots, WaitFor::Freed);
}

/// How long ago a target ended, at least. When it was not watched to its end, that is told from the first look at it since,
/// which is noted. A session that no command can ever read tells no time: it is as old as can be.
///
/// # Errors
/// It cannot be read or noted now.
fn ended_s_ago(roots: &Roots, id: TargetId) -> Result<u64, DatabaseError> {
    let now_ms = monotonic_ns() / 1_000_000;
    let ended_ms = Session::open(roots, id).and_then(|session| match status::end_ms(&session)? {
        Some(ms) => Ok(ms),
        None => steps::note_end(roots, id),
    });
    match ended_ms {
        Ok(ms) => Ok(now_ms.saturating_sub(ms) / 1000),
        Err(
            DatabaseError::Unfinished { .. } | DatabaseError::OtherVersion { .. } | DatabaseError::SessionFile { .. },
        ) => Ok(u64::MAX),
        Err(error) => Err(error),
    }
}

/// A lifecycle text, for people: on stderr, since stdout is for reports. Whether anybody reads it decides nothing: what it
/// tells of has been done, and the rest is still to be.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
