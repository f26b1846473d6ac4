//! What a session is at this moment: collecting, stopped, exited, replaced; since when; with which gaps.

use memscope_ebpf::state::OverBudget;

use crate::database::clock::monotonic_ns;
use crate::database::error::DatabaseError;
use crate::database::session::Session;
use crate::database::session_file::{Moment, Run};
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
    let target = Target {
        id: session.file.target,
    };
    if !target.is_alive() {
        return Ok(CollectionState::Exited);
    }
    if session.control()?.collecting != 0 {
        return Ok(CollectionState::Collecting);
    }
    // Nobody watches for an exec meanwhile.
    Ok(if runs_another_program(session, &target) {
        CollectionState::Replaced
    } else {
        CollectionState::Stopped
    })
}

/// Whether the target is known to run another program than the one that the database was made for.
#[must_use]
pub fn runs_another_program(session: &Session, target: &Target) -> bool {
    let program = session.file.program;
    program.is_some_and(|program| program.was_replaced(target))
}

/// The collection as reports show it.
///
/// # Errors
/// Its maps cannot be read.
pub fn collection(session: &Session) -> Result<Collection, DatabaseError> {
    let state = state(session)?;
    let runs = runs(session)?;
    let collected_ms = collected_ms(&runs, open_end_ms(session, state)?);
    Ok(Collection {
        state,
        since_unix_s: runs.first().map(|run| run.from.unix_s),
        seconds: collected_ms / 1000,
    })
}

/// Until when blocks have been collected: now, the stop, or the target's end; milliseconds of CLOCK_MONOTONIC. `None` if they
/// never were.
///
/// # Errors
/// Its maps cannot be read.
pub fn collected_until_ms(session: &Session) -> Result<Option<u64>, DatabaseError> {
    let end_ms = open_end_ms(session, state(session)?)?;
    let runs = runs(session)?;
    Ok(runs.last().map(|run| run.to.map_or(end_ms, |to| to.monotonic_ms)))
}

/// When a run without an end of its own ends.
fn open_end_ms(session: &Session, state: CollectionState) -> Result<u64, DatabaseError> {
    let kernel = session.state()?;
    Ok(match state {
        CollectionState::Collecting => monotonic_ns() / 1_000_000,
        CollectionState::Exited => kernel.thread_exit_at_ns / 1_000_000,
        CollectionState::Replaced => kernel.exec_at_ns / 1_000_000,
        CollectionState::Stopped => 0,
    })
}

/// How long all runs lasted together.
fn collected_ms(runs: &[Run], open_end_ms: u64) -> u64 {
    let lasted = |run: &Run| {
        let end_ms = run.to.map_or(open_end_ms, |to| to.monotonic_ms);
        end_ms.saturating_sub(run.from.monotonic_ms)
    };
    runs.iter().map(lasted).sum()
}

/// Times between runs: what was allocated or freed in them was not seen.
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

/// The last moment at which the blocks of a target that has ended were watched: the end of the last run, or the exit of its
/// last thread. `None` if it never ran.
///
/// # Errors
/// Its maps cannot be read.
pub fn last_watched_ms(session: &Session) -> Result<Option<u64>, DatabaseError> {
    let exit_ms = session.state()?.thread_exit_at_ns / 1_000_000;
    let stopped_ms = runs(session)?.last().and_then(|run| run.to).map(|to| to.monotonic_ms);
    Ok(stopped_ms.or((exit_ms != 0).then_some(exit_ms)))
}

/// Whether collection ran until the end of a target that is no more.
///
/// # Errors
/// Its maps cannot be read.
pub fn was_watched_to_its_end(session: &Session) -> Result<bool, DatabaseError> {
    Ok(runs(session)?.last().is_some_and(|run| run.to.is_none()))
}

/// When a target that is no more ended, milliseconds of CLOCK_MONOTONIC: the last exit of a thread while collection ran, or
/// else when it was first found to have ended. `None` if that is still to be noted.
///
/// # Errors
/// Its maps cannot be read.
pub fn end_ms(session: &Session) -> Result<Option<u64>, DatabaseError> {
    let exit_ms = session.state()?.thread_exit_at_ns / 1_000_000;
    Ok(if was_watched_to_its_end(session)? && exit_ms != 0 {
        Some(exit_ms)
    } else {
        session.file.found_ended.map(|moment| moment.monotonic_ms)
    })
}

/// The runs as they really were: see `SessionFile::runs`.
fn runs(session: &Session) -> Result<Vec<Run>, DatabaseError> {
    let mut runs = session.file.runs.clone();
    forget_false_starts(&mut runs);
    let stopped_by_us = session.control()?.collecting == 0 && session.state()?.exec_at_ns == 0;
    let stopped_by_budget = stopped_by_budget(session)?;
    let blind = blind_since(session)?;
    match runs.last_mut() {
        Some(last) if last.to.is_none() && stopped_by_budget.is_some() => last.to = stopped_by_budget,
        Some(last) if blind.is_some() && !stopped_by_us => last.to = blind,
        Some(last) if !stopped_by_us => last.to = None,
        Some(last) if last.to.is_none() => drop(runs.pop()),
        _ => {}
    }
    Ok(runs)
}

/// Takes out starts that were killed before they began: only the last run can be open.
fn forget_false_starts(runs: &mut Vec<Run>) {
    let mut left = runs.len();
    runs.retain(|run| {
        left -= 1;
        left == 0 || run.to.is_some()
    });
}

/// When the last run saw no more, though it was not stopped: at the exit of the thread that the probes were bound to, with
/// which the kernel took them out while others went on. `None` if that has not happened.
///
/// # Errors
/// Its maps cannot be read.
pub fn blind_since(session: &Session) -> Result<Option<Moment>, DatabaseError> {
    let at_ns = session.state()?.bound_exit_at_ns;
    Ok((at_ns != 0).then(|| Moment::at(at_ns / 1_000_000)))
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
    Ok(Some(Moment::at(state.over_budget_at_ns / 1_000_000)))
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
    if let Some(why) = &session.file.unwatched {
        notes.push(format!(
            "blocks of code that was loaded since the start are not seen: {why}"
        ));
    }
    if let Some(sampling) = session.sampling()? {
        let since_ms = sampling.since_ns.map(|ns| ns / 1_000_000);
        let for_s = since_ms.map(|ms| Moment::now().monotonic_ms.saturating_sub(ms) / 1000);
        notes.push(sampling_note(sampling.bytes, budget, for_s));
    }
    Ok(notes)
}

/// What sampling means for a report, whichever it is: entries are blocks that were recorded, call sites are told by estimates.
/// `for_s`: since how many seconds, if the budget brought it on.
fn sampling_note(bytes: u64, budget: u32, for_s: Option<u64>) -> String {
    let since = for_s.map_or_else(String::new, |seconds| {
        format!(" since it cost more than its budget of {budget} % of one CPU, {seconds} s ago")
    });
    format!(
        "collection samples{since}: one block in {bytes} bytes allocated is recorded; entries are of those, figures by \
         call site are estimates of all"
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn run(from_s: u64, to_s: Option<u64>) -> Run {
        let at = |s: u64| Moment {
            unix_s: 1_700_000_000 + s,
            monotonic_ms: s * 1000,
        };
        Run {
            from: at(from_s),
            to: to_s.map(at),
        }
    }

    /// `print` shows entries, `report` and metrics show estimates; the note stands in all of them.
    #[test]
    fn the_note_of_sampling_is_true_of_entries_and_of_call_sites() {
        assert_eq!(
            sampling_note(65_536, 0, None),
            "collection samples: one block in 65536 bytes allocated is recorded; entries are of those, figures by call site \
             are estimates of all"
        );
        assert_eq!(
            sampling_note(524_288, 5, Some(61)),
            "collection samples since it cost more than its budget of 5 % of one CPU, 61 s ago: one block in 524288 bytes \
             allocated is recorded; entries are of those, figures by call site are estimates of all"
        );
    }

    #[test]
    fn a_time_without_collection_is_no_time_of_collection() {
        assert_eq!(collected_ms(&[], 5_000), 0);
        assert_eq!(collected_ms(&[run(100, None)], 110_000), 10_000);
        // Ten seconds, an hour's stop, three seconds so far.
        let stopped_for_an_hour = [run(100, Some(110)), run(3710, None)];
        assert_eq!(collected_ms(&stopped_for_an_hour, 3_713_000), 13_000);
        assert_eq!(collected_ms(&[run(100, Some(110)), run(3710, Some(3720))], 0), 20_000);
    }

    #[test]
    fn a_start_that_was_killed_before_it_began_is_no_run() {
        let mut runs = vec![run(10, Some(20)), run(100, None), run(200, None)];
        forget_false_starts(&mut runs);
        assert_eq!(runs, [run(10, Some(20)), run(200, None)]);
        assert_eq!(collected_ms(&runs, 230_000), 40_000);
        forget_false_starts(&mut runs);
        assert_eq!(runs.len(), 2);
    }
}
