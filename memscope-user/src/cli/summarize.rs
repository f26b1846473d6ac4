//! From a session to the model of `report` and `check`: read, judged with what earlier runs saw, and remembered for later
//! ones.

use std::collections::BTreeMap;

use super::run::{CommandError, complain};
use super::verdict_arguments::SpanArguments;
use crate::collection::memory_use::resident;
use crate::collection::site_reading::read_sites_born;
use crate::database::session::Session;
use crate::history::store::{self, PastOf};
use crate::history::{Snapshot, Span};
use crate::report::model::CollectionState;
use crate::report::sites::SitesReport;
use crate::report::summary::{FirstMemory, Memory, Previous, Summary};
use crate::target::process::Target;
use crate::verdict::judge_database;

/// Reads and judges a session.
///
/// # Errors
/// A map cannot be read; a mark is not there.
pub fn summarize(session: &Session, span: &SpanArguments) -> Result<Summary, CommandError> {
    let span = span.of(session)?;
    let report = read_sites_born(session, &span)?;
    let target = Target {
        id: session.file.target,
    };
    let resident = resident(&target);
    let snapshots = store::load(&session.paths);
    let mut summary = summary(session, report, &span, &snapshots);
    summary.memory.resident = resident;
    if span.is_whole() && summary.report.collection.state == CollectionState::Collecting {
        let snapshot = Snapshot::of(&summary.report, session.state()?.last_number, resident);
        // A report that cannot be remembered is a report all the same.
        if let Err(error) = store::save(&session.paths, &snapshot) {
            complain(&error);
        }
    }
    Ok(summary)
}

fn summary(session: &Session, report: SitesReport, span: &Span, snapshots: &[Snapshot]) -> Summary {
    let now = report.at_monotonic_ms;
    let ago = |snapshot: &Snapshot| now.saturating_sub(snapshot.at.monotonic_ms) / 1000;
    // Of what was alive at a report, it is not known how much was born in a span.
    let (judged, previous) = if span.is_whole() {
        let previous = snapshots.last().map(|last| Previous {
            seconds_ago: ago(last),
            live: last.sites.iter().map(|(site, totals)| (*site, totals.live)).collect(),
            complete: last.complete,
        });
        (judge_database(&report, &PastOf::new(snapshots, &report)), previous)
    } else {
        (judge_database(&report, &()), None)
    };
    let first = snapshots.iter().find_map(|snapshot| {
        Some(FirstMemory {
            resident: snapshot.resident?,
            tracked: snapshot.total_live().bytes,
            seconds_ago: ago(snapshot),
        })
    });
    let mut allocators: BTreeMap<String, usize> = BTreeMap::new();
    for call in &session.file.calls {
        *allocators.entry(call.allocator.clone()).or_insert(0) += 1;
    }
    Summary {
        judged,
        memory: Memory {
            resident: None,
            first: if span.is_whole() { first } else { None },
        },
        previous,
        allocators,
        span: span.text(),
        report,
    }
}
