//! Buffers that grow by reallocation: without end, until they are full, or again and again.

use super::model::Stream;
use super::streams::buffer;
use crate::verdict::{Judgement, Need, Reason, Verdict};

/// Every 15 s, as a cron job that is in a hurry.
const REPORTS: [u64; 8] = [8_000, 23_000, 38_000, 53_000, 68_000, 83_000, 98_000, 113_000];

/// Filled steadily, it grows by a factor when it is full.
fn vector(from: u64, until: u64, factor: f64) -> Vec<(u64, u64)> {
    let mut sizes = Vec::new();
    let mut at = 100.0;
    while from as f64 + at < until as f64 {
        sizes.push((from + at as u64, at as u64));
        at *= factor;
    }
    sizes
}

fn steps(every: u64, until: u64) -> Vec<(u64, u64)> {
    (1..until / every).map(|step| (step * every, step * 4096)).collect()
}

fn watched(stream: &Stream) -> Vec<Judgement> {
    stream.watch(&REPORTS)
}

fn last(stream: &Stream) -> Judgement {
    watched(stream)[REPORTS.len() - 1]
}

fn is_accused(stream: &Stream) -> bool {
    watched(stream)
        .iter()
        .any(|judgement| judgement.verdict == Verdict::Leaking)
}

#[test]
fn one_that_grows_on_is_found() {
    for sizes in [
        steps(500, 120_000),
        steps(5000, 120_000),
        vector(0, 120_000, 1.125),
        vector(0, 120_000, 1.25),
        vector(20_000, 120_000, 1.125),
    ] {
        let judgement = last(&buffer(sizes));
        assert_eq!(judgement.reason, Reason::GrowingContainer, "{judgement:?}");
        assert_eq!(judgement.verdict, Verdict::Leaking);
    }
}

#[test]
fn one_that_has_ended_is_not_accused_and_said_to_have_ended() {
    for until in [15_000, 30_000, 45_000] {
        for sizes in [steps(500, until), steps(2000, until), vector(0, until, 1.125)] {
            let ended = buffer(sizes);
            assert!(!is_accused(&ended), "{until}: {:?}", watched(&ended));
            let judgement = last(&ended);
            assert!(
                matches!(judgement.verdict, Verdict::Cache | Verdict::Startup),
                "{until}: {judgement:?}"
            );
            assert!(!judgement.grows);
        }
    }
}

#[test]
fn one_found_is_taken_back_once_its_growth_is_overdue() {
    let ended = watched(&buffer(steps(500, 84_000)));
    assert_eq!(ended[5].verdict, Verdict::Leaking, "{:?}", ended[5]);
    assert!(
        matches!(ended[6].reason, Reason::Stopped { silent_ms } if silent_ms > 14_000),
        "{:?}",
        ended[6]
    );
}

/// A table that doubles until all it is to hold is in it cannot be told from one that doubles on.
#[test]
fn one_that_doubles_is_not_accused_for_the_few_times_it_did() {
    for until in [20_000, 60_000, 100_000, 120_000] {
        let doubling = buffer(vector(0, until, 2.0));
        assert!(!is_accused(&doubling), "{until}: {:?}", watched(&doubling));
    }
    // Grown four times as long as that ago, it would have doubled twice.
    assert_eq!(last(&buffer(vector(0, 20_000, 2.0))).reason, Reason::BornEarly);
    let growing = last(&buffer(vector(0, 120_000, 2.0)));
    assert_eq!(
        growing.reason.to_string(),
        "needs a later report: does this buffer still grow?"
    );
    assert!(growing.grows, "it keeps a database from being called clean");
}

/// However seldom reports look: a table that holds all it is to hold after its last doubling looks the same.
#[test]
fn one_that_doubles_is_undecided_between_reports_far_apart_too() {
    let doubling = buffer(vector(0, 120_000, 2.0));
    for reports in [
        &[6_000, 80_000][..],
        &[54_000, 72_000],
        &[2_000, 4_500, 9_000, 18_000, 36_000, 72_000],
    ] {
        let judgement = doubling.judge(110_000, reports);
        assert_eq!(judgement.verdict, Verdict::Undecided, "{reports:?}: {judgement:?}");
        assert!(judgement.grows);
    }
    let table = buffer(vector(0, 11_000_000, 2.0));
    let judged = table.watch(&[120_000, 7_200_000, 11_900_000]);
    assert!(
        judged.iter().all(|judgement| judgement.verdict != Verdict::Leaking),
        "{judged:?}"
    );
}

/// Its doublings come as fast as its load: seconds tell nothing of how much it grows at each.
#[test]
fn one_that_doubles_under_a_load_that_came_late_is_not_accused() {
    for (load, lasts) in [(90_000, 30_000), (60_000, 60_000), (100_000, 15_000)] {
        let mut sizes: Vec<(u64, u64)> = (1..=6).map(|step| (step * 1_000, step * 16)).collect();
        sizes.extend((0..11).map(|step| (load + (lasts >> (10 - step)), 128 << step)));
        let table = buffer(sizes);
        for every in [3_000, 5_000, 15_000, 20_000] {
            let reports: Vec<u64> = (1..=120_000 / every).map(|number| number * every + 400).collect();
            let judged = table.watch(&reports);
            assert!(
                judged.iter().all(|judgement| judgement.verdict != Verdict::Leaking),
                "{load} {every}: {judged:?}"
            );
        }
    }
}

#[test]
fn one_that_began_seconds_ago_has_not_ended_yet() {
    let late = buffer((0..6).map(|step| (100_500 + step * 600, 4096 << step)));
    let judgement = late.judge(115_000, &[70_000, 85_000, 100_000]);
    assert_eq!(judgement.verdict, Verdict::Undecided, "{judgement:?}");
    assert!(judgement.grows);
}

#[test]
fn a_report_at_which_nothing_was_alive_shows_that_it_is_not_one_buffer() {
    let mut stream = buffer((1..=12).map(|step| (step * 2_000, step * 64)));
    stream.0.last_mut().expect("a block").died = 40_000;
    let again = buffer((1..=12).map(|step| (60_000 + step * 2_000, step * 640)));
    stream.0.extend(again.0);
    let reports = [10_000, 30_000, 50_000];
    let mut past: Vec<_> = reports.iter().map(|at| stream.point(*at)).collect();
    // As a snapshot has it.
    past[2].allocated = crate::report::sites::Amount::default();
    let judgement = stream.judge_by(120_000, &past);
    assert!(
        !judgement.reason.is_container() && !matches!(judgement.reason, Reason::Needs(Need::Growth { .. })),
        "{judgement:?}"
    );
}

#[test]
fn buffers_of_requests_are_no_container_whatever_reports_happen_to_see() {
    let mut stream = Stream::default();
    // Each grows to 16 times what it began with; reports see ever larger ones of them.
    for request in 0..1200_u64 {
        let at = request * 100;
        (0..5).for_each(|doubling| stream.add(at + doubling * 20, at + doubling * 20 + 20, 64 << doubling));
    }
    let seen = [8_005, 23_025, 38_045, 53_065, 68_085];
    let judged = stream.watch(&seen);
    assert!(
        judged.iter().all(|judgement| judgement.verdict != Verdict::Leaking),
        "{judged:?}"
    );
    assert_eq!(judged[4].reason, Reason::YoungOnly);
}

#[test]
fn what_a_look_alone_sees_needs_another() {
    let judgement = buffer(steps(500, 120_000)).judge(113_000, &[]);
    assert_eq!(
        judgement.reason,
        Reason::Needs(Need::Growth { grew_lately: true }),
        "{judgement:?}"
    );
}

#[test]
fn one_that_doubled_late_and_ended_is_measured_by_its_own_time() {
    let table = buffer(vector(1_000_000, 1_300_000, 2.0));
    let reports: Vec<u64> = (1..=30).map(|minute| minute * 60_000).collect();
    let judged = table.watch(&reports);
    assert!(
        judged.iter().all(|judgement| judgement.verdict != Verdict::Leaking),
        "{judged:?}"
    );
    assert!(matches!(judged[29].reason, Reason::Stopped { .. }), "{:?}", judged[29]);
}

/// A snapshot does not hold what had been allocated by a site of which nothing was alive.
#[test]
fn one_that_grows_after_others_came_and_went_is_not_said_to_have_stopped() {
    let mut stream = Stream::default();
    (0..10_000).for_each(|request| stream.add(request * 6, request * 6 + 3, 64));
    let sizes: Vec<(u64, u64)> = (0..28).map(|step| (63_000 + step * 5_000, 4096 * (step + 1))).collect();
    stream.0.extend(buffer(sizes).0);
    let reports = [62_000, 77_000, 100_000, 140_000, 170_000, 200_000];
    let mut past: Vec<_> = reports[..5].iter().map(|at| stream.point(*at)).collect();
    past[0].allocated = crate::report::sites::Amount::default();
    let judgement = stream.judge_by(200_000, &past);
    assert!(
        matches!(judgement.verdict, Verdict::Leaking | Verdict::Undecided) && judgement.grows,
        "{judgement:?}"
    );
}
