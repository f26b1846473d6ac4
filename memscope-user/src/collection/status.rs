//! What a session is at this moment: collecting, stopped, exited, replaced; since when; with which gaps.

use memscope_ebpf::state::OverBudget;
use memscope_ebpf::unwind::mapping::MAX_MAPPINGS;

use crate::database::error::DatabaseError;
use crate::database::kernel_map::monotonic_ns;
use crate::database::session::Session;
use crate::database::session_file::{LeftOut, Moment, Run};
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
    let stopped_by_budget = stopped_by_budget(session)?;
    match runs.last_mut() {
        Some(last) if last.to.is_none() && stopped_by_budget.is_some() => last.to = stopped_by_budget,
        Some(last) if !stopped_by_us => last.to = None,
        Some(last) if last.to.is_none() => drop(runs.pop()),
        _ => {}
    }
    Ok(runs)
}

/// When the programs stopped collecting because the budget was exceeded; `None` if they did not.
///
/// # Errors
/// Its maps cannot be read.
pub fn stopped_by_budget(session: &Session) -> Result<Option<Moment>, DatabaseError> {
    let (control, state) = (session.control()?, session.state()?);
    if control.collecting != 0 || control.over_budget != OverBudget::Stop as u32 || state.over_budget_at_ns == 0 {
        return Ok(None);
    }
    let now = Moment::now();
    let monotonic_ms = state.over_budget_at_ns / 1_000_000;
    Ok(Some(Moment {
        unix_s: now
            .unix_s
            .saturating_sub(now.monotonic_ms.saturating_sub(monotonic_ms) / 1000),
        monotonic_ms,
    }))
}

/// What a reader is to know of sampling and the budget.
///
/// # Errors
/// Its maps cannot be read.
pub fn limit_notes(session: &Session) -> Result<Vec<String>, DatabaseError> {
    let mut notes = Vec::new();
    let pid = session.file.target.pid;
    let budget = session.file.limits.max_cpu.unwrap_or(0);
    if let Some(at) = stopped_by_budget(session)? {
        let ago = Moment::now().monotonic_ms.saturating_sub(at.monotonic_ms) / 1000;
        notes.push(format!(
            "collection was stopped {ago} s ago: it cost more than its budget of {budget} % of one CPU; its probes \
             are taken out by now, `memscope start {pid}` goes on"
        ));
    }
    let sample_bytes = session.control()?.sample_bytes;
    if sample_bytes != 0 {
        let since = match session.state()?.over_budget_at_ns {
            0 => String::new(),
            ns => format!(
                " since it cost more than its budget of {budget} % of one CPU, {} s ago",
                Moment::now().monotonic_ms.saturating_sub(ns / 1_000_000) / 1000
            ),
        };
        notes.push(format!(
            "collection samples{since}: one block in {sample_bytes} bytes allocated is recorded; counts are of those"
        ));
    }
    Ok(notes)
}

/// What a reader is to know of code that found no room in the unwind tables.
#[must_use]
pub fn room_notes(left_out: &LeftOut) -> Vec<String> {
    let mut notes = Vec::new();
    if left_out.mappings > 0 {
        notes.push(format!(
            "{} executable mappings without unwind tables, the smallest, were left out: the unwinder's table holds \
             {MAX_MAPPINGS} in all; stacks that lead into them end there",
            left_out.mappings
        ));
    }
    if !left_out.images.is_empty() {
        notes.push(format!(
            "no room for the unwind tables of {}: stacks go through that code by frame pointer, or end there",
            left_out.images.join(", ")
        ));
    }
    notes
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
