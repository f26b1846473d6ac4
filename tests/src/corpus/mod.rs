//! The labelled corpus: programs whose memory behaves in known ways, all traced at once, and what memscope says of each.

mod matrix;
mod observation;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
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

/// Time between two reports, as of a cron job that is as accelerated as the leaks. It knows nothing of when a process was
/// attached: the first reports find collections too young to be judged, and later ones know of them.
const BETWEEN_REPORTS: Duration = Duration::from_secs(10);

/// How old a collection is when it is looked at once alone: at the first round of reports from then on, so that it is judged before
/// the verdict is due.
const ASKED_ONCE: Duration = Duration::from_secs(95);

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
#[derive(Clone)]
struct Subject {
    shape: String,
    copy: u32,
    pid: u32,
    attached: Instant,
}

/// Runs every shape for two minutes, reports on each again and again in that time, and once as if never asked before.
///
/// Shapes are attached while others are already reported on: on a busy machine the last is attached minutes after the first.
pub fn run(seed: u64) -> Corpus {
    let memscope = Memscope::new();
    let begun = Instant::now();
    let waiting = Mutex::new(shapes(seed));
    let subjects = Subjects {
        memscope: &memscope,
        list: Mutex::default(),
        targets: Mutex::default(),
    };
    let mut observations = Vec::new();
    std::thread::scope(|scope| {
        // By two threads, since there are many.
        let attaching = [(); 2].map(|()| scope.spawn(|| subjects.attach_all(&waiting)));
        let mut told = false;
        let mut asked = BTreeSet::new();
        let mut next = begun + BETWEEN_REPORTS;
        loop {
            sleep(next.saturating_duration_since(Instant::now()));
            next = Instant::now().max(next) + BETWEEN_REPORTS;
            let attached = attaching.iter().all(|thread| thread.is_finished());
            if attached && !told {
                println!(
                    "{} shapes attached in {:?}; seed {seed}",
                    subjects.list().len(),
                    begun.elapsed()
                );
                told = true;
            }
            let round = Instant::now();
            let due: Vec<Subject> = subjects.aged(Duration::ZERO);
            observations.extend(subjects.report(View::Watched, &due));
            let mut once = subjects.aged(ASKED_ONCE);
            once.retain(|subject| asked.insert(subject.pid));
            observations.extend(subjects.report(View::Once, &once));
            if attached && subjects.list().iter().all(|subject| round - subject.attached >= DUE) {
                return;
            }
        }
    });
    Corpus { seed, observations }
}

/// The subjects, detached in the end whatever happens.
struct Subjects<'a> {
    memscope: &'a Memscope,
    list: Mutex<Vec<Subject>>,
    targets: Mutex<Vec<Target>>,
}

impl Subjects<'_> {
    /// Starts, attaches and sets going what waits, until nothing does.
    fn attach_all(&self, waiting: &Mutex<Vec<Waiting>>) {
        loop {
            let taken = waiting.lock().expect("no panic while it is held").pop();
            let Some(Waiting {
                program,
                shape,
                copy,
                seed,
            }) = taken
            else {
                return;
            };
            let mut target = Target::start(&program, &[&shape, &seed.to_string()]);
            self.memscope
                .ok(&["attach", &target.pid().to_string(), "--max-blocks", MOST_BLOCKS]);
            target.act("go");
            let subject = Subject {
                shape,
                copy,
                pid: target.pid(),
                attached: Instant::now(),
            };
            self.targets.lock().expect("no panic while it is held").push(target);
            self.list.lock().expect("no panic while it is held").push(subject);
        }
    }

    fn list(&self) -> Vec<Subject> {
        self.list.lock().expect("no panic while it is held").clone()
    }

    /// Those attached so long ago whose verdict is still to come.
    fn aged(&self, least: Duration) -> Vec<Subject> {
        let mut list = self.list();
        list.retain(|subject| (least..DUE).contains(&subject.attached.elapsed()));
        list
    }

    fn report(&self, view: View, subjects: &[Subject]) -> Vec<Observation> {
        if subjects.is_empty() {
            return Vec::new();
        }
        let mut arguments = vec!["report".to_owned(), "--format".to_owned(), "json".to_owned()];
        arguments.extend(subjects.iter().map(|subject| subject.pid.to_string()));
        let mut command = self.memscope.command(&arguments);
        let without_history = (view == View::Once).then(|| self.without_history(subjects));
        if let Some(folder) = &without_history {
            command.env("MEMSCOPE_RUN_DIR", folder.path());
        }
        let output = complete(command).expect_code(0);
        let document: serde_json::Value = serde_json::from_str(&output.stdout).expect("a report is JSON");
        let databases = document["databases"].as_array().expect("databases");
        let mut observations = Vec::new();
        for subject in subjects {
            let database = databases
                .iter()
                .find(|database| database["target"]["pid"] == subject.pid)
                .unwrap_or_else(|| panic!("no report of {}", subject.shape));
            assert_eq!(database["losses"], serde_json::json!({}), "{}", subject.shape);
            observations.extend(Observation::all_of(&subject.shape, subject.copy, view, database));
        }
        observations
    }

    /// The sessions of subjects in another folder, without what earlier reports saw.
    fn without_history(&self, subjects: &[Subject]) -> Folder {
        let copy = Folder::new();
        for file in self.memscope.dirs.session_files() {
            let relative: PathBuf = file
                .strip_prefix(self.memscope.dirs.run())
                .expect("a file of the run folder")
                .to_owned();
            // Others are being attached: their files come and go.
            let is_meant = |subject: &Subject| relative.to_string_lossy().starts_with(&format!("{}-", subject.pid));
            let is_history = relative.components().any(|part| part.as_os_str() == "history");
            if is_history || !subjects.iter().any(is_meant) {
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
        // Whoever panicked while holding it left a whole list.
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let pids = list.iter().map(|subject| subject.pid.to_string());
        let arguments: Vec<String> = std::iter::once("detach".to_owned()).chain(pids).collect();
        // A panic here would hide the one that led here.
        if let Ok(mut child) = self.memscope.command(&arguments).spawn() {
            let _ = process::wait(&mut child, DUE);
        }
    }
}

/// A shape that is to be started.
struct Waiting {
    program: PathBuf,
    shape: String,
    copy: u32,
    seed: u64,
}

fn shapes(seed: u64) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    for (source, copies) in PROGRAMS {
        let program = Program::new(source).link(&["-lm"]).build();
        let list = Command::new(&program).arg("list").output().expect("the shapes' names");
        for (number, shape) in String::from_utf8_lossy(&list.stdout).lines().enumerate() {
            waiting.extend((0..copies).map(|copy| Waiting {
                program: program.clone(),
                shape: shape.to_owned(),
                copy,
                seed: seed * 1000 + number as u64 * 10 + u64::from(copy),
            }));
        }
    }
    waiting
}
