//! What a session is at this moment: collecting, stopped, exited, replaced; since when; with which gaps.

use crate::database::error::DatabaseError;
use crate::database::kernel_map::monotonic_ns;
use crate::database::session::Session;
use crate::database::session_file::Run;
use crate::report::model::{Collection, CollectionState, Gap, TargetDescription};
use crate::target::process::Target;

/// Whether a database is being fed.
///
/// # Errors
/// Its maps cannot be read.
pub fn state(session: &Session) -> Result<CollectionState, DatabaseError> {
    if session.state()?.exec_at_ns != 0 {
        return Ok(CollectionState::Replaced);
    }
    if !(Target {
        id: session.file.target,
    })
    .is_alive()
    {
        return Ok(CollectionState::Exited);
    }
    Ok(if session.control()?.collecting == 0 {
        CollectionState::Stopped
    } else {
        CollectionState::Collecting
    })
}

/// The collection as reports show it.
///
/// # Errors
/// Its maps cannot be read.
pub fn collection(session: &Session) -> Result<Collection, DatabaseError> {
    let state = state(session)?;
    let runs = runs(session)?;
    let kernel = session.state()?;
    let end_ms = match state {
        CollectionState::Collecting => monotonic_ns() / 1_000_000,
        CollectionState::Exited => kernel.thread_exit_at_ns / 1_000_000,
        CollectionState::Replaced => kernel.exec_at_ns / 1_000_000,
        CollectionState::Stopped => 0,
    };
    let until = runs.last().and_then(|run| run.to).map_or(end_ms, |to| to.monotonic_ms);
    let seconds = runs
        .first()
        .map_or(0, |run| until.saturating_sub(run.from.monotonic_ms) / 1000);
    Ok(Collection {
        state,
        since_unix_s: runs.first().map(|run| run.from.unix_s),
        seconds,
    })
}

/// Times between runs: frees in them were not seen.
///
/// # Errors
/// Its maps cannot be read.
pub fn gaps(session: &Session, now_ms: u64) -> Result<Vec<Gap>, DatabaseError> {
    let runs = runs(session)?;
    let gaps = runs.windows(2).filter_map(|pair| {
        let (from, to) = (pair[0].to?.monotonic_ms, pair[1].from.monotonic_ms);
        Some(Gap {
            lasted_ms: to.saturating_sub(from),
            ended_ms_ago: now_ms.saturating_sub(to),
        })
    });
    Ok(gaps.collect())
}

/// When collection was first started, milliseconds of CLOCK_MONOTONIC; `None` if never.
///
/// # Errors
/// Its maps cannot be read.
pub fn first_start_ms(session: &Session) -> Result<Option<u64>, DatabaseError> {
    Ok(runs(session)?.first().map(|run| run.from.monotonic_ms))
}

/// The runs as they really were: see `SessionFile::runs`.
fn runs(session: &Session) -> Result<Vec<Run>, DatabaseError> {
    let mut runs = session.file.runs.clone();
    let stopped_by_us = session.control()?.collecting == 0 && session.state()?.exec_at_ns == 0;
    match runs.last_mut() {
        Some(last) if !stopped_by_us => last.to = None,
        Some(last) if last.to.is_none() => drop(runs.pop()),
        _ => {}
    }
    Ok(runs)
}

/// The target as reports show it.
#[must_use]
pub fn description(session: &Session) -> TargetDescription {
    TargetDescription {
        id: session.file.target,
        comm: session.file.comm.clone(),
        exe: session.file.exe.clone(),
        build_id: session.file.build_id.clone(),
    }
}
