//! `print`: its texts to the letter, its orders and limits, and its calm when pipes break and maps move.

use std::io::Read;

use memscope_tests::deadline::COMMAND;
use memscope_tests::memscope::{Memscope, complete};
use memscope_tests::process;
use memscope_tests::program::Program;
use memscope_tests::report::{Database, Report};
use memscope_tests::target::Target;

#[test]
fn print_without_a_database_says_so_to_the_letter() {
    let memscope = Memscope::new();
    let output = memscope.run(&["print", "--age", "3600"]).expect_code(4);
    assert_eq!(
        output.stdout, "Age: 3600\nMemScope database does not exist\n",
        "{output}"
    );
    let target = Target::blocks();
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
fn every_form_of_an_age_is_understood() {
    let memscope = Memscope::new();
    let target = Target::blocks();
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
fn a_broken_pipe_is_no_error() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
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
        let status = process::wait(&mut child, COMMAND).expect("print ends");
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
    let mut target = Target::blocks();
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
    let mut target = Target::blocks();
    let session = memscope.attach(&target);
    target.act("take 3000 10007");
    let pid = target.pid();
    let [first, second] = std::thread::scope(|scope| {
        let prints = [0; 2].map(|_| scope.spawn(|| memscope.print(pid)));
        prints.map(|print| print.join().expect("print does not fail"))
    });
    let addresses = |database: &Database| {
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
    assert!(target.line(COMMAND).starts_with("done"));
    session.detach();
}

#[test]
fn entries_come_oldest_first_and_sort_and_limit_choose_others() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
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
    let mut target = Target::blocks();
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
    let mut target = Target::blocks();
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
                "entry:{} address:{:#x} size:{:#x} cookie:{cookie:#010x} age:",
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
    let mut target = Target::blocks();
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
fn nine_hundred_thousand_blocks_are_printed_in_bounded_memory() {
    const BLOCKS: usize = 900_000;
    const MOST_KIB: u64 = 512 * 1024;
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let session = memscope.attach(&target);
    target.act(&format!("fill {BLOCKS} 40"));
    let pid = target.pid().to_string();
    let start = std::time::Instant::now();
    let mut child = memscope
        .command(&["print", &pid, "--age", "0", "--format", "json"])
        .spawn()
        .expect("memscope starts");
    let mut stdout = child.stdout.take().expect("stdout is a pipe");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).expect("JSON is text");
        text
    });
    let (status, peak_kib) = process::wait_with_peak(child, COMMAND).expect("print ends in time");
    let took = start.elapsed();
    let report = Report::parse(&reader.join().expect("the reader does not fail")).only();
    println!("printed {BLOCKS} blocks as JSON in {took:?} with at most {peak_kib} KiB resident");
    assert_eq!(status.code(), Some(0));
    assert_eq!((report.entries.len(), report.total), (BLOCKS, BLOCKS as u64));
    assert!(peak_kib < MOST_KIB, "resident {peak_kib} KiB");
    session.detach();
}

/// `blocks.c` that lets one of its own functions be, as programs built for LeakSanitizer do.
fn blocks_with_rules(rules: &str) -> std::path::PathBuf {
    let flag = format!("-DLSAN_RULES=\"{}\"", rules.replace('\n', "\\n"));
    Program::new("blocks.c").flags(&[&flag]).build()
}

#[test]
fn what_suppressions_let_be_is_counted_and_not_printed() {
    let memscope = Memscope::new();
    let program = blocks_with_rules("leak:^of_another_build$\n");
    let mut target = Target::start::<&str>(&program, &[]);
    let session = memscope.attach(&target);
    target.act("take 5 10007");
    target.act("take 2 31");
    let pid = target.pid().to_string();
    let folder = memscope_tests::workload::Folder::new();
    let file = folder.path().join("rules");
    let file_text = file.to_str().expect("a path of ours is text");
    std::fs::write(&file, "# known\nleak:^layer_two$\n").expect("a file");
    let arguments = ["print", &pid, "--age", "0", "--suppressions", file_text];
    let output = memscope.ok(&arguments);
    output.expect_line("MemScope printed 0 of 7 entries");
    output.expect_line(&format!(
        "note: 7 entries of 1 sites, 50097 bytes, are suppressed by ^layer_two$ ({file_text}:2)"
    ));
    output.expect_line(&format!(
        "note: suppressions that matched nothing: ^of_another_build$ (__lsan_default_suppressions of {}:1)",
        program.display()
    ));
    let plain = memscope.ok(&["print", &pid, "--age", "0"]);
    plain.expect_line("MemScope printed 7 entries");
    assert_eq!(memscope.run(&["print", &pid, "--age", "0", "--exit-code"]).code(), 1);
    // Too young to be called clean, but no finding.
    assert_eq!(memscope.run(&[&arguments[..], &["--exit-code"]].concat()).code(), 6);
    std::fs::write(&file, "layer_two\n").expect("a file");
    memscope.run(&arguments).expect_code(2).one_error_line();
    session.detach();
}

#[test]
fn the_targets_own_suppressions_hold_for_print_report_and_check() {
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&blocks_with_rules("leak:^layer_one$\n"), &[]);
    let session = memscope.attach(&target);
    target.act("take 5 10007");
    let pid = target.pid().to_string();
    let printed = memscope.ok(&["print", &pid, "--age", "0"]);
    printed.expect_line("MemScope printed 0 of 5 entries");
    let report = memscope.ok(&["report", &pid]).stdout;
    assert!(
        report.contains("Suppressions used:\n") && report.contains("        1         5        50035 ^layer_one$\n"),
        "{report}"
    );
    assert!(
        report.contains("50035 bytes in 5 blocks tracked"),
        "totals stay: {report}"
    );
    let json = memscope.ok(&["report", &pid, "--format", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let site = &json["databases"][0]["sites"][0];
    assert_eq!(site["suppressed_by"], "^layer_one$", "{json:#}");
    assert_eq!(memscope.run(&["check", &pid, "--quiet"]).code(), 6, "too young");
    session.detach();
}
