//! The files in dist/ at work: what cron and systemd would run is run, node_exporter serves the metrics, a real Prometheus
//! scrapes them, and its alert fires.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use memscope_tests::deadline::{REPLY, until};
use memscope_tests::memscope::{Memscope, Output, binary, complete};
use memscope_tests::server::{Server, free_port};
use memscope_tests::session::Session;
use memscope_tests::target::Target;
use memscope_tests::workload::Folder;

/// Longest that a verdict and an alert on it may take; a verdict takes a minute of collection.
const ALERT: Duration = Duration::from_secs(240);

fn dist(path: &str) -> String {
    let path = memscope_tests::program::folder().join("../dist").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A host as far as the jobs see it: a folder for the collector, /etc/default/memscope, memscope on the PATH.
struct Host<'a> {
    memscope: &'a Memscope,
    folder: Folder,
}

impl<'a> Host<'a> {
    fn new(memscope: &'a Memscope, comm: &str) -> Self {
        let host = Self {
            memscope,
            folder: Folder::new(),
        };
        std::fs::create_dir(host.metrics_folder()).expect("a folder for the metrics");
        std::fs::create_dir(host.path("bin")).expect("a folder for the command");
        std::os::unix::fs::symlink(binary(), host.path("bin/memscope")).expect("memscope on the PATH");
        let defaults = dist("default/memscope")
            .replace("--comm gateway", &format!("--comm {comm}"))
            .replace(
                "/var/lib/prometheus/node-exporter",
                &host.metrics_folder().to_string_lossy(),
            )
            .replace("/var/lib/memscope", &host.folder.path().to_string_lossy());
        std::fs::write(host.path("default"), defaults).expect("the defaults");
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn metrics_folder(&self) -> PathBuf {
        self.path("metrics")
    }

    fn metrics(&self) -> String {
        std::fs::read_to_string(self.metrics_folder().join("memscope.prom")).expect("the metrics were written")
    }

    /// Runs a line of the cron file as cron does.
    fn cron(&self, containing: &str) -> Output {
        let file = dist("cron.d/memscope");
        let line = file
            .lines()
            .find(|line| !line.starts_with('#') && line.contains(containing))
            .unwrap_or_else(|| panic!("no line with {containing:?} in\n{file}"));
        // Five fields of time, the user, and the rest is the shell's.
        let mut rest = line;
        for _ in 0..6 {
            rest = rest.trim_start().split_once(' ').expect("six fields and a command").1;
        }
        let command = rest
            .trim_start()
            .replace("/etc/default/memscope", &self.path("default").to_string_lossy());
        assert!(
            !command.contains('%'),
            "cron ends a command at a percent sign: {command}"
        );
        let mut shell = self.memscope.command(&[] as &[&str]);
        let variables: Vec<_> = shell
            .get_envs()
            .map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned)))
            .collect();
        shell = Command::new("/bin/sh");
        shell.args(["-c", &command]).env_clear();
        for (key, value) in variables {
            shell.env(key, value.unwrap_or_default());
        }
        let path = file
            .lines()
            .find_map(|line| line.strip_prefix("PATH="))
            .expect("the cron file sets PATH");
        shell.env("PATH", format!("{}:{path}", self.path("bin").display()));
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        complete(shell)
    }

    /// Runs the service's commands as systemd does: words, variables split where they stand alone, `-` before a command that may
    /// fail.
    fn service(&self) {
        let defaults = std::fs::read_to_string(self.path("default")).expect("the defaults");
        let value = |name: &str| {
            let line = defaults.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
            line.unwrap_or_else(|| panic!("no {name} in the defaults"))
                .trim_matches('"')
                .to_owned()
        };
        for line in dist("systemd/memscope.service")
            .lines()
            .filter_map(|line| line.strip_prefix("ExecStart="))
        {
            let (may_fail, line) = line.strip_prefix('-').map_or((false, line), |line| (true, line));
            let words = line
                .strip_prefix("/usr/bin/memscope ")
                .expect("the service runs memscope");
            let arguments: Vec<String> = words
                .split(' ')
                .flat_map(|word| match word.strip_prefix('$') {
                    None => vec![word.to_owned()],
                    Some(name) => match name.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                        Some(name) => vec![value(name)],
                        None => value(name).split(' ').map(str::to_owned).collect(),
                    },
                })
                .collect();
            let output = self.memscope.run(&arguments);
            assert!(may_fail || output.code() == 0, "{output}");
        }
    }
}

/// `blocks.c` under a name that no other process has.
fn named_target() -> (Target, String) {
    let mut target = Target::blocks();
    let name = format!("fleet{}", target.pid());
    target.act(&format!("name {name}"));
    (target, name)
}

fn promtool(arguments: &[&str], input: Option<&Path>) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(input.map_or_else(Stdio::null, |path| {
        std::fs::File::open(path).expect("the metrics").into()
    }));
    complete(command)
}

fn node_exporter(folder: &Path) -> Server {
    let port = free_port();
    let mut command = Command::new("prometheus-node-exporter");
    command.args(["--collector.disable-defaults", "--collector.textfile"]);
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.arg(format!("--collector.textfile.directory={}", folder.display()));
    Server::start(command, port)
}

/// The value of a series that begins so.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.starts_with(series))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn the_units_and_the_rules_are_valid() {
    let folder = memscope_tests::program::folder().join("../dist");
    let rules = folder.join("prometheus/memscope.rules.yml");
    let checked = promtool(&["check", "rules", &rules.to_string_lossy()], None).expect_code(0);
    assert!(checked.stdout.contains("SUCCESS"), "{checked}");
    let cases = folder.join("prometheus/memscope.rules.test.yml");
    let tested = promtool(&["test", "rules", &cases.to_string_lossy()], None).expect_code(0);
    assert!(tested.stdout.contains("SUCCESS"), "{tested}");
    // Units are checked with a command that exists in the place of the one they will find.
    let scratch = Folder::new();
    for unit in ["memscope.service", "memscope.timer"] {
        let text = dist(&format!("systemd/{unit}")).replace("/usr/bin/memscope", "/bin/true");
        std::fs::write(scratch.path().join(unit), text).expect("a unit");
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    verify
        .arg(scratch.path().join("memscope.service"))
        .arg(scratch.path().join("memscope.timer"));
    verify
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let verified = complete(verify).expect_code(0);
    assert!(!verified.stderr.contains("memscope."), "{verified}");
}

#[test]
fn cron_and_systemd_attach_and_write_metrics_that_node_exporter_serves() {
    let memscope = Memscope::new();
    let (mut target, comm) = named_target();
    let host = Host::new(&memscope, &comm);
    let _session = Session::guard(&memscope, target.pid());
    let first = host.cron("memscope attach").expect_code(0);
    assert_eq!(
        (first.stdout.as_str(), first.stderr.as_str()),
        ("", ""),
        "cron has nothing to mail"
    );
    target.act("take 3 10007");
    host.service();
    let metrics = host.metrics();
    let live = format!("memscope_live_bytes{{comm=\"{comm}\"");
    assert_eq!(value(&metrics, &live), Some(30_021.0), "{metrics}");
    let checked = promtool(
        &["check", "metrics"],
        Some(&host.metrics_folder().join("memscope.prom")),
    );
    assert_eq!((checked.code(), checked.stderr.as_str()), (0, ""), "{checked}");
    let exporter = node_exporter(&host.metrics_folder());
    let served = exporter.get("/metrics").expect("node_exporter answers");
    assert_eq!(value(&served, &live), Some(30_021.0), "{served}");
    assert_eq!(value(&served, "node_textfile_scrape_error"), Some(0.0), "{served}");
    target.act("give 3 10007");
    assert_eq!(host.cron("memscope attach").code(), 0);
    assert_eq!(
        value(&host.metrics(), &live),
        Some(0.0),
        "what is freed is gone from the metrics"
    );
    assert_eq!(host.cron("--format pprof").code(), 0);
    let reports = std::fs::read_dir(host.path("reports"))
        .expect("a folder of reports")
        .count();
    assert_eq!(reports, 1);
}

#[test]
fn a_host_without_databases_says_so_instead_of_leaving_an_old_file() {
    let memscope = Memscope::new();
    let (target, comm) = named_target();
    let host = Host::new(&memscope, &comm);
    let session = Session::guard(&memscope, target.pid());
    host.service();
    assert_eq!(
        value(&host.metrics(), "memscope_databases{readable=\"true\"}"),
        Some(1.0)
    );
    session.detach();
    drop(target);
    host.service();
    let metrics = host.metrics();
    assert_eq!(
        value(&metrics, "memscope_databases{readable=\"true\"}"),
        Some(0.0),
        "{metrics}"
    );
    assert!(!metrics.contains(&comm), "{metrics}");
}

#[test]
fn a_leak_raises_the_alert_in_a_real_prometheus_and_a_fix_ends_it() {
    let memscope = Memscope::new();
    let (mut target, comm) = named_target();
    let host = Host::new(&memscope, &comm);
    let _session = Session::guard(&memscope, target.pid());
    host.service();
    let exporter = node_exporter(&host.metrics_folder());
    let prometheus = prometheus(&host, exporter.port());
    let alert = |prometheus: &Server| -> Option<serde_json::Value> {
        let answer: serde_json::Value = serde_json::from_str(&prometheus.get("/api/v1/alerts")?).ok()?;
        let alerts = answer["data"]["alerts"].as_array()?.clone();
        alerts.into_iter().find(|alert| {
            let labels = &alert["labels"];
            labels["alertname"] == "MemscopeLeakSuspected"
                && labels["comm"] == comm.as_str()
                && alert["state"] == "firing"
        })
    };
    // Every request leaks one block and uses others that it gives back.
    let request = |target: &mut Target| {
        target.act("take 1 10007");
        target.act("take 5 20011");
        target.act("give 5 20011");
        std::thread::sleep(Duration::from_millis(100));
    };
    let begun = Instant::now();
    let mut refreshed = begun;
    let fired = until(ALERT, "an alert that fires", || {
        request(&mut target);
        if refreshed.elapsed() > Duration::from_secs(5) {
            refreshed = Instant::now();
            host.service();
        }
        alert(&prometheus)
    });
    println!("the alert fired {:?} after the first request", begun.elapsed());
    assert_eq!(fired["labels"]["function"], "layer_one", "{fired:#}");
    // It was pending first, for as long as the rule says.
    let pending = prometheus
        .get("/api/v1/query?query=ALERTS%7Balertstate%3D%22pending%22%7D%5B10m%5D")
        .expect("an answer");
    assert!(
        pending.contains("MemscopeLeakSuspected") && pending.contains(&comm),
        "{pending}"
    );
    // What Prometheus stored is what memscope wrote.
    let query = prometheus
        .get("/api/v1/query?query=memscope_suspect_live_bytes")
        .expect("an answer");
    assert!(query.contains(&comm), "{query}");
    let pid = target.pid().to_string();
    let database = format!("memscope_target_info{{comm=\"{comm}\"");
    assert_eq!(value(&host.metrics(), &database), Some(1.0));
    // It leaks to its end: while the queries above were made, it stood still.
    until(ALERT, "a finding", || {
        for _ in 0..30 {
            request(&mut target);
        }
        (memscope.run(&["check", &pid]).code() == 1).then_some(())
    });
    // Fixed: the process is killed, as for want of memory, and one that does not leak takes its place. What the first one
    // leaked stays on this host for a day.
    target.kill();
    drop(target);
    host.service();
    let metrics = host.metrics();
    assert_eq!(value(&metrics, &database), Some(0.0), "{metrics}");
    let series_of_it = metrics.lines().filter(|line| line.contains(&comm)).count();
    assert_eq!(series_of_it, 1, "{metrics}");
    until(REPLY, "an alert that ends", || {
        alert(&prometheus).is_none().then_some(())
    });
    let mut fixed = Target::blocks();
    fixed.act(&format!("name {comm}"));
    let _fixed = Session::guard(&memscope, fixed.pid());
    host.service();
    fixed.act("take 2 10007");
    host.service();
    let live = format!("memscope_live_bytes{{comm=\"{comm}\"");
    assert_eq!(value(&host.metrics(), &live), Some(20_014.0), "{}", host.metrics());
    // The one that runs is too young to judge; the other is told of, for its leak is true, and is a finding where it is named.
    let checked = host.cron("memscope check").expect_code(6);
    assert!(
        checked
            .stdout
            .contains(&format!("process {pid} {comm} (ended): LEAKING site ")),
        "{checked}"
    );
    memscope.run(&["check", &pid]).expect_code(1);
}

#[test]
fn cron_finds_a_leak_calls_a_fixed_one_clean_and_a_lossy_database_neither() {
    let memscope = Memscope::new();
    let (mut target, comm) = named_target();
    let host = Host::new(&memscope, &comm);
    let _session = Session::guard(&memscope, target.pid());
    host.cron("memscope attach").expect_code(0);
    // A host of its own, whose database holds too little.
    let lossy_host = Memscope::new();
    let mut lossy = Target::blocks();
    let _lossy_session = Session::attach_with(&lossy_host, lossy.pid(), &["--max-blocks", "16"]);
    lossy.act("take 500 31");
    lossy.act("give 500 31");
    let young = host.cron("memscope check").expect_code(6);
    assert!(young.stdout.contains("INCONCLUSIVE: too young"), "{young}");
    let mut refreshed = Instant::now();
    let found = until(ALERT, "a finding", || {
        target.act("take 1 10007");
        target.act("take 5 20011");
        target.act("give 5 20011");
        std::thread::sleep(Duration::from_millis(100));
        if refreshed.elapsed() < Duration::from_secs(5) {
            return None;
        }
        refreshed = Instant::now();
        // The metrics are a look as `report` is one: what they saw is evidence for later ones.
        host.service();
        let checked = host.cron("memscope check");
        (checked.code() == 1).then_some(checked)
    });
    assert!(
        found.stdout.contains(": LEAKING site ") && found.stdout.contains("layer_one"),
        "{found}"
    );
    let pid = target.pid().to_string();
    let report = memscope.ok(&["report", &pid, "--format", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let looks = json["databases"][0]["sites"][0]["earlier_reports"].as_u64();
    assert!(looks >= Some(3), "{looks:?} looks before this one");
    let suspect = |metrics: &str| value(metrics, &format!("memscope_suspect_live_bytes{{comm=\"{comm}\""));
    host.service();
    assert!(suspect(&host.metrics()).is_some(), "the metrics accuse it, too");
    // Known since: the leak of the baseline is none.
    let baseline = host.path("baseline.json");
    std::fs::write(&baseline, &report).expect("a file");
    let baseline = baseline.to_str().expect("a path of ours is text");
    let known = memscope.ok(&["check", &pid, "--baseline", baseline]);
    assert!(
        known.stdout.contains("no suspected leaks beside 1 that the baseline"),
        "{known}"
    );
    // The lossy database is as old by now.
    let unsure = lossy_host.run(&["check", "--quiet"]).expect_code(6);
    assert!(
        unsure.stdout.contains("INCONCLUSIVE: lossy: ") && !unsure.stdout.contains("too young"),
        "{unsure}"
    );
    let pid_of_lossy = lossy.pid().to_string();
    let empty = ["print", &pid_of_lossy, "--age", "60", "--exit-code"];
    lossy_host.run(&empty).expect_code(6);
    // Fixed: requests go on, and nothing stays.
    let clean = until(ALERT, "a clean bill", || {
        target.act("take 5 20011");
        target.act("give 5 20011");
        std::thread::sleep(Duration::from_millis(100));
        if refreshed.elapsed() < Duration::from_secs(5) {
            return None;
        }
        refreshed = Instant::now();
        let checked = host.cron("memscope check");
        (checked.code() == 0).then_some(checked)
    });
    assert_eq!(
        (clean.stdout.as_str(), clean.stderr.as_str()),
        ("", ""),
        "cron has nothing to mail"
    );
    host.service();
    assert_eq!(suspect(&host.metrics()), None);
    // Nothing can be as old as is asked for that was born after the mark.
    memscope.ok(&["mark", &pid, "now"]);
    let since = ["print", &pid, "--age", "60", "--exit-code", "--since", "now"];
    memscope.run(&since).expect_code(6);
    // A second process of the name, of which nothing is known.
    let mut untraced = Target::blocks();
    untraced.act(&format!("name {comm}"));
    memscope.run(&["check", &pid]).expect_code(0);
    let checked = memscope.run(&["check", "--quiet", "--comm", &comm]).expect_code(6);
    assert!(
        checked
            .stderr
            .contains(&format!("process {} {comm} has no database", untraced.pid())),
        "{checked}"
    );
}

#[test]
fn the_daily_reports_of_many_hosts_are_merged() {
    let memscope = Memscope::new();
    let (mut target, comm) = named_target();
    let host = Host::new(&memscope, &comm);
    let _session = Session::guard(&memscope, target.pid());
    host.cron("memscope attach").expect_code(0);
    target.act("take 3 10007");
    for day in 0..2 {
        let written = host.cron("memscope report").expect_code(0);
        assert_eq!(
            (written.stdout.as_str(), written.stderr.as_str()),
            ("", ""),
            "cron has nothing to mail on day {day}"
        );
    }
    let files: Vec<PathBuf> = std::fs::read_dir(host.path("reports"))
        .expect("a folder of reports")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(name.ends_with(&format!("-{comm}-{}.json", target.pid())), "{name}");
    let merge = |files: &[&Path]| -> Output {
        let mut arguments = vec!["merge".as_ref()];
        arguments.extend(files.iter().map(|path| path.as_os_str()));
        memscope.run(&arguments).expect_code(0)
    };
    let summary = |hosts: u64| {
        format!(
            "SUMMARY: 1 sites on {hosts} hosts in {hosts} databases; {} bytes in {} blocks",
            hosts * 30_021,
            hosts * 3
        )
    };
    let merged = merge(&[file]);
    merged.expect_line(&summary(1));
    // What another host of the same make has, under the same name.
    let text = std::fs::read_to_string(file).expect("the report");
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let this = document["host"].as_str().expect("the host is named");
    let of_other = text.replace(&format!("\"host\":\"{this}\""), "\"host\":\"web-2\"");
    let other = host.path("web-2");
    std::fs::create_dir(&other).expect("a folder");
    let other = other.join(&name);
    std::fs::write(&other, &of_other).expect("a report");
    merge(&[file, &other]).expect_line(&summary(2));
    // The same process in several reports, block by block in one of them, is one.
    let by_block = host.path("by_block.json");
    let printed = memscope.ok(&["print", "--age", "0", "--format", "json"]).stdout;
    std::fs::write(&by_block, printed).expect("a report");
    let merged = merge(&[file, &other, file, &by_block]);
    merged.expect_line(&summary(2));
    let note = format!("note: {this}: process {} is there 3 times", target.pid());
    assert!(merged.stdout.contains(&note), "{merged}");
}

/// A Prometheus that looks every second, with the alert rules of dist/ made as impatient.
fn prometheus(host: &Host<'_>, exporter: u16) -> Server {
    let rules: String = dist("prometheus/memscope.rules.yml")
        .lines()
        .map(|line| {
            let wait = line.trim_start().starts_with("for: ");
            let line = if wait {
                format!("{}for: 2s", line.split_at(line.len() - line.trim_start().len()).0)
            } else {
                line.to_owned()
            };
            line + "\n"
        })
        .collect();
    std::fs::write(host.path("rules.yml"), rules).expect("the rules");
    let configuration = format!(
        "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files:\n  - {}\nscrape_configs:\n  - job_name: node\n    \
         static_configs:\n      - targets: ['127.0.0.1:{exporter}']\n",
        host.path("rules.yml").display()
    );
    std::fs::write(host.path("prometheus.yml"), configuration).expect("the configuration");
    let checked = promtool(
        &["check", "config", &host.path("prometheus.yml").to_string_lossy()],
        None,
    );
    assert_eq!(checked.code(), 0, "{checked}");
    let port = free_port();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", host.path("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", host.path("tsdb").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    Server::start(command, port)
}
