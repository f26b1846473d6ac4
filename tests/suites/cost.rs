//! What collection costs, is said to cost, and may cost: the cost meter, the budget, sampling.

use std::process::Command;
use std::time::{Duration, Instant};

use memscope_tests::deadline::until;
use memscope_tests::difference::compare;
use memscope_tests::memscope::Memscope;
use memscope_tests::program::Program;
use memscope_tests::report::number;
use memscope_tests::session::Session;
use memscope_tests::target::Target;
use memscope_tests::text;
use serde_json::Value;

/// A program that allocates and frees without end while it is told to.
fn busy() -> Target {
    Target::start::<&str>(&Program::new("busy.c").build(), &[])
}

/// CPU time a process has used, milliseconds (proc(5): utime and stime of stat, in hundredths of a second).
fn cpu_ms(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the target lives");
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name")..].split(' ').collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("ticks");
    10.0 * (ticks(12) + ticks(13))
}

fn stats(memscope: &Memscope, pid: u32) -> Value {
    let output = memscope.ok(&["stats", &pid.to_string(), "--format", "json"]);
    let stats: Value = serde_json::from_str(&output.stdout).expect("stats are JSON");
    stats["databases"][0].clone()
}

#[test]
fn what_collection_is_said_to_cost_is_the_cpu_time_that_it_takes() {
    let memscope = Memscope::new();
    let mut target = busy();
    let session = memscope.attach(&target);
    // The first `stats` measures this host.
    stats(&memscope, target.pid());
    target.act("go");
    // A pair takes nanoseconds untraced: nearly all of the target's CPU time is the cost.
    let mut shares: Vec<f64> = (0..7)
        .map(|_| {
            let (from, before) = (Instant::now(), cpu_ms(target.pid()));
            let said = stats(&memscope, target.pid())["cost"]["percent_of_one_cpu"].clone();
            let used = cpu_ms(target.pid()) - before;
            let percent = 100.0 * used / (from.elapsed().as_secs_f64() * 1e3);
            said.as_f64().expect("a measured host tells percents") / percent.max(1.0)
        })
        .collect();
    target.act("rest");
    shares.sort_by(f64::total_cmp);
    let median = shares[shares.len() / 2];
    assert!(
        (0.5..=1.7).contains(&median),
        "said to cost {median:.2} of what it takes ({shares:.2?})"
    );
    session.detach();
}

#[test]
fn a_target_above_its_budget_is_refused_and_left_as_it_was() {
    let memscope = Memscope::new();
    let mut target = busy();
    let before = text::altered(target.pid());
    target.act("go");
    let output = memscope.run(&["attach", &target.pid().to_string(), "--max-cpu", "1"]);
    let output = output.expect_code(3);
    assert!(
        output.stderr.contains("--max-cpu 1") && output.stderr.contains("--over-budget"),
        "the refusal names the limit and the way past it\n{output}"
    );
    text::assert_restored(target.pid(), &before, "refused");
    memscope.assert_nothing_left();
    target.act("rest");
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn a_target_that_exceeds_its_budget_is_stopped_within_a_second_and_its_probes_are_taken_out() {
    let memscope = Memscope::new();
    let mut target = busy();
    let pid = target.pid();
    let before = text::altered(pid);
    let session = Session::attach_with(&memscope, pid, &["--max-cpu", "5"]);
    target.act("take 100 10007");
    let from = Instant::now();
    target.act("go");
    // Seen from outside without a command of ours: only those would take the probes out.
    std::thread::sleep(Duration::from_secs(1));
    let output = memscope.ok(&["list", "--format", "json"]);
    let listed: Value = serde_json::from_str(&output.stdout).expect("a list is JSON");
    assert_eq!(
        listed["databases"][0]["state"],
        "stopped",
        "after {:?}\n{output}",
        from.elapsed()
    );
    text::assert_restored(pid, &before, "stopped by its budget, then looked at by a command");
    target.act("rest");
    let ledger = target.ledger();
    let printed = memscope.ok(&["print", &pid.to_string(), "--age", "0"]);
    assert!(
        printed
            .stdout
            .lines()
            .any(|line| line.starts_with("note:") && line.contains("budget of 5 %")),
        "the report says that it stopped\n{printed}"
    );
    let database = session.print();
    assert_eq!(database.collection.state, "stopped");
    assert_eq!(database.of_size(10_007).len(), 100, "what was collected is kept");
    assert_eq!(compare(&ledger, &database.entries).missed, []);
    // It goes on when told to, as often as one likes.
    memscope.ok(&["start", &pid.to_string()]);
    target.act("take 50 20011");
    assert_eq!(session.print().of_size(20_011).len(), 50);
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

/// The program whose calls are of one kind at a time, perhaps on another allocator.
fn paced(preload: Option<&str>) -> Target {
    let mut command = Command::new(Program::new("paced.cpp").build());
    if let Some(library) = preload {
        command.env("LD_PRELOAD", library);
    }
    Target::start_command(command)
}

/// Demands that a target has been stopped by its budget, or is within ten seconds, and that reports say so.
fn assert_stopped_by_budget(memscope: &Memscope, pid: u32) {
    until(Duration::from_secs(10), "the budget to stop collection", || {
        let output = memscope.ok(&["list", "--format", "json"]);
        let listed: Value = serde_json::from_str(&output.stdout).expect("a list is JSON");
        (listed["databases"][0]["state"] == "stopped").then_some(())
    });
    let printed = memscope.ok(&["print", &pid.to_string(), "--age", "0", "--limit", "1"]);
    assert!(printed.stdout.contains("more than its budget of"), "{printed}");
}

/// jemalloc's operator new may throw, so each of its returns is single-stepped, which costs several times the rest.
#[test]
fn calls_whose_returns_are_single_stepped_spend_the_budget_as_dear_as_they_are() {
    let memscope = Memscope::new();
    let mut target = paced(Some("libjemalloc.so.2"));
    let session = Session::attach_with(&memscope, target.pid(), &["--max-cpu", "5"]);
    target.act("new 20000");
    assert_stopped_by_budget(&memscope, target.pid());
    target.act("rest");
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn frees_alone_spend_the_budget() {
    let memscope = Memscope::new();
    let mut target = paced(None);
    target.act("keep 1000000");
    let session = Session::attach_with(&memscope, target.pid(), &["--max-cpu", "1"]);
    target.act("drop");
    assert_stopped_by_budget(&memscope, target.pid());
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn calls_nested_in_others_spend_the_budget() {
    let memscope = Memscope::new();
    let mut target = paced(None);
    let more = ["--max-cpu", "1", "--alloc", "carve(size=0) -> ret"];
    let session = Session::attach_with(&memscope, target.pid(), &more);
    target.act("nest 500000");
    assert_stopped_by_budget(&memscope, target.pid());
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn a_foreground_trace_over_its_budget_ends_by_itself() {
    let memscope = Memscope::new();
    let mut target = busy();
    let before = text::altered(target.pid());
    let trace = memscope.command(&["trace", &target.pid().to_string(), "--max-cpu", "5", "--age", "0"]);
    let running = std::thread::spawn(move || memscope_tests::memscope::complete(trace));
    until(Duration::from_secs(30), "the trace to collect", || {
        let output = memscope.run(&["list", "--format", "json"]);
        output.stdout.contains("\"collecting\"").then_some(())
    });
    target.act("go");
    let output = running.join().expect("the trace ends").expect_code(0);
    assert!(output.stdout.contains("budget of 5 %"), "{output}");
    text::assert_restored(target.pid(), &before, "traced until its budget was spent");
    target.act("rest");
    memscope.assert_nothing_left();
}

#[test]
fn over_its_budget_a_target_can_be_sampled_instead_and_reports_say_so() {
    let memscope = Memscope::new();
    let mut target = busy();
    let pid = target.pid();
    let more = ["--max-cpu", "1", "--over-budget", "sample"];
    let session = Session::attach_with(&memscope, pid, &more);
    sampled_by_its_budget(&memscope, &mut target);
    target.act("mix 20000 7");
    let ledger = target.ledger();
    let database = session.print();
    assert_eq!(
        database.collection.state, "collecting",
        "it goes on: {:?}",
        database.collection
    );
    assert!(
        database.entries.len() < ledger.len() / 10,
        "{} of {} were recorded",
        database.entries.len(),
        ledger.len()
    );
    let output = memscope.ok(&["print", &pid.to_string(), "--age", "0"]);
    assert!(output.stdout.contains("note: collection samples since"), "{output}");
    assert!(output.stdout.contains("an estimate"), "{output}");
    session.detach();
}

/// Waits until the budget has brought sampling on, and lets the target rest.
fn sampled_by_its_budget(memscope: &Memscope, target: &mut Target) {
    let pid = target.pid();
    target.act("go");
    until(Duration::from_secs(30), "sampling", || {
        (number(&stats(memscope, pid).to_string(), "unsampled") > 0).then_some(())
    });
    target.act("rest");
}

#[test]
fn sampling_that_the_budget_brought_on_outlasts_a_stop_and_a_start() {
    let memscope = Memscope::new();
    let mut target = busy();
    let pid = target.pid().to_string();
    let more = ["--max-cpu", "1", "--over-budget", "sample"];
    let session = Session::attach_with(&memscope, target.pid(), &more);
    sampled_by_its_budget(&memscope, &mut target);
    for step in ["stop", "start"] {
        memscope.ok(&[step, &pid]);
        let output = memscope.ok(&["print", &pid, "--age", "0"]);
        assert!(
            output.stdout.contains("note: collection samples since it cost more"),
            "after {step}\n{output}"
        );
    }
    target.act("mix 20000 7");
    let recorded = session.print().entries.len();
    assert!(recorded < 2_000, "{recorded} of 20000 were recorded");
    session.detach();
}

#[test]
fn blocks_from_before_the_budget_brought_sampling_on_count_once_and_later_ones_for_many() {
    let memscope = Memscope::new();
    let mut target = busy();
    let pid = target.pid().to_string();
    let more = ["--max-cpu", "5", "--over-budget", "sample"];
    let session = Session::attach_with(&memscope, target.pid(), &more);
    target.act("take 200 10007");
    sampled_by_its_budget(&memscope, &mut target);
    target.act("mix 60000 7");
    let truth: u64 = target.ledger().0.values().sum();
    let output = memscope.ok(&["report", &pid, "--format", "json"]);
    let report: Value = serde_json::from_str(&output.stdout).expect("a report is JSON");
    let database = &report["databases"][0];
    assert_eq!(database["sampling"]["from_the_start"], false, "{output}");
    let sites = database["sites"].as_array().expect("sites");
    let exact = serde_json::json!({"blocks": 200, "bytes": 200 * 10_007});
    let taken = sites
        .iter()
        .find(|site| site["live"] == exact)
        .unwrap_or_else(|| panic!("no site holds what was taken before sampling began\n{output}"));
    assert_eq!(taken["allocated"], exact);
    let births = taken["births"].as_array().expect("births").iter();
    assert_eq!(births.map(|bin| bin[0].as_u64().unwrap_or(0)).sum::<u64>(), 200);
    let sum: u64 = sites.iter().filter_map(|site| site["live"]["bytes"].as_u64()).sum();
    let error = database["sampling"]["tracked_bytes_error"].as_u64().expect("an error");
    // The bound is 1.96 standard deviations; six are met once in 500 million runs.
    assert!(
        sum.abs_diff(truth) as f64 <= error as f64 * 6.0 / 1.96,
        "{sum} ± {error} for {truth} bytes"
    );
    assert!(error < truth / 2, "a bound that says something: {error} for {truth}");
    session.detach();
}

#[test]
fn a_stop_by_hand_is_not_blamed_on_a_budget_that_was_exceeded_before() {
    let memscope = Memscope::new();
    let mut target = busy();
    let pid = target.pid().to_string();
    let more = ["--max-cpu", "5", "--sample-bytes", "65536"];
    let session = Session::attach_with(&memscope, target.pid(), &more);
    target.act("go");
    assert_stopped_by_budget(&memscope, target.pid());
    target.act("rest");
    for step in ["start", "stop"] {
        memscope.ok(&[step, &pid]);
        let output = memscope.ok(&["print", &pid, "--age", "0", "--limit", "1"]);
        assert!(output.stdout.contains("note: collection samples:"), "{output}");
        assert!(!output.stdout.contains("budget"), "after {step}\n{output}");
    }
    session.detach();
}

#[test]
fn sampled_blocks_are_real_and_their_estimate_holds() {
    let memscope = Memscope::new();
    for seed in [11u32, 222, 3333] {
        let mut target = busy();
        let pid = target.pid();
        let session = Session::attach_with(&memscope, pid, &["--sample-bytes", "65536"]);
        target.act(&format!("mix 60000 {seed}"));
        let ledger = target.ledger();
        let database = session.print();
        let difference = compare(&ledger, &database.entries);
        assert_eq!(
            (difference.invented, difference.size_mismatch),
            (vec![], vec![]),
            "seed {seed}"
        );
        let json = memscope
            .ok(&["print", &pid.to_string(), "--age", "0", "--format", "json"])
            .stdout;
        let json: Value = serde_json::from_str(&json).expect("a report is JSON");
        let estimate = &json["databases"][0]["estimate"];
        let of = |key: &str| estimate[key].as_f64().unwrap_or_else(|| panic!("{key} in {estimate}"));
        let truth: u64 = ledger.0.values().sum();
        // The bound is 1.96 standard deviations; six are met once in 500 million runs.
        let error = (of("bytes") - truth as f64).abs();
        assert!(
            error <= of("bytes_error") * 6.0 / 1.96,
            "seed {seed}: {estimate} for {truth} bytes"
        );
        assert!(
            of("bytes_error") < truth as f64 / 4.0,
            "a bound that says something: {estimate} for {truth}"
        );
        session.detach();
    }
}
