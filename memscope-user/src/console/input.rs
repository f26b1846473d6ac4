//! Where lines come from: a terminal with editing and history, or a script.

use std::io::{self, BufRead};
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor, ExternalPrinter};

use super::completion::TaskIds;
use crate::target::identity::TargetId;

/// What came instead of, or as, a line.
pub enum Line {
    /// A line, without its end.
    Typed(String),
    /// The line was given up (Ctrl-C).
    Cancelled,
    /// There will be no more.
    End,
}

/// A source of lines.
pub trait Input {
    /// The next line; `prompt` is shown where somebody sits at a terminal.
    ///
    /// # Errors
    /// The source fails.
    fn line(&mut self, prompt: &str) -> io::Result<Line>;

    /// The same for an answer, which is no command to be remembered.
    ///
    /// # Errors
    /// The source fails.
    fn answer(&mut self, prompt: &str) -> io::Result<Line> {
        self.line(prompt)
    }

    /// Somebody sits at a terminal: prompts are shown, typed text is seen.
    fn is_terminal(&self) -> bool;

    /// Whose task ids are completed.
    fn complete_for(&mut self, target: Option<TargetId>);

    /// What prints a line above the prompt while it waits; `None` where nothing waits.
    fn printer(&mut self) -> Option<Printer>;
}

/// Prints a line above the waiting prompt.
#[derive(Clone)]
pub struct Printer(Arc<Mutex<dyn ExternalPrinter + Send>>);

impl Printer {
    /// Prints a line.
    pub fn print(&self, line: String) {
        let mut printer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The console is being left: nobody reads it any more.
        let _ = printer.print(line);
    }
}

/// A terminal.
pub struct Terminal {
    editor: Editor<TaskIds, MemHistory>,
    printer: Option<Printer>,
}

impl Terminal {
    /// Takes the terminal.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn open() -> rustyline::Result<Self> {
        let mut editor = Editor::with_history(Config::default(), MemHistory::new())?;
        editor.set_helper(Some(TaskIds::default()));
        Ok(Self { editor, printer: None })
    }

    fn read(&mut self, prompt: &str) -> io::Result<Line> {
        match self.editor.readline(prompt) {
            Ok(line) => Ok(Line::Typed(line)),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(ReadlineError::Interrupted) => Ok(Line::Cancelled),
            Err(ReadlineError::Io(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl Input for Terminal {
    fn line(&mut self, prompt: &str) -> io::Result<Line> {
        let line = self.read(prompt)?;
        if let Line::Typed(text) = &line
            && !text.trim().is_empty()
        {
            // A history that cannot grow is no reason to refuse the line.
            let _ = self.editor.add_history_entry(text.as_str());
        }
        Ok(line)
    }

    fn answer(&mut self, prompt: &str) -> io::Result<Line> {
        self.read(prompt)
    }

    fn is_terminal(&self) -> bool {
        true
    }

    fn complete_for(&mut self, target: Option<TargetId>) {
        if let Some(helper) = self.editor.helper_mut() {
            helper.target = target;
        }
    }

    fn printer(&mut self) -> Option<Printer> {
        if self.printer.is_none() {
            let made = self.editor.create_external_printer().ok()?;
            self.printer = Some(Printer(Arc::new(Mutex::new(made))));
        }
        self.printer.clone()
    }
}

/// A script: a pipe or a file.
pub struct Script<R> {
    lines: R,
}

impl<R: BufRead> Script<R> {
    /// Lines of this reader.
    pub const fn new(lines: R) -> Self {
        Self { lines }
    }
}

impl<R: BufRead> Input for Script<R> {
    fn line(&mut self, _prompt: &str) -> io::Result<Line> {
        let mut bytes = Vec::new();
        if self.lines.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(Line::End);
        }
        Ok(Line::Typed(
            String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\n', '\r'])
                .to_owned(),
        ))
    }

    fn is_terminal(&self) -> bool {
        false
    }

    fn complete_for(&mut self, _target: Option<TargetId>) {}

    fn printer(&mut self) -> Option<Printer> {
        None
    }
}
