//! Real programs and what they are made to do: started in a folder of their own, worked in rounds, ended in order.

pub mod nginx;
pub mod redis;
pub mod scripts;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::program::Program;
use crate::target::Target;

/// A program to be worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Debian's python3, every object from malloc.
    Python,
    /// sqlite3 on a database in memory.
    Sqlite,
    /// perl.
    Perl,
    /// `git cat-file --batch` on a repository made for it.
    Git,
    /// nginx in one process.
    Nginx,
    /// redis-server, as shipped with jemalloc.
    Redis,
    /// `programs/cxx_work.cpp`.
    Cxx,
    /// `programs/rust_work.rs`.
    Rust,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Redis,
        Self::Python,
        Self::Sqlite,
        Self::Nginx,
        Self::Git,
        Self::Perl,
        Self::Cxx,
        Self::Rust,
    ];

    /// As the table prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python3",
            Self::Sqlite => "sqlite3",
            Self::Perl => "perl",
            Self::Git => "git",
            Self::Nginx => "nginx",
            Self::Redis => "redis-server",
            Self::Cxx => "C++",
            Self::Rust => "Rust",
        }
    }
}

/// A folder of a program's own, removed on drop.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "memscope-work-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("creating {}: {error}", path.display()));
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing to do about a folder that will not go.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program at work.
#[derive(Debug)]
pub struct Running {
    kind: Kind,
    target: Target,
    folder: PathBuf,
}

impl Running {
    /// Starts it with variables added to its environment, and waits until it answers.
    pub fn start(kind: Kind, folder: &Folder, variables: &[(&str, &str)]) -> Self {
        let folder = folder.path();
        let mut command = match kind {
            Kind::Python => scripts::python(),
            Kind::Sqlite => scripts::sqlite(),
            Kind::Perl => scripts::perl(),
            Kind::Git => scripts::git(folder),
            Kind::Nginx => nginx::command(folder),
            Kind::Redis => redis::command(folder),
            Kind::Cxx => Command::new(Program::new("cxx_work.cpp").flags(&["-O2"]).build()),
            Kind::Rust => Command::new(Program::new("rust_work.rs").build()),
        };
        command.envs(variables.iter().copied()).env("LC_ALL", "C");
        let mut target = Target::spawn(command);
        match kind {
            Kind::Nginx => nginx::wait(folder),
            Kind::Redis => redis::wait(folder),
            Kind::Sqlite => assert_eq!(target.ask(".print ready"), "ready"),
            Kind::Git => assert!(target.ask("no-such-object").ends_with("missing")),
            _ => assert_eq!(target.line(crate::deadline::REPLY), "ready"),
        }
        Self {
            kind,
            target,
            folder: folder.to_path_buf(),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.target.pid()
    }

    /// Works some rounds, different ones by number, and gives what the program answered.
    pub fn work(&mut self, rounds: Range<u32>) -> Vec<String> {
        let target = &mut self.target;
        rounds
            .flat_map(|round| match self.kind {
                Kind::Sqlite => scripts::sqlite_round(target, round),
                Kind::Git => scripts::git_round(target, round),
                Kind::Nginx => nginx::round(&self.folder, round),
                Kind::Redis => redis::round(&self.folder, round),
                Kind::Python | Kind::Perl | Kind::Cxx | Kind::Rust => vec![target.act(&format!("work {round}"))],
            })
            .collect()
    }

    /// Ends it in its own way and demands exit code 0.
    pub fn end(mut self) {
        match self.kind {
            Kind::Nginx => crate::process::signal(self.pid(), libc::SIGQUIT),
            Kind::Redis => redis::shut_down(&self.folder),
            Kind::Sqlite => self.target.send(".exit"),
            Kind::Git => {}
            Kind::Python | Kind::Perl | Kind::Cxx | Kind::Rust => self.target.send("quit"),
        }
        let ending = self.target.ending();
        assert_eq!(
            (ending.code, ending.signal),
            (Some(0), None),
            "the end of {}",
            self.kind.name()
        );
    }
}
