//! The confusion matrix of the corpus: labels against verdicts, shape by shape, over any number of runs.

use std::collections::BTreeMap;
use std::fmt;

use super::observation::VERDICTS;
use super::{Corpus, DUE, Label, Observation, View};

/// A function of a copy of a shape in one run.
type Subject = (usize, String, String, u32);

/// Verdicts by shape and function, and when leaks were found.
#[derive(Debug, Default)]
pub struct Matrix {
    runs: usize,
    rows: BTreeMap<(Label, String), Row>,
    /// Sound sites called leaking, at any report.
    pub accusations: Vec<Observation>,
    /// Leaks not found in time, as last seen.
    pub missed: Vec<Observation>,
    /// How many leaks there were.
    pub leaks: usize,
    /// Called leaking at one report in time at least, as a cron job tells it.
    pub found: usize,
    /// Called leaking at the last report in time.
    pub found_at_the_end: usize,
    /// Called leaking by one look alone.
    pub found_at_once: usize,
    judgements: usize,
}

#[derive(Debug, Default)]
struct Row {
    /// The last verdict within the time, when watched.
    verdicts: [usize; VERDICTS.len()],
    /// The verdict of one look alone.
    once: [usize; VERDICTS.len()],
    /// Seconds after attach at which leaks were found.
    found_after: Vec<u64>,
}

impl Matrix {
    /// Adds a run.
    pub fn add(&mut self, corpus: &Corpus) {
        self.runs += 1;
        let run = self.runs;
        let mut subjects: BTreeMap<Subject, Vec<&Observation>> = BTreeMap::new();
        for one in &corpus.observations {
            self.judgements += 1;
            if one.label() == Label::Sound && one.accused() {
                self.accusations.push(one.clone());
            }
            if u128::from(one.after_ms) <= DUE.as_millis() {
                let key = (run, one.shape.clone(), one.function.clone(), one.copy);
                subjects.entry(key).or_default().push(one);
            }
        }
        for observations in subjects.values() {
            self.add_subject(observations);
        }
    }

    fn add_subject(&mut self, observations: &[&Observation]) {
        let of = |view: View| observations.iter().filter(move |one| one.view == view);
        let Some(last) = of(View::Watched).next_back() else {
            return;
        };
        let name = match last.function.split_once('_') {
            Some(("lost" | "kept" | "unknowable", _)) => format!("{} · {}", last.shape, last.function),
            _ => "the programs' own start".to_owned(),
        };
        let label = last.label();
        let row = self.rows.entry((label, name)).or_default();
        row.verdicts[last.severity()] += 1;
        let once = of(View::Once).next_back();
        if let Some(once) = once {
            row.once[once.severity()] += 1;
        }
        if label != Label::Leak {
            return;
        }
        self.leaks += 1;
        self.found_at_once += usize::from(once.is_some_and(|once| once.accused()));
        self.found_at_the_end += usize::from(last.accused());
        match of(View::Watched).find(|one| one.accused()) {
            Some(found) => {
                self.found += 1;
                row.found_after.push(found.after_ms / 1000);
            }
            None => self.missed.push((*last).clone()),
        }
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| shape · function | label | {} | asked once | found after |",
            VERDICTS.join(" | ")
        )?;
        writeln!(f, "|---|---|{}---|---:|", "---:|".repeat(VERDICTS.len()))?;
        for ((label, name), row) in &self.rows {
            let label = match label {
                Label::Leak => "leak",
                Label::Sound => "sound",
                Label::Unknowable => "unknowable",
            };
            let counts = row.verdicts.map(|count| match count {
                0 => "·".to_owned(),
                _ => count.to_string(),
            });
            let once: Vec<String> = (0..VERDICTS.len())
                .filter(|index| row.once[*index] > 0)
                .map(|index| format!("{} {}", row.once[index], VERDICTS[index]))
                .collect();
            let after = match (row.found_after.iter().min(), row.found_after.iter().max()) {
                (Some(first), Some(last)) if first == last => format!("{first} s"),
                (Some(first), Some(last)) => format!("{first}–{last} s"),
                _ => String::new(),
            };
            writeln!(
                f,
                "| {name} | {label} | {} | {} | {after} |",
                counts.join(" | "),
                once.join(", ")
            )?;
        }
        writeln!(
            f,
            "\n{} runs, {} judgements: {} false accusations; {} of {} leaks found within {} s of attach ({:.1} %), {} by \
             the last report, {} when asked once only",
            self.runs,
            self.judgements,
            self.accusations.len(),
            self.found,
            self.leaks,
            DUE.as_secs(),
            100.0 * self.found as f64 / self.leaks.max(1) as f64,
            self.found_at_the_end,
            self.found_at_once,
        )
    }
}
