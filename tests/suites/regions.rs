//! Memory regions behind `--regions`: whole, in part, moved; never an allocator's own.

use memscope_tests::difference::assert_same;
use memscope_tests::program::Program;
use memscope_tests::traced::{Seen, Traced};

const PAGE: u64 = 4096;

/// The regions of the report are those of the ledger.
fn exact(command: &str, pages: &[u64]) {
    let mut seen = run("regions.c", command);
    seen.database
        .entries
        .retain(|entry| entry.kind.as_deref() == Some("region"));
    assert_same(&seen.ledger, &seen.database, command);
    let sizes: Vec<u64> = pages.iter().map(|pages| pages * PAGE).collect();
    assert_eq!(seen.ledger.sizes(), sizes, "what {command} leaves");
}

fn run(source: &str, command: &str) -> Seen {
    Traced::new(&Program::new(source).build())
        .attach_with(&["--regions"])
        .set_aside_the_linkers_own()
        .run_without_comparing(&[command])
}

#[test]
fn munmap_of_a_whole_region_ends_it() {
    exact("whole", &[10]);
}

#[test]
fn munmap_of_a_start_keeps_the_rest() {
    exact("start", &[7]);
}

#[test]
fn munmap_of_an_end_keeps_the_rest() {
    exact("end", &[6]);
}

#[test]
fn munmap_of_a_middle_keeps_both_sides() {
    exact("middle", &[4, 4]);
}

#[test]
fn munmap_across_several_regions_keeps_what_it_leaves_of_each() {
    exact("across", &[5, 5]);
}

#[test]
fn map_fixed_over_a_region_cuts_it() {
    exact("fixed_over", &[2, 3, 5]);
}

#[test]
fn mremap_shrinks_grows_moves_and_fails() {
    exact("remap", &[5, 40]);
}

#[test]
fn map_failed_is_no_region() {
    exact("fails", &[7]);
}

#[test]
fn a_malloc_above_the_mmap_threshold_is_a_block_and_no_region() {
    let seen = run("malloc_family.c", "large");
    assert_same(&seen.ledger, &seen.database, "one block, not a block and a region");
}

#[test]
fn arenas_and_thread_stacks_are_no_regions_of_the_program() {
    let seen = run("threads.c", "crowd");
    let regions: Vec<_> = seen
        .database
        .entries
        .iter()
        .filter(|entry| entry.kind.as_deref() == Some("region"))
        .collect();
    assert!(regions.is_empty(), "{regions:#?}");
}
