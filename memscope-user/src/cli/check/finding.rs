//! What `check` finds in one database, as text and as JSON (`memscope.check/v1`).

use std::collections::BTreeSet;
use std::io;

use serde::Serialize;

use crate::report::Escaped;
use crate::report::model::{CollectionState, SiteId};
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

/// What was meant and not looked at.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Seen<'a> {
    /// Databases that could not be read.
    pub(super) unreadable: usize,
    /// Processes without one.
    pub(super) untraced: &'a [u32],
}

impl Seen<'_> {
    fn is_all(self) -> bool {
        self.unreadable == 0 && self.untraced.is_empty()
    }
}

/// Whose databases decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Those that were named, ended or not.
    Named,
    /// Those of the processes that run: nobody asked for one that has ended.
    Host,
}

impl Outcome {
    /// Of several databases. What has ended is told of and decides nothing, unless it was named: the program may be fixed
    /// and started anew. Where nothing that runs was looked at, nothing is clean either.
    pub(super) fn of(findings: &[Finding], asked: Asked, seen: Seen<'_>) -> Self {
        let decides = |finding: &&Finding| asked == Asked::Named || !finding.has_ended();
        let any = |outcome| {
            let mut deciding = findings.iter().filter(decides);
            deciding.any(|finding| finding.outcome == outcome)
        };
        match (any(Self::Finding), any(Self::CannotJudge), any(Self::Clean)) {
            (true, _, _) => Self::Finding,
            (false, false, true)
                if seen.is_all() && (asked == Asked::Named || !findings.iter().any(Finding::runs_unwatched)) =>
            {
                Self::Clean
            }
            _ => Self::CannotJudge,
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
    #[serde(serialize_with = "state_text")]
    state: CollectionState,
    /// Its process runs, whatever its image is now.
    #[serde(skip)]
    lives: bool,
    outcome: Outcome,
    suspects: Vec<Suspect>,
    against_clean: Vec<String>,
    /// Suspects that the limits or the baseline leave out.
    let_pass: usize,
    /// Suspects that suppressions leave out.
    let_be: usize,
}

fn state_text<S: serde::Serializer>(state: &CollectionState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.text())
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
    pub(super) fn of(summary: &Summary, limits: &Limits<'_>, lives: bool) -> Self {
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
            state: summary.report.collection.state,
            lives,
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

    /// Nothing that runs: a check of the host is not decided by it.
    pub(super) const fn has_ended(&self) -> bool {
        self.state.has_ended()
    }

    /// A process that runs, but not the program that was watched: nobody has looked at what it is now.
    pub(super) fn runs_unwatched(&self) -> bool {
        self.lives && self.state == CollectionState::Replaced
    }

    /// Nothing for `--quiet` to tell: clean, or gone and no suspect in it, which nobody asked for and nothing can be done about.
    pub(super) fn is_silent(&self, asked: Asked) -> bool {
        match self.outcome {
            Outcome::Finding => false,
            Outcome::CannotJudge => asked == Asked::Host && self.has_ended() && !self.runs_unwatched(),
            Outcome::Clean => true,
        }
    }

    /// One line a suspect; else one for each reason why there may be some; else, unless `quiet`, one that there are none.
    ///
    /// # Errors
    /// The writer's.
    pub(super) fn write_text(&self, asked: Asked, quiet: bool, out: &mut dyn io::Write) -> io::Result<()> {
        if quiet && self.is_silent(asked) {
            return Ok(());
        }
        let ended = match self.state {
            CollectionState::Exited => " (ended)",
            CollectionState::Replaced => " (replaced by exec)",
            CollectionState::Collecting | CollectionState::Stopped => "",
        };
        let who = format!("process {} {}{ended}", self.pid, Escaped(&self.comm));
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
    pub(super) fn write_line(&self, asked: Asked, quiet: bool, out: &mut dyn io::Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Line<'a> {
            schema: &'static str,
            #[serde(flatten)]
            finding: &'a Finding,
        }
        if quiet && self.is_silent(asked) {
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
    seen: Seen<'_>,
    databases: &[Finding],
    out: &mut dyn io::Write,
) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        schema: &'static str,
        host: &'a str,
        outcome: Outcome,
        #[serde(flatten)]
        seen: Seen<'a>,
        databases: &'a [Finding],
    }
    let document = Document {
        schema: NAME,
        host,
        outcome,
        seen,
        databases,
    };
    serde_json::to_writer(&mut *out, &document)?;
    writeln!(out)
}

#[cfg(test)]
mod tests;
