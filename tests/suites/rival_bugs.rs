//! The bugs of the nearest rival, each by name: none of them may come here.

use memscope_tests::memscope::Memscope;
use memscope_tests::program::Program;
use memscope_tests::target::Target;
use memscope_tests::traced::{Seen, Traced};

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
