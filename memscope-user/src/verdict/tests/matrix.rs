//! The confusion matrix over every shape, many seeds, with and without earlier reports.

use std::collections::BTreeMap;

use super::drawn::DRAWN;
use super::model::Random;
use super::shapes::{Label, SHAPES};
use crate::verdict::Verdict;

const MINUTE: u64 = 60_000;

fn tally(at: u64, reports: &[u64]) -> BTreeMap<(Label, &'static str, Verdict), u64> {
    let mut counts = BTreeMap::new();
    // A long stream costs more: fewer of them.
    let seeds = if at > 2 * MINUTE { 8 } else { 40 };
    for shape in SHAPES {
        for seed in 0..seeds {
            let stream = (shape.make)(&mut Random::new(seed * 7919 + 17), at);
            let judgement = stream.judge(at, reports);
            *counts.entry((shape.label, shape.name, judgement.verdict)).or_insert(0) += 1;
        }
    }
    counts
}

fn found(counts: &BTreeMap<(Label, &'static str, Verdict), u64>, label: Label) -> (u64, u64) {
    let of = |wanted: Option<Verdict>| {
        counts
            .iter()
            .filter(|((l, _, verdict), _)| *l == label && wanted.is_none_or(|wanted| wanted == *verdict))
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    (of(Some(Verdict::Leaking)), of(None))
}

#[test]
fn no_sound_shape_is_accused_and_leaks_are_found_within_two_minutes() {
    let cases: [(u64, &[u64]); 6] = [
        (MINUTE, &[]),
        (2 * MINUTE, &[]),
        (2 * MINUTE, &[20_000, 40_000, 60_000, 80_000, 100_000]),
        (2 * MINUTE, &[60_000]),
        (10 * MINUTE, &[]),
        (10 * MINUTE, &[120_000, 240_000, 360_000, 480_000]),
    ];
    let mut found_by_case = Vec::new();
    for (at, reports) in cases {
        let counts = tally(at, reports);
        println!("after {} s, {} earlier reports", at / 1000, reports.len());
        for ((label, name, verdict), count) in &counts {
            println!("  {label:?} {name:40} {verdict} {count}");
        }
        let (accused, _) = found(&counts, Label::Sound);
        let (leaks, all) = found(&counts, Label::Leak);
        println!("  leaks found {leaks} of {all}; accused {accused}");
        found_by_case.push((at, reports.len(), leaks as f64 / all as f64));
        assert_eq!(
            accused,
            0,
            "a sound shape was called LEAKING at {at} with {} reports",
            reports.len()
        );
    }
    for (at, reports, share) in found_by_case {
        let least = match (at, reports) {
            // A vector that grows is one block: only another report shows that it goes on.
            (MINUTE, _) => 0.5,
            (_, 0 | 1) => 0.85,
            _ => 0.95,
        };
        assert!(share >= least, "{share} of leaks found at {at} with {reports} reports");
    }
}

/// How drawn streams of all shapes fare when they are watched.
#[derive(Debug, Default)]
struct Watched {
    sound: u64,
    /// Called leaking at one report at least.
    accused: u64,
    leaks: u64,
    /// The same.
    found: u64,
    found_by_the_last: u64,
    /// By the last report without those before.
    found_at_once: u64,
}

fn watched(reports: &[u64], seeds: std::ops::Range<u64>) -> Watched {
    let mut sum = Watched::default();
    let last = *reports.last().expect("a report");
    for shape in DRAWN {
        for seed in seeds.clone() {
            let stream = (shape.make)(&mut Random::new(seed * 104_729 + 5), 2 * MINUTE);
            let verdicts: Vec<Verdict> = stream
                .watch(reports)
                .iter()
                .map(|judgement| judgement.verdict)
                .collect();
            let said = u64::from(verdicts.contains(&Verdict::Leaking));
            match shape.label {
                Label::Leak => {
                    sum.leaks += 1;
                    sum.found += said;
                    sum.found_by_the_last += u64::from(verdicts.last() == Some(&Verdict::Leaking));
                    sum.found_at_once += u64::from(stream.judge(last, &[]).verdict == Verdict::Leaking);
                }
                Label::Sound => {
                    sum.sound += 1;
                    sum.accused += said;
                    if said > 0 {
                        println!("{} seed {seed}: {verdicts:?}", shape.name);
                    }
                }
            }
        }
    }
    println!("reports at {reports:?} ms: {sum:?}");
    sum
}

/// The corpus with drawn rates: what pure chance leaves of the rules. `MEMSCOPE_TEST_ALL` tries the seeds of `tests/README.md`.
#[test]
fn of_drawn_shapes_hardly_one_sound_one_is_accused_and_most_leaks_are_found() {
    let seeds = match std::env::var_os("MEMSCOPE_TEST_ALL") {
        Some(_) => 5000..6000,
        None => 1000..1060,
    };
    // Asked from a minute on, and from attach on.
    let from_a_minute_on: &[u64] = &[62_000, 77_000, 92_000, 107_000, 119_000];
    let from_attach_on: &[u64] = &[8_000, 23_000, 38_000, 53_000, 68_000, 83_000, 98_000, 113_000];
    for reports in [from_a_minute_on, from_attach_on] {
        let sum = watched(reports, seeds.clone());
        assert!(sum.accused * 1000 <= sum.sound, "{sum:?}");
        assert!(sum.found * 100 >= sum.leaks * 95, "{sum:?}");
    }
}
