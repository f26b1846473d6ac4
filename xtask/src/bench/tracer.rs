//! What a target is traced with: nothing, empty programs, memscope, or a rival.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{Bench, memscope::Memscope, programs, talker::Talker};
use crate::process;

/// A way to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracer {
    Nothing,
    /// Programs that do nothing on memscope's own sites: what any tracer with these probes costs at least.
    Floor,
    /// memscope, with these flags.
    Memscope(&'static [&'static str]),
    /// A bpftrace script, in a file.
    Bpftrace(std::path::PathBuf),
    /// A command; `{pid}` stands for the target.
    Rival(String),
}

/// memscope when it records one block in so many that almost none is.
pub const SAMPLED: Tracer = Tracer::Memscope(&["--sample-bytes", "524288"]);

impl Tracer {
    /// As tables name it.
    pub fn name(&self) -> String {
        match self {
            Self::Nothing => "untraced".into(),
            Self::Floor => "floor".into(),
            Self::Memscope([]) => "memscope".into(),
            Self::Memscope(flags) => format!("memscope {}", flags.join(" ")),
            Self::Bpftrace(_) => "bpftrace pairing".into(),
            Self::Rival(command) => command.clone(),
        }
    }

    /// Every way that this run measures: rivals only where they are installed or were named.
    pub fn all(bench: &Bench<'_>) -> Result<Vec<Self>> {
        let mut all = vec![Self::Nothing, Self::Floor, Self::Memscope(&[]), SAMPLED];
        if process::works(Command::new("bpftrace").arg("--version")) {
            let folder = bench.programs.scratch("pairing")?;
            let libc = programs::libc_of(&bench.programs.path("pairs"))?;
            let text = fs::read_to_string(programs::source("pairing.bt")).context("cannot read pairing.bt")?;
            let script = folder.join("pairing.bt");
            fs::write(&script, text.replace("LIBC", &libc)).context("cannot write the bpftrace script")?;
            all.push(Self::Bpftrace(script));
        } else {
            eprintln!("xtask: no bpftrace to compare with (Debian: apt-get install bpftrace)");
        }
        all.extend(bench.options.rivals.iter().cloned().map(Self::Rival));
        Ok(all)
    }

    /// Attaches to a program that answers `run`; returns when its probes fire.
    pub fn attach<'m>(&self, memscope: &'m Memscope, target: &mut Talker) -> Result<Attached<'m>> {
        let pid = target.pid();
        let quiet = |command: &mut Command| -> Result<Child> {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
                .spawn()
                .with_context(|| format!("cannot run `{}`", process::shown(command)))
        };
        match self {
            Self::Nothing => Ok(Attached::Nothing),
            Self::Floor => {
                let mut command = memscope.command(&["floor", &pid.to_string()]);
                let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
                let mut line = String::new();
                BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
                if line != "attached\n" {
                    bail!("`memscope floor` did not attach: {:?}", child.wait());
                }
                Ok(Attached::Floor(child))
            }
            Self::Memscope(flags) => {
                let pid_word = pid.to_string();
                memscope.ok(&[&["attach", &pid_word], *flags].concat())?;
                Ok(Attached::Memscope(memscope, pid))
            }
            Self::Bpftrace(script) => {
                let before = target.quotient("run 1 1 20")?;
                let mut command = Command::new("bpftrace");
                command.arg("-p").arg(pid.to_string()).arg(script);
                command.env("BPFTRACE_MAP_KEYS_MAX", "1000000");
                wait_for_probes(quiet(&mut command)?, before, target)
            }
            Self::Rival(text) => {
                let before = target.quotient("run 1 1 20")?;
                let mut command = Command::new("sh");
                command.args(["-c", &format!("exec {}", text.replace("{pid}", &pid.to_string()))]);
                wait_for_probes(quiet(&mut command)?, before, target)
            }
        }
    }
}

/// A tracer that does not say when its probes are in shows it by what a pair costs.
fn wait_for_probes<'m>(mut child: Child, before: f64, target: &mut Talker) -> Result<Attached<'m>> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            bail!("the tracer ended at once: {status}");
        }
        if target.quotient("run 1 1 20")? > 10.0 * before {
            // The last of its probes may still be on their way.
            std::thread::sleep(Duration::from_millis(500));
            return Ok(Attached::Process(child));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = child.kill();
    let _ = child.wait();
    bail!("its probes did not fire within 30 s")
}

/// bpftrace now and then misses one interrupt and goes on for ever.
fn interrupt(mut child: Child) -> Result<()> {
    for _ in 0..15 {
        let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        interrupted.context("cannot run kill")?;
        let patience = Instant::now() + Duration::from_secs(2);
        while Instant::now() < patience {
            if child.try_wait().context("cannot wait for the tracer")?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    bail!("the tracer did not end within 30 s of its first interrupt")
}

/// An attached tracer; [`Attached::detach`] takes it away.
pub enum Attached<'m> {
    Nothing,
    Floor(Child),
    Memscope(&'m Memscope, u32),
    Process(Child),
}

impl Attached<'_> {
    /// Takes the probes out, and returns when they are gone.
    pub fn detach(self) -> Result<()> {
        match self {
            Self::Nothing => {}
            Self::Floor(mut child) => {
                drop(child.stdin.take());
                child.wait().context("cannot wait for the floor")?;
            }
            Self::Memscope(memscope, pid) => {
                memscope.ok(&["detach", &pid.to_string()])?;
            }
            Self::Process(child) => interrupt(child)?,
        }
        Ok(())
    }
}
