//! Real programs with fixed work: CPU time traced over untraced.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Bench,
    figures::{Samples, time},
    programs::Cost,
    talker::Talker,
};
use crate::process;

const SQL: &str = "create table t(a integer primary key, b text, c real);\n\
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)\n\
    insert into t select i, hex(i * 7919) || 'text', i / 3.0 from n;\n\
    create index tb on t(b);\n\
    select count(*) from t x join t y on x.b = y.b where length(x.b || y.c) > 3;\n\
    update t set b = b || 'x' where a % 3 = 0;\n\
    select length(group_concat(b)) from t;\ndrop table t;\n";

const PYTHON: &str = "import sys, json\n\
    print('ready', flush=True)\n\
    for line in sys.stdin:\n    \
        for n in range(60):\n        \
            data = json.loads(json.dumps([{'k%d' % i: [i, 'x' * (600 + i % 64), bytes(700)[0]]} for i in range(1000)]))\n    \
        print('done', flush=True)\n";

/// Every program that is installed.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    if bench.options.quick && bench.options.cases.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::new();
    if process::works(Command::new("sqlite3").arg("-version")) {
        let program = || {
            let mut command = Command::new("sqlite3");
            command.arg(":memory:");
            command
        };
        let work = format!("{SQL}select 'done';\n");
        talked(bench, "sqlite3", program, "select 'ready';\n", &work, &mut rows)?;
        restarted(bench, &mut rows)?;
    }
    if process::works(Command::new("python3").arg("--version")) {
        let program = || {
            let mut command = Command::new("python3");
            command.args(["-c", PYTHON]);
            command
        };
        talked(bench, "python3, json", program, "", "go\n", &mut rows)?;
    }
    if process::works(Command::new("redis-server").arg("--version")) {
        redis(bench, &mut rows)?;
    }
    bench.results.table(
        "Real programs",
        &["program", "traced by", "of untraced", "median, CPU time"],
        &rows,
    );
    Ok(())
}

/// One round of `work` in a program that is talked to, untraced and traced, turn about.
fn talked(
    bench: &Bench<'_>,
    name: &str,
    program: impl Fn() -> Command,
    greeting: &str,
    work: &str,
    rows: &mut Vec<Vec<String>>,
) -> Result<()> {
    let (mut untraced, mut traced) = (Samples::default(), Samples::default());
    let mut target = Talker::start(&mut program(), greeting)?;
    let pid = target.pid().to_string();
    let mut once = || -> Result<f64> {
        let before = target.cpu_ns()?;
        target.say(work)?;
        target.hear("done")?;
        Ok(target.cpu_ns()? - before)
    };
    once()?;
    for _ in 0..bench.options.rounds().min(5) {
        untraced.add(once()?);
        bench.memscope.ok(&["attach", &pid])?;
        let cost = once();
        bench.memscope.ok(&["detach", &pid])?;
        traced.add(cost?);
    }
    for (tracer, samples) in [("nothing", &untraced), ("memscope", &traced)] {
        rows.push(vec![
            name.to_owned(),
            tracer.to_owned(),
            samples.over(&untraced).to_string(),
            time(samples.median()),
        ]);
    }
    Ok(())
}

/// Tools that need the program to be started anew under them, for context.
fn restarted(bench: &Bench<'_>, rows: &mut Vec<Vec<String>>) -> Result<()> {
    let folder = bench.programs.scratch("restarted")?;
    let script = folder.join("work.sql");
    std::fs::write(&script, SQL).context("cannot write the SQL")?;
    let script = script.to_string_lossy().into_owned();
    let read = format!(".read {script}");
    let log = folder.join("heaptrack").to_string_lossy().into_owned();
    let tools: [(&str, &[&str]); 3] = [
        ("nothing", &[]),
        ("heaptrack", &["heaptrack", "-o", &log]),
        ("valgrind", &["valgrind", "--quiet"]),
    ];
    let mut base = None;
    for (name, words) in tools {
        if words
            .first()
            .is_some_and(|tool| !process::works(Command::new(tool).arg("--version")))
        {
            continue;
        }
        let mut samples = Samples::default();
        for _ in 0..bench.options.rounds().min(3) {
            let mut command = Command::new(bench.programs.path("cost_of"));
            command.args(words).args(["sqlite3", ":memory:", &read]);
            samples.add(Cost::of(&mut command)?.cpu_ns);
        }
        let ratio = samples.over(base.get_or_insert_with(|| samples.clone())).to_string();
        rows.push(vec![
            "sqlite3, from start to end".to_owned(),
            name.to_owned(),
            ratio,
            time(samples.median()),
        ]);
    }
    Ok(())
}

/// redis-server under redis-benchmark.
fn redis(bench: &Bench<'_>, rows: &mut Vec<Vec<String>>) -> Result<()> {
    let folder = bench.programs.scratch("redis")?;
    let socket = folder.join("socket");
    let server = Server::start(&folder, &socket)?;
    let pid = server.child.id();
    let cpu = || -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).context("cannot read schedstat")?;
        let first = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
        first.context("schedstat says no time")
    };
    let once = || -> Result<f64> {
        let before = cpu()?;
        let mut command = Command::new("redis-benchmark");
        command
            .arg("-s")
            .arg(&socket)
            .args(["-n", "30000", "-t", "set,get,lpush,lpop", "-q"]);
        if !process::works(&mut command) {
            bail!("redis-benchmark failed");
        }
        Ok(cpu()? - before)
    };
    once()?;
    let (mut untraced, mut traced) = (Samples::default(), Samples::default());
    for _ in 0..bench.options.rounds().min(5) {
        untraced.add(once()?);
        bench.memscope.ok(&["attach", &pid.to_string()])?;
        let cost = once();
        bench.memscope.ok(&["detach", &pid.to_string()])?;
        traced.add(cost?);
    }
    for (tracer, samples) in [("nothing", &untraced), ("memscope", &traced)] {
        rows.push(vec![
            "redis-server".to_owned(),
            tracer.to_owned(),
            samples.over(&untraced).to_string(),
            time(samples.median()),
        ]);
    }
    Ok(())
}

/// A redis-server of our own; killed when dropped.
struct Server {
    child: Child,
}

impl Server {
    fn start(folder: &Path, socket: &Path) -> Result<Self> {
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(socket)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start redis-server")?;
        let server = Self { child };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            if Instant::now() > deadline {
                bail!("redis-server does not listen after 10 s");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
