//! Real programs with a leak put in: it is named first and its rate is right, requests are told apart by marks.

use std::sync::OnceLock;
use std::time::Duration;

use memscope_tests::memscope::{Memscope, Output};
use memscope_tests::planted::{Redis, Truth, drive, python};
use memscope_tests::session::Session;
use memscope_tests::workload::redis::Client;
use serde_json::Value;

/// Long enough for a verdict.
const LASTING: Duration = Duration::from_secs(75);

/// What a program lost, and what was reported of it.
struct Reported {
    truth: Truth,
    text: Output,
    json: Value,
}

impl Reported {
    fn of(memscope: &Memscope, pid: u32, truth: Truth) -> Self {
        let pid = pid.to_string();
        let json = memscope.ok(&["report", &pid, "--format", "json"]).stdout;
        Self {
            truth,
            text: memscope.ok(&["report", &pid]),
            json: serde_json::from_str(&json).expect("a report is JSON"),
        }
    }

    fn sites(&self) -> &Vec<Value> {
        self.json["databases"][0]["sites"].as_array().expect("sites")
    }

    /// Demands that `function` is named in the first suspect, and that it grows by `share` of what was lost.
    fn assert_first(&self, function: &str, share: f64) {
        let first = &self.sites()[0];
        assert_eq!(first["verdict"], "LEAKING", "{}", self.text);
        assert!(functions(first).contains(&function), "{first:#}");
        let suspect = self
            .text
            .stdout
            .lines()
            .position(|line| line.starts_with("LEAKING"))
            .unwrap_or_else(|| panic!("no suspect in {}", self.text));
        let lines: Vec<&str> = self.text.stdout.lines().skip(suspect + 1).collect();
        let end = lines
            .iter()
            .position(|line| !line.starts_with(' '))
            .unwrap_or(lines.len());
        assert!(lines[..end].iter().any(|line| line.contains(function)), "{}", self.text);
        self.assert_rate(first, share);
    }

    fn assert_rate(&self, site: &Value, share: f64) {
        for (key, truth) in [
            ("bytes_per_minute", self.truth.bytes_per_minute()),
            ("blocks_per_minute", self.truth.blocks_per_minute()),
        ] {
            let said = site["rate"][key].as_f64().expect("a rate");
            let off = said / (truth * share) - 1.0;
            println!(
                "{key}: said {said:.0}, true {:.0}: {:+.1} %",
                truth * share,
                off * 100.0
            );
            assert!(off.abs() < 0.1, "{key} {said} against {}: {site:#}", truth * share);
        }
    }
}

/// The named functions of a site's stack, innermost first.
fn functions(site: &Value) -> Vec<&str> {
    let frames = site["frames"].as_array().expect("frames");
    frames.iter().filter_map(|frame| frame["function"].as_str()).collect()
}

/// Both programs driven at the same time, once for all tests.
fn reported() -> &'static (Reported, Reported) {
    static RUN: OnceLock<(Reported, Reported)> = OnceLock::new();
    RUN.get_or_init(|| {
        let memscope = Memscope::new();
        std::thread::scope(|scope| {
            let redis = scope.spawn(|| redis_reported(&memscope));
            let python = scope.spawn(|| python_reported(&memscope));
            (redis.join().expect("redis"), python.join().expect("python"))
        })
    })
}

fn redis_reported(memscope: &Memscope) -> Reported {
    let redis = Redis::start();
    let mut client = redis.client();
    let _session = Session::attach(memscope, redis.pid());
    let truth = drive(LASTING, |size, number| {
        let text = size.to_string();
        // Two in three are lost by malloc, one by redis's own allocator; clean requests and plain commands between.
        let lose = if number % 3 == 0 {
            "plant.keepbyredis"
        } else {
            "plant.keep"
        };
        assert_eq!(client.ask(&[lose, &text]), format!(":{size}"));
        for clean in 0..3 {
            assert_eq!(client.ask(&["plant.pass", &text]), format!(":{size}"));
            assert_eq!(client.ask(&["set", &format!("key:{clean}"), &text]), "+OK");
        }
    });
    Reported::of(memscope, redis.pid(), truth)
}

fn python_reported(memscope: &Memscope) -> Reported {
    let mut target = python();
    let _session = Session::attach(memscope, target.pid());
    let truth = drive(LASTING, |size, _| {
        target.act(&format!("keep {size}"));
        target.act(&format!("pass {size}"));
    });
    Reported::of(memscope, target.pid(), truth)
}

#[test]
fn a_leak_in_a_redis_module_is_named_first_with_its_rate() {
    let (redis, _) = reported();
    redis.assert_first("copy_argument", 2.0 / 3.0);
}

#[test]
fn a_leak_by_redis_own_allocator_is_named_next_with_its_rate() {
    let (redis, _) = reported();
    let second = &redis.sites()[1];
    assert_eq!(second["verdict"], "LEAKING", "{}", redis.text);
    assert!(functions(second).contains(&"copy_by_redis"), "{second:#}");
    assert!(redis.text.stdout.contains("copy_by_redis"), "{}", redis.text);
    redis.assert_rate(second, 1.0 / 3.0);
    let others: Vec<_> = redis.sites()[2..]
        .iter()
        .filter(|site| site["verdict"] == "LEAKING")
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn a_leak_in_a_library_of_python_is_named_first_with_its_rate() {
    let (_, python) = reported();
    python.assert_first("copy_row", 1.0);
}

/// Marks `from`, has 200 requests answered, some at a time, marks `until`.
fn marked(memscope: &Memscope, pid: u32, client: &mut Client, command: &str, [from, until]: [&str; 2]) {
    memscope.ok(&["mark", &pid.to_string(), from]);
    for size in 1..=200 {
        client.ask(&[command, &(600 + size).to_string()]);
        std::thread::sleep(Duration::from_millis(10));
    }
    memscope.ok(&["mark", &pid.to_string(), until]);
}

#[test]
fn marks_tell_a_leaking_request_from_a_clean_one() {
    let memscope = Memscope::new();
    let redis = Redis::start();
    let mut client = redis.client();
    let pid = redis.pid().to_string();
    let _session = Session::attach(&memscope, redis.pid());
    marked(&memscope, redis.pid(), &mut client, "plant.pass", ["a", "b"]);
    marked(&memscope, redis.pid(), &mut client, "plant.keep", ["c", "d"]);
    // What ends with its request has ended: then a span can be judged, however short it was.
    std::thread::sleep(Duration::from_secs(11));
    let report = |span: &[&str]| -> Value {
        let output = memscope.ok(&[&["report", &pid, "--format", "json"], span].concat());
        serde_json::from_str(&output.stdout).expect("a report is JSON")
    };
    let held = |report: &Value, function: &str| -> u64 {
        let sites = report["databases"][0]["sites"].as_array().expect("sites");
        let of = sites.iter().filter(|site| functions(site).contains(&function));
        of.map(|site| site["live"]["blocks"].as_u64().expect("blocks")).sum()
    };
    let clean = report(&["--between", "a", "b"]);
    assert_eq!(clean["databases"][0]["overall"], "clean", "{clean:#}");
    assert_eq!(held(&clean, "copy_argument"), 0, "{clean:#}");
    for span in [&["--between", "c", "d"][..], &["--since", "c"]] {
        let leaking = report(span);
        assert_eq!(held(&leaking, "copy_argument"), 200, "{leaking:#}");
    }
    let leaking = report(&["--between", "c", "d"]);
    let first = &leaking["databases"][0]["sites"][0];
    assert_eq!(first["verdict"], "LEAKING", "{first:#}");
    assert!(functions(first).contains(&"copy_argument"), "{first:#}");
    let check = |span: [&str; 3]| memscope.run(&[&["check", &pid][..], &span].concat());
    check(["--between", "a", "b"]).expect_code(0);
    let found = check(["--between", "c", "d"]).expect_code(1);
    assert!(found.stdout.contains("copy_argument"), "{found}");
    // Nothing was asked for after the last mark.
    let print = memscope.ok(&["print", &pid, "--age", "0", "--since", "d"]);
    assert!(!print.stdout.contains("copy_argument"), "{print}");
}

#[test]
fn trace_around_a_command_shows_what_that_command_lost() {
    let memscope = Memscope::new();
    let redis = Redis::start();
    let pid = redis.pid().to_string();
    let socket = redis.socket();
    let around = |command: &str| {
        let arguments = [
            "trace",
            &pid,
            "--age",
            "0",
            "--",
            "redis-cli",
            "-s",
            &socket,
            command,
            "10007",
        ];
        memscope.ok(&arguments).stdout
    };
    let clean = around("plant.pass");
    assert!(!clean.contains("copy_argument"), "{clean}");
    let leaking = around("plant.keep");
    assert!(leaking.contains("size:0x2717"), "{leaking}");
    assert!(leaking.contains("copy_argument"), "{leaking}");
    memscope.assert_nothing_left();
}
