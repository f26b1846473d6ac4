//! The labelled corpus: programs whose memory behaves in known ways, all traced at once, and what memscope says of each.

mod matrix;
mod observation;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use matrix::Matrix;
pub use observation::{Label, Observation, View};

use crate::memscope::{Memscope, complete};
use crate::process;
use crate::program::Program;
use crate::target::Target;
use crate::workload::Folder;

/// A verdict is due this long after attach.
pub const DUE: Duration = Duration::from_secs(120);

/// Time between two reports, as of a cron job that is as accelerated as the leaks.
const BETWEEN_REPORTS: Duration = Duration::from_secs(15);

/// Programs and how many copies of each of their shapes run, each with rates and sizes of its own.
const PROGRAMS: [(&str, u32); 2] = [("leaking_shapes.c", 2), ("sound_shapes.c", 1)];

/// Live blocks a database holds here: more than any shape has.
const MOST_BLOCKS: &str = "65536";

/// A run of the whole corpus.
#[derive(Debug)]
pub struct Corpus {
    /// What the rates and sizes were drawn from.
    pub seed: u64,
    /// Everything that was said, in order.
    pub observations: Vec<Observation>,
}

/// One shape at work.
struct Subject {
    shape: String,
    copy: u32,
    target: Target,
}

/// Runs every shape for two minutes, reports on all of them again and again, and once more as if never asked before.
pub fn run(seed: u64) -> Corpus {
    let memscope = Memscope::new();
    let begun = Instant::now();
    let subjects = Subjects {
        memscope: &memscope,
        list: attached(&memscope, seed),
    };
    println!(
        "{} shapes attached after {:?}; seed {seed}",
        subjects.list.len(),
        begun.elapsed()
    );
    let mut observations = Vec::new();
    // The last is attached some time after the first; nothing said of the first after two minutes counts.
    let last_attached = Instant::now();
    let mut next = begun + Duration::from_secs(62);
    let mut asked_once = false;
    while next < last_attached + DUE {
        sleep(next.saturating_duration_since(Instant::now()));
        observations.extend(subjects.report(View::Watched));
        let after = next + BETWEEN_REPORTS;
        if !asked_once && after >= begun + DUE {
            asked_once = true;
            observations.extend(subjects.report(View::Once));
        }
        next = after;
    }
    Corpus { seed, observations }
}

/// The subjects, detached in the end whatever happens.
struct Subjects<'a> {
    memscope: &'a Memscope,
    list: Vec<Subject>,
}

impl Subjects<'_> {
    fn report(&self, view: View) -> Vec<Observation> {
        let mut command = self.memscope.command(&["report", "--format", "json"]);
        let without_history = self.without_history();
        if view == View::Once {
            command.env("MEMSCOPE_RUN_DIR", without_history.path());
        }
        let output = complete(command).expect_code(0);
        let document: serde_json::Value = serde_json::from_str(&output.stdout).expect("a report is JSON");
        let databases = document["databases"].as_array().expect("databases");
        let mut observations = Vec::new();
        for subject in &self.list {
            let database = databases
                .iter()
                .find(|database| database["target"]["pid"] == subject.target.pid())
                .unwrap_or_else(|| panic!("no report of {}", subject.shape));
            assert_eq!(database["losses"], serde_json::json!({}), "{}", subject.shape);
            observations.extend(Observation::all_of(&subject.shape, subject.copy, view, database));
        }
        observations
    }

    /// The same sessions in another folder, without what earlier reports saw.
    fn without_history(&self) -> Folder {
        let copy = Folder::new();
        for file in self.memscope.dirs.session_files() {
            let relative: PathBuf = file
                .strip_prefix(self.memscope.dirs.run())
                .expect("a file of the run folder")
                .to_owned();
            if relative.components().any(|part| part.as_os_str() == "history") {
                continue;
            }
            let to = copy.path().join(relative);
            std::fs::create_dir_all(to.parent().expect("a session's folder")).expect("a folder");
            std::fs::copy(&file, to).expect("a session file is copied");
        }
        copy
    }
}

impl Drop for Subjects<'_> {
    fn drop(&mut self) {
        let pids = self.list.iter().map(|subject| subject.target.pid().to_string());
        let arguments: Vec<String> = std::iter::once("detach".to_owned()).chain(pids).collect();
        // A panic here would hide the one that led here.
        if let Ok(mut child) = self.memscope.command(&arguments).spawn() {
            let _ = process::wait(&mut child, DUE);
        }
    }
}

/// Every shape started, attached, and set going; by two threads, since there are many.
fn attached(memscope: &Memscope, seed: u64) -> Vec<Subject> {
    let mut waiting = Vec::new();
    for (source, copies) in PROGRAMS {
        let program = Program::new(source).link(&["-lm"]).build();
        let list = Command::new(&program).arg("list").output().expect("the shapes' names");
        for (number, shape) in String::from_utf8_lossy(&list.stdout).lines().enumerate() {
            for copy in 0..copies {
                waiting.push((
                    program.clone(),
                    shape.to_owned(),
                    copy,
                    seed * 1000 + number as u64 * 10 + u64::from(copy),
                ));
            }
        }
    }
    let (waiting, list) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let taken = waiting.lock().expect("no panic while it is held").pop();
                    let Some((program, shape, copy, seed)) = taken else {
                        return;
                    };
                    let mut target = Target::start(&program, &[&shape, &seed.to_string()]);
                    memscope.ok(&["attach", &target.pid().to_string(), "--max-blocks", MOST_BLOCKS]);
                    target.act("go");
                    let subject = Subject { shape, copy, target };
                    list.lock().expect("no panic while it is held").push(subject);
                }
            });
        }
    });
    list.into_inner().expect("no panic while it was held")
}
