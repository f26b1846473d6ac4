//! The lines after a report that say what it cannot show: losses, gaps, and a collection that no longer runs.

use std::collections::BTreeMap;

use memscope_ebpf::counter::Counter;

use super::model::{CollectionState, DatabaseReport, Gap};
use super::sites::SitesReport;
use crate::suppress::apply::Applied;

/// Every note of a report, in the order they are printed, without the `note: ` before them: what the entries shown may
/// hide first, then losses, then the report's own [`DatabaseReport::notes`].
#[must_use]
pub fn lines(report: &DatabaseReport) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(state_line(report.collection.state).map(str::to_owned));
    for gap in &report.gaps {
        let doubtful = report.entries.iter().filter(|entry| gap.doubts(entry)).count();
        let before = match doubtful {
            0 => String::new(),
            _ => format!(
                "; {doubtful} entries at least {} seconds old were born before that",
                gap.ended_ms_ago.saturating_add(gap.lasted_ms) / 1000
            ),
        };
        lines.push(format!("{}{before}", of_gap(gap)));
    }
    lines.extend(of_losses(&report.losses));
    lines.extend(of_suppressions(&report.suppressed));
    lines.extend(report.notes.iter().cloned());
    lines
}

/// What rules keep from being printed, one line a rule; those that matched nothing in one line.
fn of_suppressions(suppressed: &Applied) -> Vec<String> {
    let mut lines: Vec<String> = suppressed
        .used()
        .map(|(rule, hidden)| {
            format!(
                "{} entries of {} sites, {} bytes, are suppressed by {} ({}:{})",
                hidden.live.blocks, hidden.sites, hidden.live.bytes, rule.pattern, rule.origin, rule.line
            )
        })
        .collect();
    let unused: Vec<String> = suppressed
        .unused()
        .map(|(rule, _)| format!("{} ({}:{})", rule.pattern, rule.origin, rule.line))
        .collect();
    if !unused.is_empty() {
        lines.push(format!("suppressions that matched nothing: {}", unused.join(", ")));
    }
    lines
}

/// Every note of a report by site: what its verdicts cannot know.
#[must_use]
pub fn of_sites(report: &SitesReport) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(state_line(report.collection.state).map(str::to_owned));
    let judged = |gap| format!("{}, and only what was born since is judged", of_gap(gap));
    lines.extend(report.gaps.iter().map(judged));
    lines.extend(of_losses(&report.losses));
    let missed = report.events.get(Counter::MissedFree.key());
    lines.extend(missed.map(|count| format!("{count} {}", Counter::MissedFree.text())));
    lines.extend(report.notes.iter().cloned());
    lines
}

/// What a gap hides, whatever is alive: what was born in it is in no report.
fn of_gap(gap: &Gap) -> String {
    format!(
        "collection was stopped for {} s until {} s ago: allocations and frees in that time were not seen",
        gap.lasted_ms.div_ceil(1000),
        gap.ended_ms_ago / 1000
    )
}

/// Losses, one line each, in the order of their counters.
fn of_losses(losses: &BTreeMap<&'static str, u64>) -> Vec<String> {
    let known = Counter::ALL
        .iter()
        .filter_map(|counter| Some((*losses.get(counter.key())?, counter.text())));
    let foreign = losses
        .iter()
        .filter(|(key, _)| Counter::ALL.iter().all(|counter| counter.key() != **key))
        .map(|(key, count)| (*count, *key));
    known
        .chain(foreign)
        .map(|(count, text)| format!("{count} {text}"))
        .collect()
}

const fn state_line(state: CollectionState) -> Option<&'static str> {
    match state {
        CollectionState::Collecting => None,
        CollectionState::Stopped => {
            Some("collection is stopped: what was freed or allocated since is not in this report")
        }
        CollectionState::Exited => Some("the target has exited: these are the blocks it held then"),
        CollectionState::Replaced => {
            Some("the target has replaced its image by exec: the blocks of the old image are gone")
        }
    }
}
