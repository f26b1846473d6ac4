//! Allocators of a program's own, named by hand: layers over malloc, results through pointers, bad specifications.

use memscope_tests::memscope::Memscope;
use memscope_tests::program::Program;
use memscope_tests::target::Target;
use memscope_tests::traced::{Seen, Traced};
use memscope_tests::workload::Folder;

const ALLOC: [&str; 2] = ["--alloc", "zOsMem_Alloc(size=1) -> ret"];
const POOL: [&str; 2] = ["--alloc", "pool_get(count=1,size=2) -> *3"];
const FREE: [&str; 2] = ["--free", "zOsMem_Free(ptr=0)"];

fn pool(arguments: &[&str], script: &[&str]) -> Seen {
    Traced::new(&Program::new("pool.c").build())
        .attach_with(arguments)
        .run(script)
}

#[test]
fn a_custom_allocator_is_exact_and_the_malloc_under_it_is_not_counted() {
    let seen = pool(&[ALLOC, FREE].concat(), &["plain"]);
    assert_eq!(seen.ledger.len(), 6);
    let functions = seen.database.functions(&seen.database.entries[0]);
    assert_eq!(
        functions[0], "zOsMem_Alloc",
        "the first frame is the function called: {functions:?}"
    );
}

#[test]
fn the_outermost_of_several_layers_counts() {
    let seen = pool(&[ALLOC, POOL, FREE].concat(), &["layered", "plain"]);
    assert_eq!(
        seen.database.of_size(1_503).len(),
        6,
        "count times size, through the pointer"
    );
    let entry = seen.database.of_size(1_503)[0];
    assert_eq!(seen.database.functions(entry)[0], "pool_get");
}

#[test]
fn a_layer_of_a_named_module_only_is_meant() {
    let specification = ["--alloc", "pool:zOsMem_Alloc(size=1) -> ret"];
    assert_eq!(pool(&[specification, FREE].concat(), &["plain"]).ledger.len(), 6);
}

#[test]
fn specifications_come_from_a_file_too() {
    let folder = Folder::new();
    let file = folder.path().join("allocators.toml");
    let text =
        "alloc = ['zOsMem_Alloc(size=1) -> ret', 'pool_get(count=1,size=2) -> *3']\nfree = ['zOsMem_Free(ptr=0)']\n";
    std::fs::write(&file, text).expect("a file");
    pool(&["--allocators", file.to_str().expect("a path of text")], &["layered"]);
}

#[test]
fn custom_functions_that_throw_and_catch_are_exact() {
    let program = Program::new("cxx_pool.cpp").flags(&["-O2"]).build();
    let seen = Traced::new(&program)
        .attach_with(&["--alloc", "pool_new(size=0) -> ret"])
        .attach_with(&["--alloc", "pool_new_or_small(size=0) -> ret"])
        .attach_with(&["--free", "pool_delete(ptr=0)"])
        .run(&["pool"]);
    assert!(seen.ledger.len() >= 2_500);
    assert_eq!(seen.database.lost(), 0, "losses {:?}", seen.database.losses);
}

#[test]
fn a_malformed_specification_is_exit_2_and_points_at_the_character() {
    let memscope = Memscope::new();
    let target = Target::start::<&str>(&Program::new("pool.c").build(), &[]);
    let pid = target.pid().to_string();
    for specification in [
        "",
        "zOsMem_Alloc",
        "zOsMem_Alloc(size=1",
        "zOsMem_Alloc(size=x) -> ret",
        "f(size=1) -> *",
        "f(bytes=1) -> ret",
    ] {
        let output = memscope.run(&["attach", &pid, "--alloc", specification]).expect_code(2);
        assert!(
            output.stderr.contains('^'),
            "{specification:?}: the place is pointed at\n{output}"
        );
        memscope.assert_nothing_left();
    }
}

#[test]
fn a_specification_that_names_nothing_is_an_error() {
    let memscope = Memscope::new();
    let target = Target::start::<&str>(&Program::new("pool.c").build(), &[]);
    let pid = target.pid().to_string();
    let output = memscope
        .run(&["attach", &pid, "--alloc", "no_such_function(size=0) -> ret"])
        .expect_code(5);
    assert!(output.stderr.contains("no_such_function"), "{output}");
    memscope.assert_nothing_left();
}
