//! Many sessions on one host: their probes sit on the same instructions of the same library.

use std::process::Command;

use anyhow::Result;

use super::{
    Bench,
    figures::{Samples, time},
    talker::Talker,
};

/// A pair in one process while 1, 10 or 50 are traced.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let counts: &[usize] = if bench.options.quick { &[1, 10] } else { &[1, 10, 50] };
    let mut targets: Vec<Talker> = Vec::new();
    let mut measured = Vec::new();
    for &count in counts {
        while targets.len() < count {
            let target = Talker::start(&mut Command::new(bench.programs.path("pairs")), "")?;
            bench
                .memscope
                .ok(&["attach", &target.pid().to_string(), "--max-blocks", "65536"])?;
            targets.push(target);
        }
        let mut samples = Samples::default();
        targets[0].quotient("run 10 1 20")?;
        for _ in 0..bench.options.rounds() {
            samples.add(targets[0].quotient("run 10 1 100")?);
        }
        measured.push((count, samples));
    }
    bench.memscope.ok(&["detach", "--all"])?;
    let base = measured[0].1.clone();
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|(count, samples)| {
            vec![
                count.to_string(),
                samples.over(&base).to_string(),
                time(samples.median()),
            ]
        })
        .collect();
    bench.results.table(
        "Sessions on one host",
        &["sessions", "a pair in one of them, of that alone", "median, CPU time"],
        &rows,
    );
    Ok(())
}
