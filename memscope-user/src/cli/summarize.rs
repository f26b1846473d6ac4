//! From a session to the model of `report`, `check` and metrics: read, judged with what earlier runs saw and what
//! suppressions let be, and remembered for later ones.

use std::collections::BTreeMap;

use super::export::present_modules;
use super::run::{CommandError, complain};
use super::suppressions::SuppressionArguments;
use super::verdict_arguments::SpanArguments;
use crate::collection::cost;
use crate::collection::memory_use::resident;
use crate::collection::site_reading::read_sites_born;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::history::store::{self, PastOf};
use crate::history::{Snapshot, Span};
use crate::host::calibration::Calibration;
use crate::report::model::CollectionState;
use crate::report::sites::{Sampled, SitesReport};
use crate::report::summary::{FirstMemory, Memory, Previous, Summary};
use crate::report::unsample::{Factor, unsample};
use crate::suppress::apply::{Applied, apply};
use crate::target::identity::TargetId;
use crate::target::process::Target;
use crate::verdict::{JudgedDatabase, PastSites, judge_database_but};

/// Reads and judges a database.
///
/// # Errors
/// A map cannot be read; a mark is not there; a file of suppressions cannot be used.
pub fn summarize(
    roots: &Roots,
    id: TargetId,
    span: &SpanArguments,
    suppressions: &SuppressionArguments,
) -> Result<Summary, CommandError> {
    let session = Session::open(roots, id)?;
    let span = span.of(&session)?;
    let report = read_sites_born(&session, &span)?;
    let target = Target {
        id: session.file.target,
    };
    let resident = resident(&target);
    let last_number = session.state()?.last_number;
    let (rules, unread) = suppressions.rules(&session)?;
    let suppressed = apply(&rules, &report, present_modules(&session));
    let snapshots = store::load(&session.paths);
    let past = PastOf::new(&snapshots, &report);
    // Of what was alive at a report, it is not known how much was born in a span.
    let past: &dyn PastSites = if span.is_whole() { &past } else { &() };
    let judged = judge_database_but(&report, past, &|site| suppressed.hides(site));
    // What was recorded, not what it stands for: only that can be followed.
    let snapshot = Snapshot::of(&report, &judged, last_number, resident);
    let mut summary = summary(&session, (report, judged), suppressed, &span, &snapshots);
    // After the judgement: a rule that could not be read keeps nothing from being called clean.
    summary.report.notes.extend(unread);
    summary.memory.resident = resident;
    // Measuring this host takes a moment: `stats` does.
    summary.cost = cost::since_start(
        &session,
        summary.report.collection.seconds,
        Calibration::kept(roots).as_ref(),
    )?;
    if span.is_whole() && summary.report.collection.state == CollectionState::Collecting {
        // A report that cannot be remembered is a report all the same.
        if let Err(error) = store::save(&session.paths, &snapshot) {
            complain(&error);
        }
    }
    Ok(summary)
}

fn summary(
    session: &Session,
    (mut report, mut judged): (SitesReport, JudgedDatabase),
    suppressed: Applied,
    span: &Span,
    snapshots: &[Snapshot],
) -> Summary {
    let now = report.at_monotonic_ms;
    let ago = |snapshot: &Snapshot| now.saturating_sub(snapshot.at.monotonic_ms) / 1000;
    unsample(&mut report, &mut judged);
    let previous = snapshots
        .last()
        .filter(|_| span.is_whole())
        .map(|last| previous(last, &report, ago(last)));
    let all = Factor::of(report.sites.iter().filter_map(|site| site.sampled).reduce(Sampled::and));
    let first = snapshots.iter().find_map(|snapshot| {
        Some(FirstMemory {
            resident: snapshot.resident?,
            tracked: all.apply(snapshot.total_live()).bytes,
            seconds_ago: ago(snapshot),
        })
    });
    let first = first.filter(|_| span.is_whole());
    let mut allocators: BTreeMap<String, usize> = BTreeMap::new();
    for call in &session.file.calls {
        *allocators.entry(call.allocator.clone()).or_insert(0) += 1;
    }
    Summary {
        judged,
        memory: Memory { resident: None, first },
        previous,
        allocators,
        span: span.text(),
        cost: None,
        suppressed,
        report,
    }
}

/// The last report. It holds what was recorded; where blocks are sampled, what that stands for now is taken for then, too.
fn previous(last: &Snapshot, report: &SitesReport, seconds_ago: u64) -> Previous {
    let factors: BTreeMap<_, _> = report
        .sites
        .iter()
        .map(|site| (site.id, Factor::of(site.sampled)))
        .collect();
    let live = last.sites.iter().map(|(site, totals)| {
        let factor = factors.get(site).copied().unwrap_or(Factor::ONE);
        (*site, factor.apply(totals.live))
    });
    Previous {
        seconds_ago,
        live: live.collect(),
        complete: last.complete,
    }
}
