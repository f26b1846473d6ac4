//! Many sessions on one host: their probes sit on the same instructions of the same library.

use std::process::Command;

use anyhow::Result;

use super::{
    Bench,
    figures::{Samples, time},
    talker::Talker,
};

/// A pair in one process while 1, 10 or 50 are traced: in the one that was attached first, whose probes are its own, and in those
/// that were attached second and last, at either end of the kernel's list of those that share.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let counts: &[usize] = if bench.options.quick { &[1, 10] } else { &[1, 10, 50] };
    let mut targets: Vec<Talker> = Vec::new();
    let mut measured: Vec<(usize, &str, Samples)> = Vec::new();
    for &count in counts {
        while targets.len() < count {
            let target = Talker::start(&mut Command::new(bench.programs.path("pairs")), "")?;
            bench
                .memscope
                .ok(&["attach", &target.pid().to_string(), "--max-blocks", "65536"])?;
            targets.push(target);
        }
        let mut places = vec![("first", 0), ("second", 1), ("last", count - 1)];
        places.retain(|(name, at)| *name == "first" || *at < count && count > 1);
        let mut samples = vec![Samples::default(); places.len()];
        for (_, at) in &places {
            targets[*at].quotient("run 10 1 20")?;
        }
        // By turns, so that what else the machine does falls on all alike.
        for _ in 0..bench.options.rounds() {
            for ((_, at), samples) in places.iter().zip(&mut samples) {
                samples.add(targets[*at].quotient("run 10 1 100")?);
            }
        }
        measured.extend(
            places
                .iter()
                .zip(samples)
                .map(|((name, _), samples)| (count, *name, samples)),
        );
    }
    bench.memscope.ok(&["detach", "--all"])?;
    let base = measured[0].2.clone();
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|(count, which, samples)| {
            vec![
                count.to_string(),
                (*which).to_owned(),
                samples.over(&base).to_string(),
                time(samples.median()),
            ]
        })
        .collect();
    bench.results.table(
        "Sessions on one host",
        &[
            "sessions",
            "attached",
            "a pair in one of them, of the first alone",
            "median, CPU time",
        ],
        &rows,
    );
    Ok(())
}
