//! `memscope os`: every key on targets of every make; what it may not read it says, and it disturbs nobody.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use memscope_tests::deadline::{EXIT, until};
use memscope_tests::memscope::{Memscope, Output, binary, complete};
use memscope_tests::process;
use memscope_tests::program::Program;
use memscope_tests::session::Session;
use memscope_tests::target::Target;
use serde_json::Value;

const KEYS: [&str; 14] = ["c", "C", "f", "z", "H", "i", "I", "m", "M", "Q", "s", "t", "w", "y"];
/// Keys that answer whoever asks.
const FOR_EVERYBODY: [&str; 9] = ["c", "C", "f", "H", "i", "I", "m", "w", "y"];

fn looked_at() -> Target {
    Target::start::<&str>(&Program::new("looked_at.c").build(), &[])
}

/// Asks every key, as text and as JSON; gives the JSON by key.
fn every_key(pid: u32) -> BTreeMap<&'static str, Value> {
    let memscope = Memscope::new();
    let pid_text = pid.to_string();
    let mut answers = BTreeMap::new();
    for key in KEYS {
        let text = memscope.ok(&["os", key, &pid_text]);
        if key != "c" {
            assert!(text.stdout.contains(&format!(": process {pid} (")), "a title\n{text}");
            assert_eq!(
                text.stdout.matches("\nmeans: ").count(),
                1,
                "one line of what it means\n{text}"
            );
        }
        assert_eq!(text.stderr, "", "{text}");
        let json = memscope.ok(&["os", key, &pid_text, "--format", "json"]);
        let value: Value = serde_json::from_str(&json.stdout).unwrap_or_else(|error| panic!("{error}\n{json}"));
        assert_eq!(value["schema"], "memscope.os/v1", "{json}");
        assert_eq!(
            (&value["key"], &value["target"]["pid"]),
            (&key.into(), &pid.into()),
            "{json}"
        );
        answers.insert(key, value["answer"].clone());
    }
    answers
}

/// Switches of every thread so far: a thread that sleeps and is left alone has no more of them later.
fn switches(pid: u32) -> BTreeMap<String, String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let mut found = BTreeMap::new();
    for task in tasks.flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).expect("a thread's status");
        let lines: Vec<&str> = status.lines().filter(|line| line.contains("ctxt_switches")).collect();
        found.insert(task.file_name().to_string_lossy().into_owned(), lines.join(" "));
    }
    found
}

fn asleep(pid: u32) {
    until(EXIT, "every thread to sleep", || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let mut states = tasks.flatten().map(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
        });
        states.all(|asleep| asleep).then_some(())
    });
}

#[test]
fn every_key_answers_on_a_single_thread_and_leaves_it_asleep() {
    let target = Target::blocks();
    let pid = target.pid();
    asleep(pid);
    let before = switches(pid);
    let answers = every_key(pid);
    assert_eq!(switches(pid), before, "no key woke or stopped the target");
    assert_eq!(answers["i"]["threads"].as_array().map(Vec::len), Some(1));
    assert_eq!(answers["i"]["threads"][0]["waits"]["syscall"], "read");
    assert_eq!(answers["t"]["stopped_us"], Value::Null);
    assert_eq!(answers["t"]["complete"], true, "{}", answers["t"]);
    assert_eq!(answers["M"]["allocators"][0]["name"], "glibc");
    assert_eq!(answers["M"]["live"], Value::Null);
    assert!(answers["m"]["process"]["resident"].as_u64() > Some(100_000));
    assert!(answers["m"]["rollup"]["proportional"].as_u64() > Some(10_000));
    assert!(answers["z"]["total_cached"].as_u64() > Some(100_000));
    assert_eq!(answers["H"]["percent"].as_array().map(Vec::len), Some(10));
    // Standard input and output are pipes of the harness.
    let pipes = answers["Q"]["pipes"].as_array().expect("pipes");
    for fd in [0, 1] {
        let pipe = pipes.iter().find(|pipe| pipe["fds"] == serde_json::json!([fd]));
        assert_eq!(pipe.expect("a pipe")["queued"], 0, "{pipes:?}");
    }
}

#[test]
fn every_key_answers_on_two_hundred_threads_and_leaves_them_asleep() {
    let mut target = looked_at();
    target.act("crowd 199");
    let pid = target.pid();
    asleep(pid);
    let before = switches(pid);
    let answers = every_key(pid);
    assert_eq!(switches(pid), before, "no key woke or stopped a thread");
    for (key, list) in [("i", "threads"), ("s", "stacks"), ("y", "tasks")] {
        assert_eq!(answers[key][list].as_array().map(Vec::len), Some(200), "{key}");
    }
    assert_eq!(answers["C"]["thread_count"], 200);
    let stacks = answers["s"]["stacks"].as_array().expect("stacks");
    let idlers: Vec<&Value> = stacks.iter().filter(|stack| stack["name"] == "idler").collect();
    assert_eq!(idlers.len(), 199);
    for idler in idlers {
        let stack = &idler["stack"];
        assert_eq!(stack["size"], 1 << 18, "as it was asked for: {idler}");
        assert_eq!(stack["guard"], 4096, "{idler}");
        let (used, peak) = (stack["used"].as_u64(), stack["peak"].as_u64());
        assert!(used > Some(0) && used <= peak && peak < Some(1 << 17), "{idler}");
    }
    assert_eq!(answers["M"]["memory"]["stacks"]["mappings"], 200);
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn every_key_answers_on_a_containerised_target() {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--ipc", "--net", "--fork", "--mount-proc"])
        .arg(Program::new("looked_at.c").build());
    let mut target = Target::start_command(command);
    let outer = target.pid();
    let children = format!("/proc/{outer}/task/{outer}/children");
    let pid: u32 = until(EXIT, "unshare's child", || {
        std::fs::read_to_string(&children).ok()?.trim().parse().ok()
    });
    target.act("sleeper");
    let answers = every_key(pid);
    assert_eq!(
        answers["i"]["threads"].as_array().map(Vec::len),
        Some(2),
        "by our own numbers"
    );
    assert_eq!(answers["i"]["threads"][0]["tid"], pid);
    assert_eq!(
        answers["Q"]["notes"],
        Value::Array(Vec::new()),
        "its own network and IPC are read"
    );
    assert_eq!(answers["t"]["complete"], true, "{}", answers["t"]);
}

#[test]
fn a_target_that_ends_is_said_in_one_line_whatever_is_asked() {
    let memscope = Memscope::new();
    // A zombie: ended, and not yet waited for by its parent.
    let mut zombie = Command::new("sh")
        .args(["-c", "sleep 0 & exec sleep 100"])
        .stdout(Stdio::null())
        .spawn()
        .expect("sh");
    let children = format!("/proc/{0}/task/{0}/children", zombie.id());
    let pid: u32 = until(EXIT, "a zombie", || {
        let pid = std::fs::read_to_string(&children).ok()?.trim().parse().ok()?;
        (process::state(pid) == Some('Z')).then_some(pid)
    });
    for key in KEYS {
        let output = memscope.run(&["os", key, &pid.to_string()]).expect_code(4);
        assert_eq!(
            output.one_error_line(),
            format!("memscope: process {pid} has ended"),
            "{output}"
        );
    }
    zombie.kill().expect("the parent ends");
    zombie.wait().expect("the parent ends");
}

/// The others share its memory and descriptors, which procfs no longer shows under its id.
#[test]
fn a_process_whose_main_thread_has_ended_is_looked_at_through_another() {
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&Program::new("ends.c").build(), &[]);
    let pid = target.pid().to_string();
    target.act("main_ends");
    until(EXIT, "the main thread to end", || {
        (process::state(target.pid()) == Some('Z')).then_some(())
    });
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let ids = tasks.flatten().map(|task| task.file_name());
    let mut others = ids.filter_map(|id| id.into_string().ok()).filter(|id| *id != pid);
    let other = others.next().expect("the thread that lives on");
    let ask = |key: &str, words: &[&str]| {
        let words: Vec<&str> = ["os", key, &pid].iter().chain(words).copied().collect();
        let output = memscope.ok(&[&words[..], &["--format", "json"]].concat());
        serde_json::from_str::<Value>(&output.stdout).expect("JSON")["answer"].clone()
    };
    for key in KEYS.into_iter().filter(|key| !["I", "t"].contains(key)) {
        let output = memscope.ok(&["os", key, &pid]);
        assert_eq!(output.stderr, "", "{output}");
    }
    let frames = &ask("t", &[&other])["frames"];
    assert!(frames.to_string().contains("others"), "{frames:#}");
    let queues = ask("Q", &[]);
    let pipes = queues["pipes"].as_array().expect("pipes");
    assert!(
        !pipes.is_empty() && pipes.iter().all(|pipe| pipe["queued"].is_u64()),
        "{queues:#}"
    );
    assert_eq!(queues["notes"], Value::Array(Vec::new()), "{queues:#}");
    let allocators = &ask("M", &[])["allocators"];
    assert!(allocators.to_string().contains("glibc"), "{allocators:#}");
    let output = memscope.run(&["os", "t", &pid]).expect_code(4);
    assert!(
        output
            .one_error_line()
            .contains(&format!("process {pid} has no thread {pid}")),
        "{output}"
    );
}

#[test]
fn a_target_that_ends_while_it_is_looked_at_is_no_failure_of_ours() {
    let memscope = Memscope::new();
    for key in ["C", "H", "f", "s", "i", "y", "t", "M"] {
        let mut target = looked_at();
        target.act("crowd 60");
        let command = memscope.command(&["os", key, &target.pid().to_string()]);
        let looking = std::thread::spawn(move || complete(command));
        target.kill();
        let output = looking.join().expect("a look does not panic");
        assert!(!output.stderr.contains("panicked"), "{output}");
        match output.code() {
            0 => assert!(!output.stdout.is_empty(), "{output}"),
            4 => assert!(
                output.one_error_line().contains("has ended") || output.stderr.contains("no process"),
                "{output}"
            ),
            _ => panic!("neither an answer nor an end\n{output}"),
        }
    }
}

#[test]
fn threads_that_come_and_go_are_no_error() {
    let memscope = Memscope::new();
    let mut target = looked_at();
    target.act("churner");
    target.act("churner");
    let pid = target.pid().to_string();
    for _ in 0..20 {
        for key in ["i", "s", "y", "M"] {
            let output = memscope.ok(&["os", key, &pid]);
            assert_eq!(output.stderr, "", "{output}");
        }
    }
    memscope.ok(&["os", "C", &pid]);
    memscope.ok(&["os", "H", &pid]);
}

#[test]
fn the_database_explains_the_heap() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let pid = target.pid();
    let session = Session::attach(&memscope, pid);
    target.act("take 400 10007");
    let output = memscope.ok(&["os", "M", &pid.to_string(), "--format", "json"]);
    let value: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let live = &value["answer"]["live"];
    assert_eq!(
        (&live["blocks"], &live["bytes"]),
        (&400.into(), &4_002_800.into()),
        "{output}"
    );
    assert_eq!(live["by_size"][4]["blocks"], 400, "up to 64 KiB\n{output}");
    assert_eq!(live["by_age"][0]["blocks"], 400, "up to a minute\n{output}");
    assert!(live["explained_percent"].as_f64() > Some(50.0), "{output}");
    session.detach();
}

#[test]
fn a_busy_thread_is_seen_in_every_key_about_the_cpu() {
    let memscope = Memscope::new();
    let mut target = looked_at();
    target.act("spinner");
    let pid = target.pid().to_string();
    let ask = |key: &str| -> Value {
        let output = memscope.ok(&["os", key, &pid, "--format", "json"]);
        serde_json::from_str::<Value>(&output.stdout).expect("JSON")["answer"].clone()
    };
    let cpu = ask("C");
    assert_eq!(cpu["threads"][0]["name"], "spinner", "{cpu}");
    assert!(cpu["percent"].as_f64() > Some(1.0), "{cpu}");
    let history = ask("H");
    let samples = history["percent"].as_array().expect("samples");
    assert!(samples.iter().any(|sample| sample.as_f64() > Some(1.0)), "{history}");
    let tasks = ask("y");
    let spinner = tasks["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .find(|task| task["name"] == "spinner");
    assert!(
        spinner.expect("it is there")["run_ns"].as_u64() > Some(1_000_000),
        "{tasks}"
    );
}

#[test]
fn wrong_questions_are_answered_with_what_to_do() {
    let memscope = Memscope::new();
    let target = Target::blocks();
    let pid = target.pid().to_string();
    let output = memscope.run(&["os", "x", &pid]).expect_code(2);
    assert!(output.stderr.contains("m Memory Information (OS)"), "{output}");
    let output = memscope.run(&["os", "m", &pid, "1"]).expect_code(2);
    assert!(
        output.one_error_line().contains("speaks of the whole process"),
        "{output}"
    );
    let output = memscope.run(&["os", "I", &pid, "1"]).expect_code(4);
    assert!(output.one_error_line().contains("has no thread 1"), "{output}");
    let output = memscope.run(&["os", "m", "4194304"]).expect_code(4);
    assert!(output.one_error_line().contains("no process 4194304"), "{output}");
    let output = memscope.run(&["os", "m", "no-such-name"]).expect_code(4);
    assert!(output.one_error_line().contains("no-such-name"), "{output}");
    let output = memscope.run(&["os", "m", "2"]).expect_code(3);
    assert!(output.one_error_line().contains("kernel thread"), "{output}");
}

/// Runs memscope as nobody, from a place everybody can reach.
fn as_nobody(memscope: &Memscope, folder: &std::path::Path, arguments: &[&str]) -> Output {
    let plain = memscope.command(arguments);
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(folder.join("memscope"))
        .args(arguments)
        .env_clear()
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    complete(command)
}

#[test]
fn without_root_the_keys_that_need_none_answer_and_the_others_say_what_they_need() {
    let memscope = Memscope::new();
    let folder = memscope_tests::workload::Folder::new();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("a folder for everybody");
    std::fs::copy(binary(), folder.path().join("memscope")).expect("a copy of the binary");
    let target = Target::blocks();
    let pid = target.pid().to_string();
    for key in KEYS {
        let output = as_nobody(&memscope, folder.path(), &["os", key, &pid]);
        if FOR_EVERYBODY.contains(&key) {
            let output = output.expect_code(0);
            assert!(output.stdout.contains(&pid) || key == "c", "{output}");
        } else {
            let output = output.expect_code(3);
            let line = output.one_error_line();
            assert!(
                line.contains("this needs root") && line.contains("CAP_SYS_PTRACE"),
                "{output}"
            );
        }
    }
    let whole = as_nobody(&memscope, folder.path(), &["os", "m", &pid]);
    assert!(
        whole.stdout.contains("note: ") && whole.stdout.contains("this needs root"),
        "{whole}"
    );
    // Its own processes everybody may look at.
    let mut own = Command::new("setpriv");
    own.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sleep", "100"]);
    let mut own = own.spawn().expect("a process of nobody's");
    let own_pid = own.id().to_string();
    until(EXIT, "it to be nobody's", || {
        let comm = std::fs::read_to_string(format!("/proc/{own_pid}/comm")).ok()?;
        (comm == "sleep\n").then_some(())
    });
    for key in KEYS {
        let output = as_nobody(&memscope, folder.path(), &["os", key, &own_pid]).expect_code(0);
        assert_eq!(output.stderr, "", "{output}");
    }
    own.kill().expect("it ends");
    own.wait().expect("it ends");
}
