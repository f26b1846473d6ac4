//! The steps of a session, one by one and together: create, start, stop, destroy, attach, detach, trace.

use std::path::PathBuf;
use std::time::Duration;

use memscope_tests::deadline::{EXIT, REPLY, until};
use memscope_tests::memscope::Memscope;
use memscope_tests::process;
use memscope_tests::program::Program;
use memscope_tests::report::number;
use memscope_tests::session::Session;
use memscope_tests::target::Target;

/// How long collection is stopped for: longer than what the steps around it may be off by.
const GAP: Duration = Duration::from_secs(5);

/// A copy of the program with a name of its own, so that `--comm` and `--exe` find this test's processes only.
fn blocks_named(memscope: &Memscope, name: &str) -> PathBuf {
    let folder = memscope.dirs.run().with_extension("programs");
    std::fs::create_dir_all(&folder).expect("a folder for copies");
    let copy = folder.join(name);
    std::fs::copy(Program::new("blocks.c").build(), &copy).expect("a copy of the program");
    copy
}

/// A name of at most 15 bytes, this process's own.
fn own_name(letter: char) -> String {
    format!("ms{letter}{}", std::process::id())
}

#[test]
fn the_four_steps_say_what_the_old_console_said() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let pid = target.pid().to_string();
    let session = Session::guard(&memscope, target.pid());
    memscope
        .ok(&["create", &pid])
        .expect_told("Creating Memory Scope database");
    target.act("take 3 10007");
    assert_eq!(
        memscope.print(target.pid()).entries.len(),
        0,
        "a database without collection records nothing"
    );
    memscope
        .ok(&["start", &pid])
        .expect_told("Memory scope data collection started");
    target.act("take 5 20011");
    memscope
        .ok(&["stop", &pid])
        .expect_told("Memory scope data collection stopped");
    target.act("take 7 30011");
    let database = memscope.print(target.pid());
    assert_eq!(
        database.entries.len(),
        5,
        "blocks of the time of collection, and of no other: {database:#?}"
    );
    assert_eq!(database.of_size(20_011).len(), 5);
    assert_eq!(database.collection.state, "stopped");
    memscope
        .ok(&["destroy", &pid])
        .expect_told("Memory scope database destroyed, disabling data collection");
    memscope.assert_nothing_left();
    drop(session);
}

#[test]
fn a_gap_in_collection_is_named_in_the_report() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let pid = target.pid().to_string();
    let session = memscope.attach(&target);
    target.act("take 5 10007");
    memscope.ok(&["stop", &pid]);
    target.act("give 2 10007");
    memscope.ok(&["start", &pid]);
    target.act("take 1 20011");
    let output = memscope.ok(&["print", &pid, "--age", "0"]);
    let notes: Vec<&str> = output.stdout.lines().filter(|line| line.starts_with("note:")).collect();
    assert!(
        matches!(notes[..], [note] if note.contains(" entries at least ") && note.ends_with(" were born before that")),
        "the gap is named, and what it makes doubtful\n{output}"
    );
    session.detach();
}

#[test]
fn what_was_allocated_in_a_gap_is_never_taken_for_nothing() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let pid = target.pid().to_string();
    let session = memscope.attach(&target);
    target.act("take 5 10007");
    target.act("give 5 10007");
    memscope.ok(&["stop", &pid]);
    target.act("take 3 20011");
    std::thread::sleep(GAP);
    memscope.ok(&["start", &pid]);
    // Nothing that is known is alive: only the gap says that the report is not all.
    let output = memscope
        .run(&["print", &pid, "--age", "0", "--exit-code"])
        .expect_code(6);
    output.expect_line("MemScope printed 0 entries");
    let note = output.stdout.lines().find(|line| line.starts_with("note:"));
    assert!(
        note.is_some_and(|note| note.contains("allocations and frees in that time were not seen")),
        "{output}"
    );
    let database = session.print();
    let since = database.collection.since.as_u64().expect("it was started");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_secs();
    // `since` is a whole second, and so may be one too few.
    assert!(
        database.collection.seconds + GAP.as_secs() <= now - since + 1,
        "the gap is no time of collection: {} s of {}",
        database.collection.seconds,
        now - since
    );
    session.detach();
}

#[test]
fn attaching_twice_keeps_the_database() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let session = memscope.attach(&target);
    target.act("take 4 10007");
    memscope.ok(&["attach", &target.pid().to_string()]);
    target.act("take 2 20011");
    let database = session.print();
    assert_eq!(
        (database.of_size(10_007).len(), database.of_size(20_011).len()),
        (4, 2),
        "{database:#?}"
    );
    assert_eq!(database.entries.len(), 6, "nothing is counted twice: {database:#?}");
    session.detach();
}

#[test]
fn creating_twice_is_refused_in_one_line() {
    let memscope = Memscope::new();
    let target = Target::blocks();
    let session = memscope.attach(&target);
    let output = memscope.run(&["create", &target.pid().to_string()]);
    assert_ne!(output.code(), 0, "{output}");
    output.one_error_line();
    session.detach();
}

#[test]
fn processes_are_found_by_command_name_and_by_executable() {
    let memscope = Memscope::new();
    let name = own_name('c');
    let program = blocks_named(&memscope, &name);
    let mut targets = [
        Target::start::<&str>(&program, &[]),
        Target::start::<&str>(&program, &[]),
    ];
    let guards = targets.each_ref().map(|target| Session::guard(&memscope, target.pid()));
    let path = program.to_str().expect("the path is text").to_owned();
    for how in [["--comm", &name], ["--exe", &path]] {
        memscope.ok(&["attach", how[0], how[1]]);
        let list = memscope.ok(&["list"]);
        for target in &mut targets {
            assert!(list.stdout.contains(&target.pid().to_string()), "{list}");
            target.act("take 1 10007");
        }
        let output = memscope.ok(&["print", "--age", "0"]);
        for target in &targets {
            output.expect_line(&format!("Target: {} {name}", target.pid()));
        }
        assert_eq!(output.stdout.matches("MemScope list of entries").count(), 2, "{output}");
        memscope.ok(&["detach", "--all"]);
        memscope.assert_nothing_left();
    }
    drop(guards);
    std::fs::remove_dir_all(program.parent().expect("a folder")).expect("the copies go");
}

#[test]
fn a_command_name_nobody_has_is_exit_4() {
    let memscope = Memscope::new();
    memscope
        .run(&["attach", "--comm", "no-such-name"])
        .expect_code(4)
        .one_error_line();
    memscope
        .run(&["attach", "--exe", "/no/such/executable"])
        .expect_code(4)
        .one_error_line();
}

#[test]
fn a_stopped_target_can_be_attached_printed_and_detached() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    process::signal(target.pid(), libc::SIGSTOP);
    until(EXIT, "the target to stop", || {
        (process::state(target.pid()) == Some('T')).then_some(())
    });
    let session = memscope.attach(&target);
    process::signal(target.pid(), libc::SIGCONT);
    target.act("take 4 10007");
    process::signal(target.pid(), libc::SIGSTOP);
    assert_eq!(session.print().of_size(10_007).len(), 4);
    session.detach();
    process::signal(target.pid(), libc::SIGCONT);
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn the_database_of_an_ended_target_stays_printable_until_destroyed() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let pid = target.pid();
    let session = memscope.attach(&target);
    target.act("take 4 10007");
    target.quit();
    let database = session.print();
    assert_eq!(database.of_size(10_007).len(), 4, "{database:#?}");
    assert_eq!(database.collection.state, "exited");
    assert!(memscope.ok(&["list"]).stdout.contains(&pid.to_string()));
    session.detach();
}

#[test]
fn stats_count_what_happened() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let session = memscope.attach(&target);
    target.act("take 9 10007");
    target.act("give 4 10007");
    let output = memscope.ok(&["stats", &target.pid().to_string(), "--format", "json"]);
    assert_eq!(
        (number(&output.stdout, "allocated"), number(&output.stdout, "freed")),
        (9, 4),
        "{output}"
    );
    session.detach();
}

#[test]
fn trace_runs_a_command_and_reports_what_it_held() {
    let memscope = Memscope::new();
    let mut command = memscope.command(&["trace", "--age", "0", "--"]);
    command.arg(Program::new("blocks.c").build());
    let mut trace = Target::spawn(command);
    until(EXIT, "trace to collect", || {
        let print = memscope.run(&["print", "--age", "0", "--format", "json"]);
        (print.code() == 0 && print.stdout.contains("\"collecting\"")).then_some(())
    });
    trace.send("take 3 10007");
    trace.send("quit");
    let ending = trace.ending();
    let said = ending.transcript.join("\n");
    assert_eq!(ending.code, Some(0), "{said}");
    assert_eq!(said.matches("size:0x2717 ").count(), 3, "{said}");
    memscope.assert_nothing_left();
}

/// Two hundred requests, each of which takes blocks of two sizes and gives the second back; the first only when it is no leak.
fn requests(target: &mut Target, leak: bool) {
    for _ in 0..200 {
        target.act("take 1 10007");
        target.act("take 3 20011");
        target.act("give 3 20011");
        if !leak {
            target.act("give 1 10007");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn marks_tell_a_request_that_leaks_from_one_that_does_not() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let session = memscope.attach(&target);
    let pid = target.pid().to_string();
    // What was there before is neither's.
    target.act("take 50 31");
    let mark = |name: &str| drop(memscope.ok(&["mark", &pid, name]));
    mark("first");
    requests(&mut target, true);
    mark("second");
    requests(&mut target, false);
    mark("third");
    let printed = |more: &[&str]| memscope.print_with(target.pid(), more).entries.len();
    assert_eq!(printed(&[]), 250);
    assert_eq!(printed(&["--between", "first", "second"]), 200);
    assert_eq!(printed(&["--between", "second", "third"]), 0);
    assert_eq!(printed(&["--since", "second"]), 0);
    assert_eq!(printed(&["--since", "first"]), 200);
    let report = |from: &str, to: &str| -> serde_json::Value {
        let arguments = ["report", &pid, "--between", from, to, "--format", "json"];
        let text = memscope.ok(&arguments).stdout;
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["databases"][0].clone()
    };
    let leaking = report("first", "second");
    let site = &leaking["sites"][0];
    assert_eq!(
        (&site["live"]["blocks"], &site["allocated"]["blocks"]),
        (&200.into(), &800.into()),
        "{leaking:#}"
    );
    let clean = report("second", "third");
    let site = &clean["sites"][0];
    assert_eq!(
        (&site["live"]["blocks"], &site["allocated"]["blocks"]),
        (&0.into(), &800.into()),
        "{clean:#}"
    );
    // A short span is judged once what was born in it has had its time to be freed. How sure a leak is then depends on how
    // evenly this machine let the requests come; that it is no clean bill does not.
    let check = |from: &str, to: &str| memscope.run(&["check", &pid, "--between", from, to]);
    until(REPLY, "a clean bill", || {
        (check("second", "third").code() == 0).then_some(())
    });
    let found = check("first", "second");
    assert!([1, 6].contains(&found.code()), "{found}");
    assert!(found.code() == 6 || found.stdout.contains("layer_one"), "{found}");
    let print = [
        "print",
        &pid,
        "--age",
        "0",
        "--exit-code",
        "--between",
        "first",
        "second",
    ];
    assert_eq!(memscope.run(&print).code(), 1);
    let unknown = memscope.run(&["report", &pid, "--since", "fourth"]).expect_code(2);
    assert!(
        unknown.one_error_line().contains("it has: first, second, third"),
        "{unknown}"
    );
    session.detach();
}
