//! A running target program: started, asked for `ready`, driven by commands, always killed in the end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::deadline::{EXIT, REPLY};
use crate::ledger::Ledger;
use crate::process;
use crate::program::Program;

/// A running target program.
#[derive(Debug)]
pub struct Target {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    name: String,
    transcript: Vec<String>,
}

/// How a program ended and all it said, ledgers apart: what a traced run must share with an untraced one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Lines of stdout, in order; stderr is not part of it.
    pub transcript: Vec<String>,
    /// Exit code, if it exited.
    pub code: Option<i32>,
    /// Signal, if one ended it.
    pub signal: Option<i32>,
}

impl Target {
    /// Starts a program and waits for its `ready`.
    pub fn start<S: AsRef<OsStr>>(program: &Path, arguments: &[S]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::start_command(command)
    }

    /// Starts `blocks.c`, which takes and gives back as told.
    pub fn blocks() -> Self {
        Self::start::<&str>(&Program::new("blocks.c").build(), &[])
    }

    /// Starts a prepared command and waits for its `ready`.
    pub fn start_command(command: Command) -> Self {
        let mut target = Self::spawn(command);
        let first = target.line(REPLY);
        assert_eq!(first, "ready", "first line of {}", target.name);
        target
    }

    /// Starts a program that does not speak the programs' language.
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let name = format!("{command:?}");
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("starting {name}: {error}"));
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n') {
                let Ok(line) = line else { return };
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            stdin,
            lines,
            name,
            transcript: Vec::new(),
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes one line to its stdin.
    pub fn send(&mut self, line: &str) {
        let stdin = self
            .stdin
            .as_mut()
            .unwrap_or_else(|| panic!("stdin of {} is closed", self.name));
        writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Writes one line and waits for its answer, one line.
    pub fn ask(&mut self, line: &str) -> String {
        self.ask_within(line, REPLY)
    }

    /// The same with a deadline of its own, for work that takes long.
    pub fn ask_within(&mut self, line: &str, limit: Duration) -> String {
        self.send(line);
        self.line(limit)
    }

    /// Tells it to do something and demands that it answers `done`, possibly with a result, which is given back.
    pub fn act(&mut self, line: &str) -> String {
        let answer = self.ask_within(line, REPLY * 3);
        let result = answer
            .strip_prefix("done")
            .unwrap_or_else(|| panic!("{line:?} to {}: {answer:?}", self.name));
        result.trim().to_owned()
    }

    /// Next line of its stdout.
    pub fn line(&mut self, limit: Duration) -> String {
        let line = self.next_line(Instant::now() + limit);
        self.transcript.push(line.clone());
        line
    }

    /// Next line of its stdout, if it has come already.
    pub fn line_at_hand(&mut self) -> Option<String> {
        let line = self.lines.try_recv().ok()?;
        self.transcript.push(line.clone());
        Some(line)
    }

    /// Its ledger: every block it holds now.
    pub fn ledger(&mut self) -> Ledger {
        self.send("dump");
        let end = Instant::now() + REPLY;
        let mut lines = Vec::new();
        loop {
            match self.next_line(end).as_str() {
                "end" => return Ledger::parse(lines.iter().map(String::as_str)),
                line => lines.push(line.to_owned()),
            }
        }
    }

    /// Asks it to quit and waits for its end.
    pub fn quit(mut self) -> Ending {
        self.send("quit");
        self.ending()
    }

    /// Waits for its end, which something else brings about.
    pub fn ending(mut self) -> Ending {
        self.stdin = None;
        let status = self.wait();
        self.transcript.extend(self.lines.iter());
        Ending {
            transcript: std::mem::take(&mut self.transcript),
            code: status.code(),
            signal: status.signal(),
        }
    }

    /// Waits until it has ended, leaving its output for later.
    pub fn wait(&mut self) -> ExitStatus {
        process::wait(&mut self.child, EXIT).unwrap_or_else(|| panic!("{} does not end", self.name))
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        process::signal(self.pid(), libc::SIGKILL);
        self.wait();
    }

    fn next_line(&mut self, end: Instant) -> String {
        match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} said nothing in time; before: {:?}", self.name, self.transcript)
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = process::wait(&mut self.child, EXIT);
                panic!(
                    "{} closed its stdout ({status:?}); before: {:?}",
                    self.name, self.transcript
                )
            }
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Kills by pid; a child that was reaped before is left alone, its pid may be another's by now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
