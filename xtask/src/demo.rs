//! The main job, shown: trace a process that loses memory, print what it lost, and leave it as it was.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{build, process};

/// Blocks younger than this are not printed: what a program has just taken is no leak yet.
const AGE_SECONDS: u64 = 2;
/// Requests the demo program answers while it is traced.
const REQUESTS: u32 = 10;

/// What to trace, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pid: Option<u32>,
    wait: Duration,
}

impl Options {
    /// Reads the words after `cargo xtask demo`.
    pub fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            pid: None,
            wait: Duration::from_secs(5),
        };
        let mut words = words.iter();
        while let Some(&flag) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("`{flag}` wants a number after it"))?;
            let number: u32 = value
                .parse()
                .with_context(|| format!("`{flag} {value}` is not a number"))?;
            match flag {
                "--pid" => options.pid = Some(number),
                "--wait" => options.wait = Duration::from_secs(number.into()),
                _ => bail!("`demo` does not know `{flag}`"),
            }
        }
        Ok(options)
    }
}

/// Traces the demo program, or the process that was named.
pub fn run(options: &Options) -> Result<ExitCode> {
    let memscope = build::memscope()?;
    match options.pid {
        Some(pid) => trace(&memscope, pid, options.wait, || Ok(())).map(|_| ExitCode::SUCCESS),
        None => trace_demo_program(&memscope, options.wait),
    }
}

/// Attaches, lets the target `work`, waits, prints, and detaches whatever happened in between. Returns the report.
fn trace(memscope: &Path, pid: u32, wait: Duration, work: impl FnOnce() -> Result<()>) -> Result<String> {
    let pid = pid.to_string();
    let command = |words: &[&str]| -> Result<Command> {
        let mut command = process::as_root(memscope)?;
        command.args(words);
        Ok(command)
    };
    let observe = || -> Result<String> {
        work()?;
        eprintln!("xtask: waiting {} s, so that the blocks have an age", wait.as_secs());
        thread::sleep(wait);
        let mut print = command(&["print", &pid, "--age", &AGE_SECONDS.to_string()])?;
        eprintln!("$ {}", process::shown(&print));
        let output = print
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run memscope print")?;
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        std::io::stdout().write_all(report.as_bytes())?;
        if !output.status.success() {
            bail!("memscope print failed: {}", output.status);
        }
        process::run(&mut command(&["stats", &pid])?)?;
        Ok(report)
    };
    process::run(&mut command(&["attach", &pid])?)?;
    let report = observe();
    let detached = process::run(&mut command(&["detach", &pid])?);
    let report = report?;
    detached?;
    Ok(report)
}

fn trace_demo_program(memscope: &Path, wait: Duration) -> Result<ExitCode> {
    let folder = process::target_dir().join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let program = folder.join("demo");
    let source = process::workspace().join("tests/programs/demo.c");
    // Optimised as distributions do it, and with names.
    process::run(Command::new("cc").args(["-O2", "-g", "-o"]).arg(&program).arg(&source))?;

    let mut demo = DemoProgram::start(&program)?;
    let pid = demo.child.id();
    eprintln!("xtask: the demo program runs as PID {pid}");
    let mut ledger = Vec::new();
    let report = trace(memscope, pid, wait, || {
        ledger = demo.serve(REQUESTS)?;
        Ok(())
    })?;
    demo.end()?;

    let mut right = true;
    for line in ledger {
        let found = report.matches(&format!(" size:{:#x} ", line.size)).count();
        println!(
            "The program's own count: {}. MemScope printed {found} blocks of that size.",
            line.text
        );
        right &= found == line.expected;
    }
    println!(
        "{}",
        if right {
            "The report is right."
        } else {
            "The report is WRONG."
        }
    );
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One line of the program's ledger.
#[derive(Debug, PartialEq, Eq)]
struct LedgerLine {
    text: String,
    /// Size of the blocks in bytes.
    size: u64,
    /// Live blocks of that size in all.
    expected: usize,
}

/// Reads `lost 3 blocks of 10007 bytes in copy_header`; lines of the same size are one line of the ledger.
fn read_ledger(lines: &[String]) -> Result<Vec<LedgerLine>> {
    let mut ledger: Vec<LedgerLine> = Vec::new();
    for text in lines {
        let words: Vec<&str> = text.split(' ').collect();
        let ["lost" | "kept", count, "blocks", "of", size, "bytes", "in", _] = words.as_slice() else {
            bail!("the demo program said `{text}`");
        };
        let (count, size) = (count.parse()?, size.parse()?);
        match ledger.iter_mut().find(|line| line.size == size) {
            Some(line) => {
                line.expected += count;
                line.text = format!("{}, {text}", line.text);
            }
            None => ledger.push(LedgerLine {
                text: text.clone(),
                size,
                expected: count,
            }),
        }
    }
    Ok(ledger)
}

/// The running demo program; killed when dropped.
struct DemoProgram {
    child: Child,
    /// Closed to end the program.
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl DemoProgram {
    fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("the demo program has no output")?;
        let mut demo = Self {
            child,
            input,
            output: BufReader::new(output).lines(),
        };
        demo.lines_until("ready")?;
        Ok(demo)
    }

    fn serve(&mut self, requests: u32) -> Result<Vec<LedgerLine>> {
        let input = self.input.as_mut().context("the demo program has no input")?;
        writeln!(input, "{requests}").context("cannot talk to the demo program")?;
        read_ledger(&self.lines_until("done")?)
    }

    fn lines_until(&mut self, last: &str) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for line in &mut self.output {
            let line = line.context("cannot read what the demo program says")?;
            if line == last {
                return Ok(lines);
            }
            lines.push(line);
        }
        bail!("the demo program ended before it said `{last}`")
    }

    /// Lets the program run to its own end, which tracing must not have changed.
    fn end(mut self) -> Result<()> {
        drop(self.input.take());
        let status = self.child.wait().context("cannot wait for the demo program")?;
        if !status.success() {
            bail!("the demo program ended with {status}");
        }
        Ok(())
    }
}

impl Drop for DemoProgram {
    fn drop(&mut self) {
        // Only after an error is it still alive; there is nobody left to tell that it cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_adds_up_blocks_of_one_size() {
        let lines = [
            "lost 2 blocks of 20011 bytes in open_session",
            "kept 1 blocks of 20011 bytes in open_session",
        ];
        let ledger = read_ledger(&lines.map(str::to_owned)).unwrap();
        assert_eq!(ledger.len(), 1);
        assert_eq!((ledger[0].size, ledger[0].expected), (20011, 3));
        assert!(read_ledger(&["lost many".to_owned()]).is_err());
    }

    #[test]
    fn a_pid_and_a_wait_are_numbers() {
        let options = Options::parse(&["--pid", "7", "--wait", "9"]).unwrap();
        assert_eq!(
            options,
            Options {
                pid: Some(7),
                wait: Duration::from_secs(9)
            }
        );
        assert!(Options::parse(&["--pid"]).is_err());
        assert!(Options::parse(&["--pid", "seven"]).is_err());
    }
}
