//! Starts a command and holds it before the first of its own code runs: its libraries mapped, no constructor called.
//!
//! The command is seized by ptrace before it execs, stopped at the exec, and let run to where its loader tells debuggers that
//! everything is mapped (`_dl_debug_state`), or to its first instruction, by debug registers of its thread: no byte of it is
//! changed. The few raw calls for it are here; all tracing is done by the thread that launches.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::mem::offset_of;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use super::elf::ElfImage;
use super::files::open_mapped;
use super::identity::Pid;
use super::loader::{self, Auxiliary, Loading};
use super::process::{Target, TargetError};

/// Where loaders tell debuggers of a change (glibc elf/dl-debug.c, musl ldso/dynlink.c).
const LOADERS_BREAKPOINT: &str = "_dl_debug_state";

/// A command that was started.
#[derive(Debug)]
pub struct Launched {
    pid: libc::pid_t,
    held: bool,
    /// Why it is not held, if it is not.
    pub not_held: Option<String>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Starts a command, found by PATH as a shell would, with this process's standard streams, and holds it.
///
/// # Errors
/// It cannot be started. That it cannot be held is no error: it runs then ([`Launched::not_held`]).
pub fn launch(command: &[OsString]) -> io::Result<Launched> {
    let words: Vec<CString> = command
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<_, _>>()?;
    let (wait_here, go) = pipe()?;
    let (fault, fault_of_child) = pipe()?;
    let pid = fork(&words, [&wait_here, &go], &fault_of_child)?;
    drop((wait_here, fault_of_child));
    let mut launched = Launched {
        pid,
        held: false,
        not_held: None,
    };
    // Killed with us while it stands at a debug register that nobody else would answer for; nothing of it has run by then.
    let options = libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_EXITKILL;
    let seized = request(libc::PTRACE_SEIZE, pid, 0, options as usize);
    File::from(go).write_all(b"g")?;
    match seized {
        Ok(()) => {
            if !launched.reaches_exec()? {
                return Err(told_fault(fault).unwrap_or_else(|| io::Error::other("it was ended before it began")));
            }
            launched.held = true;
            launched.hold();
        }
        Err(error) => {
            launched.not_held = Some(format!("ptrace: {error}"));
            // Ends when the exec closes the child's side.
            if let Some(error) = told_fault(fault) {
                launched.end()?;
                return Err(error);
            }
        }
    }
    Ok(launched)
}

impl Launched {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid(self.pid.unsigned_abs())
    }

    /// Lets it run.
    pub fn release(&mut self) {
        if std::mem::take(&mut self.held) {
            // One that was killed meanwhile needs no letting go.
            let _ = request(libc::PTRACE_DETACH, self.pid, 0, 0);
        }
    }

    /// How it ended; `None` while it runs. To be asked until it has an answer, and then no more.
    ///
    /// # Errors
    /// It is not ours to ask for.
    pub fn end(&mut self) -> io::Result<Option<End>> {
        let mut status = 0;
        // SAFETY: the status is written to a local of the right type; WNOHANG, so that the call never blocks.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
        match waited {
            0 => Ok(None),
            waited if waited == self.pid => Ok(end_of(status)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether it came to its exec; if not, it has ended.
    fn reaches_exec(&self) -> io::Result<bool> {
        loop {
            match self.stop()? {
                Stop::Ended => return Ok(false),
                Stop::Exec => return Ok(true),
                Stop::Signal(signal) => self.go_on(signal)?,
            }
        }
    }

    /// From its exec on to where it is to be held. What cannot be done is said, and the command runs.
    fn hold(&mut self) {
        let outcome = self.run_to_loaded();
        if let Err(error) = outcome {
            self.not_held = Some(error.to_string());
            // Also when it has ended: then there is nothing to let go.
            let _ = self.clear_breakpoints();
            self.release();
            return;
        }
        // From here on our end must not be its end.
        if let Err(error) = request(libc::PTRACE_SETOPTIONS, self.pid, 0, 0) {
            self.not_held = Some(format!("ptrace: {error}"));
            self.release();
        }
    }

    fn run_to_loaded(&self) -> io::Result<()> {
        let pid = self.pid();
        let auxiliary = Auxiliary::of(pid)?;
        if auxiliary.base == 0 {
            // Static: it stands at its first instruction.
            return Ok(());
        }
        let told_at = loaders_breakpoint(pid, auxiliary.base);
        let places = [told_at.unwrap_or(auxiliary.entry), auxiliary.entry];
        self.set_breakpoints(places)?;
        let mut signal = 0;
        loop {
            self.go_on(signal)?;
            signal = match self.stop()? {
                Stop::Ended => return Err(io::Error::other("it ended while it was loaded")),
                Stop::Signal(signal) => signal,
                Stop::Exec => 0,
            };
            if signal == libc::SIGTRAP {
                let at = self.instruction_pointer()?;
                let loaded = || matches!(loader::state(pid), Ok(Loading::Done));
                if at == auxiliary.entry || Some(at) == told_at && loaded() {
                    return self.clear_breakpoints();
                }
                if Some(at) == told_at {
                    signal = 0;
                }
            }
        }
    }

    fn set_breakpoints(&self, places: [u64; 2]) -> io::Result<()> {
        for (register, place) in places.into_iter().enumerate() {
            self.set_debug_register(register, place)?;
        }
        // Both on, for this thread, at the execution of an instruction (Intel SDM volume 3, 19.2.4).
        self.set_debug_register(7, 0b0101)
    }

    fn clear_breakpoints(&self) -> io::Result<()> {
        self.set_debug_register(7, 0)?;
        self.set_debug_register(0, 0)?;
        self.set_debug_register(1, 0)
    }

    fn set_debug_register(&self, register: usize, value: u64) -> io::Result<()> {
        let place = offset_of!(libc::user, u_debugreg) + register * 8;
        request(libc::PTRACE_POKEUSER, self.pid, place, value as usize)
    }

    fn instruction_pointer(&self) -> io::Result<u64> {
        let mut registers = std::mem::MaybeUninit::<libc::user_regs_struct>::zeroed();
        // SAFETY: PTRACE_GETREGS writes a user_regs_struct, which this is; zeroes are a value of it.
        let (outcome, registers) = unsafe {
            let outcome = libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0usize, registers.as_mut_ptr());
            (outcome, registers.assume_init())
        };
        if outcome < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(registers.rip)
    }

    fn go_on(&self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_CONT, self.pid, 0, signal.unsigned_abs() as usize)
    }

    /// Waits until it stands. A stop of job control is left to last as long as it does.
    fn stop(&self) -> io::Result<Stop> {
        loop {
            let mut status = 0;
            // SAFETY: the status is written to a local of the right type.
            let waited = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
            if waited != self.pid {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            }
            if !libc::WIFSTOPPED(status) {
                return Ok(Stop::Ended);
            }
            let signal = libc::WSTOPSIG(status);
            return Ok(match status >> 16 {
                libc::PTRACE_EVENT_EXEC => Stop::Exec,
                libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Stop::Signal(0),
                libc::PTRACE_EVENT_STOP => {
                    request(libc::PTRACE_LISTEN, self.pid, 0, 0)?;
                    continue;
                }
                _ => Stop::Signal(signal),
            });
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        self.release();
    }
}

/// Why a traced command stands.
enum Stop {
    /// It does not: it has ended.
    Ended,
    /// At its exec.
    Exec,
    /// A signal is about to be delivered; 0: nothing is.
    Signal(i32),
}

fn end_of(status: i32) -> Option<End> {
    if libc::WIFEXITED(status) {
        Some(End::Exited(libc::WEXITSTATUS(status)))
    } else if libc::WIFSIGNALED(status) {
        Some(End::Killed(libc::WTERMSIG(status)))
    } else {
        None
    }
}

/// Where the loader mapped at `base` tells of a change.
fn loaders_breakpoint(pid: Pid, base: u64) -> Option<u64> {
    let target = Target::of_pid(pid).map_err(|_: TargetError| ()).ok()?;
    let mappings = target.mappings().ok()?;
    let file = mappings.iter().find(|mapping| mapping.start.0 == base)?.file()?;
    let code = mappings
        .iter()
        .find(|mapping| mapping.executable && mapping.file() == Some(file))?;
    let image = ElfImage::parse(open_mapped(pid, code).ok()?).ok()?;
    let bias = image.segments().bias_of(code)?;
    let mut place = None;
    image.visit_functions(&mut |function| {
        if function.name == LOADERS_BREAKPOINT {
            place = Some(bias.to_runtime(function.address).0);
        }
    });
    place
}

fn told_fault(fault: OwnedFd) -> Option<io::Error> {
    let mut code = [0; 4];
    File::from(fault).read_exact(&mut code).ok()?;
    Some(io::Error::from_raw_os_error(i32::from_ne_bytes(code)))
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// The child waits for a byte from the pipe `go`, or ends with it; then it runs the command. What goes wrong it writes as an
/// error number.
fn fork(words: &[CString], go: [&OwnedFd; 2], fault: &OwnedFd) -> io::Result<libc::pid_t> {
    let mut pointers: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
    let Some(&program) = pointers.first() else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    pointers.push(std::ptr::null());
    let ([go, our_side], fault) = (go.map(|side| side.as_raw_fd()), fault.as_raw_fd());
    // SAFETY: fork takes nothing. The child calls only what may be called after the fork of a process with threads
    // (signal-safety(7), and execvp, which the standard library calls there too), with pointers into memory that was made
    // before, and ends in exec or _exit.
    unsafe {
        let pid = libc::fork();
        if pid != 0 {
            return if pid > 0 {
                Ok(pid)
            } else {
                Err(io::Error::last_os_error())
            };
        }
        // As the standard library starts commands: no signal held back, and SIGPIPE as everybody expects it.
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        for signal in [libc::SIGPIPE, libc::SIGINT, libc::SIGTERM] {
            // What we do at these is not what a command does.
            libc::signal(signal, libc::SIG_DFL);
        }
        // Else its own copy would keep the pipe open, and it would wait for a parent that is no more.
        libc::close(our_side);
        let mut byte = 0u8;
        loop {
            let read = libc::read(go, (&raw mut byte).cast(), 1);
            if read == 1 {
                break;
            }
            if read == 0 || *libc::__errno_location() != libc::EINTR {
                libc::_exit(127);
            }
        }
        libc::execvp(program, pointers.as_ptr());
        let error = (*libc::__errno_location()).to_ne_bytes();
        libc::write(fault, error.as_ptr().cast(), error.len());
        libc::_exit(127)
    }
}

fn request(request: libc::c_uint, pid: libc::pid_t, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: of the requests made here (SEIZE, SETOPTIONS, CONT, LISTEN, INTERRUPT, POKEUSER, DETACH) none takes a pointer
    // of ours.
    let outcome = unsafe { libc::ptrace(request, pid, address, data) };
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
