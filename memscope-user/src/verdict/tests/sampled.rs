//! Databases that began to be sampled on the way: that a sample is empty takes no leak back.

use super::database::{leak, report};
use super::model::Stream;
use super::streams::buffer;
use crate::report::model::SiteId;
use crate::report::sites::{Amount, Sampled, Sampling, SitesReport};
use crate::verdict::{Found, Ground, Judgement, Need, PastPoint, PastSites, Reason, Verdict, judge_database};

const FOUND: Found = Found {
    ground: Ground::SteadySurvivors,
    first_ms: 70_000,
    confirmed_ms: 90_000,
    permille: 900,
};

struct Known {
    found: Option<Found>,
    points: Vec<PastPoint>,
}

impl PastSites for Known {
    fn of(&self, _: SiteId) -> Vec<PastPoint> {
        self.points.clone()
    }

    fn found(&self, _: SiteId) -> Option<Found> {
        self.found
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
    let points = Vec::new();
    judge_database(report, &Known { found, points }).judgements[0]
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
fn what_a_few_recorded_blocks_stand_for_makes_no_leak_surer() {
    let recorded = |blocks| {
        let mut report = report(&[&leak(64)]);
        report.sampling = Some(Sampling {
            sample_bytes: 4096,
            since_ms: Some(report.window.start + 20_000),
        });
        let live = report.sites[0].live;
        report.sites[0].sampled = Some(Sampled {
            recorded: Amount {
                blocks,
                bytes: blocks * 64,
            },
            estimated: live,
            bytes_error: 0,
        });
        report
    };
    let (few, all) = (judged(&recorded(40), None), judged(&recorded(1200), None));
    assert_eq!((few.verdict, all.verdict), (Verdict::Leaking, Verdict::Leaking));
    assert!(
        few.evidence.confidence < all.evidence.confidence - 0.1,
        "{few:?} {all:?}"
    );
    let mut missed = recorded(40);
    missed.events.insert("missed_free", 50);
    assert_eq!(judged(&missed, None).reason, Reason::Needs(Need::SeenFrees));
}

#[test]
fn an_end_that_the_sample_would_have_shown_takes_the_leak_back() {
    // Of blocks that are nearly all sampled.
    let judgement = judged(&thinned(&leak(1 << 20), 91_000), Some(FOUND));
    assert_eq!(judgement.verdict, Verdict::Cache, "{judgement:?}");
    assert!(matches!(judgement.reason, Reason::Stopped { .. }), "{judgement:?}");
    assert_eq!(judgement.found, None);
}

/// Of two blocks one grew, and was replaced by one that is not in the sample: what is left is the other, and no end of growth.
#[test]
fn the_block_beside_a_buffer_that_grows_unseen_is_no_buffer_that_has_ended() {
    let vector = buffer((1..168).map(|step| (step * 500, step * 65_536)));
    let beside = |mut point: PastPoint| {
        point.live.add(1, 1 << 30);
        point.allocated.add(1, 1 << 30);
        point
    };
    let known = Known {
        found: None,
        points: [8_000, 23_000, 38_000, 53_000, 68_000, 83_000, 98_000]
            .map(|at| beside(vector.point(at)))
            .to_vec(),
    };
    let mut report = thinned(&vector, 100_000);
    let site = &mut report.sites[0];
    // The large one is left, the buffer's last block is not.
    site.allocated.add(1, 1 << 30);
    site.live = Amount {
        blocks: 1,
        bytes: 1 << 30,
    };
    let judgement = judge_database(&report, &known).judgements[0];
    assert!(matches!(judgement.reason, Reason::Needs(_)), "{judgement:?}");
}

/// A buffer that was replaced unseen is no longer there: the one that is there has not grown.
#[test]
fn a_buffer_that_has_ended_is_not_held_back_by_a_sample() {
    let vector = buffer((1..168).map(|step| (step * 500, step * 65_536)));
    let known = Known {
        found: Some(Found {
            ground: Ground::GrowingContainer,
            first_ms: 68_000,
            confirmed_ms: 83_000,
            permille: 900,
        }),
        points: [8_000, 23_000, 38_000, 53_000, 68_000, 83_000, 98_000]
            .map(|at| vector.point(at))
            .to_vec(),
    };
    let judgement = judge_database(&thinned(&vector, 100_000), &known).judgements[0];
    assert!(matches!(judgement.reason, Reason::Stopped { .. }), "{judgement:?}");
    assert_eq!(judgement.found, None);
}
