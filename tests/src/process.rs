//! The few raw system calls of the harness: pid descriptors, signals, waiting with a deadline.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// The lock of a folder, as a command that is at work on a session holds it; given back when dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "its end gives the lock back")] File);

impl Lock {
    /// Takes it; nobody else may have it.
    pub fn hold(folder: &Path) -> Self {
        let file = File::open(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        // SAFETY: the descriptor is open for the call, which takes no pointer.
        let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        assert_eq!(locked, 0, "flock: {}", std::io::Error::last_os_error());
        Self(file)
    }
}

/// Waits until `child` has ended; `None` when `limit` is over first.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let descriptor = pidfd(child.id());
    if !readable(&descriptor, limit) {
        return None;
    }
    Some(child.wait().expect("reap a child that has ended"))
}

/// Waits until `child` has ended and gives its largest resident set in KiB; `None` when `limit` is over first. The child
/// is reaped, and so nobody else may wait for it: it is given up.
pub fn wait_with_peak(child: Child, limit: Duration) -> Option<(ExitStatus, u64)> {
    let descriptor = pidfd(child.id());
    if !readable(&descriptor, limit) {
        return None;
    }
    let pid = i32::try_from(child.id()).expect("a pid fits pid_t");
    let mut status = 0;
    // SAFETY: rusage is plain data; zero is a valid value for every field.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `status` and `usage` are valid for the call, which fills them.
    let reaped = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!(reaped, pid, "wait4: {}", std::io::Error::last_os_error());
    Some((ExitStatus::from_raw(status), usage.ru_maxrss.unsigned_abs()))
}

/// Whether process `pid` ends within `limit`; it need not be a child of ours.
pub fn ends_within(pid: u32, limit: Duration) -> bool {
    match try_pidfd(pid) {
        Some(descriptor) => readable(&descriptor, limit),
        None => true,
    }
}

/// Sends `signal` to process `pid`; a process that is gone already is no error.
pub fn signal(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("a pid fits pid_t");
    assert!(pid > 1, "refusing to signal pid {pid}");
    // SAFETY: kill takes plain integers and touches no memory of ours; pid > 1 excludes groups and broadcasts.
    unsafe { libc::kill(pid, signal) };
}

/// State letter of `/proc/PID/stat` (`R`, `S`, `T`, `Z` …); `None` when the process is gone.
pub fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that the call fills.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(result, 0, "CLOCK_MONOTONIC is always there");
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Whether this process has effective user id 0.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Mounts a BPF file system on /sys/fs/bpf unless one is there.
pub fn mount_bpffs() {
    const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
    // SAFETY: statfs is plain data; zero is a valid value for every field, and the call fills it.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a NUL-terminated literal and `stat` outlives the call.
    let found = unsafe { libc::statfs(c"/sys/fs/bpf".as_ptr(), &raw mut stat) };
    if found == 0 && stat.f_type == BPF_FS_MAGIC {
        return;
    }
    // SAFETY: all strings are NUL-terminated literals; the data pointer may be null.
    let mounted = unsafe {
        libc::mount(
            c"bpf".as_ptr(),
            c"/sys/fs/bpf".as_ptr(),
            c"bpf".as_ptr(),
            libc::MS_NOSUID,
            std::ptr::null(),
        )
    };
    let error = std::io::Error::last_os_error();
    assert_eq!(
        mounted, 0,
        "mounting a BPF file system on /sys/fs/bpf: {error}; the suites need root"
    );
}

fn pidfd(pid: u32) -> OwnedFd {
    try_pidfd(pid).unwrap_or_else(|| panic!("pidfd_open({pid}): {}", std::io::Error::last_os_error()))
}

fn try_pidfd(pid: u32) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes two integers; the result is a new descriptor or -1.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let descriptor = i32::try_from(descriptor).expect("descriptors are small");
    // SAFETY: a non-negative result is a descriptor that nobody else owns.
    (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn readable(descriptor: &OwnedFd, limit: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one valid pollfd, count 1.
    unsafe { libc::poll(&raw mut poll, 1, limit) == 1 }
}
