//! A key asked of a target: the question, the answer, its text and its JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::cache::{self, Cache};
use super::cpu::{self, CpuHistoryShown, CpuUse};
use super::error::OsError;
use super::faults::{self, Faults};
use super::heap::{self, Heap};
use super::key::Key;
use super::looks::Looks;
use super::memory::{self, Memory};
use super::process_files::ProcessFiles;
use super::queues::{self, Queues};
use super::stacks::{self, Stacks};
use super::tasks::{self, Tasks};
use super::thread::{self, ThreadDetail};
use super::thread_stack::{self, ThreadStack};
use super::threads::{self, Threads};
use super::watchdog::{self, Watchdogs};
use crate::report::Escaped;
use crate::report::clock::TimeOfDay;
use crate::target::identity::TargetId;

/// Name and version of the JSON document of an answer.
pub const SCHEMA: &str = "memscope.os/v1";

/// A key, and whom it is asked of.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Which.
    pub key: Key,
    /// The process.
    pub target: TargetId,
    /// The thread, for keys that speak of one; none: the main thread.
    pub tid: Option<u32>,
}

/// What a key found.
#[derive(Debug, Serialize)]
pub struct Answer {
    schema: &'static str,
    key: Key,
    title: &'static str,
    target: Asked,
    answer: Found,
}

/// The target as an answer shows it.
#[derive(Debug, Serialize)]
struct Asked {
    pid: u32,
    start_time: u64,
    comm: String,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    Memory(Memory),
    Threads(Threads),
    Cpu(CpuUse),
    CpuHistory(CpuHistoryShown),
    Faults(Faults),
    Tasks(Tasks),
    Thread(ThreadDetail),
    Stacks(Stacks),
    ThreadStack(ThreadStack),
    Heap(Heap),
    Cache(Cache),
    Queues(Queues),
    Watchdogs(Watchdogs),
}

/// Asks.
///
/// # Errors
/// The process or thread has ended, or may not be looked at.
pub fn ask(question: Question, looks: &mut Looks) -> Result<Answer, OsError> {
    let files = ProcessFiles::open(question.target)?;
    let answer = match question.key {
        Key::Memory => Found::Memory(memory::gather(&files, looks)?),
        Key::Threads => Found::Threads(threads::gather(&files)?),
        Key::Cpu | Key::CpuMode => Found::Cpu(cpu::gather(&files, looks)?),
        Key::CpuHistory => Found::CpuHistory(cpu::gather_history(&files, looks)?),
        Key::Faults => Found::Faults(faults::gather(&files, looks)?),
        Key::Tasks => Found::Tasks(tasks::gather(&files, looks)?),
        Key::Thread => Found::Thread(thread::gather(&files, question.tid)?),
        Key::Stacks => Found::Stacks(stacks::gather(&files)?),
        Key::ThreadStack => Found::ThreadStack(thread_stack::gather(&files, question.tid)?),
        Key::Heap => Found::Heap(heap::gather(&files)?),
        Key::Cache => Found::Cache(cache::gather(&files)?),
        Key::Queues => Found::Queues(queues::gather(&files)?),
        Key::Watchdogs => Found::Watchdogs(watchdog::gather(&files)?),
    };
    Ok(Answer {
        schema: SCHEMA,
        key: question.key,
        title: question.key.title(),
        target: Asked {
            pid: question.target.pid.0,
            start_time: question.target.start_time.0,
            comm: files.text("comm")?.trim_end_matches('\n').to_owned(),
        },
        answer,
    })
}

/// The threads of a target, by id.
///
/// # Errors
/// It has ended.
pub fn thread_ids(target: TargetId) -> Result<Vec<u32>, OsError> {
    ProcessFiles::open(target)?.threads()
}

impl Answer {
    /// Shows it: a title, rows, notes, and what they mean.
    ///
    /// # Errors
    /// Whatever the writer returns.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.key == Key::CpuMode
            && let Some(line) = self.line(TimeOfDay::now())
        {
            return writeln!(out, "{line}");
        }
        writeln!(
            out,
            "{}: process {} ({})",
            self.title,
            self.target.pid,
            Escaped(&self.target.comm)
        )?;
        self.answer.write_rows(out)?;
        for note in self.answer.notes() {
            writeln!(out, "note: {}", Escaped(note))?;
        }
        writeln!(out, "means: {}", self.answer.means())
    }

    /// The one line of CPU use; `None` for other keys.
    #[must_use]
    pub fn line(&self, at: TimeOfDay) -> Option<String> {
        match &self.answer {
            Found::Cpu(cpu) => Some(cpu.line(at)),
            _ => None,
        }
    }

    /// Writes it as one JSON document.
    ///
    /// # Errors
    /// Whatever the writer returns.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }
}

impl Found {
    fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Memory(found) => found.write_rows(out),
            Self::Threads(found) => found.write_rows(out),
            Self::Cpu(found) => found.write_rows(out),
            Self::CpuHistory(found) => found.write_rows(out),
            Self::Faults(found) => found.write_rows(out),
            Self::Tasks(found) => found.write_rows(out),
            Self::Thread(found) => found.write_rows(out),
            Self::Stacks(found) => found.write_rows(out),
            Self::ThreadStack(found) => found.write_rows(out),
            Self::Heap(found) => found.write_rows(out),
            Self::Cache(found) => found.write_rows(out),
            Self::Queues(found) => found.write_rows(out),
            Self::Watchdogs(found) => found.write_rows(out),
        }
    }

    fn notes(&self) -> &[String] {
        match self {
            Self::Memory(found) => &found.notes,
            Self::Threads(found) => &found.notes,
            Self::Faults(found) => &found.notes,
            Self::Thread(found) => &found.notes,
            Self::Stacks(found) => &found.notes,
            Self::ThreadStack(found) => &found.notes,
            Self::Heap(found) => &found.notes,
            Self::Cache(found) => &found.notes,
            Self::Queues(found) => &found.notes,
            Self::Watchdogs(found) => &found.notes,
            Self::Cpu(_) | Self::CpuHistory(_) | Self::Tasks(_) => &[],
        }
    }

    fn means(&self) -> &'static str {
        match self {
            Self::Memory(_) => memory::MEANS,
            Self::Threads(_) => threads::MEANS,
            Self::Cpu(_) => cpu::MEANS,
            Self::CpuHistory(_) => cpu::HISTORY_MEANS,
            Self::Faults(_) => faults::MEANS,
            Self::Tasks(_) => tasks::MEANS,
            Self::Thread(_) => thread::MEANS,
            Self::Stacks(_) => stacks::MEANS,
            Self::ThreadStack(_) => thread_stack::MEANS,
            Self::Heap(_) => heap::MEANS,
            Self::Cache(_) => cache::MEANS,
            Self::Queues(_) => queues::MEANS,
            Self::Watchdogs(_) => watchdog::MEANS,
        }
    }
}
