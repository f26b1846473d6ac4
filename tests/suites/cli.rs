//! The command line by its contract: exit codes, texts to the letter, and commands that meet each other.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use memscope_tests::memscope::{Memscope, Output, binary, complete};
use memscope_tests::process;
use memscope_tests::program::Program;
use memscope_tests::report::Report;
use memscope_tests::session::Session;
use memscope_tests::target::Target;

const NO_TARGET: &str = "4194304";

fn blocks() -> Target {
    Target::start::<&str>(&Program::new("blocks.c").build(), &[])
}

/// A copy of the program with a name of its own, so that `--comm` and `--exe` find this test's processes only.
fn blocks_named(memscope: &Memscope, name: &str) -> PathBuf {
    let folder = memscope.dirs.run().with_extension("programs");
    std::fs::create_dir_all(&folder).expect("a folder for copies");
    let copy = folder.join(name);
    std::fs::copy(Program::new("blocks.c").build(), &copy).expect("a copy of the program");
    copy
}

/// A name of at most 15 bytes, this process's own.
fn own_name(letter: char) -> String {
    format!("ms{letter}{}", std::process::id())
}

/// Runs memscope as `setpriv` arranges, from a place everybody can reach.
fn under_setpriv(memscope: &Memscope, setpriv: &[&str], arguments: &[&str]) -> Output {
    let folder = memscope.dirs.run().with_extension("bin");
    std::fs::create_dir_all(&folder).expect("a folder for the binary");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("a folder for everybody");
    let copy = folder.join("memscope");
    std::fs::copy(binary(), &copy).expect("a copy of the binary");
    let plain = memscope.command(arguments);
    let mut command = Command::new("setpriv");
    command.args(setpriv).arg(&copy).args(arguments).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = complete(command);
    std::fs::remove_dir_all(&folder).expect("the binary's folder goes");
    output
}

#[test]
fn attaching_to_no_process_is_exit_4_in_one_line() {
    let memscope = Memscope::new();
    for command in ["attach", "create"] {
        let output = memscope.run(&[command, NO_TARGET]).expect_code(4);
        assert!(
            output.one_error_line().contains(NO_TARGET),
            "the line names the process\n{output}"
        );
    }
    memscope.assert_nothing_left();
}

#[test]
fn commands_without_a_database_are_exit_4() {
    let memscope = Memscope::new();
    let target = blocks();
    let pid = target.pid().to_string();
    for command in ["start", "stop", "destroy", "detach", "stats"] {
        let output = memscope.run(&[command, &pid]).expect_code(4);
        assert!(
            !output.stderr.is_empty() || !output.stdout.is_empty(),
            "{command} says why\n{output}"
        );
    }
}

#[test]
fn print_without_a_database_says_so_to_the_letter() {
    let memscope = Memscope::new();
    let output = memscope.run(&["print", "--age", "3600"]).expect_code(4);
    assert_eq!(
        output.stdout, "Age: 3600\nMemScope database does not exist\n",
        "{output}"
    );
    let target = blocks();
    let output = memscope
        .run(&["print", &target.pid().to_string(), "--age", "1h"])
        .expect_code(4);
    assert_eq!(
        output.stdout, "Age: 3600\nMemScope database does not exist\n",
        "{output}"
    );
}

#[test]
fn a_bad_age_is_exit_2() {
    let memscope = Memscope::new();
    for age in [
        "",
        "abc",
        "-5",
        "5x",
        "1.5h",
        "s",
        "90 s",
        "18446744073709551616",
        "18446744073709551615d",
    ] {
        let output = memscope.run(&["print", "--age", age]).expect_code(2);
        assert!(!output.stderr.is_empty(), "{age:?} is explained\n{output}");
        assert_eq!(output.stdout, "", "{output}");
    }
}

#[test]
fn wrong_usage_is_exit_2() {
    let memscope = Memscope::new();
    for arguments in [
        &[][..],
        &["no-such-command"],
        &["print", "--format", "xml", "--age", "0"],
        &["attach", "not-a-pid"],
        &["attach"],
    ] {
        let output = memscope.run(arguments).expect_code(2);
        assert!(!output.stderr.is_empty(), "{output}");
    }
}

#[test]
fn help_and_version_are_exit_0() {
    let memscope = Memscope::new();
    for arguments in [&["--help"][..], &["--version"], &["attach", "--help"]] {
        assert!(!memscope.ok(arguments).stdout.is_empty());
    }
}

#[test]
fn every_form_of_an_age_is_understood() {
    let memscope = Memscope::new();
    let target = blocks();
    let session = memscope.attach(&target);
    let pid = target.pid().to_string();
    for (age, seconds) in [
        ("0", 0),
        ("7", 7),
        ("90s", 90),
        ("15m", 900),
        ("1h", 3600),
        ("2d", 172_800),
    ] {
        let output = memscope.ok(&["print", &pid, "--age", age]);
        assert_eq!(
            output.stdout.lines().next(),
            Some(format!("Age: {seconds}").as_str()),
            "{output}"
        );
        let report = Report::parse(&memscope.ok(&["print", &pid, "--age", age, "--format", "json"]).stdout).only();
        assert_eq!(report.age_s, seconds);
    }
    session.detach();
}

#[test]
fn the_four_steps_say_what_the_old_console_said() {
    let memscope = Memscope::new();
    let mut target = blocks();
    let pid = target.pid().to_string();
    let session = Session::guard(&memscope, target.pid());
    memscope
        .ok(&["create", &pid])
        .expect_line("Creating Memory Scope database");
    target.act("take 3 10007");
    assert_eq!(
        memscope.print(target.pid()).entries.len(),
        0,
        "a database without collection records nothing"
    );
    memscope
        .ok(&["start", &pid])
        .expect_line("Memory scope data collection started");
    target.act("take 5 20011");
    memscope
        .ok(&["stop", &pid])
        .expect_line("Memory scope data collection stopped");
    target.act("take 7 30011");
    let database = memscope.print(target.pid());
    assert_eq!(
        database.entries.len(),
        5,
        "blocks of the time of collection, and of no other: {database:#?}"
    );
    assert_eq!(database.of_size(20_011).len(), 5);
    assert_eq!(database.collection.state, "stopped");
    memscope
        .ok(&["destroy", &pid])
        .expect_line("Memory scope database destroyed, disabling data collection");
    memscope.assert_nothing_left();
    drop(session);
}

#[test]
fn a_gap_in_collection_is_named_in_the_report() {
    let memscope = Memscope::new();
    let mut target = blocks();
    let pid = target.pid().to_string();
    let session = memscope.attach(&target);
    target.act("take 5 10007");
    memscope.ok(&["stop", &pid]);
    target.act("give 2 10007");
    memscope.ok(&["start", &pid]);
    target.act("take 1 20011");
    let output = memscope.ok(&["print", &pid, "--age", "0"]);
    assert!(
        output.stdout.lines().any(|line| line.starts_with("note:")),
        "the gap is named\n{output}"
    );
    session.detach();
}

#[test]
fn attaching_twice_keeps_the_database() {
    let memscope = Memscope::new();
    let mut target = blocks();
    let session = memscope.attach(&target);
    target.act("take 4 10007");
    memscope.ok(&["attach", &target.pid().to_string()]);
    target.act("take 2 20011");
    let database = session.print();
    assert_eq!(
        (database.of_size(10_007).len(), database.of_size(20_011).len()),
        (4, 2),
        "{database:#?}"
    );
    assert_eq!(database.entries.len(), 6, "nothing is counted twice: {database:#?}");
    session.detach();
}

#[test]
fn creating_twice_is_refused_in_one_line() {
    let memscope = Memscope::new();
    let target = blocks();
    let session = memscope.attach(&target);
    let output = memscope.run(&["create", &target.pid().to_string()]);
    assert_ne!(output.code(), 0, "{output}");
    output.one_error_line();
    session.detach();
}

#[test]
fn processes_are_found_by_command_name_and_by_executable() {
    let memscope = Memscope::new();
    let name = own_name('c');
    let program = blocks_named(&memscope, &name);
    let mut targets = [
        Target::start::<&str>(&program, &[]),
        Target::start::<&str>(&program, &[]),
    ];
    let guards = targets.each_ref().map(|target| Session::guard(&memscope, target.pid()));
    let path = program.to_str().expect("the path is text").to_owned();
    for how in [["--comm", &name], ["--exe", &path]] {
        memscope.ok(&["attach", how[0], how[1]]);
        let list = memscope.ok(&["list"]);
        for target in &mut targets {
            assert!(list.stdout.contains(&target.pid().to_string()), "{list}");
            target.act("take 1 10007");
        }
        let output = memscope.ok(&["print", "--age", "0"]);
        for target in &targets {
            output.expect_line(&format!("Target: {} {name}", target.pid()));
        }
        assert_eq!(output.stdout.matches("MemScope list of entries").count(), 2, "{output}");
        memscope.ok(&["detach", "--all"]);
        memscope.assert_nothing_left();
    }
    drop(guards);
    std::fs::remove_dir_all(program.parent().expect("a folder")).expect("the copies go");
}

#[test]
fn a_command_name_nobody_has_is_exit_4() {
    let memscope = Memscope::new();
    memscope
        .run(&["attach", "--comm", "no-such-name"])
        .expect_code(4)
        .one_error_line();
    memscope
        .run(&["attach", "--exe", "/no/such/executable"])
        .expect_code(4)
        .one_error_line();
}

#[test]
fn an_unprivileged_user_gets_one_line_and_exit_3() {
    let memscope = Memscope::new();
    let target = blocks();
    let pid = target.pid().to_string();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    for arguments in [&["attach", &pid][..], &["create", &pid]] {
        let output = under_setpriv(&memscope, &nobody, arguments).expect_code(3);
        output.one_error_line();
    }
    assert!(memscope.dirs.pinned().is_empty());
}

#[test]
fn a_missing_capability_is_named() {
    let memscope = Memscope::new();
    let target = blocks();
    let pid = target.pid().to_string();
    for (dropped, name) in [("-bpf,-sys_admin", "CAP_BPF"), ("-perfmon,-sys_admin", "CAP_PERFMON")] {
        let output = under_setpriv(&memscope, &["--bounding-set", dropped], &["attach", &pid]).expect_code(3);
        let line = output.one_error_line();
        assert!(line.contains(name), "{name} in\n{output}");
    }
    memscope.assert_nothing_left();
}

#[test]
fn a_broken_pipe_is_no_error() {
    let memscope = Memscope::new();
    let mut target = blocks();
    let session = memscope.attach(&target);
    target.act("take 20000 10007");
    for format in ["text", "json", "ndjson"] {
        let pid = target.pid().to_string();
        let mut command = memscope.command(&["print", &pid, "--age", "0", "--format", format]);
        let mut child = command.spawn().expect("memscope starts");
        let mut stdout = child.stdout.take().expect("stdout is a pipe");
        let mut some = [0; 64];
        stdout.read_exact(&mut some).expect("the report begins");
        drop(stdout);
        let status = process::wait(&mut child, memscope_tests::deadline::COMMAND).expect("print ends");
        let mut said = String::new();
        child
            .stderr
            .take()
            .expect("stderr is a pipe")
            .read_to_string(&mut said)
            .expect("stderr is text");
        assert_eq!(status.code(), Some(0), "{format}: {said}");
        assert!(!said.to_lowercase().contains("pipe"), "{format}: {said}");
    }
    session.detach();
}

#[test]
fn a_full_disk_is_an_error_in_words() {
    let memscope = Memscope::new();
    let mut target = blocks();
    let session = memscope.attach(&target);
    target.act("take 1000 10007");
    for format in ["text", "json", "ndjson"] {
        let pid = target.pid().to_string();
        let mut command = memscope.command(&["print", &pid, "--age", "0", "--format", format]);
        command.stdout(std::fs::File::create("/dev/full").expect("/dev/full"));
        let output = complete(command);
        assert!(![0, 70].contains(&output.code()), "{output}");
        assert!(output.stderr.contains("No space left"), "{output}");
        assert!(!output.stderr.contains("panicked"), "{output}");
    }
    session.detach();
}

#[test]
fn two_prints_at_once_say_the_same() {
    let memscope = Memscope::new();
    let mut target = blocks();
    let session = memscope.attach(&target);
    target.act("take 3000 10007");
    let pid = target.pid();
    let [first, second] = std::thread::scope(|scope| {
        let prints = [0; 2].map(|_| scope.spawn(|| memscope.print(pid)));
        prints.map(|print| print.join().expect("print does not fail"))
    });
    let addresses = |database: &memscope_tests::report::Database| {
        database
            .entries
            .iter()
            .map(|entry| (entry.entry, entry.address(), entry.size))
            .collect::<Vec<_>>()
    };
    assert_eq!(addresses(&first), addresses(&second));
    assert_eq!(first.entries.len(), 3000);
    session.detach();
}

#[test]
fn print_during_allocation_shows_every_old_block_once() {
    let memscope = Memscope::new();
    let mut target = Target::start(&Program::new("ledger_mt.c").build(), &["--threads", "4"]);
    let session = memscope.attach(&target);
    target.send("run 400000");
    for _ in 0..5 {
        let database = session.print();
        let mut addresses: Vec<u64> = database.entries.iter().map(|entry| entry.address()).collect();
        addresses.sort_unstable();
        let all = addresses.len();
        addresses.dedup();
        assert_eq!(addresses.len(), all, "a print of a moving map shows no block twice");
    }
    assert!(target.line(memscope_tests::deadline::COMMAND).starts_with("done"));
    session.detach();
}

#[test]
fn entries_come_oldest_first_and_sort_and_limit_choose_others() {
    let memscope = Memscope::new();
    let mut target = blocks();
    let session = memscope.attach(&target);
    for size in [30_011, 10_007, 20_011, 50_021, 40_009] {
        target.act(&format!("take 1 {size}"));
    }
    let sizes = |more: &[&str]| {
        memscope
            .print_with(target.pid(), more)
            .entries
            .iter()
            .map(|entry| entry.size)
            .collect::<Vec<_>>()
    };
    assert_eq!(sizes(&[]), [30_011, 10_007, 20_011, 50_021, 40_009], "oldest first");
    assert_eq!(
        sizes(&["--sort", "size"]),
        [50_021, 40_009, 30_011, 20_011, 10_007],
        "largest first"
    );
    assert_eq!(sizes(&["--limit", "2"]), [30_011, 10_007]);
    assert_eq!(sizes(&["--sort", "size", "--limit", "2"]), [50_021, 40_009]);
    let database = memscope.print_with(target.pid(), &["--limit", "2"]);
    assert_eq!((database.printed, database.total), (2, 5));
    let pid = target.pid().to_string();
    let output = memscope.ok(&["print", &pid, "--age", "0", "--limit", "2"]);
    output.expect_line("MemScope printed 2 of 5 entries");
    memscope
        .ok(&["print", &pid, "--age", "0"])
        .expect_line("MemScope printed 5 entries");
    session.detach();
}

#[test]
fn a_young_block_is_not_in_a_report_of_old_ones() {
    let memscope = Memscope::new();
    let mut target = blocks();
    let session = memscope.attach(&target);
    target.act("take 3 10007");
    let pid = target.pid().to_string();
    let output = memscope.ok(&["print", &pid, "--age", "3600"]);
    assert_eq!(output.stdout.lines().next(), Some("Age: 3600"), "{output}");
    output.expect_line("MemScope printed 0 entries");
    assert!(!output.stdout.contains("entry:"), "{output}");
    assert!(
        !output.stderr.is_empty(),
        "a collection younger than a minute is remarked on\n{output}"
    );
    session.detach();
}

#[test]
fn the_text_report_has_the_old_form_to_the_letter() {
    let memscope = Memscope::new();
    let mut target = blocks();
    let session = memscope.attach(&target);
    target.act("take 2 10007");
    let output = memscope.ok(&["print", &target.pid().to_string(), "--age", "0"]);
    let mut lines = output.stdout.lines();
    assert_eq!(lines.next(), Some("Age: 0"), "{output}");
    let title = lines.next().unwrap_or_default();
    assert!(
        clock(title).is_some_and(|rest| rest == " MemScope list of entries at least 0 seconds old"),
        "{title:?} in\n{output}"
    );
    let database = session.print();
    let mut printed = 0;
    let mut frames = Vec::new();
    for line in lines {
        if line.starts_with("entry:") {
            let entry = &database.entries[printed];
            let cookie = u64::from_str_radix(entry.site.trim_start_matches("0x"), 16).expect("a site id is hex") as u32;
            let expected = format!(
                "entry:{} address:{:#x} size:{:#x} cookie:{cookie:#x} age:",
                entry.entry,
                entry.address(),
                entry.size
            );
            let age = line
                .strip_prefix(&expected)
                .unwrap_or_else(|| panic!("{line:?} begins {expected:?}\n{output}"));
            assert!(age.parse::<u64>().is_ok_and(|age| age < 60), "{line:?}");
            printed += 1;
        } else if let Some(frame) = line.strip_prefix("0x") {
            frames.push(frame_function(frame).unwrap_or_else(|| panic!("not a frame: {line:?}\n{output}")));
        } else if line == "MemScope printed 2 entries" {
            break;
        } else {
            assert!(line.starts_with("… stack ends here: "), "{line:?} in\n{output}");
        }
    }
    assert_eq!(printed, 2, "{output}");
    let expected = [
        "malloc",
        "layer_one",
        "layer_two",
        "layer_three",
        "take",
        "obey",
        "main",
    ];
    assert_eq!(frames[..expected.len()], expected, "{output}");
    session.detach();
}

/// What follows `22:10:24.619`.
fn clock(line: &str) -> Option<&str> {
    let (time, rest) = line.split_at_checked(12)?;
    let form = time.bytes().enumerate().all(|(index, byte)| match index {
        2 | 5 => byte == b':',
        8 => byte == b'.',
        _ => byte.is_ascii_digit(),
    });
    form.then_some(rest)
}

/// The function of `0000000000eb61b0: zOsMem_Alloc + 0x228`, if the line has that form.
fn frame_function(frame: &str) -> Option<&str> {
    let (address, rest) = frame.split_once(": ")?;
    let sixteen = address.len() == 16
        && address
            .bytes()
            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
    let (function, offset) = rest.split_once(" + 0x")?;
    let digits = offset.split(' ').next()?;
    (sixteen && u64::from_str_radix(digits, 16).is_ok()).then_some(function)
}

#[test]
fn ndjson_is_json_line_by_line() {
    let memscope = Memscope::new();
    let mut target = blocks();
    let session = memscope.attach(&target);
    target.act("take 5 10007");
    let output = memscope.ok(&["print", &target.pid().to_string(), "--age", "0", "--format", "ndjson"]);
    let lines: Vec<serde_json::Value> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}\n{output}")))
        .collect();
    let entries = lines
        .iter()
        .filter(|line| line.get("address").is_some() && line.get("size").is_some())
        .count();
    assert_eq!(entries, 5, "{output}");
    session.detach();
}

#[test]
fn a_stopped_target_can_be_attached_printed_and_detached() {
    let memscope = Memscope::new();
    let mut target = blocks();
    process::signal(target.pid(), libc::SIGSTOP);
    memscope_tests::deadline::until(memscope_tests::deadline::EXIT, "the target to stop", || {
        (process::state(target.pid()) == Some('T')).then_some(())
    });
    let session = memscope.attach(&target);
    process::signal(target.pid(), libc::SIGCONT);
    target.act("take 4 10007");
    process::signal(target.pid(), libc::SIGSTOP);
    assert_eq!(session.print().of_size(10_007).len(), 4);
    session.detach();
    process::signal(target.pid(), libc::SIGCONT);
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn the_database_of_an_ended_target_stays_printable_until_destroyed() {
    let memscope = Memscope::new();
    let mut target = blocks();
    let pid = target.pid();
    let session = memscope.attach(&target);
    target.act("take 4 10007");
    target.quit();
    let database = session.print();
    assert_eq!(database.of_size(10_007).len(), 4, "{database:#?}");
    assert_eq!(database.collection.state, "exited");
    assert!(memscope.ok(&["list"]).stdout.contains(&pid.to_string()));
    session.detach();
}

#[test]
fn stats_count_what_happened() {
    let memscope = Memscope::new();
    let mut target = blocks();
    let session = memscope.attach(&target);
    target.act("take 9 10007");
    target.act("give 4 10007");
    let output = memscope.ok(&["stats", &target.pid().to_string(), "--format", "json"]);
    let stats: serde_json::Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("stats are JSON: {error}\n{output}"));
    let number = |key: &str| find(&stats, key).unwrap_or_else(|| panic!("no {key} in\n{output}"));
    assert_eq!((number("allocated"), number("freed")), (9, 4), "{output}");
    session.detach();
}

/// The number under a key, wherever in the document it stands.
fn find(value: &serde_json::Value, key: &str) -> Option<u64> {
    match value {
        serde_json::Value::Object(map) => map
            .get(key)
            .and_then(serde_json::Value::as_u64)
            .or_else(|| map.values().find_map(|v| find(v, key))),
        serde_json::Value::Array(items) => items.iter().find_map(|v| find(v, key)),
        _ => None,
    }
}

#[test]
fn a_process_without_an_allocator_is_exit_5() {
    let memscope = Memscope::new();
    let program = Program::new("no_allocator.c")
        .flags(&["-static", "-nostdlib", "-ffreestanding"])
        .build();
    let target = Target::start::<&str>(&program, &[]);
    let output = memscope.run(&["attach", &target.pid().to_string()]).expect_code(5);
    assert!(output.one_error_line().contains("no known allocator found"), "{output}");
    memscope.assert_nothing_left();
}

#[test]
fn a_32_bit_process_is_refused_in_words() {
    let memscope = Memscope::new();
    let program = Program::new("no_allocator.c")
        .flags(&["-m32", "-static", "-nostdlib", "-ffreestanding"])
        .build();
    let target = Target::start::<&str>(&program, &[]);
    let output = memscope.run(&["attach", &target.pid().to_string()]);
    assert!([3, 5].contains(&output.code()), "{output}");
    assert!(
        output.one_error_line().contains("32"),
        "the line says what is wrong\n{output}"
    );
    memscope.assert_nothing_left();
}

#[test]
fn a_kernel_thread_is_refused_in_words() {
    let memscope = Memscope::new();
    assert!(!Path::new("/proc/2/exe").exists(), "pid 2 is kthreadd");
    let output = memscope.run(&["attach", "2"]);
    assert!([3, 4, 5].contains(&output.code()), "{output}");
    output.one_error_line();
    memscope.assert_nothing_left();
}

#[test]
fn trace_runs_a_command_and_reports_what_it_held() {
    let memscope = Memscope::new();
    let program = Program::new("blocks.c").build();
    let mut command = memscope.command(&["trace", "--age", "0", "--"]);
    command.arg(&program).stdin(Stdio::piped());
    let mut child = command.spawn().expect("memscope starts");
    std::io::Write::write_all(
        &mut child.stdin.take().expect("stdin is a pipe"),
        b"take 3 10007\nquit\n",
    )
    .expect("sent");
    let output = child.wait_with_output().expect("trace ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(text.matches("size:0x2717 ").count(), 3, "{text}");
    memscope.assert_nothing_left();
}

#[test]
fn doctor_says_item_by_item_what_there_is() {
    let memscope = Memscope::new();
    let target = blocks();
    assert!(memscope.ok(&["doctor"]).stdout.lines().count() > 3);
    assert!(
        memscope
            .ok(&["doctor", &target.pid().to_string()])
            .stdout
            .lines()
            .count()
            > 3
    );
}
