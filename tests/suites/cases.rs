//! One test a case of the catalogue: leak kinds, threads, control flow. Each compares the whole live set with the ledger.

use memscope_tests::difference::compare;
use memscope_tests::memscope::Memscope;
use memscope_tests::program::Program;
use memscope_tests::report::Frame;
use memscope_tests::session::Session;
use memscope_tests::target::Target;
use memscope_tests::traced::{Seen, Traced};

fn traced(source: &str) -> Traced {
    Traced::new(&Program::new(source).build())
}

/// Runs one command of a program; the sets are equal, nothing is lost, and the sizes are those expected.
fn exact(source: &str, command: &str, sizes: &[u64]) -> Seen {
    let seen = traced(source).run(&[command]);
    assert_eq!(seen.ledger.sizes(), sizes, "what {source} {command} leaves");
    assert_eq!(seen.database.lost(), 0, "losses {:?}", seen.database.losses);
    seen
}

/// The same for commands that start threads or load libraries: the dynamic linker's own blocks are set aside.
fn exact_with_threads(source: &str, command: &str, blocks: usize) -> Seen {
    let seen = traced(source).set_aside_the_linkers_own().run(&[command]);
    assert_eq!(seen.ledger.len(), blocks, "what {source} {command} leaves");
    assert_eq!(seen.database.lost(), 0, "losses {:?}", seen.database.losses);
    seen
}

#[test]
fn malloc_gives_a_block_of_the_size_asked_for_from_one_byte_to_a_gibibyte() {
    exact(
        "malloc_family.c",
        "malloc",
        &[1, 10_007, 10_008, 10_009, 10_010, 10_011, 1 << 30],
    );
}

#[test]
fn malloc_of_zero_bytes_is_a_block_of_size_zero() {
    exact("malloc_family.c", "malloc_zero", &[0; 5]);
}

#[test]
fn calloc_is_one_block_of_count_times_size() {
    exact("malloc_family.c", "calloc", &[0, 10_003, 20_011]);
}

#[test]
fn calloc_that_overflows_is_no_block() {
    exact("malloc_family.c", "calloc_overflow", &[90_033]);
}

#[test]
fn freed_blocks_are_gone() {
    exact("malloc_family.c", "free", &[20_011; 5]);
}

#[test]
fn free_of_null_is_nothing() {
    exact("malloc_family.c", "free_null", &[]);
}

#[test]
fn free_of_a_block_from_before_attach_is_nothing() {
    exact("malloc_family.c", "free_unknown", &[]);
}

#[test]
fn a_block_above_the_mmap_threshold_is_counted_once() {
    exact("malloc_family.c", "large", &[9_000_011]);
}

#[test]
fn an_address_reused_at_once_by_another_size_is_the_new_block() {
    exact("malloc_family.c", "reuse", &[501; 10]);
}

#[test]
fn a_function_reached_through_a_pointer_is_seen() {
    exact("malloc_family.c", "pointer", &[10_007; 5]);
}

#[test]
fn realloc_that_grows_is_the_new_block() {
    exact("realloc.c", "grow", &[20_011]);
}

#[test]
fn realloc_that_shrinks_has_the_new_size() {
    exact("realloc.c", "shrink", &[10_007]);
}

#[test]
fn realloc_in_place_is_one_block_of_the_new_size() {
    exact("realloc.c", "in_place", &[10_008]);
}

#[test]
fn realloc_that_moves_leaves_nothing_at_the_old_address() {
    exact("realloc.c", "moved", &[33, 50_021]);
}

#[test]
fn realloc_of_null_is_malloc() {
    exact("realloc.c", "of_null", &[10_007]);
}

#[test]
fn realloc_to_zero_frees_under_glibc() {
    exact("realloc.c", "to_zero", &[]);
}

#[test]
fn realloc_that_fails_keeps_the_block() {
    exact("realloc.c", "fails", &[10_007]);
}

#[test]
fn realloc_of_a_block_from_before_attach_makes_it_known() {
    exact("realloc.c", "unknown", &[40_009]);
}

#[test]
fn reallocarray_is_count_times_size_and_keeps_the_block_when_it_overflows() {
    exact("realloc.c", "array", &[50_035]);
}

#[test]
fn posix_memalign_gives_its_block_through_the_pointer() {
    exact("memalign.c", "posix", &[10_007; 14]);
}

#[test]
fn posix_memalign_that_refuses_is_no_block() {
    exact("memalign.c", "posix_einval", &[]);
    exact("memalign.c", "posix_enomem", &[]);
}

#[test]
fn aligned_alloc_memalign_valloc_and_pvalloc_are_blocks_of_the_size_asked_for() {
    exact("memalign.c", "aligned_alloc", &[20_032, 40_960]);
    exact("memalign.c", "memalign", &[30_011]);
    exact("memalign.c", "valloc", &[10_007]);
    exact("memalign.c", "pvalloc", &[10_007]);
}

#[test]
fn blocks_that_libc_takes_for_the_caller_are_seen() {
    exact("through_libc.c", "strdup", &[501, 10_007]);
    exact("through_libc.c", "asprintf", &[6, 10_007]);
    let seen = traced("through_libc.c").run(&["getline"]);
    assert_eq!(seen.ledger.len(), 1);
}

#[test]
fn operator_new_in_every_form_is_one_block() {
    exact("cxx_new.cpp", "new", &[10_007, 20_011, 30_011, 40_009]);
    exact("cxx_new.cpp", "aligned", &[1024, 3072, 20_480]);
}

#[test]
fn operator_delete_in_every_form_frees() {
    exact("cxx_new.cpp", "delete", &[50_021]);
}

#[test]
fn operator_new_that_throws_is_no_block_and_its_exception_object_goes() {
    let sizes: Vec<u64> = (10_007..10_017).collect();
    exact("cxx_new.cpp", "bad_alloc", &sizes);
}

#[test]
fn exceptions_between_calls_disturb_nothing() {
    let seen = traced("cxx_new.cpp").run(&["exception"]);
    assert_eq!(
        (seen.database.of_size(20_011).len(), seen.database.of_size(30_011).len()),
        (60, 10)
    );
}

#[test]
fn a_block_freed_by_another_thread_is_gone() {
    exact_with_threads("threads.c", "free_elsewhere", 25);
}

#[test]
fn blocks_outlive_the_thread_that_took_them() {
    exact_with_threads("threads.c", "end_holding", 500);
}

#[test]
fn two_hundred_threads_at_once_are_followed() {
    let seen = exact_with_threads("threads.c", "crowd", 2_000);
    let mut threads: Vec<u32> = seen.database.entries.iter().map(|entry| entry.tid).collect();
    threads.sort_unstable();
    threads.dedup();
    assert_eq!(threads.len(), 200, "each thread's blocks carry its id");
}

#[test]
fn a_block_freed_by_a_thread_specific_destructor_is_gone() {
    exact_with_threads("threads.c", "destructor", 50);
}

#[test]
fn thread_locals_that_allocate_at_first_touch_and_free_at_the_end_are_followed() {
    exact_with_threads("cxx_tls.cpp", "touch", 50);
}

#[test]
fn cancelled_threads_leave_what_they_held() {
    exact_with_threads("threads.c", "cancel", 500);
}

#[test]
fn a_thread_cancelled_in_getline_leaves_getlines_block() {
    exact_with_threads("threads.c", "cancel_getline", 1);
}

#[test]
fn a_storm_of_signals_loses_nothing() {
    exact_with_threads("signals.c", "storm", 400);
}

#[test]
fn handlers_on_an_alternate_stack_allocate_like_anybody() {
    exact_with_threads("signals.c", "altstack", 60);
}

#[test]
fn coroutines_on_stacks_of_their_own_are_followed() {
    exact_with_threads("coroutines.c", "switch", 401);
}

/// What must hold when calls are jumped out of: every block is there, or its absence is counted.
fn exact_or_counted(source: &str, command: &str, blocks: usize) {
    let seen = traced(source)
        .set_aside_the_linkers_own()
        .run_without_comparing(&[command]);
    assert_eq!(seen.ledger.len(), blocks);
    let difference = compare(&seen.ledger, &seen.database.entries);
    assert!(
        difference.invented.is_empty() && difference.size_mismatch.is_empty(),
        "{source} {command}: {difference}"
    );
    let missed = difference.missed.len() as u64;
    assert!(
        missed <= seen.database.lost(),
        "{source} {command}: {missed} missed, counted as lost: {:?}\n{difference}",
        seen.database.losses
    );
}

#[test]
fn a_malloc_that_is_jumped_out_of_spoils_no_later_call() {
    exact_with_threads("abandoned.c", "malloc", 21);
}

#[test]
fn a_realloc_that_is_jumped_out_of_keeps_its_block() {
    exact_with_threads("abandoned.c", "realloc", 21);
}

#[test]
fn a_handler_that_allocates_inside_malloc_is_exact_or_counted() {
    exact_or_counted("abandoned.c", "nested", 22);
}

/// Signals inside an allocator call of the program's own; what its handler takes are blocks like others.
fn interrupted(command: &str, blocks: usize) {
    let seen = traced("interrupted.c")
        .attach_with(&["--alloc", "interrupted_alloc(size=0) -> ret"])
        .run(&[command]);
    assert_eq!(seen.ledger.len(), blocks, "what interrupted.c {command} leaves");
    assert_eq!(seen.database.lost(), 0, "losses {:?}", seen.database.losses);
}

#[test]
fn a_handler_that_interrupts_a_call_has_blocks_of_its_own_and_the_call_keeps_its_block() {
    interrupted("returns", 50);
    interrupted("alternate", 50);
}

/// The kernel maps its trampolines at the first hit of a return probe, after the tables were made.
#[test]
fn a_handler_s_stack_ends_at_the_call_it_interrupted_and_shows_no_trampoline() {
    let program = Program::new("interrupted.c").build();
    let mut target = Target::start::<&str>(&program, &[]);
    let memscope = Memscope::new();
    let session = Session::attach_with(
        &memscope,
        target.pid(),
        &["--alloc", "interrupted_alloc(size=0) -> ret"],
    );
    target.act("returns");
    let database = session.print();
    let taken = database.of_size(10_007);
    assert!(!taken.is_empty(), "{:#?}", database.entries);
    for entry in taken {
        let site = database.stack(entry);
        let functions = database.functions(entry);
        assert_eq!(site.end.as_deref(), Some("inside another allocator call"), "{site:#?}");
        assert_eq!(functions[..2], ["malloc", "handler"], "{functions:?}");
        assert_eq!(
            functions.last().map(|name| &**name),
            Some("interrupted_alloc"),
            "{site:#?}"
        );
        let known = |frame: &Frame| frame.module.as_deref().is_some_and(|module| !module.is_empty());
        assert!(site.frames.iter().all(known), "{site:#?}");
    }
    let stats = memscope
        .ok(&["stats", &target.pid().to_string(), "--format", "json"])
        .stdout;
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("memscope.stats/v1");
    let anomalies = &stats["databases"][0]["anomalies"];
    assert!(anomalies["stale_tables"].is_null(), "{anomalies:#}");
    session.detach();
}

#[test]
fn a_handler_that_interrupts_a_handler_has_blocks_of_its_own_too() {
    interrupted("twice", 70);
}

#[test]
fn a_handler_that_jumps_out_of_the_call_spoils_no_later_call() {
    interrupted("jumps", 90);
    interrupted("jumps_alternate", 90);
}

#[test]
fn a_handler_on_a_coroutines_stack_has_blocks_of_its_own() {
    interrupted("coroutine", 20);
}

#[test]
fn calls_abandoned_in_many_threads_leave_the_rest_exact() {
    exact_with_threads("abandoned.c", "threads", 128);
}

#[test]
fn a_stack_shows_its_callers_by_name_in_order() {
    let seen = traced("deep_stack.c").run(&["depth 21"]);
    let entry = &seen.database.entries[0];
    let functions = seen.database.functions(entry);
    let levels: Vec<String> = (0..21).rev().map(|level| format!("level_{level:03}")).collect();
    assert_eq!(functions[0], "malloc", "{functions:?}");
    assert_eq!(functions[1..22], levels, "{functions:?}");
    assert_eq!(functions[22..25], ["do_depth", "obey", "main"], "{functions:?}");
}

#[test]
fn a_stack_of_a_hundred_frames_is_whole() {
    let seen = traced("deep_stack.c").run(&["depth 100"]);
    let functions = seen.database.functions(&seen.database.entries[0]);
    let levels: Vec<String> = (0..100).rev().map(|level| format!("level_{level:03}")).collect();
    assert_eq!(functions[1..101], levels, "{functions:?}");
}

#[test]
fn a_stack_deeper_than_the_limit_keeps_its_innermost_frames_and_says_that_it_ends() {
    let seen = traced("deep_stack.c").run(&["depth 200", "recursion 5000"]);
    for entry in &seen.database.entries {
        let site = seen.database.stack(entry);
        assert!(!site.complete, "{site:#?}");
        assert!(site.end.as_deref().is_some_and(|end| !end.is_empty()), "{site:#?}");
    }
    let deep = seen.database.of_size(10_200)[0];
    let functions = seen.database.functions(deep);
    let levels: Vec<String> = (100..200).rev().map(|level| format!("level_{level:03}")).collect();
    assert_eq!(functions[1..101], levels, "{functions:?}");
}

#[test]
fn cxx_names_are_demangled() {
    let seen = traced("deep_new.cpp").run(&["take"]);
    let functions = seen.database.functions(&seen.database.entries[0]);
    assert!(
        functions
            .iter()
            .any(|name| name.contains("deep::level<") && name.contains("30>::take")),
        "{functions:?}"
    );
    assert!(!functions.iter().any(|name| name.contains("_ZN4deep")), "{functions:?}");
}

#[test]
fn the_same_stack_is_the_same_site_and_another_stack_another() {
    let seen = traced("deep_stack.c").run(&["depth 1", "depth 2", "depth 3", "depth 1"]);
    let mut sites: Vec<&str> = seen.database.entries.iter().map(|entry| entry.site.as_str()).collect();
    assert_eq!(sites[0], sites[3], "the same stack is the same site");
    sites.sort_unstable();
    sites.dedup();
    assert_eq!(sites.len(), 3, "different stacks are different sites");
}
