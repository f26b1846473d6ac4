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

/// The corpus with drawn rates: what pure chance leaves of the rules.
#[test]
fn of_drawn_shapes_hardly_one_sound_one_is_accused_and_most_leaks_are_found() {
    let looks: [(u64, &[u64]); 4] = [
        (MINUTE, &[]),
        (92_000, &[62_000, 77_000]),
        (119_000, &[]),
        (119_000, &[62_000, 77_000, 92_000, 107_000]),
    ];
    let (mut sound, mut accused) = (0, 0);
    let mut found = [0; 4];
    let mut leaks = 0;
    for shape in DRAWN {
        for seed in 0..50 {
            let stream = (shape.make)(&mut Random::new(seed * 104_729 + 5), 2 * MINUTE);
            leaks += usize::from(shape.label == Label::Leak);
            for (look, (at, reports)) in looks.iter().enumerate() {
                let leaking = stream.judge(*at, reports).verdict == Verdict::Leaking;
                match shape.label {
                    Label::Leak => found[look] += usize::from(leaking),
                    Label::Sound => {
                        sound += 1;
                        accused += u64::from(leaking);
                        if leaking {
                            println!("{} seed {seed} at {at}", shape.name);
                        }
                    }
                }
            }
        }
    }
    println!("{accused} of {sound} accused; of {leaks} leaks found {found:?}");
    assert!(accused * 1000 <= sound, "{accused} of {sound} judgements");
    assert!(found[3] * 100 >= leaks * 90, "{found:?} of {leaks}");
}
