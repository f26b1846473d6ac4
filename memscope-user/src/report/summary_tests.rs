//! Golden output of `report`, and its JSON against the published schema.

use std::collections::BTreeMap;

use memscope_ebpf::counter::{Counter, Weight};

use super::model::{CollectionState, Gap, SiteId};
use super::samples::{self, AT, golden, site_stack, sites_report};
use super::schemas::check;
use super::sites::{Amount, BIRTH_BINS, Sampled, Sampling, SiteFigures};
use super::summary::{FirstMemory, Grouping, Memory, Previous, Selection, SiteOrder, Summary};
use super::unsample::unsample;
use super::{summary_json, summary_text};
use crate::suppress::apply::{Applied, apply};
use crate::suppress::rules::{Origin, parse};
use crate::verdict::{Found, Ground, PastPoint, PastSites, Verdict, judge_database, judge_database_but};

const WINDOW_MS: u64 = 320_000;

fn site(id: u64, function: &str, births: impl Fn(usize) -> u64, size: u64, freed: u64) -> SiteFigures {
    let mut site = SiteFigures::empty(SiteId(id), site_stack(function));
    for (index, bin) in site.births.iter_mut().enumerate() {
        bin.add(births(index), births(index) * size);
        site.live.add(births(index), births(index) * size);
    }
    site.freed.add(freed, freed * size);
    site.allocated
        .add(site.live.blocks + freed, (site.live.blocks + freed) * size);
    let age = |index: usize| (BIRTH_BINS - index) as u64 * WINDOW_MS / BIRTH_BINS as u64 - 1;
    site.oldest_ms = (0..BIRTH_BINS).find(|index| births(*index) > 0).map(age);
    site.youngest_ms = (0..BIRTH_BINS).rfind(|index| births(*index) > 0).map(age);
    site
}

/// One site of each verdict.
fn summary() -> Summary {
    let mut report = sites_report(WINDOW_MS);
    report.sites = vec![
        site(0x0123_4567_c120_29d8, "servGetMem", |_| 100, 2048, 0),
        site(0x20, "lru_insert", |bin| if bin < 20 { 50 } else { 0 }, 256, 10),
        site(0x30, "load_tables", |bin| if bin == 0 { 500 } else { 0 }, 64, 0),
        site(0x40, "handle_request", |bin| if bin == 31 { 3 } else { 0 }, 512, 90_000),
        site(0x50, "open_session", |bin| u64::from(bin % 8 == 0), 8192, 1),
    ];
    report.events = BTreeMap::from([("allocated", 1_234_567), ("free_unknown", 42), ("freed", 90_011)]);
    let judged = judge_database(&report, &());
    let live = |blocks, bytes| Amount { blocks, bytes };
    Summary {
        judged,
        memory: Memory {
            resident: Some(512 << 20),
            first: Some(FirstMemory {
                resident: 504 << 20,
                tracked: 0,
                seconds_ago: 320,
            }),
            with_regions: false,
        },
        previous: Some(Previous {
            seconds_ago: 60,
            live: BTreeMap::from([
                (SiteId(0x0123_4567_c120_29d8), live(1200, 1200 * 2048)),
                (SiteId(0x20), live(1000, 1000 * 256)),
            ]),
            complete: true,
        }),
        allocators: BTreeMap::from([("glibc".to_owned(), 22)]),
        span: None,
        cost: Some(crate::collection::cost::Cost {
            events_per_s: 169.0,
            percent: Some(0.214),
        }),
        suppressed: Applied::default(),
        report,
    }
}

/// The same where one block in 64 KiB allocated was recorded.
fn sampled() -> Summary {
    let mut report = summary().report;
    report.sampling = Some(Sampling {
        sample_bytes: 1 << 16,
        since_ms: None,
    });
    report
        .notes
        .push("collection samples: one block in 65536 bytes allocated is recorded; entries are of those, figures by call site are estimates of all".into());
    for site in &mut report.sites {
        let live = site.live;
        site.sampled = Some(Sampled {
            recorded: live,
            estimated: Amount {
                blocks: live.blocks * 32,
                bytes: live.bytes * 32,
            },
            bytes_error: live.bytes,
        });
    }
    let mut judged = judge_database(&report, &());
    unsample(&mut report, &mut judged);
    Summary {
        report,
        judged,
        ..summary()
    }
}

/// The same with the leak let be by one rule of two.
fn let_be() -> Summary {
    let mut summary = summary();
    let origin = Origin::File("/etc/memscope/suppressions".into());
    let rules = parse("# known\nleak:^servGetMem$\nleak:fixed long ago", &origin).unwrap();
    summary.suppressed = apply(&rules, &summary.report, &[]);
    summary.judged = judge_database_but(&summary.report, &(), &|site| summary.suppressed.hides(site));
    summary
}

fn text(summary: &Summary, selection: &Selection) -> String {
    let mut out = Vec::new();
    summary_text::write(&mut out, summary, selection, AT).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_report_reads_from_what_is_not_seen_to_the_next_command() {
    golden("summary_golden.txt", &text(&summary(), &Selection::default()));
}

/// A report in which the leak was found before, once more or not anew.
fn found_before(confirmed: bool) -> Summary {
    struct Before(Found);
    impl PastSites for Before {
        fn of(&self, _: SiteId) -> Vec<PastPoint> {
            Vec::new()
        }
        fn found(&self, site: SiteId) -> Option<Found> {
            (site == SiteId(0x0123_4567_c120_29d8)).then_some(self.0)
        }
    }
    let mut summary = summary();
    if !confirmed {
        summary.report.sites[0] = site(
            0x0123_4567_c120_29d8,
            "servGetMem",
            |bin| u64::from(bin % 4 == 1),
            2048,
            0,
        );
    }
    let before = Before(Found {
        ground: Ground::SteadySurvivors,
        first_ms: 65_000,
        confirmed_ms: 200_000,
        permille: 880,
    });
    summary.judged = judge_database(&summary.report, &before);
    summary
}

#[test]
fn a_leak_found_before_is_told_since_when_and_by_what() {
    let confirmed = text(&found_before(true), &Selection::default());
    assert!(
        confirmed.contains("survivors at a steady share over birth time; first found 255 s ago\n"),
        "{confirmed}"
    );
    golden(
        "summary_standing_golden.txt",
        &text(&found_before(false), &Selection::default()),
    );
    for (confirmed, ago) in [(true, 0), (false, 120)] {
        let document = document(&[found_before(confirmed)], &Selection::default());
        let sites = document["databases"][0]["sites"].as_array().unwrap();
        let site = sites.iter().find(|site| site["site"] == "0x01234567c12029d8").unwrap();
        assert_eq!(
            (&site["leaking_for_s"], &site["confirmed_s_ago"]),
            (&255.into(), &ago.into())
        );
        check::document(&document);
    }
}

#[test]
fn a_report_of_sampled_blocks_says_of_every_figure_that_it_is_an_estimate() {
    golden("summary_sampled_golden.txt", &text(&sampled(), &Selection::default()));
    let confidence = |summary: &Summary| summary.judged.judgements[0].evidence.confidence;
    assert!(confidence(&sampled()) < confidence(&summary()));
}

#[test]
fn a_site_that_is_let_be_is_in_the_totals_and_not_among_the_suspects() {
    golden("summary_suppressed_golden.txt", &text(&let_be(), &Selection::default()));
    let one = Selection {
        site: Some(SiteId(0x0123_4567_c120_29d8)),
        ..Selection::default()
    };
    let shown = text(&let_be(), &one);
    assert!(
        shown.contains("LEAKING") && shown.contains("let be   by ^servGetMem$ (/etc/memscope/suppressions:2)"),
        "{shown}"
    );
    let groups = let_be().groups(&Selection {
        grouping: Grouping::Function,
        ..Selection::default()
    });
    let group = groups.iter().find(|group| group.name == "servGetMem").unwrap();
    assert_eq!((group.suppressed, group.bytes_per_minute), (true, 0.0));
}

/// Every kind of loss, one database each: the lines that change against the same database without.
#[test]
fn every_kind_of_loss_is_told_and_keeps_a_database_from_being_clean() {
    let mut clean = summary();
    clean.report.sites.retain(|site| [0x30, 0x40].contains(&site.id.0));
    clean.judged = judge_database(&clean.report, &());
    let whole = text(&clean, &Selection::default());
    let mut shown = String::new();
    let losses = Counter::ALL.iter().filter(|counter| counter.weight() == Weight::Loss);
    for counter in losses {
        let mut lossy = clean.clone();
        lossy.report.losses.insert(counter.key(), 7);
        lossy.judged = judge_database(&lossy.report, &());
        shown += &format!("--- {}\n", counter.key());
        let report = text(&lossy, &Selection::default());
        for line in report.lines().filter(|line| whole.lines().all(|known| known != *line)) {
            shown += &format!("{line}\n");
        }
        check::document(&document(&[lossy], &Selection::default()));
    }
    golden("summary_losses_golden.txt", &shown);
}

#[test]
fn many_suspects_and_many_undecided_sites_do_not_fill_the_screen() {
    let mut many = summary();
    many.report.sites = (0..50).map(|id| site(id, "leak", |_| 100, 2048, 0)).collect();
    let early = |id| site(id, "load", |bin| u64::from(bin == 0) * 500, 64, 0);
    many.report.sites.extend((100..10_000).map(early));
    let empty = |id| site(id, "churn", |_| 0, 8, 100);
    many.report.sites.extend((20_000..20_100).map(empty));
    many.judged = judge_database(&many.report, &());
    many.previous = None;
    let shown = text(&many, &Selection::default());
    assert!(shown.lines().count() < 50, "{shown}");
    for line in [
        "  … and 40 more LEAKING (--top 50 lists them)\n",
        "STARTUP  9,900 sites, 302.1 MiB; all of them: born early, no more since\n",
        "  … and 9,897 more STARTUP (--top 9900 lists them)\n",
        "CHURN  100 sites, nothing alive\n",
    ] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }
    let top = Selection {
        top: Some(50),
        ..Selection::default()
    };
    let shown = text(&many, &top);
    assert_eq!(shown.matches("    because  ").count(), 50);
}

#[test]
fn a_clean_database_says_so_and_a_lossy_or_young_one_does_not() {
    let mut clean = summary();
    clean.report.sites.retain(|site| [0x30, 0x40].contains(&site.id.0));
    clean.judged = judge_database(&clean.report, &());
    let shown = text(&clean, &Selection::default());
    assert!(
        shown.contains("SUMMARY: process 1234 gateway: no suspected leaks; "),
        "{shown}"
    );
    assert!(!shown.contains("INCONCLUSIVE") && !shown.contains("next:"), "{shown}");
    let mut lossy = clean.clone();
    lossy.report.losses.insert("live_full", 7);
    lossy.judged = judge_database(&lossy.report, &());
    let shown = text(&lossy, &Selection::default());
    assert!(shown.contains("LOSSY"), "{shown}");
    assert!(
        shown.contains("  note       7 blocks not recorded: the live map is full\n"),
        "{shown}"
    );
    assert!(
        shown.contains("INCONCLUSIVE: lossy: 7 blocks not recorded: the live map is full\n"),
        "{shown}"
    );
    assert!(shown.contains("SUMMARY: process 1234 gateway: INCONCLUSIVE"), "{shown}");
    let mut young = clean;
    young.report.window.start = young.report.window.end - 10_000;
    young.judged = judge_database(&young.report, &());
    assert!(
        text(&young, &Selection::default())
            .contains("INCONCLUSIVE: too young: 10 s of collection, 50 s more are needed")
    );
}

#[test]
fn what_a_program_maps_itself_is_said_to_be_missing_where_it_is() {
    let untracked = "nor what the program maps itself: `memscope attach --regions`";
    let mut summary = summary();
    assert!(text(&summary, &Selection::default()).contains(untracked));
    summary.memory.with_regions = true;
    assert!(!text(&summary, &Selection::default()).contains(untracked));
}

#[test]
fn what_comes_next_is_what_can_be_done() {
    let mut young = summary();
    young.report.sites.retain(|site| [0x30, 0x40].contains(&site.id.0));
    young.report.window.start = young.report.window.end - 10_000;
    young.judged = judge_database(&young.report, &());
    for (state, next) in [
        (
            CollectionState::Collecting,
            "next: memscope report 1234   (again, later: ",
        ),
        (
            CollectionState::Stopped,
            "next: memscope start 1234   (collection is stopped: ",
        ),
        (
            CollectionState::Exited,
            "next: memscope attach PROCESS   (this one has ended, ",
        ),
        (
            CollectionState::Replaced,
            "next: memscope attach 1234   (it runs another program now, ",
        ),
    ] {
        young.report.collection.state = state;
        let shown = text(&young, &Selection::default());
        assert!(
            shown.contains("\nSUMMARY: process 1234 gateway: INCONCLUSIVE"),
            "{shown}"
        );
        assert!(shown.contains(&format!("\n{next}")), "{shown}");
    }
}

#[test]
fn a_collection_that_has_ended_or_was_stopped_is_told() {
    let mut ended = summary();
    ended.report.collection.state = CollectionState::Exited;
    ended.report.gaps = vec![Gap {
        lasted_ms: 1500,
        ended_ms_ago: 30_000,
    }];
    ended.memory.resident = None;
    let shown = text(&ended, &Selection::default());
    assert!(shown.contains("note       the target has exited"), "{shown}");
    assert!(
        shown.contains("note       collection was stopped for 2 s until 30 s ago"),
        "{shown}"
    );
    assert!(shown.contains("RSS not known; tracked "), "{shown}");
}

#[test]
fn names_from_the_target_cannot_break_a_line() {
    let mut evil = summary();
    evil.report.target.comm = "x\nSUMMARY: clean\x1b[2J".into();
    evil.report.sites[1].stack = site_stack("f\n0x0 LEAKING");
    let shown = text(&evil, &Selection::default());
    assert_eq!(
        shown.lines().filter(|line| line.starts_with("SUMMARY")).count(),
        1,
        "{shown}"
    );
    assert!(!shown.contains('\x1b') && shown.contains("f\\n0x0 LEAKING"), "{shown}");
}

#[test]
fn sites_are_selected_ordered_and_put_together() {
    let summary = summary();
    let ids =
        |selection: &Selection| -> Vec<u64> { summary.rows(selection).iter().map(|row| row.figures.id.0).collect() };
    let by = |order| Selection {
        order,
        ..Selection::default()
    };
    assert_eq!(ids(&by(SiteOrder::Growth))[0], 0x0123_4567_c120_29d8);
    assert_eq!(ids(&by(SiteOrder::Blocks))[1], 0x20);
    assert_eq!(ids(&by(SiteOrder::Bytes)).last(), Some(&0x40));
    let only = Selection {
        verdicts: vec![Verdict::Startup],
        ..Selection::default()
    };
    assert_eq!(ids(&only), [0x30]);
    let one = Selection {
        site: Some(SiteId(0x40)),
        ..Selection::default()
    };
    let shown = text(&summary, &one);
    assert!(
        shown.contains("because") && shown.contains("handle_request + 0x24") && !shown.contains("lru_insert"),
        "{shown}"
    );
    let top = Selection {
        top: Some(0),
        ..Selection::default()
    };
    assert!(text(&summary, &top).contains("  … and 1 more LEAKING (--top 1 lists them)\n"));
    let groups = Selection {
        grouping: Grouping::Module,
        ..Selection::default()
    };
    let [group] = summary.groups(&groups).try_into().unwrap();
    assert_eq!(
        (group.name.as_str(), group.sites, group.verdict),
        ("gateway", 5, Verdict::Leaking)
    );
    assert_eq!(
        summary
            .groups(&Selection {
                grouping: Grouping::Function,
                ..Selection::default()
            })
            .len(),
        5
    );
    assert!(text(&summary, &groups).contains("LEAKING    6.6 MiB in 4,707 blocks, 5 sites, 1.2 MiB/min  gateway\n"));
}

fn document(summaries: &[Summary], selection: &Selection) -> serde_json::Value {
    let mut out = Vec::new();
    summary_json::write_document(&mut out, "web-1", summaries, selection).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn every_document_is_what_the_published_schema_says() {
    let mut lossy = summary();
    lossy.report.losses.insert("live_full", 3);
    lossy.report.sites.push(SiteFigures::empty(
        SiteId(0),
        samples::stack(Vec::new(), memscope_ebpf::site::StackEnd::NotRecorded),
    ));
    lossy.judged = judge_database(&lossy.report, &());
    lossy.memory = Memory::default();
    lossy.previous = None;
    lossy.span = Some("only blocks born since mark x".into());
    for grouping in [Grouping::Site, Grouping::Function, Grouping::Module] {
        let selection = Selection {
            grouping,
            ..Selection::default()
        };
        check::document(&document(&[], &selection));
        let all = [summary(), lossy.clone(), sampled(), let_be()];
        check::document(&document(&all, &selection));
        for summary in &all {
            let mut out = Vec::new();
            summary_json::write_lines(&mut out, summary, &selection).unwrap();
            check::lines(summary_json::NAME, &String::from_utf8(out).unwrap());
        }
    }
    let mut broken = document(&[summary()], &Selection::default());
    broken["databases"][0]["sites"][0]["verdict"] = "GUILTY".into();
    assert!(!check::accepts(summary_json::NAME, &broken));
    let mut broken = document(&[summary()], &Selection::default());
    broken["databases"][0]["sites"][0]
        .as_object_mut()
        .unwrap()
        .remove("live");
    assert!(!check::accepts(summary_json::NAME, &broken));
}

#[test]
fn lines_are_one_report_and_its_sites() {
    let mut out = Vec::new();
    summary_json::write_lines(&mut out, &summary(), &Selection::default()).unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(
        (&lines[0]["type"], &lines[0]["overall"]),
        (&"report".into(), &"suspects".into())
    );
    assert_eq!((&lines[1]["type"], &lines[1]["pid"]), (&"site".into(), &1234.into()));
    assert_eq!(lines[1]["frames"][1]["function"], "servGetMem");
    assert_eq!(lines[1]["change"]["blocks"], 2000);
}
