//! What comes after the program, or the main thread, that was attached: an exec, and threads that go on without it.

use std::time::Duration;

use memscope_tests::deadline::{EXIT, until};
use memscope_tests::memscope::Memscope;
use memscope_tests::program::Program;
use memscope_tests::target::Target;
use memscope_tests::{process, text};

/// The report by block, as a program reads it.
fn json(memscope: &Memscope, pid: &str) -> serde_json::Value {
    let printed = memscope.ok(&["print", pid, "--age", "0", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&printed.stdout).expect("JSON");
    document["databases"][0].clone()
}

/// The kernel takes probes out with the thread that they are bound to; the next attach binds them to another for good.
#[test]
fn a_process_attached_again_after_its_main_thread_ended_is_followed_from_then_on() {
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&Program::new("ends.c").build(), &[]);
    let pid = target.pid();
    let session = memscope.attach(&target);
    target.act("take 10007");
    target.act("main_ends");
    until(EXIT, "the main thread to end", || {
        (process::state(pid) == Some('Z')).then_some(())
    });
    memscope.ok(&["attach", &pid.to_string()]);
    target.act("take 20011");
    let database = session.print();
    assert_eq!(database.of_size(20_011).len(), 7, "{database:#?}");
    let printed = memscope.ok(&["print", &pid.to_string(), "--age", "0"]).stdout;
    assert!(
        !printed.contains("bound to"),
        "they are bound to a living thread now\n{printed}"
    );
    let again = memscope.ok(&["attach", &pid.to_string()]);
    assert!(again.stderr.contains("already"), "nothing is to be done\n{again}");
    session.detach();
}

/// From then on nothing is seen: that time is no time of collection, whenever somebody comes back.
#[test]
fn the_time_after_the_thread_of_the_probes_ended_is_a_gap() {
    const BLIND: Duration = Duration::from_secs(3);
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&Program::new("ends.c").build(), &[]);
    let pid = target.pid().to_string();
    let session = memscope.attach(&target);
    target.act("main_ends");
    std::thread::sleep(BLIND);
    let before = json(&memscope, &pid);
    let seconds = |database: &serde_json::Value| database["collection"]["seconds"].as_u64().expect("seconds");
    assert!(seconds(&before) < BLIND.as_secs(), "{}", before["collection"]);
    let report = memscope.ok(&["report", &pid, "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&report.stdout).expect("JSON");
    let window_ms = report["databases"][0]["window_ms"].as_u64().expect("a window");
    assert!(
        window_ms < 1000 * BLIND.as_secs(),
        "it shows no time in which nothing was born: {window_ms} ms"
    );
    memscope.ok(&["attach", &pid]);
    let after = json(&memscope, &pid);
    let gap = after["collection"]["gaps"][0]["seconds"].as_u64().expect("a gap");
    assert!(gap >= BLIND.as_secs(), "{}", after["collection"]);
    assert!(seconds(&after) < BLIND.as_secs(), "{}", after["collection"]);
    session.detach();
}

#[test]
fn a_target_that_outlived_the_thread_of_its_probes_was_not_watched_to_its_end() {
    const UNSEEN: &str = "the thread that the probes were bound to had ended before the target ended";
    let ended_by = |steps: &[&str]| {
        let memscope = Memscope::new();
        let mut target = Target::start::<&str>(&Program::new("ends.c").build(), &[]);
        let pid = target.pid().to_string();
        let session = memscope.attach(&target);
        target.act("take 10007");
        let (last, before) = steps.split_last().expect("an end");
        for step in before {
            target.act(step);
        }
        target.send(last);
        until(EXIT, "the target to end", || {
            (session.print().collection.state == "exited").then_some(())
        });
        let printed = memscope.ok(&["print", &pid, "--age", "0"]).stdout;
        session.detach();
        printed
    };
    let printed = ended_by(&["main_ends", "take 20011", "exit"]);
    assert!(printed.contains(UNSEEN), "{printed}");
    for end in ["exit", "_exit", "kill", "crash"] {
        for steps in [&[end][..], &["beside", "beside", end]] {
            let printed = ended_by(steps);
            assert!(!printed.contains("had ended before"), "{steps:?}\n{printed}");
        }
    }
}

#[test]
fn a_program_replaced_by_exec_is_not_started_but_attached() {
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&Program::new("ends.c").build(), &[]);
    let pid = target.pid();
    let before = text::altered(pid);
    let session = memscope.attach(&target);
    target.act("take 10007");
    target.send("exec again");
    assert_eq!(target.line(EXIT), "ready");
    let output = memscope.run(&["start", &pid.to_string()]).expect_code(2);
    assert!(output.one_error_line().contains("memscope attach"), "{output}");
    text::assert_restored(pid, &before, "start was refused, and the old probes went");
    memscope.ok(&["attach", &pid.to_string()]);
    target.act("take 20011");
    let database = session.print();
    assert_eq!(
        (database.of_size(10_007).len(), database.of_size(20_011).len()),
        (0, 7),
        "{database:#?}"
    );
    session.detach();
}

/// The limits of a target are those of its memory, which its main thread has no part of any more.
#[test]
fn a_full_address_space_is_seen_whether_or_not_the_main_thread_lives() {
    let memscope = Memscope::new();
    for main_ends in [false, true] {
        let mut target = Target::start::<&str>(&Program::new("ends.c").build(), &[]);
        let pid = target.pid().to_string();
        if main_ends {
            target.act("main_ends");
            until(EXIT, "the main thread to end", || {
                (process::state(target.pid()) == Some('Z')).then_some(())
            });
        }
        target.act("no_room");
        let output = memscope.run(&["attach", &pid]).expect_code(3);
        assert!(output.one_error_line().contains("RLIMIT_AS"), "{output}");
        memscope.assert_nothing_left();
    }
}

/// An exec of a program that nobody watches any more leaves its database, but nothing that is told of the program now.
#[test]
fn a_danger_accepted_anew_outlives_an_exec() {
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&Program::new("ends.c").build(), &[]);
    let pid = target.pid().to_string();
    let session = memscope.attach(&target);
    target.send("exec again");
    assert_eq!(target.line(EXIT), "ready");
    memscope.ok(&["attach", &pid, "--accept", "memory"]);
    target.act("no_room");
    memscope.ok(&["stop", &pid]);
    // Only what was accepted may be started with: nothing is allocated by then.
    memscope.ok(&["start", &pid]);
    session.detach();
}

/// Nobody watches for it then: the program itself tells.
#[test]
fn a_program_replaced_while_collection_is_stopped_is_not_taken_for_the_old_one() {
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&Program::new("ends.c").build(), &[]);
    let pid = target.pid().to_string();
    let session = memscope.attach(&target);
    target.act("take 10007");
    memscope.ok(&["stop", &pid]);
    assert_eq!(session.print().collection.state, "stopped");
    target.send("exec again");
    assert_eq!(target.line(EXIT), "ready");
    assert_eq!(session.print().collection.state, "replaced");
    memscope.run(&["check", "--quiet"]).expect_code(6);
    let output = memscope.run(&["start", &pid]).expect_code(2);
    assert!(output.one_error_line().contains("memscope attach"), "{output}");
    memscope.ok(&["attach", &pid]);
    target.act("take 20011");
    let database = session.print();
    assert_eq!(
        (database.of_size(10_007).len(), database.of_size(20_011).len()),
        (0, 7),
        "{database:#?}"
    );
    session.detach();
}
