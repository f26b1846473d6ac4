//! How long it takes to attach and to detach: a small process, and one with hundreds of mappings.

use std::{fs, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result};

use super::{
    Bench,
    figures::{Samples, time},
    talker::Talker,
};

/// Copies of a library that the large process maps; each has one executable mapping, and three or four others.
const COPIES: usize = 200;

/// Measures both.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let libraries = copies(bench)?;
    let mut small = Times::default();
    let mut large = Times::default();
    for _ in 0..bench.options.rounds() {
        let target = Talker::start(&mut Command::new(bench.programs.path("grow")), "")?;
        small.measure(bench, &target)?;
        let target = Talker::start(Command::new(bench.programs.path("mappings")).args(&libraries), "")?;
        large.measure(bench, &target)?;
    }
    let base = small.attach.clone();
    let mut rows = Vec::new();
    for (process, times) in [("small", &small), ("200 libraries", &large)] {
        for (what, samples) in [
            ("attach", &times.attach),
            ("attach again (nothing to do)", &times.again),
            ("detach", &times.detach),
        ] {
            rows.push(vec![
                process.to_owned(),
                what.to_owned(),
                samples.over(&base).to_string(),
                time(samples.median()),
            ]);
        }
    }
    bench.results.table(
        "Attaching",
        &["process", "what", "of attaching to the small one", "median, wall time"],
        &rows,
    );
    Ok(())
}

#[derive(Default)]
struct Times {
    attach: Samples,
    again: Samples,
    detach: Samples,
}

impl Times {
    fn measure(&mut self, bench: &Bench<'_>, target: &Talker) -> Result<()> {
        let pid = target.pid().to_string();
        let time = |words: &[&str]| -> Result<f64> {
            let began = Instant::now();
            bench.memscope.ok(words)?;
            Ok(began.elapsed().as_nanos() as f64)
        };
        self.attach.add(time(&["attach", &pid])?);
        self.again.add(time(&["attach", &pid])?);
        self.detach.add(time(&["detach", &pid])?);
        Ok(())
    }
}

fn copies(bench: &Bench<'_>) -> Result<Vec<std::path::PathBuf>> {
    let folder = bench.programs.scratch("libraries")?;
    let libc = super::programs::libc_of(&bench.programs.path("pairs"))?;
    let library = Path::new(&libc).with_file_name("libm.so.6");
    (0..COPIES)
        .map(|number| {
            let copy = folder.join(format!("libcopy{number}.so"));
            fs::copy(&library, &copy).with_context(|| format!("cannot copy {}", library.display()))?;
            Ok(copy)
        })
        .collect()
}
