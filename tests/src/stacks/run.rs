//! One program of the corpus: worked under the recorder with memscope attached, then all stacks compared.

use std::fmt;

use super::corpus::Subject;
use super::difference::{Difference, compare};
use super::ledger::{StackFile, since};
use super::reported;
use crate::memscope::Memscope;
use crate::oracle::library_with_stacks;
use crate::oracle::table::TableFile;
use crate::session::Session;
use crate::workload::Folder;

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The program and how it was built.
    pub program: String,
    /// What was found.
    pub difference: Difference,
}

/// The head of the table that [`Row`]s make.
pub const TABLE_HEAD: &str = "\
| program | stacks | different | whole | equal | the others |
|---|---:|---:|---:|---:|---|";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            stacks,
            distinct,
            whole,
            equal,
            reasons,
            missed,
            ..
        } = &self.difference;
        let mut others: Vec<String> = reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        if *missed > 0 {
            others.push(format!("{missed} only in the reference"));
        }
        write!(
            f,
            "| {} | {stacks} | {distinct} | {whole} | {equal} | {} |",
            self.program,
            others.join("; ")
        )
    }
}

impl Row {
    /// Every stack has all frames of the reference's, but for those that end for one of these reasons and are equal so far.
    pub fn equal_but_for(&self, ends: &[&str]) -> bool {
        let known = |reason: &String| {
            ends.iter()
                .any(|end| *reason == format!("ends early, equal so far: {end}"))
        };
        self.difference.missed == 0 && self.difference.reasons.keys().all(known)
    }
}

/// Works a program and compares.
pub fn run(subject: &Subject) -> Row {
    let (folder, table, stacks) = (Folder::new(), TableFile::new(), StackFile::new());
    let recorder = library_with_stacks();
    let text = |path: &std::path::Path| path.to_str().expect("a path of text").to_owned();
    let (preload, oracle_file, stacks_file) = (text(&recorder), text(table.variable()), text(stacks.variable()));
    let variables = [
        ("LD_PRELOAD", preload.as_str()),
        ("MEMSCOPE_ORACLE_FILE", &oracle_file),
        ("MEMSCOPE_STACKS_FILE", &stacks_file),
    ];
    let mut at_work = subject.start(&folder, &variables);
    let pid = at_work.pid();
    let memscope = Memscope::new();
    let session = Session::attach(&memscope, pid);
    let before = {
        let _still = table.stand_still(pid);
        stacks.read(pid)
    };
    at_work.work(&memscope);
    let (reference, reported) = {
        let _still = table.stand_still(pid);
        let name = recorder.file_name().expect("a library has a name").to_string_lossy();
        (since(&before, stacks.read(pid)), reported::read(&memscope, pid, &name))
    };
    session.detach();
    at_work.end();
    Row {
        program: subject.name.clone(),
        difference: compare(&reference, &reported),
    }
}

/// All rows together.
pub fn total(rows: &[Row]) -> Row {
    let mut sum = Difference::default();
    for Row { difference, .. } in rows {
        sum.stacks += difference.stacks;
        sum.distinct += difference.distinct;
        sum.whole += difference.whole;
        sum.equal += difference.equal;
        sum.whole_and_equal += difference.whole_and_equal;
        sum.missed += difference.missed;
        for (reason, count) in &difference.reasons {
            *sum.reasons.entry(reason.clone()).or_default() += count;
        }
    }
    Row {
        program: "all".to_owned(),
        difference: sum,
    }
}
