//! What `check` finds in one database, as text and as JSON (`memscope.check/v1`).

use std::collections::BTreeSet;
use std::io;

use serde::Serialize;

use crate::report::Escaped;
use crate::report::model::SiteId;
use crate::report::own_code::own_path;
use crate::report::quantity::{Bytes, Count};
use crate::report::summary::{Row, Selection, Summary};
use crate::verdict::Verdict;

/// Name of the format.
const NAME: &str = "memscope.check/v1";

/// Which suspects count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    /// Age of the oldest block, at least; milliseconds.
    pub(super) age_ms: u64,
    /// Bytes alive, at least.
    pub(super) min_bytes: u64,
    /// Growth in bytes a minute, at least.
    pub(super) min_rate: u64,
    /// Known before.
    pub(super) known: &'a BTreeSet<SiteId>,
}

impl Limits<'_> {
    fn take(&self, row: &Row<'_>) -> bool {
        !self.known.contains(&row.figures.id)
            && row.figures.live.bytes >= self.min_bytes
            && row.bytes_per_minute() >= self.min_rate as f64
            && row.figures.oldest_ms.unwrap_or(0) >= self.age_ms
    }
}

/// What a check comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Somebody leaks.
    Finding,
    /// Nobody does as far as can be seen, and that is not enough.
    CannotJudge,
    /// Nobody does.
    Clean,
}

impl Outcome {
    /// Of several databases.
    pub(super) fn of(findings: &[Finding]) -> Self {
        let any = |outcome| findings.iter().any(|finding| finding.outcome == outcome);
        match (any(Self::Finding), any(Self::CannotJudge)) {
            (true, _) => Self::Finding,
            (false, true) => Self::CannotJudge,
            (false, false) => Self::Clean,
        }
    }
}

/// One database.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pid: u32,
    start_time: u64,
    comm: String,
    exe: String,
    outcome: Outcome,
    suspects: Vec<Suspect>,
    against_clean: Vec<String>,
    /// Suspects that the limits or the baseline leave out.
    let_pass: usize,
    /// Suspects that suppressions leave out.
    let_be: usize,
}

#[derive(Debug, Serialize)]
struct Suspect {
    site: String,
    blocks: u64,
    bytes: u64,
    /// With sampling.
    bytes_error: Option<u64>,
    bytes_per_minute: u64,
    oldest_s: u64,
    confidence: f64,
    /// 0 when found by this check's own evidence.
    confirmed_s_ago: u64,
    path: String,
}

impl From<&Row<'_>> for Suspect {
    fn from(row: &Row<'_>) -> Self {
        let figures = row.figures;
        Self {
            site: format!("{:#018x}", figures.id.0),
            blocks: figures.live.blocks,
            bytes: figures.live.bytes,
            bytes_error: figures.sampled.map(|sampled| sampled.bytes_error),
            bytes_per_minute: row.bytes_per_minute().round() as u64,
            oldest_s: figures.oldest_ms.unwrap_or(0) / 1000,
            // A percent is finer than it is known; rounded down, since nothing is sure.
            confidence: (row.judgement.evidence.confidence * 100.0).floor() / 100.0,
            confirmed_s_ago: row.judgement.confirmed_ms_ago().unwrap_or(0) / 1000,
            path: own_path(&figures.stack),
        }
    }
}

impl Finding {
    /// Of a database.
    pub(super) fn of(summary: &Summary, limits: &Limits<'_>) -> Self {
        let leaking = Selection {
            verdicts: vec![Verdict::Leaking],
            ..Selection::default()
        };
        let rows = summary.rows(&leaking);
        let accused: Vec<&Row<'_>> = rows.iter().filter(|row| row.is_suspect()).collect();
        let suspects: Vec<Suspect> = accused
            .iter()
            .filter(|row| limits.take(row))
            .map(|row| Suspect::from(*row))
            .collect();
        let against_clean = summary.judged.against.clone();
        let target = &summary.report.target;
        Self {
            pid: target.id.pid.0,
            start_time: target.id.start_time.0,
            comm: target.comm.clone(),
            exe: target.exe.clone(),
            outcome: match (suspects.is_empty(), against_clean.is_empty()) {
                (false, _) => Outcome::Finding,
                (true, false) => Outcome::CannotJudge,
                (true, true) => Outcome::Clean,
            },
            let_pass: accused.len() - suspects.len(),
            let_be: rows.len() - accused.len(),
            suspects,
            against_clean,
        }
    }

    /// One line a suspect; else one for each reason why there may be some; else, unless `quiet`, one that there are none.
    ///
    /// # Errors
    /// The writer's.
    pub(super) fn write_text(&self, quiet: bool, out: &mut dyn io::Write) -> io::Result<()> {
        let who = format!("process {} {}", self.pid, Escaped(&self.comm));
        for suspect in &self.suspects {
            let confirmed = match suspect.confirmed_s_ago {
                0 => String::new(),
                seconds => format!(", last confirmed {seconds} s ago"),
            };
            let (about, error) = match suspect.bytes_error {
                Some(error) => ("about ", format!(" ± {}", Bytes(error))),
                None => ("", String::new()),
            };
            writeln!(
                out,
                "{who}: LEAKING site {} {about}{}{error} in {about}{} blocks, {}/min, oldest {} s, confidence {:.0} %{confirmed}: {}",
                suspect.site,
                Bytes(suspect.bytes),
                Count(suspect.blocks),
                Bytes(suspect.bytes_per_minute),
                suspect.oldest_s,
                suspect.confidence * 100.0,
                Escaped(&suspect.path)
            )?;
        }
        match self.outcome {
            Outcome::Finding => Ok(()),
            Outcome::CannotJudge => self
                .against_clean
                .iter()
                .try_for_each(|line| writeln!(out, "{who}: INCONCLUSIVE: {}", Escaped(line))),
            Outcome::Clean if quiet => Ok(()),
            Outcome::Clean => writeln!(out, "{who}: no suspected leaks{}", self.beside()),
        }
    }

    fn beside(&self) -> String {
        let mut beside = Vec::new();
        if self.let_pass > 0 {
            beside.push(format!("{} that the baseline or the limits let pass", self.let_pass));
        }
        if self.let_be > 0 {
            beside.push(format!("{} that suppressions let be", self.let_be));
        }
        match beside.is_empty() {
            true => String::new(),
            false => format!(" beside {}", beside.join(" and ")),
        }
    }

    /// One object in one line.
    ///
    /// # Errors
    /// The writer's.
    pub(super) fn write_line(&self, quiet: bool, out: &mut dyn io::Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Line<'a> {
            schema: &'static str,
            #[serde(flatten)]
            finding: &'a Finding,
        }
        if quiet && self.outcome == Outcome::Clean {
            return Ok(());
        }
        let line = Line {
            schema: NAME,
            finding: self,
        };
        serde_json::to_writer(&mut *out, &line)?;
        writeln!(out)
    }
}

/// All databases in one document.
///
/// # Errors
/// The writer's.
pub(super) fn write_document(
    host: &str,
    outcome: Outcome,
    databases: &[Finding],
    out: &mut dyn io::Write,
) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        schema: &'static str,
        host: &'a str,
        outcome: Outcome,
        databases: &'a [Finding],
    }
    let document = Document {
        schema: NAME,
        host,
        outcome,
        databases,
    };
    serde_json::to_writer(&mut *out, &document)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
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
        Finding::of(&summary_of(report.clone()), &limits)
    }

    const NONE: Limits<'_> = Limits {
        age_ms: 0,
        min_bytes: 0,
        min_rate: 0,
        known: &BTreeSet::new(),
    };

    fn text(finding: &Finding, quiet: bool) -> String {
        let mut out = Vec::new();
        finding.write_text(quiet, &mut out).unwrap();
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
        assert_eq!(Outcome::of(&[of(&clean, NONE), of(&lossy, NONE)]), Outcome::CannotJudge);
        assert_eq!(Outcome::of(&[of(&lossy, NONE), of(&leaking(), NONE)]), Outcome::Finding);
        assert_eq!(Outcome::of(&[of(&clean, NONE)]), Outcome::Clean);
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
            from_the_start: true,
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
        let finding = Finding::of(&summary, &NONE);
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
            write_document("web-1", Outcome::of(&findings), &findings, &mut out).unwrap();
            check::document(&serde_json::from_slice(&out).unwrap());
            let mut out = Vec::new();
            for finding in &findings {
                finding.write_line(false, &mut out).unwrap();
            }
            check::lines(NAME, &String::from_utf8(out).unwrap());
        }
        let mut out = Vec::new();
        of(&clean, NONE).write_line(true, &mut out).unwrap();
        assert!(out.is_empty());
    }
}
