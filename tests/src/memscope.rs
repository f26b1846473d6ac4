//! The command under test: finds the binary, runs it with an environment of its own, keeps what it said.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use crate::deadline::COMMAND;
use crate::process;
use crate::program::{folder, target_folder};
use crate::report::{Database, Report};
use crate::session::Session;
use crate::state_dirs::StateDirs;
use crate::target::Target;

/// memscope with state folders of its own.
#[derive(Debug, Default)]
pub struct Memscope {
    /// Its state folders.
    pub dirs: StateDirs,
    /// `MEMSCOPE_SHARED_PROBES` of its commands; `None`: that of the suites, so that all of them can be run with shared probes.
    pub shared_probes: Option<&'static str>,
}

/// What one run said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl Memscope {
    /// A new one, knowing no session.
    pub fn new() -> Self {
        Self::default()
    }

    /// One whose sessions share their probes wherever that can be done.
    pub fn sharing() -> Self {
        Self {
            shared_probes: Some("always"),
            ..Self::default()
        }
    }

    /// A command line of it, not yet started: no variables but PATH and its own, no terminal.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("MEMSCOPE_RUN_DIR", self.dirs.run())
            .env("MEMSCOPE_BPF_DIR", self.dirs.bpf());
        let of_the_suites = std::env::var_os("MEMSCOPE_SHARED_PROBES");
        if let Some(shared) = self.shared_probes.map(Into::into).or(of_the_suites) {
            command.env("MEMSCOPE_SHARED_PROBES", shared);
        }
        command
    }

    /// Runs it to its end. Whatever it is asked, it must not panic.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        let output = complete(self.command(arguments));
        assert!(
            !output.stderr.contains("panicked at") && output.status.code() != Some(70),
            "a bug of ours\n{output}"
        );
        output
    }

    /// Runs it and demands exit code 0.
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.run(arguments).expect_code(0)
    }

    /// Attaches to `target`; the session is detached when the result is dropped.
    pub fn attach<'a>(&'a self, target: &Target) -> Session<'a> {
        Session::attach(self, target.pid())
    }

    /// Every live block of `pid`.
    pub fn print(&self, pid: u32) -> Database {
        self.print_with(pid, &[])
    }

    /// `print PID --age 0 --format json` and further arguments.
    pub fn print_with(&self, pid: u32, more: &[&str]) -> Database {
        let pid = pid.to_string();
        let arguments = [&["print", &pid, "--age", "0", "--format", "json"], more].concat();
        Report::parse(&self.ok(&arguments).stdout).only()
    }

    /// What `session.json` of the only session says, and its length in bytes.
    pub fn session_file(&self) -> (serde_json::Value, usize) {
        let files = self.dirs.session_files();
        let path = files.iter().find(|path| path.ends_with("session.json"));
        let text = std::fs::read(path.expect("a session")).expect("its file");
        (serde_json::from_slice(&text).expect("JSON"), text.len())
    }

    /// Demands that nothing of any session is left: no pinned object, no trace event, no session file.
    pub fn assert_nothing_left(&self) {
        let pinned = self.dirs.pinned();
        assert!(pinned.is_empty(), "still pinned: {pinned:#?}");
        let events = self.dirs.trace_events();
        assert!(events.is_empty(), "still in tracefs: {events:#?}");
        let described: Vec<_> = self
            .dirs
            .session_files()
            .into_iter()
            .filter(|path| path.ends_with("session.json"))
            .collect();
        assert!(described.is_empty(), "still described: {described:#?}");
    }
}

impl Output {
    /// Exit code; panics when a signal ended the command.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("ended by signal {:?}\n{self}", self.status.signal()))
    }

    /// Demands an exit code and gives itself back.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "exit code of\n{self}");
        self
    }

    /// Demands exactly one line on stderr, as errors are written, and none on stdout; gives that line.
    pub fn one_error_line(&self) -> &str {
        assert_eq!(self.stdout, "", "an error prints nothing on stdout\n{self}");
        let mut lines = self.stderr.lines();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            panic!("expected one line on stderr\n{self}")
        };
        line
    }

    /// Demands that stderr has this line: what a command tells that is no report.
    pub fn expect_told(&self, line: &str) -> &Self {
        assert!(
            self.stderr.lines().any(|l| l == line),
            "no line {line:?} on stderr in\n{self}"
        );
        self
    }

    /// Demands that stdout has this line.
    pub fn expect_line(&self, line: &str) -> &Self {
        assert!(self.stdout.lines().any(|l| l == line), "no line {line:?} in\n{self}");
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            command,
            stdout,
            stderr,
            status,
        } = self;
        write!(f, "{command}\n{status}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}

/// Runs a command line to its end within the deadline and keeps what it said.
pub fn complete(mut command: Command) -> Output {
    let line = format!("{command:?}");
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("starting {line}: {error}"));
    let stdout = child.stdout.take().map(in_background);
    let stderr = child.stderr.take().map(in_background);
    let status = process::wait(&mut child, COMMAND).unwrap_or_else(|| {
        process::signal(child.id(), libc::SIGKILL);
        panic!("still running after {COMMAND:?}: {line}")
    });
    let text = |reader: Option<std::thread::JoinHandle<Vec<u8>>>| {
        let bytes = reader
            .map(|reader| reader.join().expect("a reader does not panic"))
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Output {
        command: line,
        stdout: text(stdout),
        stderr: text(stderr),
        status,
    }
}

fn in_background(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A reader that fails has read what there was.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// The memscope binary: `MEMSCOPE_BIN`, or the workspace's, which is brought up to date first.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        if let Some(path) = std::env::var_os("MEMSCOPE_BIN") {
            let path = PathBuf::from(path);
            assert!(path.exists(), "MEMSCOPE_BIN names no file: {}", path.display());
            return path;
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.current_dir(folder().join("..")).args([
            "build",
            "--release",
            "--package",
            "memscope-user",
            "--bin",
            "memscope",
        ]);
        let output = build
            .output()
            .unwrap_or_else(|error| panic!("running {build:?}: {error}"));
        assert!(
            output.status.success(),
            "{build:?} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        target_folder().join("release/memscope")
    };
    BINARY.get_or_init(find).clone()
}
