//! A whole test in one go: the same program untraced and traced, its ledger against the report, and nothing left behind.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::difference::assert_same;
use crate::ledger::Ledger;
use crate::memscope::Memscope;
use crate::report::Database;
use crate::session::Session;
use crate::target::{Ending, Target};
use crate::text;

/// A program to be run twice and what it is told to do.
#[derive(Clone, Debug)]
pub struct Traced {
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    attach: Vec<String>,
    linkers_own_set_aside: bool,
}

/// What a traced run showed.
#[derive(Debug)]
pub struct Seen {
    /// The program's own count.
    pub ledger: Ledger,
    /// `print --age 0`.
    pub database: Database,
    /// How it ended, the same as untraced.
    pub ending: Ending,
}

impl Traced {
    /// A built program.
    pub fn new(program: &Path) -> Self {
        Self {
            program: program.to_path_buf(),
            arguments: Vec::new(),
            variables: Vec::new(),
            attach: Vec::new(),
            linkers_own_set_aside: false,
        }
    }

    /// Its arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(OsString::from));
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Further arguments of `memscope attach`.
    #[must_use]
    pub fn attach_with(mut self, arguments: &[&str]) -> Self {
        self.attach
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// For programs that start threads or load libraries while traced: blocks whose direct caller is the dynamic linker
    /// are not compared, since the program's ledger cannot know them.
    #[must_use]
    pub fn set_aside_the_linkers_own(mut self) -> Self {
        self.linkers_own_set_aside = true;
        self
    }

    /// Starts it.
    pub fn start(&self) -> Target {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        Target::start_command(command)
    }

    /// Runs the script untraced, then traced; demands the same output and exit code, the whole live set equal to the
    /// ledger, and after detach nothing pinned and not a byte of its text altered.
    pub fn run(&self, script: &[&str]) -> Seen {
        let seen = self.run_without_comparing(script);
        assert_same(
            &seen.ledger,
            &seen.database,
            &format!("{} {script:?}", self.program.display()),
        );
        seen
    }

    /// The same without comparing the sets, for cases in which the contract allows counted losses.
    pub fn run_without_comparing(&self, script: &[&str]) -> Seen {
        let mut untraced = self.start();
        for line in script {
            untraced.act(line);
        }
        untraced.ledger();
        let expected = untraced.quit();

        let memscope = Memscope::new();
        let mut target = self.start();
        let more: Vec<&str> = self.attach.iter().map(String::as_str).collect();
        let session = Session::attach_with(&memscope, target.pid(), &more);
        for line in script {
            target.act(line);
        }
        let ledger = target.ledger();
        let database = session.print();
        session.detach();
        text::assert_restored(target.pid(), &[], "after detach");
        let ending = target.quit();
        assert_eq!(ending, expected, "a traced run says and ends as an untraced one");
        let database = if self.linkers_own_set_aside {
            database.without_the_linkers_own()
        } else {
            database
        };
        Seen {
            ledger,
            database,
            ending,
        }
    }
}
