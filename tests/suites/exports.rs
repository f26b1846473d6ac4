//! What `export`, `diff`, `merge` and `suppress` write, read by the tools it is written for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use memscope_tests::memscope::{Memscope, complete};
use memscope_tests::report::Database;
use memscope_tests::schema::{assert_document, assert_lines};
use memscope_tests::session::Session;
use memscope_tests::target::Target;
use memscope_tests::workload::Folder;

/// `blocks.c` holding blocks of three sizes, some of them given back.
fn target_with_blocks(memscope: &Memscope) -> (Target, Session<'_>) {
    let mut target = Target::blocks();
    let session = memscope.attach(&target);
    target.act("take 30 10007");
    target.act("take 7 200003");
    target.act("take 11 31");
    target.act("give 10 10007");
    (target, session)
}

fn export(memscope: &Memscope, target: &Target, format: &str, file: &Path) {
    let file = file.to_str().expect("a path of ours is text");
    let output = memscope.ok(&["export", &target.pid().to_string(), "--format", format, "-o", file]);
    assert_eq!(output.stdout, "", "{output}");
}

/// Bytes alive by function, once for each block whose stack it is in; unnamed frames are left out.
fn bytes_by_function(database: &Database) -> BTreeMap<String, u64> {
    let mut bytes = BTreeMap::new();
    for entry in &database.entries {
        let frames = &database.stack(entry).frames;
        let mut functions: Vec<&String> = frames.iter().filter_map(|frame| frame.function.as_ref()).collect();
        functions.sort_unstable();
        functions.dedup();
        for function in functions {
            *bytes.entry(function.clone()).or_insert(0) += entry.size;
        }
    }
    bytes
}

/// Rows of `go tool pprof -top`: flat and cumulated value by function.
fn pprof_top(file: &Path, index: &str) -> BTreeMap<String, (u64, u64)> {
    let folder = Folder::new();
    let mut command = Command::new("go");
    command.args([
        "tool",
        "pprof",
        "-top",
        "-unit=B",
        "-nodecount=100000",
        "-nodefraction=0",
        "-edgefraction=0",
    ]);
    command.arg(format!("-sample_index={index}")).arg(file);
    command.env("HOME", folder.path()).env("PPROF_TMPDIR", folder.path());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = complete(command).expect_code(0);
    let rows = output.stdout.lines().skip_while(|line| !line.contains("flat%")).skip(1);
    let rows = rows.filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [flat, _, _, cumulated, _, name @ ..] = words.as_slice() else {
            return None;
        };
        let number = |text: &str| text.trim_end_matches('B').parse::<u64>().ok();
        Some((name.join(" "), (number(flat)?, number(cumulated)?)))
    });
    let rows: BTreeMap<_, _> = rows.collect();
    assert!(!rows.is_empty(), "no rows in\n{output}");
    rows
}

#[test]
fn go_tool_pprof_shows_the_bytes_of_the_json() {
    let memscope = Memscope::new();
    let folder = Folder::new();
    let (target, session) = target_with_blocks(&memscope);
    let file = folder.path().join("blocks.pb.gz");
    export(&memscope, &target, "pprof", &file);
    let expected = bytes_by_function(&session.print());
    let all = 20 * 10_007 + 7 * 200_003 + 11 * 31;
    assert_eq!(expected["main"], all);
    let rows = pprof_top(&file, "inuse_space");
    for (function, bytes) in &expected {
        assert_eq!(rows[function].1, *bytes, "{function} in {rows:#?}");
    }
    assert_eq!(rows["malloc"], (all, all), "the leaf has it all: {rows:#?}");
    assert_eq!(rows["layer_one"].0, 0, "a caller has nothing of its own");
    let allocated = pprof_top(&file, "alloc_space");
    assert_eq!(
        allocated["take"].1,
        all + 10 * 10_007,
        "what was freed is in alloc_space"
    );
    session.detach();
}

#[test]
fn the_first_view_of_pprof_is_what_is_in_use_and_it_knows_the_binary() {
    let memscope = Memscope::new();
    let folder = Folder::new();
    let (target, session) = target_with_blocks(&memscope);
    let file = folder.path().join("blocks.pb.gz");
    export(&memscope, &target, "pprof", &file);
    let build_id = session.print().target.build_id.expect("gcc writes build ids");
    let mut command = Command::new("go");
    command
        .args(["tool", "pprof", "-raw"])
        .arg(&file)
        .env("HOME", folder.path());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let raw = complete(command).expect_code(0);
    assert!(raw.stdout.contains("inuse_space/bytes[dflt]"), "{raw}");
    assert!(raw.stdout.contains(&build_id), "{raw}");
    let mappings: Vec<&str> = raw
        .stdout
        .lines()
        .skip_while(|line| *line != "Mappings")
        .skip(1)
        .collect();
    assert!(mappings[0].contains("blocks") && mappings[0].contains("[FN]"), "{raw}");
    session.detach();
}

#[test]
fn a_flame_graph_opens_in_a_browser_and_a_frame_is_found_in_it() {
    let memscope = Memscope::new();
    let folder = Folder::new();
    let (target, session) = target_with_blocks(&memscope);
    let file = folder.path().join("blocks.svg");
    export(&memscope, &target, "svg", &file);
    let bytes = bytes_by_function(&session.print())["layer_three"];
    let mut command = Command::new("chromium");
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
    // The graph's own search, as a person would use it.
    command.arg(format!("file://{}?s=layer_three", file.display()));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let dom = complete(command).expect_code(0).stdout;
    let grouped = {
        let digits = bytes.to_string();
        let (head, tail) = digits.split_at(digits.len() % 3);
        let rest = tail
            .as_bytes()
            .chunks(3)
            .map(|three| String::from_utf8_lossy(three).into_owned());
        let parts: Vec<String> = Some(head.to_owned())
            .filter(|head| !head.is_empty())
            .into_iter()
            .chain(rest)
            .collect();
        parts.join(",")
    };
    let title = format!("<title>layer_three ({grouped} bytes, ");
    assert!(
        dom.contains(&title),
        "no `{title}` in {} characters of\n{dom}",
        dom.len()
    );
    assert!(
        dom.contains("Matched: "),
        "its script searched for the frame and found it:\n{dom}"
    );
    assert!(!dom.contains("Matched: 0%"), "{dom}");
    session.detach();
}

#[test]
fn folded_stacks_and_speedscope_hold_the_bytes_of_the_json() {
    let memscope = Memscope::new();
    let (target, session) = target_with_blocks(&memscope);
    let pid = target.pid().to_string();
    let database = session.print();
    let all: u64 = database.entries.iter().map(|entry| entry.size).sum();
    let folded = memscope.ok(&["export", &pid, "--format", "folded"]).stdout;
    let mut sum = 0;
    for line in folded.lines() {
        let (path, bytes) = line.rsplit_once(' ').expect("a path and a count");
        assert!(path.ends_with(";take;layer_three;layer_two;layer_one;malloc"), "{path}");
        sum += bytes.parse::<u64>().expect("a count");
    }
    assert_eq!(sum, all);
    assert_eq!(
        folded,
        memscope.ok(&["export", &pid, "--format", "folded"]).stdout,
        "the same twice"
    );
    let speedscope = memscope.ok(&["export", &pid, "--format", "speedscope"]).stdout;
    let speedscope: serde_json::Value = serde_json::from_str(&speedscope).expect("JSON");
    assert_eq!(speedscope["profiles"][0]["endValue"], all);
    assert_eq!(speedscope["profiles"][1]["endValue"], database.entries.len());
    session.detach();
}

#[test]
fn a_file_is_overwritten_only_by_force_and_never_through_a_link() {
    let memscope = Memscope::new();
    let folder = Folder::new();
    let (target, session) = target_with_blocks(&memscope);
    let pid = target.pid().to_string();
    let (file, link) = (folder.path().join("out"), folder.path().join("link"));
    std::fs::write(&file, "precious").expect("a file");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    let run = |to: &Path, more: &[&str]| {
        let to = to.to_str().expect("a path of ours is text");
        memscope.run(&[&["export", &pid, "--format", "folded", "-o", to], more].concat())
    };
    let refused = run(&file, &[]).expect_code(2);
    assert!(refused.one_error_line().contains("--force"), "{refused}");
    assert_eq!(run(&link, &["--force"]).code(), 2);
    assert_eq!(std::fs::read(&file).expect("still there"), b"precious");
    assert_eq!(run(&file, &["--force"]).code(), 0);
    assert!(std::fs::read_to_string(&file).expect("written").contains(";malloc "));
    let written = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(written, 2, "nothing is left beside it");
    session.detach();
}

#[test]
fn a_folder_gets_a_file_a_target_named_after_host_and_target() {
    let memscope = Memscope::new();
    let folder = Folder::new();
    let (first, _one) = target_with_blocks(&memscope);
    let (second, _two) = target_with_blocks(&memscope);
    let to = folder.path().to_str().expect("a path of ours is text");
    assert_eq!(memscope.run(&["export", "--format", "folded"]).code(), 2);
    memscope.ok(&["export", "--format", "pprof", "--output-dir", to]);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a host has a name");
    for target in [&first, &second] {
        let name = format!("memscope-{}-blocks-{}.pb.gz", host.trim(), target.pid());
        let file = std::fs::read(folder.path().join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(file[..2], [0x1f, 0x8b], "gzipped");
    }
    assert_eq!(memscope.run(&["export", "1", "--format", "pprof"]).code(), 4);
}

/// Saves `print` of everything under a name.
fn saved(memscope: &Memscope, target: &Target, file: PathBuf) -> String {
    let pid = target.pid().to_string();
    let text = memscope.ok(&["print", &pid, "--age", "0", "--format", "json"]).stdout;
    std::fs::write(&file, text).expect("a file");
    file.to_str().expect("a path of ours is text").to_owned()
}

#[test]
fn a_saved_report_is_compared_with_another_and_with_now() {
    let memscope = Memscope::new();
    let folder = Folder::new();
    let (mut target, session) = target_with_blocks(&memscope);
    let before = saved(&memscope, &target, folder.path().join("before.json"));
    target.act("take 4 200003");
    let text = memscope.ok(&["diff", &before]);
    assert!(
        text.stdout.contains("grown") && text.stdout.contains("layer_one"),
        "{text}"
    );
    let summary = format!("; +{} bytes (", 4 * 200_003);
    assert!(
        text.stdout
            .lines()
            .any(|line| line.starts_with("SUMMARY: ") && line.contains(&summary)),
        "{text}"
    );
    let after = saved(&memscope, &target, folder.path().join("after.json"));
    let json = memscope.ok(&["diff", &before, &after, "--format", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["schema"], "memscope.diff/v1");
    assert_eq!(json["sites"][0]["change"], "grown");
    assert_eq!(json["notes"], serde_json::json!([]));
    let folded = memscope.ok(&["diff", &before, &after, "--format", "folded"]).stdout;
    let (path, counts) = folded
        .lines()
        .next()
        .and_then(|line| line.split_once(' '))
        .expect("a line");
    assert!(path.ends_with(";layer_one;malloc"), "{folded}");
    let counts: Vec<u64> = counts.split(' ').map(|count| count.parse().expect("a count")).collect();
    assert_eq!(counts[1] - counts[0], 4 * 200_003);
    assert_eq!(
        memscope
            .run(&["diff", &folder.path().join("none").to_string_lossy()])
            .code(),
        4
    );
    assert_eq!(memscope.run(&["diff", "/proc/self/status", &before]).code(), 2);
    session.detach();
}

#[test]
fn reports_of_many_processes_are_merged_by_site_and_need_no_root() {
    let memscope = Memscope::new();
    let folder = Folder::new();
    let (mut first, _one) = target_with_blocks(&memscope);
    let (second, _two) = target_with_blocks(&memscope);
    first.act("take 100 10007");
    // As two hosts would have saved them, each under the name it likes.
    let on_host = |host: &str, target: &Target| {
        let file = saved(&memscope, target, folder.path().join(format!("{host}.json")));
        let text = std::fs::read_to_string(&file).expect("a report");
        let mut report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        report["host"] = host.into();
        std::fs::write(&file, report.to_string()).expect("a report");
        file
    };
    let files = [on_host("web-1", &first), on_host("web-2", &second)];
    let merged = memscope.ok(&["merge", &files[0], &files[1], "--format", "json"]).stdout;
    let merged: serde_json::Value = serde_json::from_str(&merged).expect("JSON");
    let site = &merged["sites"][0];
    assert_eq!(
        (&site["hosts"], &site["databases"]),
        (&2.into(), &2.into()),
        "{merged:#}"
    );
    assert_eq!(site["worst"]["host"], "web-1");
    assert_eq!(site["worst"]["pid"], first.pid());
    // A copy, since the binary may lie where only root can start it.
    let copy = folder.path().join("memscope");
    std::fs::copy(memscope_tests::memscope::binary(), &copy).expect("a copy of the binary");
    let mut command = Command::new(copy);
    command.arg("merge").args(&files).env_clear();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    let output = complete(command).expect_code(0);
    assert!(
        output.stdout.contains("SUMMARY: 1 sites on 2 hosts in 2 databases"),
        "{output}"
    );
}

#[test]
fn a_site_is_suppressed_by_a_rule_of_leak_sanitizers_syntax() {
    let memscope = Memscope::new();
    let folder = Folder::new();
    let (target, session) = target_with_blocks(&memscope);
    let site = session.print().entries[0].site.clone();
    let file = folder.path().join("etc/suppressions");
    let file_text = file.to_str().expect("a path of ours is text");
    let pid = target.pid().to_string();
    let shown = memscope.ok(&["suppress", &pid, "--site", &site, "--dry-run"]);
    assert_eq!(
        shown.stdout, "leak:^layer_one$\n",
        "the program's own function, and never malloc"
    );
    memscope.ok(&[
        "suppress",
        &pid,
        "--site",
        &site,
        "--pattern",
        "^layer_*",
        "--file",
        file_text,
    ]);
    memscope.ok(&[
        "suppress",
        &pid,
        "--site",
        &site,
        "--pattern",
        "^layer_*",
        "--file",
        file_text,
    ]);
    let rules = std::fs::read_to_string(&file).expect("written");
    assert_eq!(
        rules,
        format!("# site {site}\nleak:^layer_*\n"),
        "once, however often it is said"
    );
    assert_eq!(
        memscope.run(&["suppress", &pid, "--site", "0x1", "--dry-run"]).code(),
        2
    );
    session.detach();
}

#[test]
fn every_json_output_is_what_its_published_schema_says() {
    let memscope = Memscope::new();
    let folder = Folder::new();
    let (mut target, session) = target_with_blocks(&memscope);
    let pid = target.pid().to_string();
    let rules = folder.path().join("rules");
    std::fs::write(&rules, "leak:^layer_one$\nleak:fixed\n").expect("a file");
    let rules = rules.to_str().expect("a path of ours is text");
    let before = saved(&memscope, &target, folder.path().join("before.json"));
    target.act("take 4 200003");
    memscope.ok(&["mark", &pid, "now"]);
    target.act("take 2 10007");
    let after = memscope.ok(&["report", &pid, "--format", "json"]).stdout;
    let after_file = folder.path().join("after.json");
    std::fs::write(&after_file, &after).expect("a file");
    let after_file = after_file.to_str().expect("a path of ours is text");
    // Exit codes are checked elsewhere; `check` cannot judge so young a collection.
    let documents: [(i32, &[&str]); 14] = [
        (0, &["print", &pid, "--age", "0"]),
        (0, &["print", &pid, "--age", "0", "--limit", "3", "--sort", "size"]),
        (0, &["print", &pid, "--age", "0", "--suppressions", rules]),
        (0, &["print", &pid, "--age", "1d"]),
        (0, &["report", &pid]),
        (0, &["report", &pid, "--top", "1", "--sort", "oldest"]),
        (0, &["report", &pid, "--by", "function", "--since", "now"]),
        (0, &["report", &pid, "--by", "module", "--suppressions", rules]),
        (6, &["check", &pid]),
        (6, &["check", &pid, "--baseline", after_file]),
        (0, &["stats", &pid]),
        (0, &["list"]),
        (0, &["diff", &before, after_file]),
        (0, &["merge", &before, after_file]),
    ];
    for (code, arguments) in documents {
        let output = memscope
            .run(&[arguments, &["--format", "json"]].concat())
            .expect_code(code);
        assert_document(&output.stdout);
    }
    let lines: [(i32, &str, usize, &[&str]); 5] = [
        (0, "memscope.entries/v1", 47, &["print", &pid, "--age", "0"]),
        (0, "memscope.report/v1", 2, &["report", &pid]),
        (6, "memscope.check/v1", 1, &["check", &pid]),
        (0, "memscope.stats/v1", 1, &["stats", &pid]),
        (0, "memscope.list/v1", 1, &["list"]),
    ];
    for (code, schema, count, arguments) in lines {
        let output = memscope
            .run(&[arguments, &["--format", "ndjson"]].concat())
            .expect_code(code);
        assert_eq!(assert_lines(schema, &output.stdout), count, "{output}");
    }
    session.detach();
}

#[test]
fn figures_of_sampled_blocks_are_estimates_with_an_error_everywhere() {
    const MEAN: u64 = 65_536;
    let memscope = Memscope::new();
    let folder = Folder::new();
    let mut target = Target::blocks();
    let pid = target.pid().to_string();
    let session = Session::attach_with(&memscope, target.pid(), &["--sample-bytes", &MEAN.to_string()]);
    target.act("take 4000 10007");
    let truth = 4000 * 10_007;
    let json = memscope.ok(&["report", &pid, "--format", "json"]).stdout;
    assert_document(&json);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let database = &json["databases"][0];
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_else(|| panic!("a number in {database:#}"));
    let (tracked, error) = (
        number(&database["memory"]["tracked"]),
        number(&database["sampling"]["tracked_bytes_error"]),
    );
    // Five standard deviations: one run in a million is further off.
    assert!(
        tracked.abs_diff(truth) < error * 5 / 2,
        "{tracked} ± {error}, and in truth {truth}"
    );
    let (site, recorded) = (
        &database["sites"][0],
        number(&database["sites"][0]["sampled"]["blocks"]),
    );
    assert!(recorded < 1200 && recorded > 300, "{recorded} of 4000 recorded");
    let allocated = number(&site["allocated"]["bytes"]);
    assert!(allocated.abs_diff(truth) < error * 5 / 2, "{allocated} allocated");
    let text = memscope.ok(&["report", &pid]).stdout;
    assert!(text.contains("tracked about ") && text.contains(" ± "), "{text}");
    let check = memscope.run(&["check", &pid]).expect_code(6);
    assert!(check.stdout.contains("INCONCLUSIVE: collection samples"), "{check}");
    assert_eq!(memscope.run(&["print", &pid, "--age", "1d", "--exit-code"]).code(), 6);
    let prom = memscope.ok(&["export", &pid, "--format", "prom"]).stdout;
    let value = |name: &str| -> f64 {
        let series = format!("{name}{{comm=\"blocks\"");
        let line = prom.lines().find(|line| line.starts_with(&series));
        let value = line
            .and_then(|line| line.rsplit_once(' '))
            .map(|(_, value)| value.parse());
        value
            .unwrap_or_else(|| panic!("no {name} in\n{prom}"))
            .expect("a number")
    };
    assert_eq!(value("memscope_live_bytes"), tracked as f64);
    assert_eq!(value("memscope_live_bytes_error"), error as f64);
    assert_eq!(value("memscope_sample_bytes"), MEAN as f64);
    let file = folder.path().join("sampled.pb.gz");
    let name = file.to_str().expect("a path of ours is text");
    let said = memscope.ok(&["export", &pid, "--format", "pprof", "-o", name]).stderr;
    assert!(said.contains("estimated from one block in 65536 bytes"), "{said}");
    assert_eq!(pprof_top(&file, "inuse_space")["main"].1, tracked);
    session.detach();
}
