//! A million blocks over ten thousand call stacks: what `report` and its like take to tell of them.

use std::process::Command;

use anyhow::{Context, Result};

use super::{
    Bench,
    figures::{Samples, time},
    programs::Cost,
    talker::Talker,
};

const BLOCKS: u64 = 1_000_000;
const SITES: u64 = 10_000;

/// What issue "From entries to verdicts" asks of `report` on this kind of machine.
const WANTED: &str = "at most 2 s and 128 MB";

/// Measures each command on the same database.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut target = Talker::start(&mut Command::new(bench.programs.path("many_sites")), "")?;
    let pid = target.pid().to_string();
    bench.memscope.ok(&["attach", &pid])?;
    target.say(&format!("take {BLOCKS} {SITES}\n"))?;
    target.hear("done")?;
    let stats = bench.memscope.ok(&["stats", &pid, "--format", "ndjson"])?;
    let said = String::from_utf8_lossy(&stats.stdout).into_owned();
    anyhow::ensure!(
        said.contains(&format!("\"sites\":{{\"used\":{SITES},")) && said.contains(&format!("\"blocks\":{BLOCKS},")),
        "not the database that was meant: {said}"
    );
    // `check` is not among them: its answers 1 and 6 are failures to `cost_of`, and it reads and judges as `report` does.
    let commands: [&[&str]; 6] = [
        &["report", &pid],
        &["report", &pid, "--format", "json"],
        &["report", &pid, "--by", "function"],
        &["export", &pid, "--format", "prom"],
        &["export", &pid, "--format", "folded"],
        &["print", &pid, "--age", "0", "--limit", "10"],
    ];
    let mut rows = Vec::new();
    let mut base: Option<Samples> = None;
    for words in commands {
        let (mut wall, mut resident_kb, mut cpu) = (Samples::default(), 0, Samples::default());
        for _ in 0..bench.options.rounds() {
            let cost = Cost::of(&mut bench.memscope.run_by(&bench.programs.path("cost_of"), words))?;
            wall.add(cost.wall_ns);
            cpu.add(cost.cpu_ns);
            resident_kb = cost.resident_kb.max(resident_kb);
        }
        let shown = words.join(" ").replace(&pid, "PID");
        let first = base.get_or_insert_with(|| wall.clone());
        rows.push(vec![
            shown,
            wall.over(first).to_string(),
            time(wall.median()),
            time(cpu.median()),
            format!("{} MB", resident_kb >> 10),
        ]);
    }
    bench.memscope.ok(&["detach", &pid]).context("after measuring")?;
    bench.results.table(
        "A million blocks over ten thousand call stacks",
        &["command", "over the first", "wall", "CPU", "most resident"],
        &rows,
    );
    bench.results.remark(&format!("Wanted of `report`: {WANTED}."));
    Ok(())
}
