//! Comparisons of small documents as memscope writes them.

use std::path::Path;

use memscope_ebpf::site::StackEnd;

use super::diff::{Change, diff};
use super::diff_text::Extent;
use super::merge::merge;
use super::saved::{SavedError, SavedReport};
use super::{diff_json, diff_text, merge_render, parse};
use crate::report::schemas::check;

fn frame(function: &str, module: &str) -> String {
    format!(
        r#"{{"address":"0x1000","function":"{function}","offset":4,"module":"{module}","build_id":null,"file_offset":4,
            "file":"a.c","line":7,"inlined":false}}"#
    )
}

/// Sites `(number, function, sizes of its blocks)` as `memscope.entries/v1`.
fn entries(pid: u32, sites: &[(u64, &str, &[u64])]) -> String {
    let blocks = sites
        .iter()
        .flat_map(|(id, _, sizes)| sizes.iter().map(move |size| (id, size)));
    let blocks: Vec<String> = blocks
        .map(|(id, size)| {
            format!(r#"{{"entry":1,"address":"0x10","size":{size},"age_s":5,"tid":1,"site":"{id:#018x}"}}"#)
        })
        .collect();
    let stacks = sites.iter().map(|(id, function, _)| {
        let frames = [
            frame("malloc", "libc.so.6"),
            frame(function, "server"),
            frame("main", "server"),
        ]
        .join(",");
        format!(r#""{id:#018x}":{{"cookie":"0x00000001","complete":true,"end":"outermost frame","frames":[{frames}]}}"#)
    });
    let stacks: Vec<String> = stacks.collect();
    format!(
        r#"{{"schema":"memscope.entries/v1","databases":[{{"target":{{"pid":{pid},"start_time":9,"comm":"server",
        "exe":"/opt/server","build_id":"abcd"}},"collection":{{"state":"collecting","since":1,"seconds":60}},"age_s":0,
        "entries":[{}],"sites":{{{}}},"printed":{printed},"total":{printed},"losses":{{}}}}]}}"#,
        blocks.join(","),
        stacks.join(","),
        printed = blocks.len()
    )
}

fn parsed(name: &str, text: &str) -> SavedReport {
    parse::report(Path::new(name), text.as_bytes()).unwrap()
}

fn shown(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

const MIB: u64 = 1 << 20;

fn before_and_after() -> (SavedReport, SavedReport) {
    let before = entries(
        7,
        &[
            (1, "steady", &[10, 20]),
            (2, "grows", &[MIB]),
            (3, "shrinks", &[9, 9]),
            (4, "ends", &[5]),
        ],
    );
    let after = entries(
        7,
        &[
            (1, "steady", &[20, 10]),
            (2, "grows", &[MIB, MIB, MIB]),
            (3, "shrinks", &[9]),
            (5, "begins", &[6, 7]),
        ],
    );
    (parsed("a.json", &before), parsed("b.json", &after))
}

#[test]
fn a_site_is_new_grown_shrunk_gone_or_the_same() {
    let (before, after) = before_and_after();
    let diff = diff(&before, &after);
    let changes: Vec<(u64, Change)> = diff.sites.iter().map(|site| (site.id.0, site.change)).collect();
    assert_eq!(
        changes,
        [
            (5, Change::New),
            (2, Change::Grown),
            (3, Change::Shrunk),
            (4, Change::Gone),
            (1, Change::Same)
        ]
    );
    assert_eq!(diff.notes, Vec::<String>::new());
}

#[test]
fn a_difference_in_text_leads_with_change_beside_total_and_ends_with_a_line_to_grep() {
    let (before, after) = before_and_after();
    let compared = diff(&before, &after);
    let extent = Extent { top: 10, stacks: false };
    assert_eq!(
        shown(|out| diff_text::write(&compared, &before, &after, extent, out)),
        "\
Before: a.json: server (pid 7), 60 s collected, 1.0 MiB in 6 blocks
After : b.json: server (pid 7), 60 s collected, 3.0 MiB in 8 blocks
new     13 B (+13 B) in 2 blocks (+2)  site 0x0000000000000005  begins + 0x4  (a.c:7)
grown   3.0 MiB (+2.0 MiB) in 3 blocks (+2)  site 0x0000000000000002  grows + 0x4  (a.c:7)
shrunk  9 B (-9 B) in 1 blocks (-1)  site 0x0000000000000003  shrinks + 0x4  (a.c:7)
gone    0 B (-5 B) in 0 blocks (-1)  site 0x0000000000000004  ends + 0x4  (a.c:7)
SUMMARY: 1 new, 1 grown, 1 shrunk, 1 gone, 1 unchanged sites; +2097151 bytes (3145780 now) in +2 blocks (8 now)
"
    );
    let document: serde_json::Value =
        serde_json::from_str(&shown(|out| diff_json::write(&compared, &before, &after, out))).unwrap();
    check::document(&document);
    assert_eq!(document["sites"][1]["change"], "grown");
    assert_eq!(document["sites"][1]["after"]["bytes"], 3 * MIB);
    assert_eq!(document["sites"][1]["function"], "grows");
}

#[test]
fn what_weakens_a_comparison_is_said() {
    let (before, mut after) = before_and_after();
    let database = &mut after.databases[0];
    database.age_s = 60;
    database.left_out = 4;
    database.losses.insert("live_full".to_owned(), 3);
    database.target.build_id = None;
    let notes = diff(&before, &after).notes;
    for part in ["same build", "least ages", "4 blocks", "lost 3 events (live_full)"] {
        assert!(notes.iter().any(|note| note.contains(part)), "{part}: {notes:?}");
    }
}

#[test]
fn hosts_are_counted_by_site_and_the_worst_is_named() {
    let files = [
        (
            "memscope-web-1-server-7.json",
            entries(7, &[(2, "grows", &[100]), (9, "other", &[1])]),
        ),
        ("memscope-web-1-server-8.json", entries(8, &[(2, "grows", &[300, 300])])),
        ("memscope-web-2-server-7.json", entries(7, &[(2, "grows", &[50])])),
    ];
    let reports: Vec<SavedReport> = files.iter().map(|(name, text)| parsed(name, text)).collect();
    let merged = merge(&reports);
    assert_eq!(merged.hosts.iter().collect::<Vec<_>>(), ["web-1", "web-2"]);
    let first = &merged.sites[0];
    assert_eq!((first.id.0, first.hosts.len(), first.databases), (2, 2, 3));
    assert_eq!((first.live.bytes, first.live.blocks), (750, 4));
    assert_eq!(
        (first.worst.host.as_str(), first.worst.pid, first.worst.live.bytes),
        ("web-1", 8, 600)
    );
    let text = shown(|out| merge_render::write_text(&merged, 1, out));
    assert!(
        text.contains("web-1 pid 8 (600 B) / grows + 0x4  (a.c:7)\n… 1 more sites\n"),
        "{text}"
    );
    assert!(
        text.ends_with("SUMMARY: 2 sites on 2 hosts in 3 databases; 751 bytes in 5 blocks\n"),
        "{text}"
    );
    let document: serde_json::Value =
        serde_json::from_str(&shown(|out| merge_render::write_json(&merged, out))).unwrap();
    check::document(&document);
    assert_eq!(
        document["sites"][0]["host_names"],
        serde_json::json!(["web-1", "web-2"])
    );
    assert_eq!(document["sites"][0]["worst"]["live"]["bytes"], 600);
}

#[test]
fn sites_in_order_with_verdicts_are_read_too_and_leaks_on_most_hosts_come_first() {
    let site = |id: u64, verdict: &str, bytes: u64| {
        format!(
            r#"{{"site":"{id:#018x}","complete":false,"end":"frame limit","frames":[{}],"live":{{"blocks":1,"bytes":{bytes}}},
               "verdict":"{verdict}","later":[1]}}"#,
            frame("malloc", "libc.so.6")
        )
    };
    let text = format!(
        r#"{{"schema":"memscope.report/v1","host":"db-1","databases":[{{"target":{{"pid":7,"start_time":9,"comm":"s",
           "exe":"/s","build_id":null}},"collection":{{"state":"collecting","since":1,"seconds":60}},"sites":[{},{}]}}]}}"#,
        site(1, "CACHE", 1000),
        site(2, "LEAKING", 10)
    );
    let report = parsed("x.json", &text);
    assert_eq!(report.host, "db-1");
    let merged = merge(&[report]);
    assert_eq!(merged.sites[0].id.0, 2);
    assert_eq!(merged.sites[0].leaking_on.len(), 1);
    assert!(!merged.sites[0].stack.complete());
}

/// Reports of before the field was have none.
#[test]
fn a_saved_stack_that_was_followed_by_frame_pointer_is_not_complete_and_keeps_its_end() {
    let plain = entries(7, &[(1, "f", &[8])]);
    let said = r#""complete":false,"end":"outermost frame","by_frame_pointer":true"#;
    let guessed = plain.replace(r#""complete":true,"end":"outermost frame""#, said);
    for (text, expected) in [(&plain, false), (&guessed, true)] {
        let report = parsed("x.json", text);
        let stack = &report.databases[0].sites.values().next().unwrap().stack;
        assert_eq!(
            (stack.end, stack.by_frame_pointer, stack.complete()),
            (StackEnd::Outermost, expected, !expected)
        );
    }
}

#[test]
fn what_is_no_report_is_refused_in_words() {
    let refused = |text: &str| parse::report(Path::new("f"), text.as_bytes()).unwrap_err();
    for text in ["", "{", "[]", "null", r#"{"databases":[]}"#] {
        assert!(matches!(refused(text), SavedError::Malformed { .. }), "{text}");
    }
    let bad = entries(7, &[(1, "f", &[1])]).replace("0x0000000000000001\":{", "+1\":{");
    assert!(matches!(refused(&bad), SavedError::Malformed { .. }));
    let other = refused(r#"{"schema":"memscope.stats/v1\u001b","databases":[]}"#);
    assert!(matches!(other, SavedError::OtherSchema { .. }));
    assert!(!other.to_string().contains('\x1b'), "{other}");
    // Amounts that cannot be are no reason to overflow.
    let huge = entries(7, &[(1, "f", &[u64::MAX, u64::MAX])]);
    assert_eq!(parsed("h", &huge).live().bytes, u64::MAX);
}

#[test]
fn a_report_that_memscope_writes_is_read_back_whole() {
    use crate::export::samples;
    use crate::report::json::JsonReport;
    use crate::report::model::{DatabaseReport, Entry, SiteId};
    use crate::target::address::RuntimeAddress;
    let by_site = samples::gateway();
    let sites = by_site.sites.iter().map(|site| (site.id, site.stack.clone())).collect();
    let entry = |number: u64, size: u64, site: u64| Entry {
        number: memscope_ebpf::live::EntryNumber(number),
        address: RuntimeAddress(number * 16),
        size,
        age_ms: 1000,
        tid: 1,
        site: SiteId(site),
        kind: memscope_ebpf::live::BlockKind::Heap,
    };
    let report = DatabaseReport {
        suppressed: crate::suppress::apply::Applied::default(),
        target: by_site.target,
        collection: by_site.collection,
        age_s: 0,
        entries: crate::report::samples::packed(&[
            entry(1, 1000, 0x10),
            entry(2, 64, 0x11),
            entry(3, 64, 0x11),
            entry(4, 10, 0x12),
        ]),
        sites,
        total: 9,
        gaps: Vec::new(),
        losses: [("live_full", 2)].into(),
        estimate: None,
        notes: Vec::new(),
    };
    let mut text = Vec::new();
    let mut json = JsonReport::new(&mut text);
    json.database(&report).unwrap();
    json.finish().unwrap();
    let read = parse::report(Path::new("r.json"), text.as_slice()).unwrap();
    let mut now = super::saved::SavedDatabase::of(&report);
    now.sites.retain(|_, site| site.live.blocks > 0);
    assert_eq!(read.databases, [now]);
}

/// What the fuzz target `saved_report` found: the numbers are anybody's.
#[test]
fn sizes_that_no_sum_can_hold_end_at_the_highest_number() {
    let site = |id| {
        format!(
            r#"{{"site":"{id}","complete":true,"end":"outermost frame","frames":[],
            "live":{{"blocks":18446744073709551615,"bytes":18446744073709551615}},"verdict":null}}"#
        )
    };
    let text = format!(
        r#"{{"schema":"memscope.report/v1","databases":[{{"target":{{"pid":1,"start_time":2,"comm":"a","exe":"/a",
        "build_id":null}},"collection":{{"seconds":9}},"sites":[{},{}]}}]}}"#,
        site("0x1"),
        site("0x2")
    );
    let report = super::saved::parse(Path::new("a.json"), text.as_bytes()).expect("a report");
    assert_eq!((report.live().blocks, report.live().bytes), (u64::MAX, u64::MAX));
    let same = diff(&report, &report);
    let mut out = Vec::new();
    diff_json::write(&same, &report, &report, &mut out).expect("memory");
    let merged = merge(&[report.clone(), report]);
    merge_render::write_json(&merged, &mut out).expect("memory");
}

#[test]
fn a_report_by_site_is_read_back_with_what_it_leaves_out_and_what_is_let_be() {
    use crate::export::samples;
    use crate::report::samples::summary_of;
    use crate::report::sites::{Sampled, Sampling};
    use crate::report::summary::{Selection, Summary};
    use crate::report::summary_json;
    use crate::suppress::{apply, rules};
    let mut report = samples::gateway();
    report.sampling = Some(Sampling {
        sample_bytes: 64,
        from_the_start: true,
    });
    for site in &mut report.sites {
        site.sampled = Some(Sampled::default());
    }
    let keep = rules::parse("leak:^keep$", &rules::Origin::Target("gateway".to_owned())).unwrap();
    let summary = |report: &crate::report::sites::SitesReport| Summary {
        suppressed: apply::apply(&keep, report, &[]),
        ..summary_of(report.clone())
    };
    let written = |top: Option<usize>| {
        let selection = Selection {
            top,
            ..Selection::default()
        };
        let mut text = Vec::new();
        summary_json::write_document(&mut text, "web-1", &[summary(&report)], &selection).unwrap();
        parse::report(Path::new("r.json"), text.as_slice()).unwrap()
    };
    let mut read = written(None);
    assert!(read.by_site && read.host == "web-1");
    for site in read.databases[0].sites.values_mut() {
        site.verdict = None;
    }
    assert_eq!(read.databases, [super::saved::SavedDatabase::of_sites(&report)]);
    let top = written(Some(1));
    let all: u64 = report.sites.iter().map(|site| site.live.blocks).sum();
    let here = top.live().blocks;
    assert_eq!(top.databases[0].left_out, all - here);
    let notes = diff(&top, &top).notes;
    assert!(notes.iter().any(|note| note.contains("are not in it")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("are sampled")), "{notes:?}");
    let mut accused = summary(&report);
    for judgement in &mut accused.judged.judgements {
        judgement.verdict = crate::verdict::Verdict::Leaking;
    }
    let mut text = Vec::new();
    summary_json::write_document(&mut text, "web-1", &[accused], &Selection::default()).unwrap();
    let merged = merge(&[parse::report(Path::new("r.json"), text.as_slice()).unwrap()]);
    for site in merged.sites {
        let kept = [0x11, 0x14].contains(&site.id.0);
        assert_eq!(site.leaking_on.is_empty(), kept, "{:#x}", site.id.0);
    }
}
