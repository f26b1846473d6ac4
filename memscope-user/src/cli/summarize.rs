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
use crate::report::unsample::{Factor, of_the_past, unsample};
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
    unsample(&mut report, &mut judged);
    let previous = snapshots
        .last()
        .filter(|_| span.is_whole())
        .map(|last| previous(last, &report));
    let first = first_memory(snapshots, &report).filter(|_| span.is_whole());
    let mut allocators: BTreeMap<String, usize> = BTreeMap::new();
    for call in &session.file.calls {
        *allocators.entry(call.allocator.clone()).or_insert(0) += 1;
    }
    Summary {
        judged,
        memory: Memory {
            resident: None,
            first,
            with_regions: session.file.capacities.regions != 0,
        },
        previous,
        allocators,
        span: span.text(),
        cost: None,
        suppressed,
        report,
    }
}

fn seconds_ago(snapshot: &Snapshot, report: &SitesReport) -> u64 {
    report.at_monotonic_ms.saturating_sub(snapshot.at.monotonic_ms) / 1000
}

/// The first report at which the target's memory is known.
fn first_memory(snapshots: &[Snapshot], report: &SitesReport) -> Option<FirstMemory> {
    let sampled = report.sites.iter().filter_map(|site| site.sampled).reduce(Sampled::and);
    snapshots.iter().find_map(|snapshot| {
        Some(FirstMemory {
            resident: snapshot.resident?,
            tracked: of_the_past(report, sampled).apply(snapshot.total_live()).bytes,
            seconds_ago: seconds_ago(snapshot, report),
        })
    })
}

/// The last report. Where blocks are sampled from the start it holds what was recorded, and what that stands for now is taken
/// for then, too.
fn previous(last: &Snapshot, report: &SitesReport) -> Previous {
    let factors: BTreeMap<_, _> = report
        .sites
        .iter()
        .map(|site| (site.id, of_the_past(report, site.sampled)))
        .collect();
    let live = last.sites.iter().map(|(site, totals)| {
        let factor = factors.get(site).copied().unwrap_or(Factor::ONE);
        (*site, factor.apply(totals.live))
    });
    Previous {
        seconds_ago: seconds_ago(last, report),
        live: live.collect(),
        complete: last.complete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::session_file::Moment;
    use crate::history::Totals;
    use crate::report::model::SiteId;
    use crate::report::samples::{site_stack, sites_report};
    use crate::report::sites::{Amount, Sampling, SiteFigures};

    const SITE: SiteId = SiteId(1);

    fn amount(blocks: u64, bytes: u64) -> Amount {
        Amount { blocks, bytes }
    }

    /// Read at 320 s: 200 blocks recorded, estimated at 100 000.
    fn sampled_report(since_ms: Option<u64>) -> SitesReport {
        let mut report = sites_report(320_000);
        report.at_monotonic_ms = 320_000;
        report.sampling = Some(Sampling {
            sample_bytes: 512 << 10,
            since_ms,
        });
        let mut site = SiteFigures::empty(SITE, site_stack("work"));
        site.live = amount(100_000, 100_000_000);
        site.sampled = Some(Sampled {
            recorded: amount(200, 200_000),
            estimated: site.live,
            bytes_error: 1,
        });
        report.sites.push(site);
        report
    }

    fn snapshot(live: Amount) -> Snapshot {
        Snapshot {
            at: Moment {
                unix_s: 1,
                monotonic_ms: 20_000,
            },
            last_number: 100,
            resident: Some(1 << 30),
            complete: true,
            window_start_ms: None,
            sites: [(
                SITE,
                Totals {
                    allocated: live,
                    live,
                    cohorts: None,
                    found: None,
                },
            )]
            .into(),
        }
    }

    #[test]
    fn a_snapshot_from_before_the_budget_brought_sampling_on_keeps_its_figures() {
        let report = sampled_report(Some(100_000));
        let then = snapshot(amount(50_000, 50_000_000));
        let previous = previous(&then, &report);
        assert_eq!(previous.live[&SITE], amount(50_000, 50_000_000));
        assert_eq!(previous.seconds_ago, 300);
        let first = first_memory(&[then], &report).unwrap();
        assert_eq!((first.tracked, first.seconds_ago), (50_000_000, 300));
    }

    #[test]
    fn a_snapshot_of_blocks_sampled_from_the_start_stands_for_as_much_as_today() {
        let report = sampled_report(None);
        let then = snapshot(amount(100, 100_000));
        assert_eq!(previous(&then, &report).live[&SITE], amount(50_000, 50_000_000));
        assert_eq!(first_memory(&[then], &report).unwrap().tracked, 50_000_000);
    }
}
