//! Stops one thread for as long as it takes to copy its registers and stack, by ptrace.
//!
//! The thread is seized, not attached to: no signal is sent, and a thread in a job-control stop stays in it. The tracer
//! is a thread of ours that ends with the copy, so whatever happens to us the kernel lets the target's thread go on
//! (ptrace(2): a tracer's end detaches its tracees). A signal that arrives in between is passed on when it is let go.

use std::io;
use std::time::{Duration, Instant};

use super::memory_copy::StackCopy;
use super::registers::{PT_REGS, Registers};
use crate::target::address::RuntimeAddress;
use crate::target::memory::{ProcessMemory, TargetMemory};

/// Longest wait for the thread to stop; until then it runs, or waits for a CPU as it did before.
const PATIENCE: Duration = Duration::from_secs(1);
/// For so long we ask again at once; a thread that has not stopped by then may be waiting for this very CPU.
const EAGER: Duration = Duration::from_micros(200);
/// The nice value of those that go first; it is that of the tracing thread alone, which ends with the copy.
const HIGHEST: i32 = -20;
/// Most of a stack that is copied.
const MAX_COPY: u64 = 1 << 20;

/// What was copied.
pub struct Stopped {
    /// Registers.
    pub registers: Registers,
    /// The stack from its pointer on.
    pub stack: StackCopy,
    /// How long the thread could not run, at most.
    pub stopped_for: Duration,
}

/// Why a thread could not be stopped.
pub enum StopError {
    /// It has ended.
    Gone,
    /// It did not stop in time.
    TimedOut,
    /// The kernel refused.
    Refused(io::Error),
}

/// Stops a thread, copies, and lets it go. `stack_end` tells where the stack that holds an address ends.
pub fn copy(
    memory: &ProcessMemory,
    tid: u32,
    stack_end: &(dyn Fn(u64) -> Option<u64> + Sync),
) -> Result<Stopped, StopError> {
    let tid = libc::pid_t::try_from(tid).map_err(|_| StopError::Gone)?;
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .spawn_scoped(scope, || seize_and_copy(tid, memory, stack_end))
            .map_err(StopError::Refused)?
            .join()
            .unwrap_or_else(|_| Err(StopError::Refused(io::Error::other("the tracing thread failed"))))
    })
}

fn seize_and_copy(
    tid: libc::pid_t,
    memory: &ProcessMemory,
    stack_end: &dyn Fn(u64) -> Option<u64>,
) -> Result<Stopped, StopError> {
    // Whoever holds up the target must not be held up: on a busy host this thread would lose its CPU in between. Not
    // everybody may; then it is as it is.
    let _ = rustix::process::setpriority_process(None, HIGHEST);
    request(libc::PTRACE_SEIZE, tid, 0)?;
    let begun = Instant::now();
    request(libc::PTRACE_INTERRUPT, tid, 0)?;
    let signal = wait_for_stop(tid, begun)?;
    let outcome = copy_stopped(tid, memory, stack_end);
    let detached = request(libc::PTRACE_DETACH, tid, signal);
    let stopped_for = begun.elapsed();
    let (registers, stack) = outcome?;
    // Killed in its stop: what was copied is still its last stack.
    match detached {
        Ok(()) | Err(StopError::Gone) => {}
        Err(error) => return Err(error),
    }
    Ok(Stopped {
        registers,
        stack,
        stopped_for,
    })
}

fn copy_stopped(
    tid: libc::pid_t,
    memory: &ProcessMemory,
    stack_end: &dyn Fn(u64) -> Option<u64>,
) -> Result<(Registers, StackCopy), StopError> {
    let registers = Registers::from_pt_regs(&registers(tid)?);
    let start = registers.rsp;
    let end = stack_end(start).unwrap_or(start);
    let mut bytes = vec![0; (end - start).min(MAX_COPY) as usize];
    if memory.read_into(RuntimeAddress(start), &mut bytes).is_err() {
        // A stack that cannot be read is an end of the walk, not of the look.
        bytes.clear();
    }
    Ok((registers, StackCopy::new(start, bytes)))
}

/// Waits for the stop; gives the signal that is to be passed on, or 0.
fn wait_for_stop(tid: libc::pid_t, begun: Instant) -> Result<usize, StopError> {
    loop {
        let mut status = 0;
        // SAFETY: the status is written to a local of the right type; WNOHANG, so that the call never blocks.
        let waited = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::WNOHANG) };
        if waited == tid {
            if !libc::WIFSTOPPED(status) {
                return Err(StopError::Gone);
            }
            // PTRACE_EVENT_STOP in the third byte: our stop, or a job-control one, which detaching leaves as it is.
            // Anything else is a signal on its way in.
            let ours = status >> 16 == libc::PTRACE_EVENT_STOP;
            let signal = if ours { 0 } else { libc::WSTOPSIG(status) };
            return Ok(usize::try_from(signal).unwrap_or(0));
        }
        if waited < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(stop_error(error));
            }
        }
        let waited = begun.elapsed();
        if waited > PATIENCE {
            return Err(StopError::TimedOut);
        }
        // A thread that runs stops at once, and then every moment counts; one that does not is waited for gently.
        if waited < EAGER {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

fn registers(tid: libc::pid_t) -> Result<[u64; PT_REGS], StopError> {
    // struct user_regs_struct: pt_regs, then fs_base, gs_base, ds, es, fs, gs (sys/user.h).
    let mut saved = [0u64; PT_REGS + 6];
    // SAFETY: PTRACE_GETREGS writes a user_regs_struct, which is 27 words on x86-64, as long as `saved`.
    let outcome = unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, 0usize, saved.as_mut_ptr()) };
    if outcome < 0 {
        return Err(stop_error(io::Error::last_os_error()));
    }
    let mut registers = [0; PT_REGS];
    registers.copy_from_slice(&saved[..PT_REGS]);
    Ok(registers)
}

fn request(request: libc::c_uint, tid: libc::pid_t, data: usize) -> Result<(), StopError> {
    // SAFETY: of the requests made here (SEIZE, INTERRUPT, DETACH) none takes a pointer.
    let outcome = unsafe { libc::ptrace(request, tid, 0usize, data) };
    if outcome < 0 {
        return Err(stop_error(io::Error::last_os_error()));
    }
    Ok(())
}

fn stop_error(error: io::Error) -> StopError {
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::ECHILD) => StopError::Gone,
        _ => StopError::Refused(error),
    }
}
