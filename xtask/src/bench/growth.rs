//! A live set that grows: what a block costs to keep, and what a large set costs to print.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::{
    Bench,
    figures::{Samples, time},
    machine,
    programs::Cost,
    talker::Talker,
};

/// Grows to a million blocks, and to ten million when everything is asked for.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut rows = Vec::new();
    grown(bench, 900_000, &mut rows)?;
    grown(bench, 1_000_000, &mut rows)?;
    if bench.options.all {
        grown(bench, 10_000_000, &mut rows)?;
    }
    bench
        .results
        .table("A large live set", &["blocks", "what", "ratio", "measured"], &rows);
    bench.results.remark(
        "The per-key walk only reads the map (get next key, look up), in C, in the same run, and so does the batch read (4096 at \
         once), which is the floor of a reader with one thread; `print` reads with as many threads as there are CPUs, at most four, \
         and also sorts, names and renders.",
    );
    Ok(())
}

fn grown(bench: &Bench<'_>, blocks: u64, rows: &mut Vec<Vec<String>>) -> Result<()> {
    let mut target = Talker::start(&mut Command::new(bench.programs.path("grow")), "")?;
    let pid = target.pid().to_string();
    let untraced = target.quotient(&format!("grow {blocks}"))?;
    let capacity = blocks.next_power_of_two().max(1 << 20).to_string();
    bench.memscope.ok(&["attach", &pid, "--max-blocks", &capacity])?;
    let slab_before = machine::kmalloc_bytes()?;
    let traced = target.quotient(&format!("grow {blocks}"))?;
    let slab = machine::kmalloc_bytes()?.saturating_sub(slab_before);
    let live = bench.memscope.map(target.pid(), "LIVE")?;

    let (mut walked, mut batches) = (Samples::default(), Samples::default());
    let (mut json, mut text) = (Samples::default(), Samples::default());
    let (mut resident_json, mut resident_text, mut memlock) = (0, 0, 0);
    let rounds = if blocks > 1_000_000 { 1 } else { bench.options.rounds() };
    for _ in 0..rounds {
        let walk = walk(bench, &live)?;
        anyhow::ensure!(
            walk.elements == blocks && walk.batched == blocks,
            "{} and {} blocks of {blocks} are in the map",
            walk.elements,
            walk.batched
        );
        memlock = walk.memlock;
        walked.add(walk.wall_ns);
        batches.add(walk.batches_ns);
        for (format, samples, resident) in [
            ("json", &mut json, &mut resident_json),
            ("text", &mut text, &mut resident_text),
        ] {
            let words = ["print", &pid, "--age", "0", "--format", format];
            let cost = Cost::of(&mut bench.memscope.run_by(&bench.programs.path("cost_of"), &words))?;
            samples.add(cost.wall_ns);
            *resident = cost.resident_kb.max(*resident);
        }
    }
    bench.memscope.ok(&["detach", &pid])?;
    let mut row = |what: &str, ratio: String, measured: String| {
        rows.push(vec![blocks.to_string(), what.to_owned(), ratio, measured])
    };
    row(
        "malloc that stays, traced / untraced",
        format!("{:.1}×", traced / untraced),
        time(traced),
    );
    row(
        "kernel memory / block: kmalloc objects in use",
        format!("{:.1} bytes", slab as f64 / blocks as f64),
        format!("{} MB", slab >> 20),
    );
    row(
        "kernel memory / block: memlock of LIVE",
        format!("{:.1} bytes", memlock as f64 / blocks as f64),
        format!("{} MB", memlock >> 20),
    );
    row(
        "batch read alone, one thread / per-key walk",
        batches.over(&walked).to_string(),
        time(batches.median()),
    );
    row(
        "print --format json / per-key walk",
        json.over(&walked).to_string(),
        time(json.median()),
    );
    row(
        "print --format text / per-key walk",
        text.over(&walked).to_string(),
        time(text.median()),
    );
    let bytes = |kb: u64| format!("{:.1} bytes a block", (kb * 1024) as f64 / blocks as f64);
    row(
        "most resident memory of print json",
        bytes(resident_json),
        format!("{} MB", resident_json >> 10),
    );
    row(
        "most resident memory of print text",
        bytes(resident_text),
        format!("{} MB", resident_text >> 10),
    );
    Ok(())
}

struct Walk {
    elements: u64,
    wall_ns: f64,
    memlock: u64,
    batched: u64,
    batches_ns: f64,
}

fn walk(bench: &Bench<'_>, map: &PathBuf) -> Result<Walk> {
    let output = Command::new(bench.programs.path("walk"))
        .arg(map)
        .output()
        .context("cannot run walk")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers.as_slice() {
        [elements, wall, memlock, batched, batches] => Ok(Walk {
            elements: *elements,
            wall_ns: *wall as f64,
            memlock: *memlock,
            batched: *batched,
            batches_ns: *batches as f64,
        }),
        _ => anyhow::bail!("the per-key walk failed: {}", String::from_utf8_lossy(&output.stderr)),
    }
}
