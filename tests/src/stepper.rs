//! Runs a command system call by system call and kills it just before one of them: a crash at a chosen step.

use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Sender, channel};

use libc::{c_int, c_void, pid_t};

use crate::deadline::COMMAND;
use crate::process;
use crate::told::Told;

/// What a stepped run did.
#[derive(Clone, Debug)]
pub struct Steps {
    /// The calls that change something, in order: `mkdir`, `BPF_MAP_CREATE` … The last was not made if the run was killed.
    pub calls: Vec<String>,
    /// Exit code; `None` when it was killed.
    pub code: Option<i32>,
}

/// Runs `command` to its end, or kills it when it is about to make call number `kill_at` (from 1) of those that change
/// something outside the process.
pub fn run(command: Command, kill_at: Option<usize>) -> Steps {
    run_while(command, kill_at, |_| ())
}

/// The same; meanwhile `drive` does what the command is there for, told what it tells on stderr.
pub fn run_while(mut command: Command, kill_at: Option<usize>, drive: impl FnOnce(&Told)) -> Steps {
    static UNKNOWN: i32 = 0;
    let line = format!("{command:?}");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let pid = AtomicI32::new(UNKNOWN);
    // Only the thread that started a tracee may steer it, and it waits without a deadline: this one keeps the time.
    std::thread::scope(|scope| {
        let (sender, done) = channel();
        let (begins, begun) = channel();
        let pid = &pid;
        scope.spawn(move || {
            let steps = trace(command, kill_at, pid, &begins);
            // The receiver may have given up waiting.
            let _ = sender.send(steps);
        });
        // A panic here must end the command, or that thread would wait for it without end.
        let _guard = KilledByPanic(pid);
        if let Ok(stderr) = begun.recv() {
            drive(&Told::read(stderr));
        }
        done.recv_timeout(COMMAND)
            .unwrap_or_else(|_| panic!("still running after {COMMAND:?}: {line}"))
    })
}

struct KilledByPanic<'a>(&'a AtomicI32);

impl Drop for KilledByPanic<'_> {
    fn drop(&mut self) {
        let pid = self.0.load(Ordering::SeqCst);
        if std::thread::panicking() && pid > 1 {
            process::signal(pid.unsigned_abs(), libc::SIGKILL);
        }
    }
}

fn trace(mut command: Command, kill_at: Option<usize>, pid_seen: &AtomicI32, begins: &Sender<ChildStderr>) -> Steps {
    // SAFETY: between fork and exec the closure makes one async-signal-safe system call.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
    let main = pid_t::try_from(child.id()).expect("a pid fits pid_t");
    pid_seen.store(main, Ordering::SeqCst);
    // Nobody waits for it if this thread was too slow.
    let _ = begins.send(child.stderr.take().expect("stderr is a pipe"));
    let (tid, _) = next_stop();
    assert_eq!(tid, main, "the first stop is the exec of the child");
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    request(libc::PTRACE_SETOPTIONS, main, options as usize);
    request(libc::PTRACE_SYSCALL, main, 0);

    let mut calls = Vec::new();
    let mut known = vec![main];
    let code = loop {
        let (tid, status) = next_stop();
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            if tid == main {
                break libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            }
            continue;
        }
        let mut deliver = 0;
        let signal = libc::WSTOPSIG(status);
        if signal == libc::SIGTRAP | 0x80 {
            if let Some(name) = call_that_changes(tid) {
                calls.push(name);
                if Some(calls.len()) == kill_at {
                    process::signal(main.unsigned_abs(), libc::SIGKILL);
                }
            }
        } else if status >> 16 == 0 && known.contains(&tid) {
            deliver = signal;
        }
        if !known.contains(&tid) {
            known.push(tid);
        }
        request(libc::PTRACE_SYSCALL, tid, deliver as usize);
    };
    // The child is reaped already; std only learns that nothing is left to wait for.
    let _ = child.try_wait();
    Steps { calls, code }
}

/// The next stop or end of a tracee of this very thread.
fn next_stop() -> (pid_t, c_int) {
    let mut status = 0;
    // SAFETY: `status` is valid for the call; __WNOTHREAD leaves other threads' children alone.
    let tid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
    assert!(tid > 0, "waitpid: {}", std::io::Error::last_os_error());
    (tid, status)
}

/// A ptrace request without memory; a tracee that was killed meanwhile answers ESRCH, and its end will be seen.
fn request(request: libc::c_uint, tid: pid_t, data: usize) {
    // SAFETY: these requests take their argument by value and write nothing.
    unsafe { libc::ptrace(request, tid, std::ptr::null_mut::<c_void>(), data) };
}

/// The name of the call a tracee is about to make, if it changes something outside the process.
fn call_that_changes(tid: pid_t) -> Option<String> {
    // SAFETY: plain data, for which zero is valid.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: `info` has `size` bytes, which is what the kernel is told.
    let got = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, tid, size, &raw mut info) };
    if got <= 0 || info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: `op` says that this is the member the kernel filled.
    let entry = unsafe { info.u.entry };
    let number = i64::try_from(entry.nr).ok()?;
    let writes = |flags: u64| flags & (libc::O_CREAT | libc::O_WRONLY | libc::O_RDWR) as u64 != 0;
    let name = match number {
        libc::SYS_bpf => return bpf_command(entry.args[0]).map(str::to_owned),
        libc::SYS_perf_event_open => "perf_event_open",
        libc::SYS_ioctl if entry.args[1] & 0xff00 == u64::from(b'$') << 8 => "perf ioctl",
        libc::SYS_openat if writes(entry.args[2]) => "openat for writing",
        libc::SYS_open if writes(entry.args[1]) => "open for writing",
        libc::SYS_mkdir | libc::SYS_mkdirat => "mkdir",
        libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 => "rename",
        libc::SYS_unlink | libc::SYS_unlinkat | libc::SYS_rmdir => "unlink",
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev if entry.args[0] > 2 => "write",
        libc::SYS_fsync | libc::SYS_fdatasync => "fsync",
        libc::SYS_chmod | libc::SYS_fchmod | libc::SYS_fchmodat => "chmod",
        libc::SYS_flock => "flock",
        libc::SYS_mount => "mount",
        libc::SYS_ftruncate => "ftruncate",
        libc::SYS_exit_group => "exit_group",
        _ => return None,
    };
    Some(name.to_owned())
}

/// The bpf(2) commands that make or change something, numbered as in the kernel's enum bpf_cmd; looking at maps and
/// opening pinned objects is none of them.
fn bpf_command(command: u64) -> Option<&'static str> {
    Some(match command {
        0 => "BPF_MAP_CREATE",
        2 => "BPF_MAP_UPDATE_ELEM",
        3 => "BPF_MAP_DELETE_ELEM",
        5 => "BPF_PROG_LOAD",
        6 => "BPF_OBJ_PIN",
        17 => "BPF_RAW_TRACEPOINT_OPEN",
        26 => "BPF_MAP_UPDATE_BATCH",
        28 => "BPF_LINK_CREATE",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_killed_before_the_step_named() {
        let folder = std::env::temp_dir().join(format!("memscope-step-{}", std::process::id()));
        let [first, second] = ["first", "second"].map(|name| folder.with_extension(name));
        let command = || {
            let mut command = Command::new("mkdir");
            command.args([&first, &second]);
            command
        };
        let killed = run(command(), Some(2));
        assert_eq!((killed.code, killed.calls.len()), (None, 2), "{killed:?}");
        assert!(
            first.exists() && !second.exists(),
            "the call it was killed at was not made"
        );
        std::fs::remove_dir(&first).unwrap();
        let whole = run(command(), None);
        assert_eq!(whole.code, Some(0));
        assert_eq!(whole.calls, ["mkdir", "mkdir", "exit_group"]);
        std::fs::remove_dir(&first).unwrap();
        std::fs::remove_dir(&second).unwrap();
    }

    #[test]
    fn a_child_of_the_command_is_followed() {
        let mut command = Command::new("sh");
        command.args(["-c", "mkdir /no/such/folder || true; exit 3"]);
        let steps = run(command, None);
        assert_eq!(steps.code, Some(3));
        assert_eq!(steps.calls, ["mkdir", "exit_group", "exit_group"]);
    }
}
