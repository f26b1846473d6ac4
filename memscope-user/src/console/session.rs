//! The console's state and its loop: level, target, earlier looks, the first failure.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::command::{Command, Level, parse};
use super::input::{Input, Line};
use super::keys::{self, Told};
use super::menu;
use super::sampler::Sampler;
use crate::age::Age;
use crate::cli::arguments::{Format, ListArguments};
use crate::cli::run::{CommandError, complain};
use crate::cli::{select, show};
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::exit::ExitCode;
use crate::os::{Key, Looks, Question, ask};
use crate::report::{self, Escaped};
use crate::target::identity::{Pid, TargetId};
use crate::target::process::Target;

/// What is shown when a question is asked.
const AGE_PROMPT: &str = "Age: ";

/// A console.
pub struct Console<'a> {
    roots: Roots,
    input: &'a mut dyn Input,
    level: Level,
    target: Option<Chosen>,
    printing: Arc<AtomicBool>,
    first_failure: Option<ExitCode>,
}

/// The target the keys are about.
struct Chosen {
    id: TargetId,
    name: String,
    looks: Looks,
    /// Only where somebody waits at a prompt.
    _sampler: Option<Sampler>,
}

/// Whether the console goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Line,
    Leave,
}

impl<'a> Console<'a> {
    /// A console without a target.
    pub fn new(roots: Roots, input: &'a mut dyn Input) -> Self {
        Self {
            roots,
            input,
            level: Level::Top,
            target: None,
            printing: Arc::new(AtomicBool::new(false)),
            first_failure: None,
        }
    }

    /// Chooses a target: a PID or a name; also one that has ended, while its database is there.
    pub fn choose(&mut self, text: &str) -> Result<(), CommandError> {
        let id = match (select::one_process(text), text.parse()) {
            (Ok(target), _) => target.id,
            (Err(error), Ok(pid)) => select::database_of(&self.roots, Pid(pid)).map_err(|_| error)?,
            (Err(error), Err(_)) => return Err(error),
        };
        let name = Target { id }.comm().or_else(|error| {
            let session = Session::open(&self.roots, id);
            session.map(|session| session.file.comm).map_err(|_| error)
        })?;
        let looks = Looks::default();
        let sampler = self.input.is_terminal().then(|| {
            let printer = self.input.printer();
            Sampler::start(id, looks.history.clone(), Arc::clone(&self.printing), printer)
        });
        self.input.complete_for(Some(id));
        self.target = Some(Chosen {
            id,
            name,
            looks,
            _sampler: sampler,
        });
        Ok(())
    }

    /// Reads and does, until the end.
    pub fn run(mut self) -> Result<ExitCode, CommandError> {
        if self.input.is_terminal() {
            self.name_target()?;
        }
        loop {
            let line = match self.input.line(self.level.prompt())? {
                Line::Typed(line) => line,
                Line::Cancelled => continue,
                Line::End => break,
            };
            match self.obey(&line) {
                Ok(Next::Line) => {}
                Ok(Next::Leave) => break,
                Err(CommandError::Output(error)) if report::is_broken_pipe(&error) => return Ok(ExitCode::Success),
                Err(error) => {
                    complain(&error);
                    self.failed(error.exit_code());
                }
            }
            io::stdout().flush()?;
        }
        self.say_what_goes_on();
        Ok(self.first_failure.unwrap_or(ExitCode::Success))
    }

    fn obey(&mut self, line: &str) -> Result<Next, CommandError> {
        match parse(self.level, line) {
            Command::Nothing => {}
            Command::Help => {
                let menu = menu::text(self.level, self.printing.load(Ordering::Relaxed));
                write!(io::stdout(), "{menu}")?;
            }
            Command::Quit => match self.level {
                Level::Top => return Ok(Next::Leave),
                Level::Os => self.level = Level::Top,
            },
            Command::EnterOs => self.level = Level::Os,
            Command::Target(target) => {
                self.say_what_goes_on();
                self.choose(&target)?;
                self.name_target()?;
            }
            Command::List => {
                keys::require_privileges()?;
                show::list::run(&ListArguments { format: Format::Text })?;
            }
            Command::Create => self.with_database(keys::create)?,
            Command::Destroy => self.with_database(keys::destroy)?,
            Command::Start => self.with_database(keys::start)?,
            Command::Stop => self.with_database(keys::stop)?,
            Command::Stats => self.with_database(keys::stats)?,
            Command::Print(age) => self.print(age)?,
            Command::Ask(key, tid) => self.ask(key, tid)?,
            Command::Unknown(answer) => return Err(CommandError::Usage(answer)),
        }
        Ok(Next::Line)
    }

    fn with_database(&mut self, key: fn(&Roots, TargetId, &mut dyn Write) -> Told) -> Result<(), CommandError> {
        let id = self.chosen()?.id;
        let code = key(&self.roots, id, &mut io::stdout())?;
        self.failed(code);
        Ok(())
    }

    fn print(&mut self, typed: Option<String>) -> Result<(), CommandError> {
        let id = self.chosen()?.id;
        let (text, age_is_shown) = match typed {
            Some(text) => (text, false),
            None => match self.input.answer(AGE_PROMPT)? {
                Line::Typed(text) => (text, self.input.is_terminal()),
                Line::Cancelled => return Ok(()),
                Line::End => return Err(CommandError::Usage("p was asked without an age: p 3600".into())),
            },
        };
        let age: Age = text
            .trim()
            .parse()
            .map_err(|error: crate::age::AgeError| CommandError::Usage(error.to_string()))?;
        // What was typed is on the terminal; `1h` is not what the report's first line says.
        let same = text.trim() == age.to_string();
        let code = keys::print(&self.roots, id, age, age_is_shown && same, &mut io::stdout())?;
        self.failed(code);
        Ok(())
    }

    fn ask(&mut self, key: Key, tid: Option<u32>) -> Result<(), CommandError> {
        let target = self.chosen()?.id;
        if key == Key::CpuMode && self.input.is_terminal() {
            let printing = !self.printing.fetch_xor(true, Ordering::Relaxed);
            let mode = if printing { "Enabled" } else { "Disabled" };
            writeln!(io::stdout(), "CPU Utilization Mode(Print {mode})")?;
            return Ok(());
        }
        let question = Question { key, target, tid };
        let answer = ask(question, &mut self.chosen()?.looks)?;
        Ok(answer.write_text(&mut io::stdout())?)
    }

    fn chosen(&mut self) -> Result<&mut Chosen, CommandError> {
        self.target.as_mut().ok_or_else(|| {
            CommandError::Usage("no target is chosen: `target PID` chooses one, `list` shows the databases".into())
        })
    }

    fn failed(&mut self, code: ExitCode) {
        if code != ExitCode::Success {
            self.first_failure.get_or_insert(code);
        }
    }

    fn name_target(&self) -> Result<(), CommandError> {
        if let Some(chosen) = &self.target {
            writeln!(io::stdout(), "Target: {} {}", chosen.id.pid, Escaped(&chosen.name))?;
        }
        Ok(())
    }

    /// Leaving a target, or the console, stops nothing.
    fn say_what_goes_on(&self) {
        let Some(chosen) = &self.target else { return };
        if keys::collects(&self.roots, chosen.id) {
            // Nothing more can be done when stderr is gone.
            let _ = writeln!(
                io::stderr(),
                "Memory scope data collection for process {} ({}) goes on; `memscope detach {}` ends it",
                chosen.id.pid,
                Escaped(&chosen.name),
                chosen.id.pid
            );
        }
    }
}
