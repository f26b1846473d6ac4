//! The bugs of the nearest rival, each by name: none of them may come here.

use memscope_tests::memscope::Memscope;
use memscope_tests::program::Program;
use memscope_tests::session::Session;
use memscope_tests::target::Target;
use memscope_tests::traced::{Seen, Traced};

fn regions(command: &str) -> Seen {
    let program = Program::new("regions.c").build();
    let mut seen = Traced::new(&program)
        .attach_with(&["--regions"])
        .run_without_comparing(&[command]);
    seen.database
        .entries
        .retain(|entry| entry.kind.as_deref() == Some("region"));
    memscope_tests::difference::assert_same(&seen.ledger, &seen.database, command);
    seen
}

#[test]
fn map_failed_stored() {
    assert_eq!(regions("fails").database.entries.len(), 1, "only the call that worked");
}

#[test]
fn mremap_missing() {
    assert_eq!(regions("remap").ledger.sizes(), [5 * 4096, 40 * 4096]);
}

#[test]
fn partial_munmap_missed() {
    for command in ["start", "end", "middle", "across"] {
        regions(command);
    }
}

fn run(source: &str, script: &[&str]) -> Seen {
    Traced::new(&Program::new(source).build())
        .set_aside_the_linkers_own()
        .run(script)
}

#[test]
fn null_result_counted_as_leak() {
    let seen = run("malloc_family.c", &["malloc_fails", "calloc_overflow"]);
    assert_eq!(seen.database.entries.len(), 1, "only the call that worked");
    assert!(seen.database.entries.iter().all(|entry| entry.address() != 0));
}

#[test]
fn key_per_process_mixing_threads_in_flight_calls() {
    let memscope = Memscope::new();
    let mut target = Target::start(
        &Program::new("ledger_mt.c").build(),
        &["--threads", "16", "--seed", "77"],
    );
    let session = memscope.attach(&target);
    target.act("run 200000");
    memscope_tests::difference::assert_same(&target.ledger(), &session.print(), "16 threads inside malloc at once");
    session.detach();
}

#[test]
fn malloc_calling_mmap_overwriting_the_in_flight_slot() {
    let seen = run("malloc_family.c", &["large"]);
    assert_eq!(seen.database.of_size(9_000_011).len(), 1);
}

#[test]
fn failing_realloc_losing_a_live_block() {
    let seen = run("realloc.c", &["fails", "array"]);
    assert_eq!(seen.database.of_size(10_007).len(), 1);
    assert_eq!(seen.database.of_size(50_035).len(), 1);
}

#[test]
fn negative_stack_ids_reported_as_stacks() {
    let seen = run("deep_stack.c", &["recursion 2000", "depth 50"]);
    for (id, site) in &seen.database.sites {
        let digits = id.trim_start_matches("0x");
        assert!(
            u64::from_str_radix(digits, 16).is_ok(),
            "a site id is 64 bits of hex: {id}"
        );
        assert!(
            !site.frames.is_empty(),
            "every block has at least the function called: {site:#?}"
        );
        for frame in &site.frames {
            let address = frame.address.as_str().map_or_else(String::new, str::to_owned);
            let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).expect("an address is hex");
            assert!(
                (0x1000..1 << 47).contains(&address),
                "an error code is no frame: {frame:#?}"
            );
        }
        assert!(
            site.complete || site.end.is_some(),
            "an incomplete stack says why: {site:#?}"
        );
    }
}

#[test]
fn full_map_silent() {
    const ROOM: u32 = 1_000;
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let session = Session::attach_with(&memscope, target.pid(), &["--max-blocks", &ROOM.to_string()]);
    target.act("take 1000 10007");
    assert_eq!(
        session.print().losses.get("live_full"),
        None,
        "room for as many as were asked for"
    );
    target.act("take 700 20011");
    let database = session.print();
    assert_eq!(database.of_size(10_007).len(), 1_000, "the oldest are never given up");
    let beyond = database.of_size(20_011).len();
    assert_eq!(
        database.losses.get("live_full"),
        Some(&(700 - beyond as u64)),
        "{:?}",
        database.losses
    );
    let output = memscope.ok(&["print", &target.pid().to_string(), "--age", "0", "--limit", "3"]);
    assert!(
        output
            .stdout
            .lines()
            .any(|line| line.starts_with("note:") && line.contains("full")),
        "{output}"
    );
    // Room that is given back is used again.
    target.act("give 1000 10007");
    target.act("take 500 30011");
    assert_eq!(session.print().of_size(30_011).len(), 500);
    session.detach();
}

#[test]
fn a_31_character_path_limit() {
    let folder = std::env::temp_dir().join(format!(
        "{}-{}",
        "a-rather-long-folder-name".repeat(6),
        std::process::id()
    ));
    std::fs::create_dir_all(&folder).expect("a folder with a long name");
    let program = folder.join("a-program-whose-path-is-longer-than-any-fixed-buffer-should-be");
    std::fs::copy(Program::new("malloc_family.c").build(), &program).expect("a copy of the program");
    let seen = Traced::new(&program).run(&["malloc"]);
    assert_eq!(seen.database.target.exe, program.to_string_lossy());
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

#[test]
fn iteration_that_restarts() {
    let memscope = Memscope::new();
    let mut target = Target::start(
        &Program::new("ledger_mt.c").build(),
        &["--threads", "2", "--slots", "20000"],
    );
    let session = memscope.attach(&target);
    target.act("run 100000");
    // Every print meets the map while its keys come and go.
    target.send("run 300000");
    for _ in 0..4 {
        let database = session.print();
        let mut entries: Vec<u64> = database.entries.iter().map(|entry| entry.entry).collect();
        entries.sort_unstable();
        entries.dedup();
        assert_eq!(entries.len(), database.entries.len(), "no entry twice");
    }
    assert!(target.line(memscope_tests::deadline::COMMAND).starts_with("done"));
    memscope_tests::difference::assert_same(&target.ledger(), &session.print(), "after the storm");
    session.detach();
}

#[test]
fn arenas_and_thread_stacks_listed_as_leaks() {
    // 200 threads with arenas and stacks of their own; the only blocks are the program's.
    let seen = run("threads.c", &["crowd"]);
    assert!(seen.database.entries.iter().all(|entry| entry.size == 10_007));
}
