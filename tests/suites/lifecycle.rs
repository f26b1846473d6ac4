//! Births and deaths of targets: children, exec, every way to end, pids used again, short lives, libraries that come and go.

use std::process::Command;
use std::time::Instant;

use memscope_tests::deadline::{EXIT, until};
use memscope_tests::difference::assert_same;
use memscope_tests::memscope::Memscope;
use memscope_tests::process;
use memscope_tests::program::Program;
use memscope_tests::report::{Database, number};
use memscope_tests::session::Session;
use memscope_tests::target::Target;
use memscope_tests::traced::Traced;

fn start(source: &str) -> Target {
    Target::start::<&str>(&Program::new(source).build(), &[])
}

fn children(command: &str, blocks: usize) {
    let seen = Traced::new(&Program::new("children.c").build())
        .set_aside_the_linkers_own()
        .run(&[command]);
    assert_eq!(seen.ledger.len(), blocks);
}

#[test]
fn a_forked_child_changes_nothing_in_the_parents_database() {
    children("fork", 110);
}

#[test]
fn a_fork_among_allocating_threads_changes_nothing_either() {
    children("fork_threads", 110);
}

#[test]
fn vfork_and_exec_leave_the_parents_set_exact() {
    children("vfork", 120);
}

#[test]
fn posix_spawn_leaves_the_parents_set_exact() {
    children("spawn", 120);
}

/// Takes blocks, lets the target end, and demands that the database says so and still holds the blocks.
fn ends(command: &str, code: Option<i32>, signal: Option<i32>) {
    let memscope = Memscope::new();
    let mut target = start("ends.c");
    let session = memscope.attach(&target);
    target.act("take 10007");
    target.send(command);
    let ending = target.ending();
    assert_eq!(
        (ending.code, ending.signal),
        (code, signal),
        "the end is the target's own"
    );
    let database = session.print();
    assert_eq!(database.collection.state, "exited", "{database:#?}");
    assert_eq!(database.of_size(10_007).len(), 7, "{database:#?}");
    session.detach();
}

#[test]
fn a_database_stays_printable_after_exit() {
    ends("exit", Some(7), None);
}

#[test]
fn a_database_stays_printable_after_underscore_exit() {
    ends("_exit", Some(8), None);
}

#[test]
fn a_database_stays_printable_after_abort() {
    ends("abort", None, Some(libc::SIGABRT));
}

#[test]
fn a_database_stays_printable_after_sigkill() {
    ends("kill", None, Some(libc::SIGKILL));
}

#[test]
fn exec_empties_the_database_and_marks_it() {
    let memscope = Memscope::new();
    let mut target = start("ends.c");
    let session = memscope.attach(&target);
    target.act("take 10007");
    target.send("exec again");
    assert_eq!(target.line(EXIT), "ready", "the new image is up");
    let database = session.print();
    assert_eq!(
        database.of_size(10_007).len(),
        0,
        "blocks of the old image are gone: {database:#?}"
    );
    assert_ne!(
        database.collection.state, "collecting",
        "the new image is not silently taken for traced: {database:#?}"
    );
    target.act("take 20011");
    session.detach();
    // The pid has a new image: attached anew, it is traced like any other.
    let session = memscope.attach(&target);
    target.act("take 30011");
    let database = session.print();
    assert_eq!(database.of_size(30_011).len(), 7, "{database:#?}");
    assert_eq!(database.of_size(20_011).len(), 0, "{database:#?}");
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn a_process_whose_main_thread_has_ended_is_followed_or_its_report_says_that_it_is_not() {
    let memscope = Memscope::new();
    let mut target = start("ends.c");
    let session = memscope.attach(&target);
    target.act("take 10007");
    target.act("main_ends");
    let pid = target.pid();
    until(EXIT, "the main thread to end", || {
        (process::state(pid) == Some('Z')).then_some(())
    });
    target.act("take 20011");
    let database = session.print().without_the_linkers_own();
    assert_eq!(database.of_size(10_007).len(), 7, "{database:#?}");
    if database.collection.state == "collecting" && database.lost() == 0 {
        let text = memscope.ok(&["print", &pid.to_string(), "--age", "0"]).stdout;
        if !text.lines().any(|line| line.starts_with("note:")) {
            assert_same(&target.ledger(), &database, "a process without its main thread");
        }
    }
    session.detach();
    target.act("take 30011");
}

#[test]
fn a_process_that_ends_during_attach_leaves_nothing_that_cannot_be_removed() {
    let memscope = Memscope::new();
    let program = Program::new("short_lived.c").build();
    for _ in 0..20 {
        let mut child = Command::new(&program).spawn().expect("the program starts");
        let pid = child.id().to_string();
        let output = memscope.run(&["attach", &pid]);
        assert!([0, 4].contains(&output.code()), "{output}");
        child.wait().expect("it ends");
        if output.code() == 4 {
            output.one_error_line();
        } else {
            memscope.ok(&["print", &pid, "--age", "0"]);
        }
        memscope.run(&["detach", &pid]);
        memscope.assert_nothing_left();
    }
}

#[test]
fn a_pid_used_again_is_another_target() {
    let memscope = Memscope::new();
    let mut first = start("blocks.c");
    let pid = first.pid();
    let session = memscope.attach(&first);
    first.act("take 3 10007");
    first.quit();

    let mut command = Command::new(Program::new("with_pid.c").build());
    command.arg(pid.to_string()).arg(Program::new("blocks.c").build());
    let mut second = Target::start_command(command);
    memscope.ok(&["attach", &pid.to_string()]);
    let second_session = Session::guard(&memscope, pid);
    second.act("take 5 20011");
    let output = memscope.ok(&["list"]);
    assert!(output.stdout.contains(&pid.to_string()), "{output}");
    let report = memscope.ok(&["print", &pid.to_string(), "--age", "0", "--format", "json"]);
    let report = memscope_tests::report::Report::parse(&report.stdout);
    let newest = report
        .databases
        .iter()
        .max_by_key(|database| database.target.start_time)
        .expect("a database");
    assert_eq!(
        (newest.of_size(20_011).len(), newest.of_size(10_007).len()),
        (5, 0),
        "{report:#?}"
    );
    for database in &report.databases {
        let sizes = (database.of_size(10_007).len(), database.of_size(20_011).len());
        assert!(
            sizes == (3, 0) || sizes == (0, 5),
            "no database mixes two processes: {report:#?}"
        );
    }
    // The ends and execs of the second are not the first one's.
    let all = memscope.ok(&["print", "--age", "0", "--format", "json"]);
    let all = memscope_tests::report::Report::parse(&all.stdout);
    let oldest = all
        .databases
        .iter()
        .min_by_key(|database| database.target.start_time)
        .expect("a database");
    assert_eq!(
        (oldest.collection.state.as_str(), oldest.of_size(10_007).len()),
        ("exited", 3),
        "{all:#?}"
    );
    memscope.run(&["detach", "--all"]);
    memscope.assert_nothing_left();
    drop((session, second_session));
}

#[test]
fn gc_removes_databases_of_dead_targets_and_no_other() {
    let memscope = Memscope::new();
    let (dead, mut living) = (start("blocks.c"), start("blocks.c"));
    let first = memscope.attach(&dead);
    let second = memscope.attach(&living);
    let dead_pid = dead.pid().to_string();
    dead.quit();
    living.act("take 3 10007");
    memscope.ok(&["gc", "--older-than", "0"]);
    let list = memscope.ok(&["list"]).stdout;
    assert!(
        !list
            .lines()
            .any(|line| line.split_whitespace().any(|word| word == dead_pid)),
        "{list}"
    );
    assert_eq!(second.print().of_size(10_007).len(), 3);
    drop(first);
    second.detach();
}

#[test]
fn a_library_loaded_after_attach_is_traced_and_unloading_it_disturbs_nothing() {
    let library = Program::new("lib_alloc.c").flags(&["-shared", "-fPIC"]).build();
    let library = library.to_str().expect("the path is text");
    let open = format!("open {library}");
    let seen = Traced::new(&Program::new("loads.c").build())
        .set_aside_the_linkers_own()
        .run(&[&open, "take 10007", "close", &open, "take 20011"]);
    assert_eq!(seen.database.of_size(10_007).len(), 5);
    let entry = seen.database.of_size(20_011)[0];
    let names = seen.database.functions(entry);
    assert_eq!(names[0], "malloc", "{names:?}");
}

#[test]
fn stacks_into_a_library_loaded_after_attach_are_counted_as_stale_until_a_refresh() {
    let library = Program::new("lib_alloc.c").flags(&["-shared", "-fPIC"]).build();
    let memscope = Memscope::new();
    let mut target = start("loads.c");
    let pid = target.pid().to_string();
    let session = memscope.attach(&target);
    let stale = || -> u64 {
        let stats = memscope.ok(&["stats", &pid, "--format", "json"]);
        if stats.stdout.contains("stale_tables") {
            number(&stats.stdout, "stale_tables")
        } else {
            0
        }
    };
    let at_first = stale();
    target.act(&format!("open {}", library.to_str().expect("the path is text")));
    target.act("take 10007");
    let met = stale();
    assert!(
        met >= at_first + 6,
        "six blocks were taken by the new library: {met} after {at_first}"
    );
    memscope.ok(&["refresh", &pid]);
    target.act("take 20011");
    assert_eq!(stale(), met, "the tables are fresh");
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

/// The plug-in whose allocating function has this name.
fn plugin(build: &str) -> String {
    let define = format!("-DBUILD={build}");
    let library = Program::new("plugin.c").flags(&["-shared", "-fPIC", &define]).build();
    // As the kernel tells it, without `..`.
    let library = library.canonicalize().expect("the library");
    library.to_str().expect("the path is text").to_owned()
}

/// Where the target has mapped this file's code.
fn code_of(target: &Target, file: &str) -> String {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid())).expect("its mappings");
    let mut lines = maps
        .lines()
        .filter(|line| line.contains(" r-xp ") && line.ends_with(file));
    let line = lines.next().unwrap_or_else(|| panic!("{file} is not mapped\n{maps}"));
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

/// The names and the end of the stack that all blocks of a size have.
fn stack_of(database: &Database, size: u64) -> (Vec<String>, Option<String>) {
    let blocks = database.of_size(size);
    assert_eq!(blocks.len(), 5, "{database:#?}");
    let names = database.functions(blocks[0]).into_iter().map(str::to_owned).collect();
    (names, database.stack(blocks[0]).end.clone())
}

const WHOLE: &str = "outermost frame";
const REPLACED: &str = "code replaced before it was looked at";

#[test]
fn a_library_in_the_place_of_another_has_not_its_names() {
    let (first, other) = (plugin("first_build"), plugin("other_build"));
    let memscope = Memscope::new();
    let mut target = start("loads.c");
    target.act(&format!("open {first}"));
    let place = code_of(&target, &first);
    let session = memscope.attach(&target);
    target.act("close");
    target.act(&format!("open {other}"));
    assert_eq!(code_of(&target, &other), place, "the hole of the first is taken");
    target.act("take 20011");
    let (names, end) = stack_of(&session.print(), 20_011);
    assert_eq!(
        names,
        ["malloc"],
        "no name of the other build, and no frame found by its rules"
    );
    assert_eq!(end.as_deref(), Some(REPLACED));
    let stats = memscope.ok(&["stats", &target.pid().to_string()]).stdout;
    assert!(stats.contains(REPLACED), "{stats}");
    // That print has looked: from now on it is known.
    target.act("take 30011");
    let (names, end) = stack_of(&session.print(), 30_011);
    assert_eq!(names[..3], ["malloc", "other_build", "lib_take"]);
    assert_eq!(end.as_deref(), Some(WHOLE));
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn blocks_of_a_library_that_was_seen_in_its_place_keep_its_names() {
    let (first, other) = (plugin("first_build"), plugin("other_build"));
    let memscope = Memscope::new();
    let mut target = start("loads.c");
    target.act(&format!("open {first}"));
    let place = code_of(&target, &first);
    let session = memscope.attach(&target);
    target.act("take 10007");
    let of_first = |database: &Database| {
        let (names, end) = stack_of(database, 10_007);
        assert_eq!(names[..3], ["malloc", "first_build", "lib_take"]);
        assert_eq!(end.as_deref(), Some(WHOLE));
    };
    of_first(&session.print());
    target.act("close");
    target.act(&format!("open {other}"));
    assert_eq!(code_of(&target, &other), place, "the hole of the first is taken");
    memscope.ok(&["refresh", &target.pid().to_string()]);
    target.act("take 20011");
    let database = session.print();
    of_first(&database);
    assert_eq!(
        stack_of(&database, 20_011).0[..3],
        ["malloc", "other_build", "lib_take"]
    );
    // Where nothing has taken its place, a library that has gone keeps its names as well.
    target.act("close");
    let database = session.print();
    assert_eq!(
        stack_of(&database, 20_011).0[..3],
        ["malloc", "other_build", "lib_take"]
    );
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn code_that_is_made_all_the_time_does_not_make_the_session_grow() {
    let memscope = Memscope::new();
    let mut target = start("hostile.c");
    let session = memscope.attach(&target);
    let mut length = 0;
    for print in 0..50 {
        target.act("jit");
        target.act("take 10007");
        session.print();
        let (file, now) = memscope.session_file();
        let generations = file["generations"].as_array().expect("generations").len();
        assert!(generations <= 2, "{generations} after {print} prints");
        if print == 1 {
            length = now;
        }
    }
    let (file, now) = memscope.session_file();
    assert!(now < length + 4096, "{length} bytes grew to {now}");
    let seen = file["generations"][0]["until"].as_u64();
    assert!(
        seen >= Some(50),
        "each print took the new code into the tables: {seen:?}"
    );
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn a_library_loaded_into_a_namespace_of_its_own_is_traced_with_its_own_libc() {
    let library = Program::new("lib_alloc.c").flags(&["-shared", "-fPIC"]).build();
    let open = format!("namespace {}", library.to_str().expect("the path is text"));
    let memscope = Memscope::new();
    let mut target = start("loads.c");
    target.act(&open);
    let session = memscope.attach(&target);
    target.act("take 10007");
    assert_same(
        &target.ledger(),
        &session.print().without_the_linkers_own(),
        "two libcs in one process",
    );
    session.detach();
}

#[test]
fn an_allocator_loaded_after_attach_is_probed_after_a_refresh() {
    let library = Program::new("lib_alloc.c")
        .flags(&["-shared", "-fPIC", "-Wl,--no-as-needed", "-l:libtcmalloc_minimal.so.4"])
        .build();
    let memscope = Memscope::new();
    let mut target = start("loads.c");
    let pid = target.pid().to_string();
    let session = memscope.attach(&target);
    target.act(&format!("namespace {}", library.to_str().expect("the path is text")));
    memscope.ok(&["refresh", &pid]);
    target.act("take 10007");
    let database = session.print();
    let entry = *database.of_size(10_007).first().expect("a block of the new allocator");
    let stack = database.stack(entry);
    assert_eq!(database.functions(entry)[..2], ["malloc", "lib_take"], "{stack:#?}");
    assert!(stack.complete, "{stack:#?}");
    assert_same(
        &target.ledger(),
        &database.without_the_linkers_own(),
        "an allocator loaded late",
    );
    let again = memscope.ok(&["refresh", &pid]);
    assert!(again.stderr.contains("0 functions more"), "{again}");
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn two_targets_at_once_are_kept_apart() {
    let memscope = Memscope::new();
    let (mut first, mut second) = (start("blocks.c"), start("blocks.c"));
    let sessions = (memscope.attach(&first), memscope.attach(&second));
    first.act("take 30 10007");
    second.act("take 20 20011");
    first.act("give 10 10007");
    assert_same(&first.ledger(), &sessions.0.print(), "the first target");
    assert_same(&second.ledger(), &sessions.1.print(), "the second target");
    drop(sessions.0);
    second.act("take 1 30011");
    assert_same(
        &second.ledger(),
        &sessions.1.print(),
        "the second target after the first was detached",
    );
    sessions.1.detach();
}

#[test]
fn two_attaches_at_once_make_one_database() {
    let memscope = Memscope::new();
    let mut target = start("blocks.c");
    let session = Session::guard(&memscope, target.pid());
    let pid = target.pid().to_string();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| memscope.ok(&["attach", &pid]));
        }
    });
    target.act("take 30 10007");
    assert_same(&target.ledger(), &session.print(), "attached four times at once");
    session.detach();
}

/// Eight threads allocate all the while: runs are sent ahead, so that the target never waits for the next one. They pause
/// between operations, so that a thousand rounds can be done again without probes in less time.
#[test]
fn attach_and_detach_again_and_again_harm_nobody() {
    const RUN: &str = "run 400000";
    const AHEAD: usize = 16;
    let rounds = if std::env::var_os("MEMSCOPE_TEST_ALL").is_some() {
        1_000
    } else {
        15
    };
    let program = Program::new("ledger_mt.c").build();
    let arguments = ["--threads", "8", "--seed", "11"];
    let memscope = Memscope::new();
    let mut target = Target::start(&program, &[&arguments[..], &["--pause", "20"]].concat());
    let pid = target.pid();
    let (mut sent, mut answers) = (0, Vec::new());
    let began = Instant::now();
    for round in 0..rounds {
        while sent < answers.len() + AHEAD {
            target.send(RUN);
            sent += 1;
        }
        let session = memscope.attach(&target);
        let stats = memscope.ok(&["stats", &pid.to_string(), "--format", "json"]);
        let events = number(&stats.stdout, "allocated");
        assert!(events > 0, "round {round}: the threads allocate while they are traced");
        session.detach();
        let altered = memscope_tests::text::altered(pid);
        assert_eq!(altered, [], "round {round}: no probe is left");
        answers.extend(std::iter::from_fn(|| target.line_at_hand()));
        if round % 50 == 49 {
            println!("{} rounds, {:?} each", round + 1, began.elapsed() / (round + 1));
        }
        assert!(
            answers.len() < sent,
            "round {round}: the threads were at work until its end"
        );
    }
    while answers.len() < sent {
        answers.push(target.line(memscope_tests::deadline::COMMAND));
    }
    let mut untraced = Target::start(&program, &arguments);
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, untraced.ask(RUN), "answer {number} of {sent}");
    }
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn a_target_under_strace_is_traced_all_the_same() {
    let memscope = Memscope::new();
    let mut target = start("blocks.c");
    let pid = target.pid().to_string();
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-p", &pid])
        .spawn()
        .expect("strace is installed by the tests' set-up");
    until(EXIT, "strace to attach", || tracer_of(&pid).then_some(()));
    let session = memscope.attach(&target);
    target.act("take 30 10007");
    target.act("give 10 10007");
    assert_same(&target.ledger(), &session.print(), "under strace");
    session.detach();
    strace.kill().expect("strace is ours");
    strace.wait().expect("strace ends");
    assert_eq!(target.quit().code, Some(0));
}

fn tracer_of(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| {
        line.strip_prefix("TracerPid:")
            .is_some_and(|tracer| tracer.trim() != "0")
    })
}

#[test]
fn a_target_with_a_strict_seccomp_filter_survives_or_attach_refuses() {
    let memscope = Memscope::new();
    let mut target = start("seccomp.c");
    let session = Session::guard(&memscope, target.pid());
    let output = memscope.run(&["attach", &target.pid().to_string()]);
    if output.code() == 0 {
        target.act("work");
        assert_same(&target.ledger(), &session.print(), "under a strict filter");
        session.detach();
    } else {
        assert_eq!(output.code(), 3, "{output}");
        assert!(output.one_error_line().contains("seccomp"), "{output}");
        memscope.assert_nothing_left();
        target.act("work");
    }
    assert_eq!(target.quit().code, Some(0), "the filter killed nobody");
}
