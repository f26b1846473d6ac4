//! The oracle's suite: true live sets of real programs, whatever their allocator, against memscope's.

use memscope_tests::difference::{Difference, compare};
use memscope_tests::ledger::Ledger;
use memscope_tests::oracle::table::TableFile;
use memscope_tests::oracle::{Allocator, pair};
use memscope_tests::program::Program;
use memscope_tests::report::Entry;
use memscope_tests::target::Target;
use memscope_tests::traced::Traced;
use memscope_tests::workload::{Folder, Kind, Running};

/// The recorder itself is held against a program that keeps a ledger: two independent truths must be one.
fn recorder_agrees(allocator: Allocator) {
    let table = TableFile::new();
    let mut target: Target = Traced::new(&Program::new("ledger_mt.c").build())
        .arguments(&[
            "--seed",
            "21",
            "--pvalloc",
            if allocator == Allocator::Jemalloc { "0" } else { "1" },
        ])
        .variable("LD_PRELOAD", &allocator.preload())
        .variable(
            "MEMSCOPE_ORACLE_FILE",
            table.variable().to_str().expect("a path of text"),
        )
        .start();
    let ready_at = table.header(target.pid()).events;
    target.act("run 300000");
    let ledger: Ledger = target.ledger();
    let snapshot = {
        let _still = table.stand_still(target.pid());
        table.snapshot(target.pid())
    };
    let entries: Vec<Entry> = snapshot
        .live
        .iter()
        .filter(|(_, block)| block.sequence > ready_at)
        .map(|(address, block)| {
            let text = format!(
                r#"{{"entry":{},"address":"{address:#x}","size":{},"age_s":0,"tid":0,"site":""}}"#,
                block.sequence, block.size
            );
            serde_json::from_str(&text).expect("an entry")
        })
        .collect();
    let difference = compare(&ledger, &entries);
    assert_eq!(
        difference,
        Difference::default(),
        "{}: the recorder and the ledger differ\n{difference}",
        allocator.name()
    );
    assert!(ledger.len() > 1000);
}

#[test]
fn the_recorder_agrees_with_a_ledger_under_glibc() {
    recorder_agrees(Allocator::AsShipped);
}

#[test]
fn the_recorder_agrees_with_a_ledger_under_jemalloc() {
    recorder_agrees(Allocator::Jemalloc);
}

#[test]
fn the_recorder_agrees_with_a_ledger_under_tcmalloc() {
    recorder_agrees(Allocator::Tcmalloc);
}

#[test]
fn the_recorder_agrees_with_a_ledger_under_mimalloc() {
    recorder_agrees(Allocator::Mimalloc);
}

#[test]
fn no_program_says_anything_else_under_the_recorder() {
    for kind in Kind::ALL {
        let plain = {
            let folder = Folder::new();
            let mut running = Running::start(kind, &folder, &[]);
            let said = running.work(0..2);
            running.end();
            said
        };
        assert!(!plain.is_empty());
        for allocator in Allocator::ALL {
            let (folder, table) = (Folder::new(), TableFile::new());
            let file = table.variable().to_str().expect("a path of text").to_owned();
            let preload = allocator.preload();
            let variables = [("LD_PRELOAD", preload.as_str()), ("MEMSCOPE_ORACLE_FILE", &file)];
            let mut running = Running::start(kind, &folder, &variables);
            let before = table.header(running.pid()).events;
            let said = running.work(0..2);
            assert_eq!(said, plain, "{} with {}", kind.name(), allocator.name());
            {
                let _still = table.stand_still(running.pid());
                let snapshot = table.snapshot(running.pid());
                let events = snapshot.header.events - before;
                println!(
                    "{} {}: {events} events, {} live",
                    kind.name(),
                    allocator.name(),
                    snapshot.live.len()
                );
                assert!(
                    events > 100,
                    "the recorder sees the calls of {} with {}",
                    kind.name(),
                    allocator.name()
                );
            }
            running.end();
        }
    }
}

/// A program as shipped and with each allocator preloaded: the live set is exact. Prints its lines of the table. Without
/// `MEMSCOPE_TEST_ALL`, one of the three preloaded allocators stands for all, another for each program.
fn exact_with_every_allocator(kind: Kind, rounds: u32) {
    let all = std::env::var_os("MEMSCOPE_TEST_ALL").is_some();
    let place = Kind::ALL
        .iter()
        .position(|&other| other == kind)
        .expect("every kind is in the list");
    let chosen = [Allocator::AsShipped, Allocator::ALL[1 + place % 3]];
    let mut wrong = Vec::new();
    println!("{}", pair::TABLE_HEAD);
    for allocator in Allocator::ALL
        .into_iter()
        .filter(|allocator| all || chosen.contains(allocator))
    {
        let row = pair::run(kind, allocator, rounds);
        println!("{row}");
        if !row.exact() {
            wrong.push(format!("{row}\n{}", row.difference));
        }
    }
    assert!(wrong.is_empty(), "not the truth:\n{}", wrong.join("\n"));
}

#[test]
fn redis_server_is_exact_with_every_allocator() {
    exact_with_every_allocator(Kind::Redis, 3);
}

#[test]
fn python3_is_exact_with_every_allocator() {
    exact_with_every_allocator(Kind::Python, 4);
}

#[test]
fn sqlite3_is_exact_with_every_allocator() {
    exact_with_every_allocator(Kind::Sqlite, 4);
}

#[test]
fn nginx_is_exact_with_every_allocator() {
    exact_with_every_allocator(Kind::Nginx, 10);
}

#[test]
fn git_is_exact_with_every_allocator() {
    exact_with_every_allocator(Kind::Git, 5);
}

#[test]
fn perl_is_exact_with_every_allocator() {
    exact_with_every_allocator(Kind::Perl, 4);
}

#[test]
fn a_cxx_program_is_exact_with_every_allocator() {
    exact_with_every_allocator(Kind::Cxx, 5);
}

#[test]
fn a_rust_program_is_exact_with_every_allocator() {
    exact_with_every_allocator(Kind::Rust, 5);
}
