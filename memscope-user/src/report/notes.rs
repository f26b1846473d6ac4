//! The lines after a report that say what it cannot show: losses, gaps, and a collection that no longer runs.

use memscope_ebpf::counter::Counter;

use super::model::{CollectionState, DatabaseReport};

/// Every note of a report, in the order they are printed, without the `note: ` before them: what the entries shown may
/// hide first, then losses, then the report's own [`DatabaseReport::notes`].
#[must_use]
pub fn lines(report: &DatabaseReport) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(state_line(report.collection.state).map(str::to_owned));
    for gap in &report.gaps {
        let doubtful = report.entries.iter().filter(|entry| gap.doubts(entry)).count();
        if doubtful > 0 {
            let (lasted, ended) = (gap.lasted_ms.div_ceil(1000), gap.ended_ms_ago / 1000);
            lines.push(format!(
                "{doubtful} entries at least {} seconds old were born before collection was stopped for {lasted} s \
                 ({ended} s ago it started again): frees in that time were not seen",
                gap.ended_ms_ago.saturating_add(gap.lasted_ms) / 1000,
            ));
        }
    }
    let known = Counter::ALL
        .iter()
        .filter_map(|counter| Some((counter.key(), *report.losses.get(counter.key())?, counter.text())));
    lines.extend(known.map(|(_, count, text)| format!("{count} {text}")));
    let foreign = report
        .losses
        .iter()
        .filter(|(key, _)| Counter::ALL.iter().all(|counter| counter.key() != **key));
    lines.extend(foreign.map(|(key, count)| format!("{count} {key}")));
    lines.extend(report.notes.iter().cloned());
    lines
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
