//! What a check says, and what it comes to.

use super::*;
use crate::report::samples::{site_stack, sites_report, summary_of};
use crate::report::schemas::check;
use crate::report::sites::{Amount, Sampled, Sampling, SiteFigures, SitesReport};
use crate::suppress::apply::apply;
use crate::suppress::rules::{Origin, parse};
use crate::verdict::judge_database_but;

fn leaking() -> SitesReport {
    let mut report = sites_report(320_000);
    let mut site = SiteFigures::empty(SiteId(7), site_stack("servGetMem"));
    let bin = Amount {
        blocks: 100,
        bytes: 204_800,
    };
    site.births = vec![bin; site.births.len()];
    site.live.add(3200, 6_553_600);
    site.allocated = site.live;
    (site.oldest_ms, site.youngest_ms) = (Some(319_000), Some(1_000));
    report.sites.push(site);
    report
}

fn of(report: &SitesReport, limits: Limits<'_>) -> Finding {
    Finding::of(&summary_of(report.clone()), &limits, false)
}

const NONE: Limits<'_> = Limits {
    age_ms: 0,
    min_bytes: 0,
    min_rate: 0,
    known: &BTreeSet::new(),
};

fn text(finding: &Finding, quiet: bool) -> String {
    let mut out = Vec::new();
    finding.write_text(Asked::Host, quiet, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_suspect_is_one_line_and_each_limit_lets_it_pass() {
    let finding = of(&leaking(), NONE);
    assert_eq!(
        text(&finding, true),
        "process 1234 gateway: LEAKING site 0x0000000000000007 6.2 MiB in 3,200 blocks, 1.2 MiB/min, oldest 319 s, \
         confidence 90 %: servGetMem < main\n"
    );
    let known = BTreeSet::from([SiteId(7)]);
    for limits in [
        Limits {
            age_ms: 319_001,
            ..NONE
        },
        Limits {
            min_bytes: 6_553_601,
            ..NONE
        },
        Limits {
            min_rate: 1_300_000,
            ..NONE
        },
        Limits { known: &known, ..NONE },
    ] {
        let finding = of(&leaking(), limits);
        assert_eq!(finding.outcome, Outcome::Clean, "{limits:?}");
        assert_eq!(text(&finding, true), "");
        let said = "process 1234 gateway: no suspected leaks beside 1 that the baseline or the limits let pass\n";
        assert_eq!(text(&finding, false), said);
    }
}

#[test]
fn what_is_lossy_young_or_sampled_is_never_clean() {
    let mut clean = leaking();
    clean.sites.clear();
    assert_eq!(of(&clean, NONE).outcome, Outcome::Clean);
    let mut lossy = clean.clone();
    lossy.losses.insert("live_full", 1);
    let mut young = clean.clone();
    young.window.start = young.window.end - 59_000;
    let mut sampled = clean.clone();
    // As readings note it.
    sampled.notes.push("collection samples".to_owned());
    for report in [lossy.clone(), young, sampled] {
        let finding = of(&report, NONE);
        assert_eq!(finding.outcome, Outcome::CannotJudge);
        assert!(text(&finding, true).contains(": INCONCLUSIVE: "));
    }
    let outcome = |reports: &[&SitesReport]| comes_to(reports, Asked::Host, Seen::default());
    assert_eq!(outcome(&[&clean, &lossy]), Outcome::CannotJudge);
    assert_eq!(outcome(&[&lossy, &leaking()]), Outcome::Finding);
    assert_eq!(outcome(&[&clean]), Outcome::Clean);
}

fn comes_to(reports: &[&SitesReport], asked: Asked, seen: Seen<'_>) -> Outcome {
    let findings: Vec<Finding> = reports.iter().map(|report| of(report, NONE)).collect();
    Outcome::of(&findings, asked, seen)
}

#[test]
fn what_has_ended_is_told_of_and_decides_only_where_it_was_named() {
    let mut clean = leaking();
    clean.sites.clear();
    for (state, how) in [
        (CollectionState::Exited, "ended"),
        (CollectionState::Replaced, "replaced by exec"),
    ] {
        let mut leaked = leaking();
        leaked.collection.state = state;
        let outcome = |reports: &[&SitesReport], asked| comes_to(reports, asked, Seen::default());
        assert_eq!(outcome(&[&leaked, &clean], Asked::Host), Outcome::Clean);
        assert_eq!(outcome(&[&leaked, &clean], Asked::Named), Outcome::Finding);
        assert_eq!(outcome(&[&leaked, &leaking()], Asked::Host), Outcome::Finding);
        // Nothing that runs was looked at.
        assert_eq!(outcome(&[&leaked], Asked::Host), Outcome::CannotJudge);
        let told = text(&of(&leaked, NONE), true);
        assert!(
            told.starts_with(&format!("process 1234 gateway ({how}): LEAKING site ")),
            "{told}"
        );
        // That it no longer collects is no news.
        let mut gone = clean.clone();
        gone.collection.state = state;
        assert_eq!(text(&of(&gone, NONE), true), "");
        assert!(text(&of(&gone, NONE), false).contains("INCONCLUSIVE: collection does not run"));
        let mut named = Vec::new();
        of(&gone, NONE).write_text(Asked::Named, true, &mut named).unwrap();
        assert!(!named.is_empty());
    }
}

/// Cron must not take the silence of a database nobody feeds for that of a sound program.
#[test]
fn a_process_that_runs_another_program_than_the_one_watched_is_not_clean() {
    let mut clean = leaking();
    clean.sites.clear();
    let mut replaced = clean.clone();
    replaced.collection.state = CollectionState::Replaced;
    let of = |report: &SitesReport| Finding::of(&summary_of(report.clone()), &NONE, true);
    let findings = [of(&replaced), of(&clean)];
    assert_eq!(
        Outcome::of(&findings, Asked::Host, Seen::default()),
        Outcome::CannotJudge
    );
    assert!(!findings[0].is_silent(Asked::Host));
    assert!(text(&findings[0], true).contains("INCONCLUSIVE"));
}

#[test]
fn what_was_meant_and_not_looked_at_is_never_clean() {
    let mut clean = leaking();
    clean.sites.clear();
    for seen in [
        Seen {
            unreadable: 1,
            ..Seen::default()
        },
        Seen {
            untraced: &[4712],
            ..Seen::default()
        },
    ] {
        assert_eq!(comes_to(&[&clean], Asked::Named, seen), Outcome::CannotJudge);
        assert_eq!(comes_to(&[&clean, &leaking()], Asked::Host, seen), Outcome::Finding);
    }
}

#[test]
fn a_suppressed_suspect_is_let_be_and_a_sampled_one_is_about_so_much() {
    let mut report = leaking();
    report.sites[0].sampled = Some(Sampled {
        bytes_error: 2_048,
        ..Sampled::default()
    });
    report.sampling = Some(Sampling {
        sample_bytes: 1,
        since_ms: None,
    });
    let finding = of(&report, NONE);
    assert!(
        text(&finding, true).contains(" about 6.2 MiB ± 2.0 KiB in about 3,200 blocks, "),
        "{finding:?}"
    );
    let rules = parse("leak:servGetMem", &Origin::Target("gateway".to_owned())).unwrap();
    let report = leaking();
    let suppressed = apply(&rules, &report, &[]);
    let summary = Summary {
        judged: judge_database_but(&report, &(), &|site| suppressed.hides(site)),
        suppressed,
        ..summary_of(report)
    };
    let finding = Finding::of(&summary, &NONE, true);
    assert_eq!(finding.outcome, Outcome::Clean);
    assert_eq!(
        text(&finding, false),
        "process 1234 gateway: no suspected leaks beside 1 that suppressions let be\n"
    );
}

#[test]
fn json_is_what_the_schema_says() {
    let mut clean = leaking();
    clean.sites.clear();
    for findings in [vec![], vec![of(&leaking(), NONE), of(&clean, NONE)]] {
        let mut out = Vec::new();
        let seen = Seen {
            unreadable: 1,
            untraced: &[4712],
        };
        let outcome = Outcome::of(&findings, Asked::Host, seen);
        write_document("web-1", outcome, seen, &findings, &mut out).unwrap();
        check::document(&serde_json::from_slice(&out).unwrap());
        let mut out = Vec::new();
        for finding in &findings {
            finding.write_line(Asked::Host, false, &mut out).unwrap();
        }
        check::lines(NAME, &String::from_utf8(out).unwrap());
    }
    let mut out = Vec::new();
    of(&clean, NONE).write_line(Asked::Host, true, &mut out).unwrap();
    assert!(out.is_empty());
}
