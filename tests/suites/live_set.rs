//! The whole live set of a many-threaded program, block by block, against the ledger it keeps itself.

use std::time::Duration;

use memscope_tests::difference::assert_same;
use memscope_tests::memscope::Memscope;
use memscope_tests::program::Program;
use memscope_tests::target::{Ending, Target};
use memscope_tests::text;

const RUN: Duration = Duration::from_secs(300);

/// Runs the rounds untraced and says what the program said.
fn untraced(arguments: &[&str], rounds: &[u64]) -> Ending {
    let mut target = Target::start(&Program::new("ledger_mt.c").build(), arguments);
    for round in rounds {
        target.ask_within(&format!("run {round}"), RUN);
    }
    target.quit()
}

/// Runs the rounds traced; after each the report must be the ledger, and nothing may be lost.
fn exact(arguments: &[&str], rounds: &[u64]) {
    let memscope = Memscope::new();
    let mut target = Target::start(&Program::new("ledger_mt.c").build(), arguments);
    let session = memscope.attach(&target);
    for round in rounds {
        let answer = target.ask_within(&format!("run {round}"), RUN);
        assert!(answer.starts_with("done "), "{answer}");
        let ledger = target.ledger();
        let database = session.print();
        let context = format!("ledger_mt {arguments:?} after a round of {round}");
        assert_same(&ledger, &database, &context);
        assert!(!ledger.is_empty(), "{context}: a round leaves blocks");
        assert_eq!(database.lost(), 0, "{context}: losses {:?}", database.losses);
    }
    session.detach();
    text::assert_restored(target.pid(), &[], "after detach");
    assert_eq!(
        target.quit(),
        untraced(arguments, rounds),
        "a traced run says and ends as an untraced one"
    );
}

#[test]
fn a_million_operations_of_eight_threads_leave_the_exact_live_set() {
    exact(&["--seed", "1"], &[1_000_000]);
}

#[test]
fn a_live_set_stays_exact_from_print_to_print() {
    exact(
        &["--seed", "2", "--threads", "8"],
        &[8, 80, 8_000, 200_000, 400_000, 400_000],
    );
}

#[test]
fn many_live_blocks_of_twelve_threads_are_exact() {
    exact(&["--seed", "3", "--threads", "12", "--slots", "4096"], &[1_000_000]);
}

#[test]
fn two_busy_threads_on_one_cpu_are_exact() {
    exact(&["--seed", "4", "--threads", "2", "--cpu", "0"], &[200_000]);
}

/// The property test: random streams over random numbers of threads. Seeds are printed; a failure names its own.
#[test]
fn random_streams_over_many_threads_are_exact() {
    let all = std::env::var_os("MEMSCOPE_TEST_ALL").is_some();
    let (streams, operations) = if all { (40, 500_000) } else { (6, 60_000) };
    let first = u64::from(std::process::id());
    for seed in first..first + streams {
        let threads = 1 + seed % 16;
        let slots = 16 << (seed % 7);
        println!("stream: --seed {seed} --threads {threads} --slots {slots}, {operations} operations");
        let (seed, threads, slots) = (seed.to_string(), threads.to_string(), slots.to_string());
        exact(
            &["--seed", &seed, "--threads", &threads, "--slots", &slots],
            &[operations],
        );
    }
}

#[test]
fn the_program_itself_is_deterministic() {
    let once = untraced(&["--seed", "9"], &[100_000, 100_000]);
    assert_eq!(once, untraced(&["--seed", "9"], &[100_000, 100_000]));
    assert_ne!(
        once,
        untraced(&["--seed", "10"], &[100_000, 100_000]),
        "the seed must matter"
    );
}

/// Of a realloc in place the block is out of the live set for a moment, and as young as the call afterwards; it was there all the
/// while.
#[test]
fn blocks_that_are_resized_in_place_while_the_set_is_read_are_all_there() {
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&Program::new("in_place.c").build(), &[]);
    let session = memscope.attach(&target);
    target.act("hold 1000");
    target.act("go");
    for look in 0..40 {
        let database = session.print();
        let held = database
            .entries
            .iter()
            .filter(|entry| (992..=1000).contains(&entry.size));
        assert_eq!(held.count(), 1000, "look {look}");
    }
    target.act("rest");
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}
