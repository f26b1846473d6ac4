//! Golden output of the formats that are text.

use super::differential::{self, differential};
use super::folded::{self, fold};
use super::samples::{gateway, malloc, modules, own, report, site, whole};
use super::{Exported, ProfileFormat, prom, write};
use crate::report::sites::SitesReport;
use crate::report::summary::Summary;
use crate::suppress;
use crate::verdict::judge_database_but;

fn rendered(format: ProfileFormat, report: &SitesReport) -> String {
    let mut out = Vec::new();
    let modules = modules();
    write(
        format,
        Exported {
            report,
            modules: &modules,
        },
        &mut out,
    )
    .unwrap();
    String::from_utf8(out).unwrap()
}

fn metrics(reports: &[SitesReport]) -> String {
    metrics_with(reports, "")
}

fn metrics_with(reports: &[SitesReport], rules: &str) -> String {
    let rules = suppress::rules::parse(rules, &suppress::rules::Origin::Target(String::new())).unwrap();
    let mut out = Vec::new();
    let judged = |report: &SitesReport| {
        let suppressed = suppress::apply::apply(&rules, report, &[]);
        Summary {
            judged: judge_database_but(report, &(), &|site| suppressed.hides(site)),
            suppressed,
            ..crate::report::samples::summary_of(report.clone())
        }
    };
    let databases: Vec<Summary> = reports.iter().map(judged).collect();
    let host = prom::Host {
        databases: &databases,
        unreadable: 1,
        at_unix_s: 1_700_007_200,
    };
    prom::write(host, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn folded_stacks_begin_at_the_root_and_say_what_is_missing() {
    assert_eq!(
        rendered(ProfileFormat::Folded, &gateway()),
        "\
[stack ends here: no unwind table for this mapping];[libx.so] + 0x2000;malloc 20
main;keep;malloc 6464
main;serve;Pool<int>::take(unsigned long);malloc 40000
"
    );
}

#[test]
fn folded_stacks_that_were_followed_by_frame_pointer_say_so_at_the_root() {
    let mut report = gateway();
    report.sites.truncate(1);
    report.sites[0].stack.by_frame_pointer = true;
    assert_eq!(
        rendered(ProfileFormat::Folded, &report),
        "[in part by frame pointer, for want of an unwind table: frames may be missing or wrong];main;serve;\
         Pool<int>::take(unsigned long);malloc 40000\n"
    );
}

#[test]
fn a_name_can_neither_end_a_frame_nor_pass_for_a_count() {
    let path = folded::path(&whole(vec![own(0x40_1000, "a;b\n 12", 1), malloc()]));
    assert_eq!(path, "malloc;a:b\\n_12");
}

#[test]
fn a_difference_has_both_counts_of_every_stack() {
    let (before, mut after) = (fold(&gateway()), fold(&gateway()));
    after.remove("main;keep;malloc");
    after.insert("main;grow;malloc".to_owned(), 7);
    after.insert("main;serve;Pool<int>::take(unsigned long);malloc".to_owned(), 41_000);
    let mut out = Vec::new();
    differential::write(&differential(&before, &after), &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "\
[stack ends here: no unwind table for this mapping];[libx.so] + 0x2000;malloc 20 20
main;grow;malloc 0 7
main;keep;malloc 6464 0
main;serve;Pool<int>::take(unsigned long);malloc 40000 41000
"
    );
}

#[test]
fn speedscope_has_bytes_and_blocks_over_the_same_stacks() {
    let document: serde_json::Value = serde_json::from_str(&rendered(ProfileFormat::Speedscope, &gateway())).unwrap();
    let [bytes, blocks] = [&document["profiles"][0], &document["profiles"][1]];
    assert_eq!((&bytes["unit"], &blocks["unit"]), (&"bytes".into(), &"none".into()));
    assert_eq!(bytes["endValue"], 40_000 + 6400 + 64 + 20);
    assert_eq!(blocks["endValue"], 40 + 100 + 1 + 2);
    assert_eq!(bytes["samples"], blocks["samples"]);
    assert_eq!(
        bytes["samples"].as_array().unwrap().len(),
        bytes["weights"].as_array().unwrap().len()
    );
    let names = |sample: usize| -> Vec<&str> {
        let numbers = bytes["samples"][sample].as_array().unwrap();
        let name = |number: &serde_json::Value| &document["shared"]["frames"][number.as_u64().unwrap() as usize];
        numbers
            .iter()
            .map(|number| name(number)["name"].as_str().unwrap())
            .collect()
    };
    assert_eq!(names(0), ["main", "serve", "Pool<int>::take(unsigned long)", "malloc"]);
    assert!(names(2)[0].starts_with("[stack ends here"), "{:?}", names(2));
    let main = &document["shared"]["frames"][0];
    assert_eq!((&main["file"], &main["line"]), (&"gateway.c".into(), &9.into()));
}

#[cfg(feature = "flamegraph")]
#[test]
fn a_flame_graph_names_target_frames_and_bytes_and_is_the_same_twice() {
    let svg = rendered(ProfileFormat::Svg, &gateway());
    assert!(svg.contains("<title>serve (40,000 bytes, 86."), "{svg}");
    assert!(svg.contains("Pool&lt;int&gt;::take(unsigned long)"), "{svg}");
    assert!(
        svg.contains("gateway (pid 1234): 46484 bytes in 143 blocks, collected over 7200 s"),
        "{svg}"
    );
    assert!(!svg.contains("INCOMPLETE"));
    assert_eq!(svg, rendered(ProfileFormat::Svg, &gateway()));
    let mut lossy = gateway();
    lossy.losses.insert("live_full", 3);
    assert!(rendered(ProfileFormat::Svg, &lossy).contains("INCOMPLETE"));
}

#[cfg(feature = "flamegraph")]
#[test]
fn a_flame_graph_of_nothing_says_so() {
    let mut none = report(Vec::new());
    none.target.comm = "<evil>&\n".to_owned();
    let svg = rendered(ProfileFormat::Svg, &none);
    assert!(svg.contains("No live blocks."), "{svg}");
    assert!(svg.contains("&lt;evil&gt;&amp;\\n (pid 1234)"), "{svg}");
}

#[test]
fn an_empty_database_is_an_empty_export() {
    let none = report(Vec::new());
    assert_eq!(rendered(ProfileFormat::Folded, &none), "");
    let document: serde_json::Value = serde_json::from_str(&rendered(ProfileFormat::Speedscope, &none)).unwrap();
    assert_eq!(document["profiles"][0]["endValue"], 0);
    assert!(metrics(&[]).contains("memscope_databases{readable=\"true\"} 0\n"));
}

#[test]
fn metrics_of_one_program_are_added_up_and_no_series_is_there_twice() {
    let mut second = gateway();
    second.target.id.pid.0 = 1235;
    second.collection.seconds = 60;
    second.losses.insert("live_full", 5);
    let mut evil = report(vec![site(
        0x77,
        whole(vec![malloc(), own(0x40_1000, "x\"y\\z\n", 1)]),
        5,
        1,
        0,
    )]);
    evil.target.comm = "e\"v\\il\n".to_owned();
    let text = metrics(&[gateway(), second, evil]);
    for line in [
        "memscope_live_bytes{comm=\"gateway\",exe=\"/opt/gateway\"} 92968",
        "memscope_live_blocks{comm=\"gateway\",exe=\"/opt/gateway\"} 286",
        "memscope_freed_blocks_total{comm=\"gateway\",exe=\"/opt/gateway\"} 2022",
        "memscope_collection_seconds{comm=\"gateway\",exe=\"/opt/gateway\"} 60",
        "memscope_oldest_block_age_seconds{comm=\"gateway\",exe=\"/opt/gateway\"} 90",
        "memscope_losses_total{comm=\"gateway\",exe=\"/opt/gateway\",reason=\"live_full\"} 5",
        "memscope_losses_total{comm=\"gateway\",exe=\"/opt/gateway\",reason=\"any\"} 5",
        "memscope_databases{readable=\"false\"} 1",
        "memscope_conclusive{comm=\"gateway\",exe=\"/opt/gateway\"} 0",
        "memscope_verdict_sites{comm=\"gateway\",exe=\"/opt/gateway\",verdict=\"LEAKING\"} 0",
        "memscope_site_live_bytes{comm=\"gateway\",exe=\"/opt/gateway\",site=\"0x0000000000000010\",\
         function=\"Pool<int>::take(unsigned long)\"} 80000",
        "memscope_live_bytes{comm=\"e\\\"v\\\\il\\\\n\",exe=\"/opt/gateway\"} 5",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n in\n{text}");
    }
    let mut series: Vec<&str> = text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    let count = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), count, "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("memscope_"), "{line}");
        assert!(
            !line.contains("pid=") || line.starts_with("memscope_target_info"),
            "{line}"
        );
    }
}

#[test]
fn a_leak_has_a_series_of_its_own_with_its_growth() {
    let amount = |blocks: u64| crate::report::sites::Amount {
        blocks,
        bytes: blocks * 1024,
    };
    let mut leak = site(
        0x21,
        whole(vec![malloc(), own(0x40_1500, "leak", 5), own(0x40_1100, "main", 9)]),
        1024,
        3200,
        0,
    );
    leak.births = vec![amount(100); crate::report::sites::BIRTH_BINS];
    leak.oldest_ms = Some(7_199_000);
    leak.youngest_ms = Some(1_000);
    let reports = [report(vec![leak])];
    let text = metrics(&reports);
    let labels = "{comm=\"gateway\",exe=\"/opt/gateway\",site=\"0x0000000000000021\",function=\"leak\"}";
    let bytes = format!("memscope_suspect_live_bytes{labels} 3276800");
    assert!(text.lines().any(|line| line == bytes), "{text}");
    let growth = format!("memscope_suspect_growth_bytes_per_second{labels} ");
    let growth: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix(&growth))
        .unwrap()
        .parse()
        .unwrap();
    let truth = 3_276_800.0 / 7200.0;
    assert!((growth - truth).abs() < truth / 10.0, "{growth} and not {truth}");
    assert!(
        text.contains("memscope_conclusive{comm=\"gateway\",exe=\"/opt/gateway\"} 1\n"),
        "{text}"
    );
    let text = metrics_with(&reports, "leak:^leak$");
    assert!(!text.contains("memscope_suspect_live_bytes{"), "{text}");
    assert!(
        text.contains("memscope_suppressed_live_bytes{comm=\"gateway\",exe=\"/opt/gateway\"} 3276800\n"),
        "{text}"
    );
    assert!(
        text.contains("memscope_live_bytes{comm=\"gateway\",exe=\"/opt/gateway\"} 3276800\n"),
        "{text}"
    );
}
