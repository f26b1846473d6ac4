//! Golden output of the text report.

use std::collections::BTreeMap;
use std::io;

use memscope_ebpf::counter::{Counter, Weight};
use memscope_ebpf::site::StackEnd;

use super::model::{CollectionState, DatabaseReport, Gap, SiteId, Stack};
use super::samples::{AT, SITE, design_sample, empty, entry, everything, frame, sampled_and_suppressed, stack, with};
use super::text::TextReport;
use crate::age::Age;

fn render(reports: &[DatabaseReport]) -> String {
    let mut out = Vec::new();
    let mut text = TextReport::new(&mut out, AT, reports.len() > 1);
    for report in reports {
        text.database(report).unwrap();
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn the_old_report_to_the_letter() {
    assert_eq!(
        render(&[design_sample()]),
        "\
Age: 3600
22:10:24.619 MemScope list of entries at least 3600 seconds old
entry:79258 address:0x1d496a80 size:0x2c cookie:0xc12029d8 age:5327
0x0000000000eb61b0: zOsMem_Alloc + 0x228
0x0000000000eb2750: rn_getseg + 0x1c
0x00000000009e3ea0: servGetMem + 0x24  (serv/mem.c:118)
MemScope printed 1 entries
"
    );
}

#[test]
fn no_entries() {
    assert_eq!(
        render(&[empty(1, "init")]),
        "\
Age: 3600
22:10:24.619 MemScope list of entries at least 3600 seconds old
MemScope printed 0 entries
"
    );
}

#[test]
fn no_database() {
    let mut out = Vec::new();
    TextReport::new(&mut out, AT, false)
        .no_database(Age::from_seconds(3600))
        .unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "Age: 3600\nMemScope database does not exist\n"
    );
}

#[test]
fn several_databases_are_told_apart() {
    assert_eq!(
        render(&[empty(1, "init"), empty(77, "worker \x1b]0;x\x07")]),
        "\
Target: 1 init
Age: 3600
22:10:24.619 MemScope list of entries at least 3600 seconds old
MemScope printed 0 entries
Target: 77 worker \\x1b]0;x\\x07
Age: 3600
22:10:24.619 MemScope list of entries at least 3600 seconds old
MemScope printed 0 entries
"
    );
}

#[test]
fn inlined_unnamed_incomplete_lost_limited_and_hostile() {
    assert_eq!(
        render(&[everything()]),
        "\
Age: 3600
22:10:24.619 MemScope list of entries at least 3600 seconds old
entry:3 address:0x10 size:0x0 cookie:0x00000010 age:9000
0x00007f0000001000: malloc + 0x0
0x0000555500001234: Pool<int>::take(unsigned long) + 0x44  (pool.hpp:9) [inlined]
0x0000555500001234: main + 0x44  (src/main.cpp)
entry:4 address:0xffffffffffffffff size:0xffffffffffff cookie:0x00000001 age:8000
0x00007f0000002000: [libx.so.6] + 0x2000
0x00007fff00000abc: [vdso] + 0xabc
0x00000000deadbeef: [unknown] + 0xdeadbeef
0x0000000000000001: evil\\nentry:1 address:0x0\\x1b[2J + 0x0  (a\\rb\\u{202e}.c:1)
0x0000000000000002: [lib\\nnote: all is well.so] + 0x1
… stack ends here: no unwind table for this mapping
entry:5 address:0x20 size:0x1 cookie:0x00000099 age:7000
… stack ends here: stack was not recorded
entry:6 address:0x30 size:0x1000 cookie:0x00000010 age:3600
0x00007f0000001000: malloc + 0x0
0x0000555500001234: Pool<int>::take(unsigned long) + 0x44  (pool.hpp:9) [inlined]
0x0000555500001234: main + 0x44  (src/main.cpp)
MemScope printed 4 of 9 entries
note: the target has exited: these are the blocks it held then
note: collection was stopped for 21 s until 7500 s ago: allocations and frees in that time were not seen; \
2 entries at least 7520 seconds old were born before that
note: 3 frees that were not seen (address reused)
note: 12 blocks not recorded: the live map is full
note: 2 of 3 stacks are incomplete\\nreally
"
    );
}

/// Whether there is room for its text or not.
#[test]
fn a_stack_of_any_length_follows_each_of_its_entries() {
    let name = "n".repeat(4096);
    let long: Vec<_> = (0..300).map(|depth| frame(0x1000 + depth, &name, depth)).collect();
    let lines: String = (0..300)
        .map(|depth| format!("{:#018x}: {name} + {depth:#x}\n", 0x1000 + depth))
        .collect();
    let other = SiteId(7);
    let entries =
        [(1, SITE), (2, other), (3, SITE)].map(|(number, site)| entry(number, number << 4, 16, 4_000_000, site));
    let main = stack(vec![frame(0x5000, "main", 4)], StackEnd::Outermost);
    let sites = vec![(SITE, stack(long, StackEnd::Outermost)), (other, main)];
    let report = with(entries.to_vec(), sites);
    let line = |number: u64, site: SiteId| {
        let cookie = site.cookie();
        format!(
            "entry:{number} address:{:#x} size:0x10 cookie:{cookie:#010x} age:4000\n",
            number << 4
        )
    };
    assert_eq!(
        render(&[report]),
        format!(
            "Age: 3600\n22:10:24.619 MemScope list of entries at least 3600 seconds old\n{}{lines}{}{}{}{lines}MemScope \
             printed 3 entries\n",
            line(1, SITE),
            line(2, other),
            "0x0000000000005000: main + 0x4\n",
            line(3, SITE)
        )
    );
}

#[test]
fn every_early_end_says_its_reason() {
    for end in StackEnd::ALL {
        let report = with(
            vec![entry(1, 0x10, 1, 4_000_000, SITE)],
            vec![(SITE, stack(vec![frame(0x1000, "malloc", 0)], end))],
        );
        let text = render(&[report]);
        let expected = format!("malloc + 0x0\n… stack ends here: {}\nMemScope printed", end.text());
        assert_eq!(text.contains(&expected), end != StackEnd::Outermost, "{text}");
        assert_eq!(text.contains("ends here"), end != StackEnd::Outermost, "{text}");
    }
}

/// What happened, in words that people search for and other tools match.
#[test]
fn the_reasons_of_early_ends_are_these() {
    let texts = [
        "outermost frame",
        "no unwind table for this mapping",
        "unsupported unwind rule",
        "signal frame",
        "frame limit",
        "unreadable stack",
        "cycle",
        "return address outside executable memory",
        "frame pointers end here",
        "unwind tables replaced during the walk",
        "not recorded",
        "inside another allocator call",
        "code replaced before it was looked at",
    ];
    assert_eq!(StackEnd::ALL.map(StackEnd::text), texts);
}

#[test]
fn a_stack_that_was_followed_by_frame_pointer_says_so_before_it_says_where_it_ends() {
    let guessed = |end| {
        let guessed = Stack {
            by_frame_pointer: true,
            ..stack(vec![frame(0x1000, "malloc", 0)], end)
        };
        render(&[with(vec![entry(1, 0x10, 1, 4_000_000, SITE)], vec![(SITE, guessed)])])
    };
    let said =
        "malloc + 0x0\n… in part by frame pointer, for want of an unwind table: frames may be missing or wrong\n";
    let text = guessed(StackEnd::Outermost);
    assert!(text.contains(&format!("{said}MemScope printed")), "{text}");
    let text = guessed(StackEnd::FramePointers);
    assert!(
        text.contains(&format!(
            "{said}… stack ends here: frame pointers end here\nMemScope printed"
        )),
        "{text}"
    );
}

#[test]
fn every_loss_has_its_note_and_a_clean_report_has_none() {
    assert!(!render(&[design_sample()]).contains("note:"));
    for counter in Counter::ALL.iter().filter(|counter| counter.weight() != Weight::Event) {
        let report = DatabaseReport {
            losses: BTreeMap::from([(counter.key(), 7)]),
            ..design_sample()
        };
        let text = render(&[report]);
        let expected = format!("MemScope printed 1 entries\nnote: 7 {}\n", counter.text());
        assert!(text.ends_with(&expected), "{text}");
    }
    let foreign = DatabaseReport {
        losses: BTreeMap::from([("reason_of_another_version", 7)]),
        ..design_sample()
    };
    assert!(render(&[foreign]).ends_with("note: 7 reason_of_another_version\n"));
}

#[test]
fn every_gap_has_its_note_whatever_is_alive() {
    let gap = |ended_ms_ago| Gap {
        lasted_ms: 3_600_000,
        ended_ms_ago,
    };
    let mut report = empty(1, "init");
    report.gaps = vec![gap(7_200_000), gap(3_500)];
    assert!(
        render(&[report]).ends_with(
            "MemScope printed 0 entries\n\
             note: collection was stopped for 3600 s until 7200 s ago: allocations and frees in that time were not seen\n\
             note: collection was stopped for 3600 s until 3 s ago: allocations and frees in that time were not seen\n"
        )
    );
}

#[test]
fn a_gap_begins_the_time_anew_of_which_it_is_known_what_was_allocated() {
    let mut report = empty(1, "init");
    assert_eq!(report.unbroken_s(), report.collection.seconds);
    for (ended_ms_ago, unbroken_s) in [(3_500, 3), (9_000_000_000, report.collection.seconds)] {
        report.gaps = vec![Gap {
            lasted_ms: 1,
            ended_ms_ago,
        }];
        assert_eq!(report.unbroken_s(), unbroken_s);
    }
}

#[test]
fn a_collection_that_no_longer_runs_says_so() {
    for (state, note) in [
        (CollectionState::Stopped, "note: collection is stopped"),
        (CollectionState::Exited, "note: the target has exited"),
        (
            CollectionState::Replaced,
            "note: the target has replaced its image by exec",
        ),
    ] {
        let mut report = design_sample();
        report.collection.state = state;
        assert!(render(&[report]).contains(note));
    }
}

/// Accepts a number of bytes, then is closed.
struct ClosedAfter(usize);

impl io::Write for ClosedAfter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_goes_away_is_known_as_such() {
    let mut report = design_sample();
    let entry = report.entries.iter().next().unwrap();
    report.entries = super::samples::packed(&[entry; 5000]);
    for room in [0, 10, 100_000] {
        let error = TextReport::new(&mut ClosedAfter(room), AT, false)
            .database(&report)
            .unwrap_err();
        assert!(super::is_broken_pipe(&error), "{error}");
    }
    let other = io::Error::from(io::ErrorKind::StorageFull);
    assert!(!super::is_broken_pipe(&other));
}

#[test]
fn what_is_suppressed_is_in_the_total_and_told_by_rule() {
    let shown = render(&[sampled_and_suppressed()]);
    let after: Vec<&str> = shown
        .lines()
        .skip_while(|line| !line.starts_with("MemScope printed"))
        .collect();
    assert_eq!(
        after,
        [
            "MemScope printed 1 of 3 entries",
            "note: 2 entries of 1 sites, 96 bytes, are suppressed by ^flush$ (__lsan_default_suppressions of gateway:1)",
            "note: suppressions that matched nothing: fixed (__lsan_default_suppressions of gateway:2)",
            "note: an estimate: these entries stand for some 30 blocks of 1500 bytes together, ± 700 (95 %)",
        ]
    );
}
