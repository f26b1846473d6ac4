//! Debian's own programs, attached while they run: their output is theirs, and nothing of ours stays in them.

use memscope_tests::memscope::Memscope;
use memscope_tests::report::{Database, number};
use memscope_tests::session::Session;
use memscope_tests::text;
use memscope_tests::workload::{Folder, Kind, Running};

const ROUNDS: u32 = 6;

fn untraced(kind: Kind) -> Vec<String> {
    let folder = Folder::new();
    let mut running = Running::start(kind, &folder, &[]);
    let said = running.work(0..ROUNDS);
    running.end();
    said
}

/// Attaches after the first round, prints after the third, detaches after the fourth, and lets it work on.
fn attach_work_print_detach(kind: Kind) -> Database {
    let folder = Folder::new();
    let mut running = Running::start(kind, &folder, &[]);
    let memscope = Memscope::new();
    let before = text::altered(running.pid());
    let mut said = running.work(0..1);
    let session = Session::attach(&memscope, running.pid());
    said.extend(running.work(1..3));
    let database = session.print();
    said.extend(running.work(3..4));
    let stats = memscope.ok(&["stats", &running.pid().to_string(), "--format", "json"]);
    let allocated = number(&stats.stdout, "allocated");
    assert!(allocated > 100, "{} took memory while traced: {stats}", kind.name());
    session.detach();
    text::assert_restored(running.pid(), &before, kind.name());
    said.extend(running.work(4..ROUNDS));
    running.end();
    assert_eq!(said, untraced(kind), "{} says what it says untraced", kind.name());
    assert_eq!(database.lost(), 0, "{}: losses {:?}", kind.name(), database.losses);
    for entry in &database.entries {
        assert!(
            database.stack(entry).frames.len() >= 2,
            "the direct caller is never missing: {entry:?}"
        );
    }
    database
}

#[test]
fn python3_is_traced_and_left_as_it_was() {
    let database = attach_work_print_detach(Kind::Python);
    // Two threads each keep a bytearray of 100 007 bytes a round; round 2 gives every other of six back.
    let kept = database.of_size(100_008).len();
    assert!((2..=4).contains(&kept), "{kept} bytearrays of those kept since attach");
}

#[test]
fn sqlite3_is_traced_and_left_as_it_was() {
    attach_work_print_detach(Kind::Sqlite);
}

#[test]
fn nginx_is_traced_and_left_as_it_was() {
    attach_work_print_detach(Kind::Nginx);
}

#[test]
fn perl_is_traced_and_left_as_it_was() {
    attach_work_print_detach(Kind::Perl);
}

#[test]
fn git_is_traced_and_left_as_it_was() {
    attach_work_print_detach(Kind::Git);
}

#[test]
fn redis_server_is_traced_and_left_as_it_was() {
    let database = attach_work_print_detach(Kind::Redis);
    assert!(
        database.entries.len() > 1_000,
        "redis-server's own allocator was found, not only libc's"
    );
}
