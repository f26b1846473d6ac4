//! Stacks are whole and equal to a reference's, without frame pointers: libgcc's unwinder inside the program, and gdb.

use std::process::Command;

use memscope_tests::deadline::REPLY;
use memscope_tests::memscope::Memscope;
use memscope_tests::program::Program;
use memscope_tests::report::{Database, Frame};
use memscope_tests::stacks::corpus::{Subject, c_program, cxx_program, library, widest};
use memscope_tests::stacks::debugger;
use memscope_tests::stacks::reported::{self, ReportedStack};
use memscope_tests::stacks::run::{Row, run};
use memscope_tests::target::Target;
use memscope_tests::workload::Kind;

/// Runs subjects, shows their lines, and demands that all stacks are the reference's but for those that end for a reason
/// named here.
fn equal(subjects: &[Subject], but_for: &[&str]) -> Vec<Row> {
    let rows: Vec<Row> = subjects.iter().map(run).collect();
    for row in &rows {
        println!("{row}");
        let examples = row.difference.examples.join("\n");
        assert!(row.difference.stacks > 0, "{row}");
        assert!(row.equal_but_for(but_for), "{row}\n{examples}");
    }
    rows
}

/// A handler that interrupts a function which calls nothing, where the table has no row, ends its stack there.
#[test]
fn stacks_of_c_are_libgccs_however_it_is_built() {
    let builds = [&["-O0"][..], &["-O2"], widest(), &["-O2", "-flto"]];
    for row in equal(&builds.map(Subject::c), &["signal frame"]) {
        assert!(
            row.difference.reasons.values().sum::<u64>() <= 4,
            "two rounds of two handlers that come when they like: {row}"
        );
        assert!(row.difference.stacks > 100, "{row}");
    }
}

#[test]
fn stacks_of_cxx_are_libgccs_also_while_an_exception_is_in_flight() {
    equal(&[&["-O0"][..], &["-O2"]].map(Subject::cxx), &[]);
}

#[test]
fn stacks_of_rust_are_libgccs() {
    equal(&[Subject::rust(&["-Copt-level=3"])], &[]);
}

#[test]
fn stacks_of_everyday_programs_are_libgccs() {
    let programs = [Kind::Redis, Kind::Sqlite, Kind::Nginx, Kind::Perl, Kind::Git];
    equal(&programs.map(|kind| Subject::everyday(kind).rounds(1)), &[]);
}

#[test]
fn a_stack_deeper_than_the_limit_is_equal_so_far_and_says_that_it_ends() {
    let rows = equal(&[Subject::deeper()], &["frame limit"]);
    assert_eq!(rows[0].difference.reasons["ends early, equal so far: frame limit"], 2);
}

fn functions(frames: &[Frame]) -> Vec<&str> {
    frames
        .iter()
        .map(|frame| frame.function.as_deref().unwrap_or("?"))
        .collect()
}

/// On this program others show no stack at all.
#[test]
fn a_leak_twenty_one_calls_deep_through_new_shows_every_frame_with_name_and_line() {
    let program = cxx_program(&["-O2"]).build();
    let mut target = Target::start::<&str>(&program, &[]);
    let memscope = Memscope::new();
    let session = memscope.attach(&target);
    target.act("deep");
    let database: Database = session.print();
    let [entry] = database.of_size(21021)[..] else {
        panic!("one block: {database:#?}")
    };
    let site = database.stack(entry);
    let functions = functions(&site.frames);
    assert_eq!(
        (site.complete, site.end.as_deref()),
        (true, Some("outermost frame")),
        "{functions:?}"
    );
    let mut expected: Vec<String> = ["malloc".into(), "operator new(unsigned long)".into()].into();
    expected.extend((0..=20).map(|level| format!("deep::level<(unsigned int){level}>::take(unsigned long)")));
    expected.push("obey".into());
    let shown: Vec<&str> = functions
        .iter()
        .copied()
        .filter(|name| *name != "operator new[](unsigned long)")
        .collect();
    assert_eq!(&shown[..expected.len()], expected, "{functions:#?}");
    assert!(
        functions.ends_with(&["_start"]) && functions.contains(&"main"),
        "{functions:#?}"
    );
    let output = memscope.ok(&["print", &target.pid().to_string(), "--age", "0"]);
    let lines = output.stdout.lines().filter(|line| line.contains("deep::level<"));
    let with_lines = lines.filter(|line| line.contains("frames_cxx.cpp:")).count();
    assert_eq!(with_lines, 21, "each has its source line\n{output}");
    session.detach();
}

#[test]
fn python3_shows_the_interpreters_frames_down_to_start() {
    let mut command = Command::new("/usr/bin/python3");
    let code = "import sys\nprint('ready', flush=True)\nkept = []\ndef inner(): kept.append(bytearray(100007))\n\
                def outer(): sorted([1], key=lambda x: inner())\nfor line in sys.stdin:\n  outer()\n  print('done', flush=True)";
    command.args(["-s", "-c", code]);
    let mut target = Target::start_command(command);
    let memscope = Memscope::new();
    let session = memscope.attach(&target);
    target.act("go");
    let database = session.print();
    let [entry] = database.of_size(100_008)[..] else {
        panic!("one block: {:?}", database.entries)
    };
    let site = database.stack(entry);
    let functions = functions(&site.frames);
    assert!(site.complete, "{functions:?}");
    assert!(
        functions.len() > 15 && functions.contains(&"_PyEval_EvalFrameDefault"),
        "{functions:?}"
    );
    assert!(
        functions.iter().any(|name| name.starts_with("__libc_start_main")),
        "{functions:?}"
    );
    // The interpreter is stripped of its `_start`: the last frame is its file's.
    let last = site
        .frames
        .last()
        .and_then(|frame| frame.module.as_deref())
        .unwrap_or_default();
    assert!(last.contains("python3"), "{last}");
    let row = run(&Subject::everyday(Kind::Python).rounds(1));
    println!("{row}");
    assert!(row.equal_but_for(&[]), "{row}\n{}", row.difference.examples.join("\n"));
    session.detach();
}

/// The stack that gdb shows where the action waits just before it takes its block: callers of `take`, outermost last.
fn callers_by_gdb(target: &mut Target, action: &str) -> Vec<u64> {
    target.send(&format!("gate {action}"));
    assert_eq!(target.line(REPLY), "at the gate");
    let frames = debugger::stack(target.pid());
    target.send("");
    assert_eq!(target.line(REPLY), "done", "{action}");
    let take = frames.iter().position(|frame| frame.name == "take");
    let take = take.unwrap_or_else(|| panic!("{action}: {frames:x?}"));
    frames[take + 1..].iter().map(|frame| frame.address).collect()
}

fn reported(memscope: &Memscope, target: &Target) -> Vec<ReportedStack> {
    reported::read(memscope, target.pid(), "")
}

#[test]
fn callers_are_gdbs_where_the_program_stands_still() {
    let mut target = Target::start::<&str>(&c_program(&["-O2"]).build(), &[]);
    target.act(&format!("load {}", library().display()));
    let memscope = Memscope::new();
    let session = memscope.attach(&target);
    for action in [
        "recursion",
        "large",
        "alloca",
        "realigned",
        "tail",
        "noreturn",
        "callbacks",
        "signal",
        "altstack",
        "loaded",
    ] {
        let gdbs = callers_by_gdb(&mut target, action);
        let stacks = reported(&memscope, &target);
        let same = stacks
            .iter()
            .any(|stack| stack.whole && stack.frames.get(1..) == Some(&gdbs[..]));
        assert!(same, "{action}: gdb {gdbs:x?}\n{stacks:#?}");
    }
    // gdb goes on past the bottom of a coroutine's stack, into what happens to lie before its first instruction.
    let gdbs = callers_by_gdb(&mut target, "coroutine");
    let stacks = reported(&memscope, &target);
    let same = |stack: &ReportedStack| {
        stack.whole
            && stack.frames.len() > 2
            && gdbs.starts_with(&stack.frames[1..])
            && stack.names.iter().any(|name| name.ends_with("in_coroutine"))
    };
    assert!(stacks.iter().any(same), "gdb {gdbs:x?}\n{stacks:#?}");
    session.detach();
}

/// Debian's musl has neither call frame information nor frame pointers.
#[test]
fn stacks_in_musl_have_the_programs_frames_and_say_where_its_libc_ends_them() {
    let program = Program::new("frames.c").compiler("musl-gcc").flags(&[
        "-O2",
        "-fomit-frame-pointer",
        "-foptimize-sibling-calls",
    ]);
    let mut target = Target::start::<&str>(&program.build(), &[]);
    let memscope = Memscope::new();
    let session = memscope.attach(&target);
    for action in [
        "plain",
        "family",
        "recursion",
        "realigned",
        "noreturn",
        "callbacks",
        "threads",
    ] {
        target.act(action);
    }
    let stacks = reported(&memscope, &target);
    let functions = |stack: &ReportedStack| -> Vec<String> {
        let last = |name: &String| name.rsplit(' ').next().unwrap_or_default().to_owned();
        stack.names.iter().map(last).collect()
    };
    let all: Vec<Vec<String>> = stacks.iter().map(functions).collect();
    for stack in &stacks {
        assert!(
            !stack.whole && stack.end == "no unwind table for this mapping",
            "{stack:#?}"
        );
        let last = stack.names.last().expect("a stack has frames");
        assert!(last.contains(" libc.so "), "it ends in the libc: {stack:#?}");
    }
    for chain in [
        &["take", "recurse", "do_recursion", "obey", "main", "?"][..],
        &[
            "take",
            "realigned",
            "realigned",
            "realigned",
            "realigned",
            "realigned",
            "realigned",
            "do_realigned",
            "obey",
            "main",
            "?",
        ],
        &[
            "take",
            "never_returns",
            "never_returns",
            "calls_last",
            "do_noreturn",
            "obey",
            "main",
            "?",
        ],
    ] {
        assert!(all.iter().any(|functions| functions == chain), "{chain:?} in {all:#?}");
    }
    session.detach();
}

/// musl's strdup has its argument in rbp: here a zeroed buffer on the stack, which is no frame record of the outermost frame.
#[test]
fn a_stack_in_musl_does_not_end_where_a_buffer_of_zeros_stands_for_a_frame_record() {
    for flags in [&["-O2", "-fomit-frame-pointer"][..], &["-O0"]] {
        let program = Program::new("frames.c").compiler("musl-gcc").flags(flags);
        let mut target = Target::start::<&str>(&program.build(), &[]);
        let memscope = Memscope::new();
        let session = memscope.attach(&target);
        target.act("zeroed");
        let stacks = reported(&memscope, &target);
        let [stack] = &stacks[..] else {
            panic!("one block: {stacks:#?}")
        };
        assert!(stack.names[0].ends_with(" strdup"), "{stack:#?}");
        assert!(
            !stack.whole && stack.end == "no unwind table for this mapping",
            "{flags:?}: {stack:#?}"
        );
        session.detach();
    }
}

/// Neither code keeps frame pointers nor has unwind tables, and it leaves its caller's in rbp: the step by frame pointer goes
/// past that caller. What was guessed is marked, and is not whole.
fn a_skipped_caller_is_told(program: &Program, load: Option<&Program>, action: &str, innermost: &str, caller: &str) {
    let mut target = Target::start::<&str>(&program.build(), &[]);
    if let Some(library) = load {
        target.act(&format!("load {}", library.build().display()));
    }
    let memscope = Memscope::new();
    let session = memscope.attach(&target);
    target.act(action);
    let pid = target.pid().to_string();
    let json = memscope.ok(&["report", &pid, "--format", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("memscope.report/v1");
    let sites = json["databases"][0]["sites"].as_array().expect("sites");
    let functions = |site: &serde_json::Value| -> Vec<String> {
        let frames = site["frames"].as_array().expect("frames").iter();
        frames
            .map(|frame| frame["function"].as_str().unwrap_or("?").to_owned())
            .collect()
    };
    let site = sites
        .iter()
        .find(|site| functions(site).get(1).is_some_and(|name| name == innermost))
        .unwrap_or_else(|| panic!("no stack from {innermost}: {json:#}"));
    let functions = functions(site);
    assert!(
        functions.contains(&caller.to_owned()) || site["complete"] == false && site["by_frame_pointer"] == true,
        "{caller} is called by nobody, and nothing says so: {functions:?}"
    );
    let text = memscope
        .ok(&["report", &pid, "--site", site["site"].as_str().expect("an id")])
        .stdout;
    assert!(
        functions.contains(&caller.to_owned())
            || text.contains("… in part by frame pointer, for want of an unwind table"),
        "{text}"
    );
    let stats = memscope.ok(&["stats", &pid, "--format", "json"]).stdout;
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("memscope.stats/v1");
    let stacks = &stats["databases"][0]["stacks"];
    let count = |key: &str| stacks[key]["stacks"].as_u64().expect("a count");
    assert!(count("by_frame_pointer") > 0, "{stacks:#}");
    assert!(
        count("whole") + count("by_frame_pointer") <= stacks["stacks"].as_u64().expect("a count"),
        "{stacks:#}"
    );
    session.detach();
}

#[test]
fn a_caller_of_musls_that_a_frame_pointer_skips_is_told() {
    let program = Program::new("frames.c").compiler("musl-gcc").flags(&["-O0"]);
    a_skipped_caller_is_told(&program, None, "opens", "opendir", "opens");
}

#[test]
fn a_caller_of_a_plug_in_without_tables_that_a_frame_pointer_skips_is_told() {
    let program = Program::new("frames.c").link(&["-ldl"]);
    let flags = [
        "-O2",
        "-g0",
        "-fomit-frame-pointer",
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
        "-shared",
        "-fPIC",
    ];
    let library = Program::new("frames_bare_lib.c").flags(&flags);
    a_skipped_caller_is_told(&program, Some(&library), "loaded", "call_back", "do_loaded");
}

/// The byte before it is another function's.
#[test]
fn a_function_interrupted_at_its_first_instruction_has_its_own_name() {
    let mut target = Target::start::<&str>(&c_program(&["-O2"]).build(), &[]);
    let memscope = Memscope::new();
    let session = memscope.attach(&target);
    target.send("gate fault");
    assert_eq!(target.line(REPLY), "at the gate");
    let gdbs = debugger::stack(target.pid());
    target.send("");
    assert_eq!(target.line(REPLY), "done");
    let interrupted = gdbs.iter().find(|frame| frame.name == "faults_at_once");
    let interrupted = interrupted.unwrap_or_else(|| panic!("{gdbs:x?}")).address;
    let stacks = reported(&memscope, &target);
    let names: Vec<&String> = stacks
        .iter()
        .filter_map(|stack| {
            let at = stack.frames.iter().position(|frame| *frame == interrupted)?;
            stack.names.get(at)
        })
        .collect();
    assert_eq!(
        names,
        [&format!("{interrupted:#x} frames faults_at_once")],
        "{stacks:#?}"
    );
    session.detach();
}

#[test]
fn stats_tell_how_many_stacks_are_whole_by_reason_and_by_module() {
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&c_program(&["-O2"]).build(), &[]);
    let session = memscope.attach(&target);
    let stats = |target: &Target| -> (String, serde_json::Value) {
        let pid = target.pid().to_string();
        let json = memscope.ok(&["stats", &pid, "--format", "json"]).stdout;
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        (
            memscope.ok(&["stats", &pid]).stdout,
            json["databases"][0]["stacks"].clone(),
        )
    };
    target.act("plain");
    target.act("recursion");
    let (text, json) = stats(&target);
    assert_eq!(
        (&json["stacks"], &json["whole_share"]),
        (&16.into(), &1.0.into()),
        "{json:#}"
    );
    assert_eq!(json["ends_in"], serde_json::json!([]));
    assert!(text.contains("  stacks         16, 100.0 % whole\n"), "{text}");
    target.act("deeper");
    let (text, json) = stats(&target);
    assert_eq!(json["ends_in"][0]["module"], "frames", "{json:#}");
    assert_eq!(json["ends_in"][0]["end"], "frame limit", "{json:#}");
    assert!(text.contains("  stacks         17, 94.1 % whole\n"), "{text}");
    assert!(
        text.contains("           1 end in frames: frame limit (5.8 %, 1 sites)\n"),
        "{text}"
    );
    session.detach();
}
