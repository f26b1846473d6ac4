//! What holds for any stream.

use super::model::{FOREVER, Random, Stream};
use crate::verdict::database::Doubts;
use crate::verdict::{Need, Reason, Verdict};

fn any_stream(random: &mut Random, to: u64) -> Stream {
    let mut stream = Stream::default();
    for _ in 0..random.below(4) {
        let from = random.below(to);
        let until = from + random.below(to - from) + 1;
        let mean = 10.0 + random.unit() * 2000.0;
        let leaks = random.unit();
        let life = 10.0 + random.unit() * to as f64;
        for at in random.moments(mean, from, until) {
            let died = if random.unit() < leaks {
                FOREVER
            } else {
                at + random.exponential(life) as u64
            };
            stream.add(at, died, random.below(5000));
        }
    }
    stream
}

#[test]
fn any_stream_has_a_sound_judgement() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let to = 1 + random.below(1_000_000);
        let stream = any_stream(&mut random, to);
        let mut reports: Vec<u64> = (0..random.below(5)).map(|_| random.below(to) + 1).collect();
        reports.sort_unstable();
        let judgement = stream.judge(to, &reports);
        let evidence = judgement.evidence;
        assert!((0.0..=1.0).contains(&evidence.confidence), "seed {seed}: {judgement:?}");
        assert!(
            evidence.share_freed.is_none_or(|share| (0.0..=1.0).contains(&share)),
            "seed {seed}"
        );
        if let Some(rate) = evidence.rate {
            assert!(
                rate.blocks_per_minute.is_finite() && (0.0..=1.0).contains(&rate.fit),
                "seed {seed}: {rate:?}"
            );
        }
        match (judgement.verdict, judgement.reason) {
            (Verdict::Undecided, Reason::Needs(_)) => assert!(evidence.confidence <= 0.5, "seed {seed}"),
            (Verdict::Undecided, reason) => panic!("seed {seed}: undecided without a need: {reason:?}"),
            (_, Reason::Needs(need)) => panic!("seed {seed}: decided, and yet {need}"),
            _ => {}
        }
    }
}

#[test]
fn what_lives_a_fixed_or_exponential_time_is_never_accused_in_the_end() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let to = 600_000;
        let life = 100.0 + random.unit() * 60_000.0;
        let fixed = random.unit() < 0.5;
        let mut stream = Stream::default();
        let mean = 20.0 + random.unit() * 1000.0;
        for at in random.moments(mean, 0, to) {
            let lived = if fixed { life } else { random.exponential(life) };
            stream.add(at, at + lived as u64 + 1, 64);
        }
        let judgement = stream.judge(to, &[]);
        assert!(
            !matches!(judgement.verdict, Verdict::Leaking),
            "seed {seed}, life {life}: {judgement:?}"
        );
        let judgement = stream.judge(to, &[100_000, 300_000, 500_000]);
        assert!(
            !matches!(judgement.verdict, Verdict::Leaking),
            "seed {seed}, life {life}: {judgement:?}"
        );
    }
}

#[test]
fn a_steady_leak_has_its_rate_within_a_tenth() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let (share, mean) = (0.05 + random.unit() * 0.65, 5.0 + random.unit() * 20.0);
        let mut stream = Stream::default();
        for at in random.moments(mean, 0, 300_000) {
            let died = if random.unit() < share {
                FOREVER
            } else {
                at + random.below(50)
            };
            stream.add(at, died, 100);
        }
        let leaked = stream.0.iter().filter(|life| life.died == FOREVER).count() as f64 / 5.0;
        let judgement = stream.judge(300_000, &[150_000]);
        assert_eq!(judgement.verdict, Verdict::Leaking, "seed {seed}: {judgement:?}");
        let rate = judgement.evidence.rate.unwrap();
        assert!(
            (rate.blocks_per_minute / leaked - 1.0).abs() < 0.1,
            "seed {seed}: {rate:?} against {leaked}"
        );
        assert!(
            (rate.bytes_per_minute / leaked / 100.0 - 1.0).abs() < 0.1,
            "seed {seed}: {rate:?}"
        );
        assert!(rate.fit > 0.99, "{rate:?}");
    }
}

#[test]
fn young_windows_are_not_judged() {
    let mut stream = Stream::default();
    (0..59_000).step_by(10).for_each(|at| stream.add(at, FOREVER, 64));
    let judgement = stream.judge(59_000, &[]);
    assert_eq!(judgement.reason, Reason::Needs(Need::Time { seconds: 1 }));
}

#[test]
fn confidence_falls_with_losses_missed_frees_and_few_events() {
    let leak = |step: usize| {
        let mut stream = Stream::default();
        (0..300_000).step_by(step).for_each(|at| stream.add(at, FOREVER, 64));
        stream
    };
    let many = leak(100).judge(300_000, &[]).evidence.confidence;
    let few = leak(10_000).judge(300_000, &[]).evidence.confidence;
    assert!(few < many, "{few} {many}");
    let doubt = |lost_share, missed_frees| {
        leak(100).judge_doubting(
            300_000,
            &[],
            Doubts {
                lost_share,
                missed_frees,
                sampled: false,
            },
        )
    };
    assert!(doubt(0.3, 0).evidence.confidence < many);
    assert!(doubt(0.0, 300).evidence.confidence < many);
    let sampled = Doubts {
        sampled: true,
        ..Doubts::default()
    };
    let sampled = leak(100).judge_doubting(300_000, &[], sampled).evidence.confidence;
    assert!(sampled < many, "{sampled} {many}");
    let ghosts = doubt(0.0, 10_000);
    assert_eq!(ghosts.reason, Reason::Needs(Need::SeenFrees));
    assert!(ghosts.grows);
}

#[test]
fn a_leak_that_began_late_has_the_rate_of_its_own_time() {
    let mut stream = Stream::default();
    (40_000..120_000)
        .step_by(200)
        .for_each(|at| stream.add(at, FOREVER, 64));
    let judgement = stream.judge(120_000, &[]);
    assert_eq!(judgement.verdict, Verdict::Leaking, "{judgement:?}");
    let rate = judgement.evidence.rate.unwrap();
    assert!((rate.blocks_per_minute / 300.0 - 1.0).abs() < 0.05, "{rate:?}");
    let young = stream.judge(70_000, &[]);
    assert_eq!(young.reason, Reason::Needs(Need::Time { seconds: 15 }), "{young:?}");
}

#[test]
fn bursts_count_little_more_than_once() {
    let mut stream = Stream::default();
    for burst in [5_000, 22_000, 41_000, 63_000, 80_000, 99_000] {
        (0..50).for_each(|at| stream.add(burst + at, FOREVER, 64));
    }
    let judgement = stream.judge(120_000, &[]);
    assert!(
        matches!(judgement.reason, Reason::Needs(Need::Events { survivors }) if survivors > 4),
        "{judgement:?}"
    );
}
