//! Whole databases judged.

use super::model::{FOREVER, Random, Stream};
use super::streams::buffer;
use crate::report::model::{CollectionState, Gap, SiteId};
use crate::report::quantity::Bytes;
use crate::report::samples;
use crate::report::sites::{Amount, Sampled, SiteFigures, SitesReport};
use crate::verdict::{Found, Need, Overall, PastPoint, PastSites, Reason, Verdict, judge_database};

const NOW: u64 = 120_000;

pub fn report(streams: &[&Stream]) -> SitesReport {
    let sites = streams
        .iter()
        .enumerate()
        .map(|(index, stream)| figures(index as u64 + 1, stream));
    SitesReport {
        sites: sites.collect(),
        ..samples::sites_report(NOW)
    }
}

fn figures(id: u64, stream: &Stream) -> SiteFigures {
    let now = stream.point(NOW);
    let alive = || {
        stream
            .0
            .iter()
            .filter(|life| life.born <= NOW && life.died > NOW)
            .map(|life| NOW - life.born)
    };
    let mut figures = SiteFigures::empty(SiteId(id), samples::site_stack("work"));
    figures.allocated = now.allocated;
    figures.live = now.live;
    figures.freed.add(
        now.allocated.blocks - now.live.blocks,
        now.allocated.bytes - now.live.bytes,
    );
    figures.births = stream.births(NOW);
    figures.cohorts = Some(stream.cohorts(NOW));
    figures.oldest_ms = alive().max();
    figures.youngest_ms = alive().min();
    figures
}

pub fn leak(size: u64) -> Stream {
    let mut stream = Stream::default();
    (0..NOW).step_by(100).for_each(|at| stream.add(at, FOREVER, size));
    stream
}

fn churn() -> Stream {
    let mut stream = Stream::default();
    Random::new(1)
        .moments(10.0, 0, NOW)
        .iter()
        .for_each(|at| stream.add(*at, at + 20, 64));
    stream
}

#[test]
fn clean_is_said_only_of_a_database_that_saw_everything() {
    let clean = report(&[&churn()]);
    assert_eq!(judge_database(&clean, &()).overall, Overall::Clean);
    let mut lossy = clean.clone();
    lossy.losses.insert("live_full", 3);
    let judged = judge_database(&lossy, &());
    assert_eq!(judged.overall, Overall::Inconclusive);
    assert_eq!(judged.against, ["lossy: 3 blocks not recorded: the live map is full"]);
    for state in [
        CollectionState::Stopped,
        CollectionState::Exited,
        CollectionState::Replaced,
    ] {
        let mut ended = clean.clone();
        ended.collection.state = state;
        assert!(matches!(judge_database(&ended, &()).overall, Overall::Inconclusive));
    }
    let mut young = clean.clone();
    young.window.start = young.window.end - 30_000;
    assert!(matches!(judge_database(&young, &()).overall, Overall::Inconclusive));
    let mut noted = clean;
    noted
        .notes
        .push("the thread that the probes were bound to has ended".into());
    assert!(matches!(judge_database(&noted, &()).overall, Overall::Inconclusive));
}

#[test]
fn a_leak_is_said_even_of_a_lossy_database() {
    let mut lossy = report(&[&leak(64), &churn()]);
    lossy.losses.insert("live_full", 100);
    lossy.events.insert("allocated", 1000);
    let judged = judge_database(&lossy, &());
    assert_eq!(judged.overall, Overall::Suspects);
    let whole = judge_database(&report(&[&leak(64)]), &());
    assert!(judged.judgements[0].evidence.confidence < whole.judgements[0].evidence.confidence);
}

#[test]
fn an_undecided_site_that_grows_keeps_a_database_from_being_clean() {
    let mut slowing = Stream::default();
    Random::new(5)
        .moments(100.0, 0, 70_000)
        .iter()
        .for_each(|at| slowing.add(*at, FOREVER, 4096));
    Random::new(6)
        .moments(160.0, 70_000, NOW)
        .iter()
        .for_each(|at| slowing.add(*at, FOREVER, 4096));
    let judged = judge_database(&report(&[&slowing]), &());
    assert_eq!(
        judged.judgements[0].verdict,
        Verdict::Undecided,
        "{:?}",
        judged.judgements[0]
    );
    assert!(matches!(judged.overall, Overall::Inconclusive));
    // What is sampled holds what it stands for.
    let mut sampled = report(&[&slowing]);
    let (live, times) = (sampled.sites[0].live, 100);
    sampled.sites[0].sampled = Some(Sampled {
        recorded: live,
        estimated: Amount {
            blocks: live.blocks * times,
            bytes: live.bytes * times,
        },
        bytes_error: 1,
    });
    let held = Bytes(live.bytes * times);
    assert_eq!(
        judge_database(&sampled, &()).against,
        [format!("undecided sites that grow: 1, holding {held} together")]
    );
}

#[test]
fn only_what_was_born_after_a_gap_is_judged() {
    let mut gap = report(&[&leak(64)]);
    gap.gaps = vec![Gap {
        lasted_ms: 5000,
        ended_ms_ago: 40_000,
    }];
    let judged = judge_database(&gap, &());
    assert_eq!(judged.judgements[0].verdict, Verdict::Undecided);
    assert!(matches!(judged.judgements[0].reason, Reason::Needs(Need::Time { .. })));
    gap.gaps = vec![Gap {
        lasted_ms: 5000,
        ended_ms_ago: 100_000,
    }];
    assert_eq!(judge_database(&gap, &()).judgements[0].verdict, Verdict::Leaking);
}

struct Earlier(Vec<Stream>);

impl PastSites for Earlier {
    fn of(&self, site: SiteId) -> Vec<PastPoint> {
        [20, 40, 60, 80, 100]
            .map(|s| self.0[site.0 as usize - 1].point(s * 1000))
            .to_vec()
    }

    fn found(&self, _: SiteId) -> Option<Found> {
        None
    }
}

#[test]
fn the_vector_that_holds_leaked_items_is_not_the_leak() {
    let mut vector = Stream::default();
    for step in 0..24 {
        if let Some(last) = vector.0.last_mut() {
            last.died = step * 5000;
        }
        vector.add(step * 5000, FOREVER, 1000 * (step + 1));
    }
    let items = leak(48);
    let both = Earlier(vec![vector.clone(), items.clone()]);
    let judged = judge_database(&report(&[&vector, &items]), &both);
    assert_eq!(judged.judgements[1].verdict, Verdict::Leaking);
    assert_eq!(judged.judgements[0].verdict, Verdict::Undecided);
    assert_eq!(
        judged.judgements[0].reason,
        Reason::Needs(Need::Contents { of: SiteId(2) })
    );
    // Alone it is itself what leaks.
    let judged = judge_database(&report(&[&vector]), &Earlier(vec![vector.clone()]));
    assert_eq!(judged.judgements[0].reason, Reason::GrowingContainer);
    assert_eq!(judged.overall, Overall::Suspects);
}

#[test]
fn a_span_that_ended_is_judged_once_it_has_settled() {
    let mut ended = report(&[&leak(64), &churn()]);
    // The 120 s pass for 5 s between two marks.
    ended.window = ended.window.start..ended.window.start + 5_000;
    for (settled, verdict) in [(500, Verdict::Undecided), (10_000, Verdict::Leaking)] {
        ended.at_monotonic_ms = ended.window.end + settled;
        ended.watched_until_ms = ended.at_monotonic_ms;
        for site in &mut ended.sites {
            site.oldest_ms = site.oldest_ms.map(|_| settled + 5_000);
            site.youngest_ms = site.youngest_ms.map(|_| settled);
        }
        let judged = judge_database(&ended, &());
        assert_eq!(judged.judgements[0].verdict, verdict, "{:?}", judged.judgements[0]);
        assert_ne!(judged.judgements[1].verdict, Verdict::Leaking);
    }
}

/// The thread of the probes has ended: blocks that are freed since look alive.
#[test]
fn time_in_which_nothing_was_seen_settles_nothing() {
    let mut blind = report(&[&leak(64)]);
    blind.window = blind.window.start..blind.window.start + 5_000;
    (blind.at_monotonic_ms, blind.watched_until_ms) = (blind.window.end + 600_000, blind.window.end);
    let site = &mut blind.sites[0];
    (site.oldest_ms, site.youngest_ms) = (Some(605_000), Some(600_000));
    assert_eq!(judge_database(&blind, &()).judgements[0].verdict, Verdict::Undecided);
}

#[test]
fn a_span_that_ended_is_judged_by_its_even_part_and_an_uneven_one_needs_a_longer_span() {
    let judged = |births: &dyn Fn(usize) -> u64| {
        let mut ended = report(&[&leak(64)]);
        ended.window = ended.window.start..ended.window.start + 3_000;
        ended.at_monotonic_ms = ended.window.end + 11_000;
        ended.watched_until_ms = ended.at_monotonic_ms;
        let site = &mut ended.sites[0];
        (site.oldest_ms, site.youngest_ms) = (Some(14_000), Some(11_000));
        for (bin, amount) in site.births.iter_mut().enumerate() {
            amount.blocks = births(bin);
            amount.bytes = births(bin) * 64;
        }
        judge_database(&ended, &()).judgements[0]
    };
    // The first request came a moment after the mark.
    let even = judged(&|bin| if bin < 2 { 0 } else { 6 });
    assert_eq!(even.verdict, Verdict::Leaking, "{even:?}");
    let uneven = judged(&|bin| if bin < 4 { 40 } else { u64::from(bin == 20) * 30 });
    assert_eq!(uneven.reason, Reason::Needs(Need::LongerSpan), "{uneven:?}");
}

#[test]
fn whether_a_buffer_grows_on_is_not_asked_of_a_later_report_of_the_same_span() {
    let vector = buffer((0..24).map(|step| (step * 5000, 1000 * (step + 1))));
    let mut span = report(&[&vector, &leak(48)]);
    span.window = span.window.start..span.window.start + 60_000;
    let judgement = |span: &SitesReport, past: &dyn PastSites| judge_database(span, past).judgements[0];
    let items = span.sites.pop();
    let alone = judgement(&span, &());
    assert_eq!(
        alone.reason,
        Reason::Needs(Need::WholeTime { grew_lately: true }),
        "{alone:?}"
    );
    assert!(alone.grows);
    assert_eq!(
        alone.reason.to_string(),
        "needs reports without marks: whether this buffer still grows is seen from one to the next"
    );
    // The first report of all time has others after it.
    let first = judgement(&span, &NoneYet);
    assert_eq!(first.reason, Reason::Needs(Need::Growth { grew_lately: true }));
    // What holds leaked items waits for these in a span, too.
    span.sites.extend(items);
    assert_eq!(
        judgement(&span, &()).reason,
        Reason::Needs(Need::Contents { of: SiteId(2) })
    );
}

struct NoneYet;

impl PastSites for NoneYet {
    fn of(&self, _: SiteId) -> Vec<PastPoint> {
        Vec::new()
    }

    fn found(&self, _: SiteId) -> Option<Found> {
        None
    }
}
