//! The console: the old session word for word at a terminal and from a pipe, and what goes wrong in between.

use std::io::Write as _;
use std::process::Stdio;

use memscope_tests::deadline::{EXIT, until};
use memscope_tests::memscope::{Memscope, Output, complete};
use memscope_tests::process;
use memscope_tests::program::Program;
use memscope_tests::session::Session;
use memscope_tests::target::Target;
use memscope_tests::terminal::Terminal;
use memscope_tests::workload::Folder;

const MENU: &str = "\
OS CLI Menu
c - CPU Utilization Mode(Print Disabled)
C - CPU Utilization
f - Fault Diagnostics
z - Cache Information
H - CPU Utilization History
i - Task Information
I <taskID> - Task Detailed
m - Memory Information (OS)
M - zOsMem Information
n - zOsMem Memory Scope create database
N - zOsMem Memory Scope destroy database
o - zOsMem Memory Scope start data collection
O - zOsMem Memory Scope stop data collection
p - zOsMem Memory Scope print data
P - zOsMem Memory Scope print stats
Q - Queue Information
s - Stack Information
t <taskID> - Task Stack Information (Tornado 'tt')
w - Watchdog Information
y - Task Monitor information
q - Quit
";

/// The report of three lost headers, numbers redacted; their frames below the caller are the C library's.
const REPORT: &str = "\
#:#:#.# MemScope list of entries at least # seconds old
entry:# address:# size:# cookie:# age:#
#: malloc + #
#: copy_header + #  (demo.c:#)
entry:# address:# size:# cookie:# age:#
#: malloc + #
#: copy_header + #  (demo.c:#)
entry:# address:# size:# cookie:# age:#
#: malloc + #
#: copy_header + #  (demo.c:#)
MemScope printed # entries
";

/// A leaking program: of six requests three lose their headers, of 10 007 bytes.
fn leaking() -> Target {
    Target::start::<&str>(&Program::new("demo.c").build(), &[])
}

/// Asks for requests, and hears what was lost: three lines, then `done`.
fn lose(target: &mut Target, requests: u32) {
    target.send(&requests.to_string());
    while target.line(EXIT) != "done" {}
}

/// Numbers become `#`, a file its name; of a stack the frames above the call that was made; of the entries only lost headers.
fn redacted(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut shown = true;
    let mut frames = 0;
    for line in text.lines() {
        if line.starts_with("entry:") {
            // 10 007 bytes; the program's other blocks are of other sizes.
            shown = line.contains(" size:0x2717 ");
            frames = 0;
        } else if line.starts_with("0x") {
            frames += 1;
        } else {
            shown = true;
            frames = 0;
        }
        if shown && frames <= 2 {
            lines.push(without_numbers(line));
        }
    }
    lines.iter().map(|line| line.clone() + "\n").collect()
}

fn without_numbers(line: &str) -> String {
    let mut out = String::new();
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if !character.is_ascii_digit() {
            out.push(character);
            continue;
        }
        let hex = character == '0' && characters.next_if_eq(&'x').is_some();
        while characters
            .next_if(|next| {
                if hex {
                    next.is_ascii_hexdigit()
                } else {
                    next.is_ascii_digit()
                }
            })
            .is_some()
        {}
        out.push('#');
    }
    match (out.find("  ("), out.rfind('/')) {
        (Some(open), Some(slash)) if slash > open => format!("{}  ({}", &out[..open], &out[slash + 1..]),
        _ => out,
    }
}

/// Runs the console with a script on its standard input.
fn script(memscope: &Memscope, pid: u32, lines: &str) -> Output {
    let folder = Folder::new();
    let path = folder.path().join("script");
    std::fs::write(&path, lines).expect("a script");
    let mut command = memscope.command(&["console", &pid.to_string()]);
    command.stdin(Stdio::from(std::fs::File::open(&path).expect("the script")));
    complete(command)
}

#[test]
fn the_old_session_at_a_terminal_gives_its_texts() {
    let memscope = Memscope::new();
    let mut target = leaking();
    let pid = target.pid();
    let _guard = Session::guard(&memscope, pid);
    let mut terminal = Terminal::start(memscope.command(&["console", &pid.to_string()]));
    terminal.answer("> ", "o");
    terminal.answer("os> ", "h");
    terminal.answer("os> ", "n");
    terminal.answer("os> ", "o");
    terminal.wait_for("the answer", |screen| screen.text().contains("collection started"));
    lose(&mut target, 6);
    terminal.answer("os> ", "p");
    terminal.answer("Age: ", "0");
    terminal.answer("os> ", "O");
    terminal.answer("os> ", "N");
    terminal.answer("os> ", "p");
    terminal.answer("Age: ", "3600");
    terminal.answer("os> ", "q");
    terminal.answer("> ", "q");
    let (screen, errors, status) = terminal.end();
    let expected = format!(
        "Target: # demo
> o
os> h
{MENU}os> n
Creating Memory Scope database
os> o
Memory scope data collection started
os> p
Age: #
{REPORT}os> O
Memory scope data collection stopped
os> N
Memory scope database destroyed, disabling data collection
os> p
Age: #
MemScope database does not exist
os> q
> q
"
    );
    assert_eq!(redacted(&screen).trim_end(), expected.trim_end(), "{errors}");
    // The last `p` found no database.
    assert_eq!(status.code(), Some(4), "{errors}");
    memscope.assert_nothing_left();
}

#[test]
fn the_old_session_from_a_pipe_gives_the_same_texts() {
    let memscope = Memscope::new();
    let mut target = leaking();
    let _guard = Session::guard(&memscope, target.pid());
    let mut command = memscope.command(&["console", &target.pid().to_string()]);
    command.stdin(Stdio::piped());
    let mut child = command.spawn().expect("memscope starts");
    let mut pipe = child.stdin.take().expect("stdin is a pipe");
    let mut send = |lines: &str| pipe.write_all(lines.as_bytes()).expect("the console reads");
    send("o\nh\nn\no\n");
    let pid = target.pid().to_string();
    until(EXIT, "collection to run", || {
        memscope
            .run(&["list"])
            .stdout
            .lines()
            .find(|line| line.contains(&pid) && line.contains(" collecting "))?;
        Some(())
    });
    lose(&mut target, 6);
    // The age asked for is the next line, or stands behind the key.
    send("p\n0\np 0\nO\nN\nq\nq\n");
    drop(pipe);
    let mut stdout = child.stdout.take().expect("stdout is a pipe");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut text).expect("text");
    assert_eq!(process::wait(&mut child, EXIT).expect("it ends").code(), Some(0));
    let expected = format!(
        "{MENU}Creating Memory Scope database
Memory scope data collection started
Age: #
{REPORT}Age: #
{REPORT}Memory scope data collection stopped
Memory scope database destroyed, disabling data collection
"
    );
    assert_eq!(redacted(&text), expected);
    memscope.assert_nothing_left();
}

#[test]
fn a_script_goes_on_after_a_failure_and_ends_with_the_code_of_the_first() {
    let memscope = Memscope::new();
    let target = Target::blocks();
    let output = script(&memscope, target.pid(), "o\np 60\nx\nO\nI 1\nm\n").expect_code(4);
    assert!(
        output.stdout.starts_with("Age: 60\nMemScope database does not exist\n"),
        "{output}"
    );
    assert!(
        output.stdout.contains("\nMemory Information (OS): process "),
        "it went on to m\n{output}"
    );
    assert!(
        output.stderr.contains("`x` is no command here: h shows the menu"),
        "{output}"
    );
    assert!(
        output.stderr.contains("has no thread 1: key i lists its threads"),
        "{output}"
    );
    let output = script(&memscope, target.pid(), "o\nx\np 60\n").expect_code(2);
    assert!(output.stdout.contains("MemScope database does not exist"), "{output}");
}

#[test]
fn each_key_without_a_database_or_out_of_turn_says_what_to_do() {
    let memscope = Memscope::new();
    let target = Target::blocks();
    let _guard = Session::guard(&memscope, target.pid());
    let output = script(&memscope, target.pid(), "o\no\nO\nN\nP\nn\nn\nO\no\no\nN\n").expect_code(4);
    let expected = "\
MemScope database does not exist
MemScope database does not exist
MemScope database does not exist
MemScope database does not exist
Creating Memory Scope database
MemScope database exists already: o collects into it, N destroys it
Memory scope data collection is not running: o starts it
Memory scope data collection started
Memory scope data collection is running already: O stops it
Memory scope database destroyed, disabling data collection
";
    assert_eq!(output.stdout, expected, "{output}");
    memscope.assert_nothing_left();
}

#[test]
fn the_database_is_the_one_the_commands_use_and_leaving_leaves_it_running() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let pid = target.pid();
    let session = Session::attach(&memscope, pid);
    target.act("take 3 10007");
    let output = script(&memscope, pid, "o\np 0\nP\nq\nq\n").expect_code(0);
    assert_eq!(output.stdout.matches("size:0x2717 ").count(), 3, "{output}");
    assert!(output.stdout.contains("  collection     collecting, "), "{output}");
    let goes_on = format!("goes on; `memscope detach {pid}` ends it");
    assert!(output.stderr.contains(&goes_on), "{output}");
    target.act("take 1 10007");
    assert_eq!(session.print().entries.len(), 4, "collection went on");
    session.detach();
    let output = script(&memscope, pid, "q\n").expect_code(0);
    assert!(!output.stderr.contains("goes on"), "nothing does\n{output}");
}

#[test]
fn the_target_is_changed_at_the_top_and_found_by_name() {
    let memscope = Memscope::new();
    let (first, second) = (Target::blocks(), leaking());
    let lines = format!("target {}\no\ni\nq\ntarget no-such-name\nlist\nq\n", second.pid());
    let output = script(&memscope, first.pid(), &lines).expect_code(4);
    assert!(
        output.stdout.starts_with(&format!("Target: {} demo\n", second.pid())),
        "{output}"
    );
    assert!(
        output
            .stdout
            .contains(&format!("Task Information: process {} (demo)", second.pid())),
        "{output}"
    );
    assert!(
        output.stderr.contains("no process matches --comm no-such-name"),
        "{output}"
    );
    let output = memscope.run(&["console", "no-such-name"]).expect_code(4);
    assert!(output.one_error_line().contains("no-such-name"), "{output}");
    let mut command = memscope.command(&["console"]);
    command.stdin(Stdio::null());
    assert_eq!(
        complete(command).expect_code(0).stdout,
        "",
        "no target is needed to begin"
    );
}

#[test]
fn a_target_that_ends_meanwhile_is_said_calmly_and_its_database_stays_printable() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let pid = target.pid();
    let _guard = Session::guard(&memscope, pid);
    let mut terminal = Terminal::start(memscope.command(&["console", &pid.to_string()]));
    terminal.answer("> ", "o");
    terminal.answer("os> ", "n");
    terminal.answer("os> ", "o");
    terminal.wait_for("the answer", |screen| screen.text().contains("collection started"));
    target.act("take 2 10007");
    target.kill();
    for key in ["m", "i", "C", "s", "t", "M", "Q", "f", "y", "z", "w", "H", "I"] {
        terminal.answer("os> ", key);
    }
    terminal.answer("os> ", "p 0");
    terminal.answer("os> ", "N");
    terminal.answer("os> ", "q");
    terminal.answer("> ", "q");
    let (screen, errors, status) = terminal.end();
    let ended = format!("memscope: process {pid} has ended\n");
    assert_eq!(errors.matches(&ended).count(), 13, "{errors}");
    assert_eq!(screen.matches("size:0x2717 ").count(), 2, "{screen}");
    assert!(screen.contains("note: the target has exited"), "{screen}");
    assert_eq!(status.code(), Some(4));
    memscope.assert_nothing_left();
}

#[test]
fn at_a_terminal_cpu_use_is_printed_again_and_again_and_task_ids_are_completed() {
    let memscope = Memscope::new();
    let target = leaking();
    let pid = target.pid();
    let mut terminal = Terminal::start(memscope.command(&["console", &pid.to_string()]));
    terminal.answer("> ", "o");
    terminal.answer("os> ", "c");
    terminal.wait_for("two lines of CPU use", |screen| {
        screen.text().matches(" CPU 0.").count() >= 2
    });
    terminal.answer("os> ", "h");
    terminal.answer("os> ", "c");
    let head = &pid.to_string()[..1];
    terminal.wait_for("the prompt", |screen| screen.last_line() == "os>");
    terminal.press(&format!("I {head}\t"));
    let completed = format!("os> I {pid}");
    terminal.wait_for("the task id", |screen| screen.last_line() == completed);
    terminal.press("\r");
    terminal.answer("os> ", "H");
    // What was typed before comes back: up, up.
    terminal.wait_for("the prompt", |screen| screen.last_line() == "os>");
    terminal.press("\x1b[A\x1b[A");
    terminal.wait_for("the line before the last", |screen| screen.last_line() == completed);
    // Ctrl-C gives the line up, Ctrl-D leaves.
    terminal.press("\x03");
    terminal.wait_for("the prompt", |screen| screen.last_line() == "os>");
    terminal.press("\x04");
    let (screen, errors, status) = terminal.end();
    assert!(screen.contains("CPU Utilization Mode(Print Enabled)\n"), "{screen}");
    assert!(screen.contains("CPU Utilization Mode(Print Disabled)\n"), "{screen}");
    assert!(
        screen.contains("c - CPU Utilization Mode(Print Enabled)\n"),
        "the menu shows the mode\n{screen}"
    );
    assert!(
        screen.contains(&format!("Task Detailed: process {pid} (demo)")),
        "{screen}"
    );
    assert!(
        screen.contains("samples, 1.0 s apart"),
        "the history is the console's own\n{screen}"
    );
    assert_eq!((status.code(), errors.as_str()), (Some(0), ""), "{screen}");
}
