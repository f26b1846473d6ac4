//! Key `t`: the functions that gdb shows, without stopping a thread that sleeps.

use std::process::{Command, Stdio};

use memscope_tests::deadline::{EXIT, until};
use memscope_tests::memscope::{Memscope, complete};
use memscope_tests::process;
use memscope_tests::program::Program;
use memscope_tests::target::Target;
use memscope_tests::workload::{Folder, redis};
use serde_json::Value;

/// The task of this name, asleep as a rule.
fn task(pid: u32, name: &str) -> u32 {
    until(EXIT, name, || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let named = tasks.flatten().find(|task| {
            let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            comm.trim_end() == name
        });
        named?.file_name().to_str()?.parse().ok()
    })
}

fn sleeps(tid: u32) {
    until(EXIT, "the thread to sleep", || {
        (process::state(tid) == Some('S')).then_some(())
    });
}

fn ask(pid: u32, tid: u32) -> Value {
    let memscope = Memscope::new();
    let output = memscope.ok(&["os", "t", &pid.to_string(), &tid.to_string(), "--format", "json"]);
    serde_json::from_str::<Value>(&output.stdout).expect("JSON")["answer"].clone()
}

/// The functions of an answer; `??` where there is no name.
fn functions(answer: &Value) -> Vec<String> {
    let frames = answer["frames"].as_array().expect("frames").iter();
    frames
        .map(|frame| frame["function"].as_str().unwrap_or("??").to_owned())
        .collect()
}

/// Prints the functions of one thread. Left out are tail-call frames: they are not on the stack, gdb infers them.
const GDB_SCRIPT: &str = "\
for thread in gdb.selected_inferior().threads():
    if thread.ptid[1] == TID:
        thread.switch()
        frame = gdb.newest_frame()
        while frame:
            if frame.type() == gdb.SIGTRAMP_FRAME:
                print('function <signal handler called>')
            elif frame.type() != gdb.TAILCALL_FRAME:
                print('function', frame.name() or '??')
            frame = frame.older()
";

/// The functions gdb shows of a thread.
fn gdb_functions(pid: u32, tid: u32) -> Vec<String> {
    let folder = Folder::new();
    let script = folder.path().join("stack.py");
    std::fs::write(&script, GDB_SCRIPT.replace("TID", &tid.to_string())).expect("a script for gdb");
    let mut command = Command::new("gdb");
    command
        .args(["--batch", "--nx", "-iex", "set debuginfod enabled off"])
        .args(["-ex", "set backtrace past-main on", "--pid", &pid.to_string(), "-x"])
        .arg(&script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = complete(command);
    let functions = output.stdout.lines().filter_map(|line| line.strip_prefix("function "));
    let found: Vec<String> = functions.map(str::to_owned).collect();
    assert!(!found.is_empty(), "gdb shows nothing\n{output}");
    found
}

/// Both name what is on the stack, from the system call to the thread's start.
fn assert_same_as_gdb(pid: u32, tid: u32) -> Value {
    let answer = ask(pid, tid);
    assert_eq!(
        answer["stopped_us"],
        Value::Null,
        "a sleeping thread is not stopped: {answer}"
    );
    assert_eq!(answer["complete"], true, "{answer}");
    assert_eq!(functions(&answer), gdb_functions(pid, tid), "{answer:#}");
    answer
}

#[test]
fn a_program_without_frame_pointers_shows_gdbs_functions() {
    let program = Program::new("looked_at.c").flags(&["-O2", "-fomit-frame-pointer"]);
    let mut target = Target::start::<&str>(&program.build(), &[]);
    target.act("sleeper");
    let tid = task(target.pid(), "sleeper");
    sleeps(tid);
    let answer = assert_same_as_gdb(target.pid(), tid);
    let functions = functions(&answer);
    let chain: Vec<&str> = functions.iter().map(String::as_str).collect();
    let own = ["wait_for_ever", "with_alloca", "with_locals"];
    assert!(chain.windows(3).any(|window| window == own), "{chain:?}");
}

/// No frame between the system call and the first that is found by rbp saves it: rbp itself must be known.
#[test]
fn a_program_with_frame_pointers_shows_gdbs_functions_without_being_stopped() {
    let program = Program::new("looked_at.c").flags(&["-O0", "-fno-omit-frame-pointer"]);
    let mut target = Target::start::<&str>(&program.build(), &[]);
    target.act("sleeper");
    let tid = task(target.pid(), "sleeper");
    sleeps(tid);
    assert_same_as_gdb(target.pid(), tid);
}

#[test]
fn a_signal_handler_is_crossed_as_gdb_crosses_it() {
    let mut target = Target::start::<&str>(&Program::new("looked_at.c").flags(&["-O2"]).build(), &[]);
    target.act("handler");
    let tid = task(target.pid(), "handler");
    sleeps(tid);
    let answer = ask(target.pid(), tid);
    let ours = functions(&answer);
    assert_eq!(ours, gdb_functions(target.pid(), tid), "{answer:#}");
    assert!(ours.contains(&"<signal handler called>".to_owned()), "{ours:?}");
    assert!(ours.contains(&"interrupted".to_owned()), "{ours:?}");
}

#[test]
fn python_shows_gdbs_functions() {
    let mut command = Command::new("/usr/bin/python3");
    let code = "import time\ndef inner(): time.sleep(1000)\ndef outer(): sorted([1], key=lambda x: inner())\nprint('ready', flush=True)\nouter()";
    command.args(["-c", code]);
    let target = Target::start_command(command);
    sleeps(target.pid());
    let answer = assert_same_as_gdb(target.pid(), target.pid());
    assert!(functions(&answer).len() > 10, "{answer:#}");
}

#[test]
fn redis_shows_gdbs_functions_in_every_thread() {
    let folder = Folder::new();
    let target = Target::spawn(redis::command(folder.path()));
    redis::wait(folder.path());
    let pid = target.pid();
    let tids = || -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        tasks
            .flatten()
            .filter_map(|task| task.file_name().to_str()?.parse().ok())
            .collect()
    };
    // It answers before it starts its helpers.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while tids().len() < 4 {
        assert!(std::time::Instant::now() < end, "the main thread and its helpers");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let tids = tids();
    for tid in tids {
        sleeps(tid);
        assert_same_as_gdb(pid, tid);
    }
}

#[test]
fn a_running_thread_is_stopped_briefly_said_so_and_runs_on() {
    let mut target = Target::start::<&str>(&Program::new("looked_at.c").flags(&["-O2"]).build(), &[]);
    target.act("spinner");
    let pid = target.pid();
    let tid = task(pid, "spinner");
    let memscope = Memscope::new();
    for _ in 0..20 {
        let answer = ask(pid, tid);
        assert!(answer["stopped_us"].as_u64().is_some_and(|us| us < 100_000), "{answer}");
        assert_eq!(answer["complete"], true, "{answer}");
        assert_eq!(functions(&answer)[..2], ["spin", "spin_under"], "{answer}");
    }
    let text = memscope.ok(&["os", "t", &pid.to_string(), &tid.to_string()]).stdout;
    assert!(text.contains("(spinner), running; stopped for "), "{text}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).expect("it is there");
    assert!(status.contains("TracerPid:\t0\n"), "{status}");
    assert_eq!(process::state(tid), Some('R'), "it runs on");
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn a_stopped_target_is_looked_at_and_stays_stopped() {
    let mut target = Target::start::<&str>(&Program::new("looked_at.c").flags(&["-O2"]).build(), &[]);
    target.act("spinner");
    let pid = target.pid();
    let tid = task(pid, "spinner");
    process::signal(pid, libc::SIGSTOP);
    until(EXIT, "the stop", || (process::state(tid) == Some('T')).then_some(()));
    let answer = ask(pid, tid);
    assert_eq!(answer["stopped_us"], Value::Null, "it stood already: {answer}");
    assert_eq!(answer["complete"], true, "{answer}");
    assert_eq!(functions(&answer)[..2], ["spin", "spin_under"], "{answer}");
    assert_eq!(process::state(tid), Some('T'));
    process::signal(pid, libc::SIGCONT);
}

#[test]
fn a_running_thread_that_is_traced_already_is_refused_in_words() {
    let mut target = Target::start::<&str>(&Program::new("looked_at.c").flags(&["-O2"]).build(), &[]);
    target.act("spinner");
    let pid = target.pid();
    let tid = task(pid, "spinner");
    let mut tracer = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-p", &pid.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .expect("strace");
    let traced = format!("TracerPid:\t{}\n", tracer.id());
    until(EXIT, "strace to trace", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
        status.contains(&traced).then_some(())
    });
    let memscope = Memscope::new();
    let output = memscope
        .run(&["os", "t", &pid.to_string(), &tid.to_string()])
        .expect_code(3);
    let line = output.one_error_line();
    assert!(
        line.contains(&format!("process {} traces it already", tracer.id())),
        "{output}"
    );
    // Threads that sleep need no stop, and are shown.
    let answer = ask(pid, pid);
    assert_eq!(answer["complete"], true, "{answer}");
    process::signal(tracer.id(), libc::SIGTERM);
    process::wait(&mut tracer, EXIT).expect("strace lets go");
}
