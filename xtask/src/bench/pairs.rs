//! What a malloc+free pair costs, by depth of the stack and number of threads.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result};

use super::{
    Bench,
    figures::{Samples, time},
    talker::Talker,
    tracer::{SAMPLED, Tracer},
};

/// What the program is asked to do, frames on the stack, threads. `turns`: no stack is like its thread's last one.
const SHAPES: [Shape; 9] = [
    ("run", 1, 1),
    ("run", 10, 1),
    ("run", 20, 1),
    ("run", 30, 1),
    ("run", 100, 1),
    ("run", 10, 2),
    ("turns", 10, 1),
    ("turns", 20, 1),
    ("turns", 30, 1),
];
type Shape = (&'static str, u32, u32);
/// Entry and return of malloc, entry of free.
const HITS_A_PAIR: f64 = 3.0;

/// Measures every tracer in turn, round after round.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let tracers = Tracer::all(bench)?;
    let milliseconds = if bench.options.quick { 100 } else { 300 };
    let mut measured: BTreeMap<(usize, usize), Samples> = BTreeMap::new();
    for _ in 0..bench.options.rounds() {
        for (tracer_index, tracer) in tracers.iter().enumerate() {
            let mut target = Talker::start(&mut Command::new(bench.programs.path("pairs")), "")?;
            let attached = tracer
                .attach(&bench.memscope, &mut target)
                .with_context(|| format!("attaching {}", tracer.name()))?;
            for (shape_index, (what, frames, threads)) in SHAPES.iter().enumerate() {
                // Once to warm up: sites, rule cache, thread records.
                target.quotient(&format!("{what} {frames} {threads} 10"))?;
                let pair = target.quotient(&format!("{what} {frames} {threads} {milliseconds}"))?;
                measured.entry((tracer_index, shape_index)).or_default().add(pair);
            }
            attached.detach()?;
        }
    }
    report(bench, &tracers, &measured);
    Ok(())
}

fn report(bench: &mut Bench<'_>, tracers: &[Tracer], measured: &BTreeMap<(usize, usize), Samples>) {
    let find = |wanted: &Tracer| tracers.iter().position(|tracer| tracer == wanted);
    let (Some(floor), Some(exact)) = (find(&Tracer::Floor), find(&Tracer::Memscope(&[]))) else {
        return;
    };
    let mut rows = Vec::new();
    for (shape_index, (what, frames, threads)) in SHAPES.iter().enumerate() {
        for (tracer_index, tracer) in tracers.iter().enumerate() {
            let pair = &measured[&(tracer_index, shape_index)];
            rows.push(vec![
                format!(
                    "{frames} frames, {threads} thread{}{}",
                    if *threads == 1 { "" } else { "s" },
                    if *what == "turns" { ", two stacks by turns" } else { "" }
                ),
                tracer.name(),
                pair.over(&measured[&(floor, shape_index)]).to_string(),
                pair.over(&measured[&(exact, shape_index)]).to_string(),
                time(pair.median()),
            ]);
        }
    }
    bench.results.table(
        "A malloc+free pair",
        &["stack", "traced by", "of the floor", "of memscope", "median, CPU time"],
        &rows,
    );
    bench.results.remark(
        "The floor is the same probes on the same sites with programs that do nothing. The bpftrace script pairs malloc \
         and free and takes ten frames by frame pointer; the program has none, so it gets one or two.",
    );
    let cost = |tracer: usize, shape: Shape| {
        let index = SHAPES.iter().position(|listed| *listed == shape);
        &measured[&(tracer, index.expect("a shape of the table"))]
    };
    if let (Some(nothing), Some(sampled)) = (find(&Tracer::Nothing), find(&SAMPLED)) {
        let base: Shape = ("run", 10, 1);
        let hit = (cost(floor, base).median() - cost(nothing, base).median()) / HITS_A_PAIR;
        let of_a_hit = |more: &Samples, less: &Samples| (more.median() - less.median()) / hit;
        let twenty_more = |what| of_a_hit(cost(exact, (what, 30, 1)), cost(exact, (what, 10, 1)));
        bench.results.remark(&format!(
            "Twenty frames more cost memscope {:.2} of an empty hit on an emulated instruction ({}); {:.2} by turns.",
            twenty_more("run"),
            time(hit),
            twenty_more("turns")
        ));
        let whole = |what| of_a_hit(cost(exact, (what, 20, 1)), cost(sampled, (what, 20, 1)));
        bench.results.remark(&format!(
            "A whole stack of 20 frames costs less than {:.2} of such a hit, {:.2} by turns: that is what a pair costs \
             above one that sampling passes over, which has neither its stack taken nor its block put in the live set \
             and taken out again.",
            whole("run"),
            whole("turns")
        ));
    }
    let two = cost(exact, ("run", 10, 2)).over(cost(exact, ("run", 10, 1)));
    let two_floor = cost(floor, ("run", 10, 2)).over(cost(floor, ("run", 10, 1)));
    bench.results.remark(&format!(
        "Two threads cost {two} of one per pair under memscope, {two_floor} at the floor."
    ));
}
