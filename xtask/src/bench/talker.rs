//! A program under measurement that is talked to over its pipes; killed when dropped.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// A running program.
pub struct Talker {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Talker {
    /// Starts it and waits for its line `ready`. `greeting` is what makes it say so.
    pub fn start(command: &mut Command, greeting: &str) -> Result<Self> {
        let shown = crate::process::shown(command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{shown}`"))?;
        let input = child.stdin.take().context("no input")?;
        let output = child.stdout.take().context("no output")?;
        let mut talker = Self {
            child,
            input,
            output: BufReader::new(output).lines(),
        };
        talker.say(greeting)?;
        talker.hear("ready").with_context(|| format!("`{shown}`"))?;
        Ok(talker)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends lines.
    pub fn say(&mut self, text: &str) -> Result<()> {
        self.input.write_all(text.as_bytes()).context("it does not listen")?;
        self.input.flush().context("it does not listen")
    }

    /// The next line it says.
    pub fn line(&mut self) -> Result<String> {
        match self.output.next() {
            Some(line) => line.context("cannot hear it"),
            None => bail!("it ended: {:?}", self.child.wait()),
        }
    }

    /// Listens until it says this line.
    pub fn hear(&mut self, last: &str) -> Result<()> {
        while self.line()? != last {}
        Ok(())
    }

    /// Asks a question whose answer is two numbers; their quotient, second over first.
    pub fn quotient(&mut self, question: &str) -> Result<f64> {
        self.say(&format!("{question}\n"))?;
        let answer = self.line()?;
        let numbers: Vec<f64> = answer.split(' ').filter_map(|word| word.parse().ok()).collect();
        match numbers.as_slice() {
            [count, ns] if *count > 0.0 => Ok(ns / count),
            _ => bail!("`{question}` was answered `{answer}`"),
        }
    }

    /// CPU time of its main thread so far, nanoseconds (`/proc/PID/schedstat`).
    pub fn cpu_ns(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.pid())).context("cannot read schedstat")?;
        let first = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
        first.context("schedstat says no time")
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
