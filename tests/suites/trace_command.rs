//! `trace -- COMMAND`: the command is seen from before its first call, and is not changed by it.

use std::path::Path;
use std::process::{Command, Stdio};

use memscope_tests::deadline::{EXIT, until};
use memscope_tests::difference::assert_same;
use memscope_tests::ledger::Ledger;
use memscope_tests::memscope::{Memscope, Output, complete};
use memscope_tests::process;
use memscope_tests::program::Program;
use memscope_tests::report::{Database, Report};
use memscope_tests::workload::Folder;

/// Traces `program LEDGER CODE`; gives what memscope said and the program's ledger.
fn trace(memscope: &Memscope, program: &Path, code: &str) -> (Output, Ledger) {
    let folder = Folder::new();
    let ledger = folder.path().join("ledger");
    let mut command = memscope.command(&["trace", "--age", "0", "--format", "json", "--"]);
    command.arg(program).arg(&ledger).arg(code);
    let output = complete(command);
    memscope.assert_nothing_left();
    let dump = std::fs::read_to_string(&ledger).unwrap_or_else(|error| panic!("no ledger: {error}\n{output}"));
    let blocks = dump.lines().filter(|line| *line != "end");
    (output, Ledger::parse(blocks))
}

/// The report, which follows the command's own output.
fn database(output: &Output) -> Database {
    let report = output.stdout.strip_prefix("hello\n");
    let report = report.unwrap_or_else(|| panic!("the command's output comes first and unchanged\n{output}"));
    Report::parse(report).only()
}

/// What a static program's C library takes for itself before main is in no ledger of the program.
fn without_start_up(mut database: Database) -> Database {
    let own: Vec<u64> = database
        .entries
        .iter()
        .filter(|entry| {
            let functions = database.functions(entry);
            functions.contains(&"_dl_non_dynamic_init")
        })
        .map(|entry| entry.entry)
        .collect();
    database.entries.retain(|entry| !own.contains(&entry.entry));
    database
}

fn is_complete(program: &Path) {
    let memscope = Memscope::new();
    let (output, ledger) = trace(&memscope, program, "7");
    assert_eq!(output.code(), 0, "{output}");
    let database = database(&output);
    assert_eq!(database.lost(), 0, "{database:#?}");
    assert_eq!(ledger.len(), 8, "a constructor's block and main's");
    let database = without_start_up(database.without_the_linkers_own());
    assert_same(&ledger, &database, "from the first call on");
    assert!(
        output.stderr.contains("the command ended with exit code 7"),
        "its exit code is its own\n{output}"
    );
    assert!(!output.stderr.contains("could not be held"), "{output}");
}

#[test]
fn a_command_that_allocates_at_once_and_ends_is_complete() {
    let program = Program::new("at_once.c").build();
    for _ in 0..5 {
        is_complete(&program);
    }
}

#[test]
fn a_static_command_is_complete() {
    is_complete(&Program::new("at_once.c").flags(&["-static"]).build());
}

#[test]
fn a_static_position_independent_command_is_complete() {
    is_complete(&Program::new("at_once.c").flags(&["-static-pie", "-fPIE"]).build());
}

#[test]
fn a_musl_command_is_complete() {
    is_complete(&Program::new("at_once.c").compiler("musl-gcc").build());
}

#[test]
fn allocations_of_library_constructors_are_seen() {
    // libstdc++ takes its emergency pool for exceptions when it is loaded.
    let memscope = Memscope::new();
    let program = Program::new("cxx_new.cpp").build();
    let mut command = memscope.command(&["trace", "--age", "0", "--format", "json", "--"]);
    command.arg(program);
    let output = complete(command);
    assert_eq!(output.code(), 0, "{output}");
    let report = output.stdout.strip_prefix("ready\n").unwrap_or(&output.stdout);
    let database = Report::parse(report).only();
    assert!(
        database
            .entries
            .iter()
            .any(|entry| entry.size > 70_000 && entry.size < 80_000),
        "the emergency pool: {database:#?}"
    );
    memscope.assert_nothing_left();
}

#[test]
fn a_command_that_does_not_exist_is_an_error_in_words() {
    let memscope = Memscope::new();
    let output = memscope.run(&["trace", "--", "/no/such/command"]);
    assert_eq!(output.code(), 3, "{output}");
    assert!(
        output.one_error_line().contains("cannot start /no/such/command"),
        "{output}"
    );
    memscope.assert_nothing_left();
}

#[test]
fn a_command_without_an_allocator_runs_on_untraced() {
    let memscope = Memscope::new();
    let program = Program::new("at_once.c").flags(&["-static", "-s"]).build();
    let (output, ledger) = trace(&memscope, &program, "0");
    assert_eq!(output.code(), 5, "{output}");
    assert_eq!(ledger.len(), 8, "it did what it does");
}

/// Another tracer holds memscope with all its children, so that memscope itself may not trace the command.
#[test]
fn where_ptrace_is_not_permitted_the_command_is_traced_from_later_on_and_that_is_said() {
    let memscope = Memscope::new();
    let inner = memscope.command(&["trace", "--age", "0", "--"]);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]).arg(inner.get_program());
    command.args(inner.get_args()).arg(Program::new("blocks.c").build());
    command.env_clear();
    for (name, value) in inner.get_envs() {
        command.env(name, value.expect("no variable is removed"));
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("strace is installed by the tests' set-up");
    let mut stdin = child.stdin.take().expect("a pipe");
    until(EXIT * 2, "trace to collect", || {
        let print = memscope.run(&["print", "--age", "0", "--format", "json"]);
        (print.code() == 0 && print.stdout.contains("\"collecting\"")).then_some(())
    });
    std::io::Write::write_all(&mut stdin, b"take 3 10007\nquit\n").expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let (said, told) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(told.contains("could not be held"), "{said}{told}");
    assert_eq!(said.matches("size:0x2717 ").count(), 3, "{said}{told}");
    memscope.assert_nothing_left();
}

#[test]
fn a_killed_trace_lets_its_command_run_on_or_never_begin() {
    let program = Program::new("at_once.c").build();
    let folder = Folder::new();
    for milliseconds in 0..20 {
        let memscope = Memscope::new();
        let ledger = folder.path().join(format!("ledger{milliseconds}"));
        let mut command = memscope.command(&["trace", "--"]);
        command.arg(&program).arg(&ledger).arg("0");
        let mut child = command.spawn().expect("memscope starts");
        std::thread::sleep(std::time::Duration::from_millis(milliseconds * 8));
        process::signal(child.id(), libc::SIGKILL);
        child.wait().expect("it ends");
        // Whoever has begun ends its work; nobody stays behind stopped.
        until(EXIT, "no process of the program to be left", || {
            (processes_with(&ledger) == 0).then_some(())
        });
        if let Ok(dump) = std::fs::read_to_string(&ledger) {
            assert!(dump.is_empty() || dump.ends_with("end\n"), "it ran to its end: {dump}");
        }
        memscope.run(&["detach", "--all"]);
        memscope.run(&["gc"]);
        memscope.assert_nothing_left();
    }
}

/// Processes that have this path among their arguments: the program, or a memscope that has not yet become it.
fn processes_with(path: &Path) -> usize {
    let wanted = path.to_str().expect("the path is text");
    let all = std::fs::read_dir("/proc").expect("procfs").flatten();
    all.filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes())
    })
    .count()
}
