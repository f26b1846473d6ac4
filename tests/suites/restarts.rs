//! Coming back to a database: after stops, refusals, the end of the target, and code loaded since.

use std::process::Stdio;
use std::time::Duration;

use memscope_tests::deadline::{COMMAND, EXIT, until};
use memscope_tests::memscope::{self, Memscope};
use memscope_tests::process;
use memscope_tests::program::Program;
use memscope_tests::session::Session;
use memscope_tests::target::Target;

const OWN: [&str; 4] = [
    "--alloc",
    "slow_take(size=0) -> ret",
    "--realloc",
    "slow_move(ptr=0,size=1) -> ret",
];

fn slow() -> Target {
    Target::start::<&str>(&Program::new("slow_realloc.c").build(), &[])
}

#[test]
fn a_block_in_the_hands_of_a_realloc_outlives_a_stop() {
    let memscope = Memscope::new();
    let mut target = slow();
    let session = Session::attach_with(&memscope, target.pid(), &OWN);
    target.act("take 10007");
    target.act("move 20011");
    assert_eq!(session.print().of_size(10_007).len(), 1, "while it runs");
    memscope.ok(&["stop", &target.pid().to_string()]);
    assert_eq!(session.print().of_size(10_007).len(), 1, "when it is stopped");
    memscope.ok(&["start", &target.pid().to_string()]);
    assert_eq!(session.print().of_size(10_007).len(), 1, "when it goes on");
    session.detach();
}

#[test]
fn a_block_in_the_hands_of_a_realloc_outlives_the_target() {
    let memscope = Memscope::new();
    let mut target = slow();
    let session = Session::attach_with(&memscope, target.pid(), &OWN);
    target.act("take 10007");
    target.act("move 20011");
    process::signal(target.pid(), libc::SIGKILL);
    until(EXIT, "the target to end", || {
        (session.print().collection.state == "exited").then_some(())
    });
    assert_eq!(session.print().of_size(10_007).len(), 1);
    session.detach();
}

/// Its place in the database may be another block's by then: that costs the block, and is counted, but nothing else.
#[test]
fn a_block_in_the_hands_of_a_realloc_that_finds_the_database_full_hinders_neither_stop_nor_start() {
    let memscope = Memscope::new();
    let mut target = slow();
    let pid = target.pid().to_string();
    let session = Session::attach_with(&memscope, target.pid(), &[&OWN[..], &["--max-blocks", "1000"]].concat());
    target.act("take 10007");
    target.act("move 20011");
    until(COMMAND, "the database to be full", || {
        for _ in 0..400 {
            target.act("hold 1009");
        }
        session.print().losses.contains_key("live_full").then_some(())
    });
    memscope.ok(&["stop", &pid]);
    let stopped = session.print();
    assert_eq!(stopped.of_size(10_007).len(), 0, "there is no room for it");
    assert_eq!(stopped.losses.get("restore_failed"), Some(&1), "{:?}", stopped.losses);
    memscope.ok(&["start", &pid]);
    session.detach();
}

#[test]
fn a_realloc_whose_thread_ends_inside_takes_nothing_from_whoever_has_the_place_of_its_block_now() {
    let memscope = Memscope::new();
    let mut target = slow();
    let session = Session::attach_with(&memscope, target.pid(), &OWN);
    target.act("take 10007");
    target.act("swap 20011");
    let database = session.print();
    assert_eq!(
        (database.of_size(10_007).len(), database.of_size(20_011).len()),
        (0, 1),
        "{database:#?}"
    );
    session.detach();
}

/// A thread's exit is no measure of when a target ended that was not watched to its end.
#[test]
fn a_target_that_ends_after_a_stop_keeps_what_was_collected_and_its_database() {
    let memscope = Memscope::new();
    let mut target = slow();
    let mut other = Target::blocks();
    let pid = target.pid().to_string();
    let session = memscope.attach(&target);
    target.act("thread");
    std::thread::sleep(Duration::from_millis(1100));
    for _ in 0..4 {
        target.act("hold 10007");
    }
    memscope.ok(&["stop", &pid]);
    target.quit();
    assert_eq!(session.print().of_size(10_007).len(), 4);
    let report = memscope.ok(&["report", &pid, "--format", "json"]);
    assert!(
        report.stdout.contains(r#""live":{"blocks":4,"bytes":40028}"#),
        "{report}"
    );
    assert!(report.stdout.contains("stopped before the target ended"), "{report}");
    let removed = memscope.ok(&["gc", "--older-than", "1"]);
    assert!(
        removed.stderr.contains("0 databases"),
        "its end has just been seen\n{removed}"
    );
    other.act("take 1 20011");
    drop(memscope.attach(&other));
    assert_eq!(
        session.print().of_size(10_007).len(),
        4,
        "attaching another process removes nothing"
    );
    std::thread::sleep(Duration::from_millis(2100));
    let removed = memscope.ok(&["gc", "--older-than", "1"]);
    assert!(
        removed.stderr.contains("1 databases"),
        "it has aged meanwhile\n{removed}"
    );
}

#[test]
fn a_busy_target_refused_for_its_budget_keeps_the_database_it_had() {
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&Program::new("busy.c").build(), &[]);
    let pid = target.pid().to_string();
    let session = Session::attach_with(&memscope, target.pid(), &["--max-cpu", "5"]);
    target.act("take 100 10007");
    memscope.ok(&["stop", &pid]);
    target.act("go");
    memscope.run(&["attach", &pid, "--max-cpu", "5"]).expect_code(3);
    target.act("rest");
    let database = session.print();
    assert_eq!(database.of_size(10_007).len(), 100, "{:?}", database.collection);
    assert_eq!(database.collection.state, "stopped");
    session.detach();
}

#[test]
fn limits_given_to_a_database_that_has_others_are_refused() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let pid = target.pid().to_string();
    let session = Session::attach_with(&memscope, target.pid(), &["--max-cpu", "50"]);
    target.act("take 3 10007");
    memscope.ok(&["attach", &pid]);
    memscope.ok(&["attach", &pid, "--max-cpu", "50"]);
    for others in [
        &["--max-cpu", "5"][..],
        &["--max-cpu", "50", "--over-budget", "sample"],
        &["--sample-bytes", "4096"],
        &["--max-blocks", "1000"],
    ] {
        let output = memscope.run(&[&["attach", &pid], others].concat()).expect_code(2);
        assert!(output.one_error_line().contains(others[0]), "{output}");
    }
    assert_eq!(session.print().of_size(10_007).len(), 3);
    session.detach();
}

#[test]
fn a_budget_that_could_do_nothing_is_refused() {
    let memscope = Memscope::new();
    let target = Target::blocks();
    let both = ["--max-cpu", "5", "--over-budget", "sample", "--sample-bytes", "4096"];
    let output = memscope
        .run(&[&["attach", &target.pid().to_string()], &both[..]].concat())
        .expect_code(2);
    assert!(output.one_error_line().contains("--over-budget"), "{output}");
    memscope.assert_nothing_left();
}

/// What cannot be told or written down now is no reason to take a database for an old one.
#[test]
fn a_database_whose_end_cannot_be_noted_is_kept() {
    let memscope = Memscope::new();
    let mut target = slow();
    let pid = target.pid().to_string();
    let session = memscope.attach(&target);
    target.act("hold 10007");
    memscope.ok(&["stop", &pid]);
    target.quit();
    // As on a full file system: no file can be written.
    let gc = memscope.command(&["gc", "--older-than", "1d"]);
    let mut unable = std::process::Command::new("sh");
    unable
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .arg(gc.get_program())
        .args(gc.get_args());
    for (name, value) in gc.get_envs() {
        value.map(|value| unable.env(name, value));
    }
    let failed = memscope::complete(unable);
    assert_ne!(failed.code(), 0, "{failed}");
    assert_eq!(session.print().of_size(10_007).len(), 1);
    let removed = memscope.ok(&["gc", "--older-than", "1d"]);
    assert!(removed.stderr.contains("0 databases"), "{removed}");
    session.detach();
}

/// What a start would have refused for is not done later either, when a library brings it.
#[test]
fn a_library_loaded_later_whose_functions_may_throw_is_left_alone_and_the_report_says_so() {
    let memscope = Memscope::new();
    let library = Program::new("lib_throwing.cpp")
        .flags(&["-O1", "-shared", "-fPIC"])
        .build();
    let mut target = Target::start::<&str>(&Program::new("loads.c").build(), &[]);
    let pid = target.pid().to_string();
    let session = Session::attach_with(&memscope, target.pid(), &["--alloc", "pool_get(size=0) -> ret"]);
    target.act("pool 10007");
    target.act(&format!("open {}", library.display()));
    let output = memscope.run(&["attach", &pid]).expect_code(3);
    assert!(output.one_error_line().contains("--accept exceptions"), "{output}");
    // Even sizes are thrown for.
    target.act("take 20010");
    assert_eq!(session.print().of_size(10_007).len(), 1);
    let printed = memscope.ok(&["print", &pid, "--age", "0"]).stdout;
    assert!(
        printed
            .lines()
            .any(|line| line.starts_with("note:") && line.contains("pool_get")),
        "{printed}"
    );
    target.act("close");
    memscope.ok(&["attach", &pid]);
    let printed = memscope.ok(&["print", &pid, "--age", "0"]).stdout;
    assert!(!printed.contains("pool_get of"), "the library has gone\n{printed}");
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

/// Whether anybody reads what a command says decides nothing.
#[test]
fn a_stderr_that_nobody_reads_leaves_nothing_half_done() {
    let memscope = Memscope::new();
    let (first, second) = (Target::blocks(), Target::blocks());
    let sessions = (memscope.attach(&first), memscope.attach(&second));
    let mut detach = memscope.command(&["detach", "--all"]);
    let mut detach = detach.stderr(Stdio::piped()).spawn().expect("memscope starts");
    drop(detach.stderr.take());
    process::wait(&mut detach, COMMAND).expect("detach ends");
    memscope.assert_nothing_left();
    drop(sessions);

    let full = std::fs::File::create("/dev/full").expect("/dev/full");
    let mut trace = memscope.command(&["trace", &first.pid().to_string(), "--for", "1", "--age", "0"]);
    let mut trace = trace
        .stdout(Stdio::null())
        .stderr(full)
        .spawn()
        .expect("memscope starts");
    process::wait(&mut trace, COMMAND).expect("trace ends");
    memscope.assert_nothing_left();
}

#[test]
fn a_trace_around_a_command_ends_with_a_signal() {
    let memscope = Memscope::new();
    let target = Target::blocks();
    let pid = target.pid().to_string();
    let mut trace = memscope.command(&["trace", &pid, "--age", "0", "--", "sleep", "30"]);
    let trace = trace.stdout(Stdio::null()).stderr(Stdio::null());
    let mut trace = trace.spawn().expect("memscope starts");
    until(EXIT, "the command to be marked around", || {
        let report = memscope.run(&["print", &pid, "--since", "trace-before", "--age", "0"]);
        (report.code() == 0).then_some(())
    });
    process::signal(trace.id(), libc::SIGTERM);
    let ended = process::wait(&mut trace, Duration::from_secs(20)).expect("the signal ends it");
    assert_eq!(ended.code(), Some(0));
    memscope.assert_nothing_left();
}
