//! Databases that began to be sampled on the way: that a sample is empty takes no leak back.

use super::database::{leak, report};
use super::model::Stream;
use crate::report::model::SiteId;
use crate::report::sites::{Sampling, SitesReport};
use crate::verdict::{Found, Ground, Judgement, PastPoint, PastSites, Reason, Verdict, judge_database};

const FOUND: Found = Found {
    ground: Ground::SteadySurvivors,
    first_ms: 70_000,
    confirmed_ms: 90_000,
    permille: 900,
};

struct Known(Option<Found>);

impl PastSites for Known {
    fn of(&self, _: SiteId) -> Vec<PastPoint> {
        Vec::new()
    }

    fn found(&self, _: SiteId) -> Option<Found> {
        self.0
    }
}

/// Sampled so thinly since a moment that nothing of it is in the sample.
fn thinned(stream: &Stream, since_ms: u64) -> SitesReport {
    let mut seen = stream.clone();
    seen.0.retain(|life| life.born < since_ms);
    let mut report = report(&[&seen]);
    report.sampling = Some(Sampling {
        sample_bytes: 512 << 10,
        since_ms: Some(report.window.start + since_ms),
    });
    report
}

fn judged(report: &SitesReport, found: Option<Found>) -> Judgement {
    judge_database(report, &Known(found)).judgements[0]
}

#[test]
fn a_leak_found_before_sampling_began_stands_though_the_sample_is_empty() {
    for since_ms in [85_000, 100_000, 112_000] {
        let judgement = judged(&thinned(&leak(64), since_ms), Some(FOUND));
        assert_eq!(judgement.verdict, Verdict::Leaking, "{since_ms}: {judgement:?}");
        assert!(judgement.reason.is_standing() && judgement.grows, "{judgement:?}");
        assert_eq!(judgement.found, Some(FOUND), "later reports are told of it");
    }
}

#[test]
fn what_grew_until_sampling_began_is_not_said_to_have_stopped_growing() {
    for since_ms in [40_000, 85_000, 112_000] {
        let judgement = judged(&thinned(&leak(64), since_ms), None);
        assert_eq!(judgement.verdict, Verdict::Undecided, "{since_ms}: {judgement:?}");
        assert!(judgement.grows, "{since_ms}: {judgement:?}");
    }
    // Born in the first two seconds.
    let mut started = leak(64);
    started.0.retain(|life| life.born < 2_000);
    let judgement = judged(&thinned(&started, 60_000), None);
    assert!(!judgement.grows, "{judgement:?}");
}

#[test]
fn an_end_that_the_sample_would_have_shown_takes_the_leak_back() {
    // Of blocks that are nearly all sampled.
    let judgement = judged(&thinned(&leak(1 << 20), 91_000), Some(FOUND));
    assert_eq!(judgement.verdict, Verdict::Cache, "{judgement:?}");
    assert!(matches!(judgement.reason, Reason::Stopped { .. }), "{judgement:?}");
    assert_eq!(judgement.found, None);
}
