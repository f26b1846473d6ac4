//! A child of our own to try probes on: what a hit costs here, and whether one kills a process under a seccomp filter.
//!
//! The child is this executable again (the hidden command `sacrifice`), so that it runs on the same C library. All `unsafe`
//! of the host room is in this file.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::calibration::CalibrationError;

/// Pairs that the child allocates and frees between two looks at its clock.
const BATCH: u64 = 256;
/// The system call by which a return probe enters the kernel (x86-64, Linux 6.11 and later).
const SYS_URETPROBE: u32 = 335;

/// A running child.
pub struct Sacrifice {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Sacrifice {
    /// Starts one; `filtered`: under a seccomp filter that kills it at the system call of return probes.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(filtered: bool) -> Result<Self, CalibrationError> {
        let failed = |source| CalibrationError::Child { source };
        let executable = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(executable);
        command.arg("sacrifice").env_clear();
        if filtered {
            command.arg("--filtered");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::Error::other("it has no pipes")));
        };
        let mut sacrifice = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        sacrifice.line().map_err(failed)?;
        Ok(sacrifice)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU nanoseconds a malloc+free pair of it takes; an error when it is killed meanwhile.
    ///
    /// # Errors
    /// It has ended, or does not answer.
    pub fn pair_ns(&mut self, milliseconds: u32) -> io::Result<f64> {
        writeln!(self.input, "{milliseconds}")?;
        let line = self.line()?;
        line.trim()
            .parse()
            .map_err(|_| io::Error::other(format!("the child answered `{}`", line.trim())))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(line),
        }
    }
}

impl Drop for Sacrifice {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's side: answers each number of milliseconds on standard input with the CPU time of a pair.
///
/// # Errors
/// The filter cannot be installed, or the pipes are gone.
pub fn serve(filtered: bool) -> io::Result<()> {
    let mut lines = io::stdin().lock().lines();
    let mut out = io::stdout().lock();
    if filtered {
        filter()?;
    }
    writeln!(out, "ready")?;
    while let Some(line) = lines.next().transpose()? {
        let milliseconds: u64 = line.trim().parse().map_err(io::Error::other)?;
        let (from, mut pairs, mut spent) = (cpu_ns(), 0u64, 0u64);
        while spent < milliseconds * 1_000_000 {
            for _ in 0..BATCH {
                // Room that nobody fills: the compiler turns a zeroed block into `calloc`, which is not probed here.
                drop(std::hint::black_box(Vec::<u8>::with_capacity(64)));
            }
            pairs += BATCH;
            spent = cpu_ns() - from;
        }
        writeln!(out, "{}", spent as f64 / pairs as f64)?;
    }
    Ok(())
}

/// CPU time of this thread.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Allows every system call but that of return probes, which kills: the strictest a filter can be to us.
fn filter() -> io::Result<()> {
    // linux/bpf_common.h, linux/seccomp.h.
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const KILL_PROCESS: u32 = 0x8000_0000;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The system call's number is the first word of seccomp_data.
    let mut steps = [
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, SYS_URETPROBE),
        step(RETURN, 0, 0, KILL_PROCESS),
        step(RETURN, 0, 0, ALLOW),
    ];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: plain numbers; and a program of four steps that lives through the call, of which the kernel keeps a copy.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    if refused {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
