//! Names of the system calls a thread can wait in, by number on x86-64.

/// The name of a system call that can wait; `None` for the others (asm/unistd_64.h has them all).
#[must_use]
pub const fn syscall_name(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "read",
        1 => "write",
        7 => "poll",
        16 => "ioctl",
        17 => "pread64",
        18 => "pwrite64",
        19 => "readv",
        20 => "writev",
        23 => "select",
        24 => "sched_yield",
        26 => "msync",
        34 => "pause",
        35 => "nanosleep",
        40 => "sendfile",
        42 => "connect",
        43 => "accept",
        44 => "sendto",
        45 => "recvfrom",
        46 => "sendmsg",
        47 => "recvmsg",
        56 => "clone",
        57 => "fork",
        58 => "vfork",
        59 => "execve",
        61 => "wait4",
        65 => "semop",
        69 => "msgsnd",
        70 => "msgrcv",
        72 => "fcntl",
        73 => "flock",
        74 => "fsync",
        75 => "fdatasync",
        128 => "rt_sigtimedwait",
        130 => "rt_sigsuspend",
        202 => "futex",
        208 => "io_getevents",
        219 => "restart_syscall",
        220 => "semtimedop",
        230 => "clock_nanosleep",
        232 => "epoll_wait",
        242 => "mq_timedsend",
        243 => "mq_timedreceive",
        247 => "waitid",
        270 => "pselect6",
        271 => "ppoll",
        275 => "splice",
        277 => "sync_file_range",
        281 => "epoll_pwait",
        285 => "fallocate",
        288 => "accept4",
        299 => "recvmmsg",
        306 => "syncfs",
        307 => "sendmmsg",
        333 => "io_pgetevents",
        426 => "io_uring_enter",
        435 => "clone3",
        441 => "epoll_pwait2",
        449 => "futex_waitv",
        455 => "futex_wait",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (number, name) in [
            (libc::SYS_poll, "poll"),
            (libc::SYS_futex, "futex"),
            (libc::SYS_epoll_wait, "epoll_wait"),
            (libc::SYS_clock_nanosleep, "clock_nanosleep"),
            (libc::SYS_io_uring_enter, "io_uring_enter"),
            (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait"),
            (libc::SYS_mq_timedreceive, "mq_timedreceive"),
            (libc::SYS_accept4, "accept4"),
            (libc::SYS_recvmmsg, "recvmmsg"),
            (libc::SYS_waitid, "waitid"),
        ] {
            assert_eq!(syscall_name(number as u64), Some(name));
        }
        assert_eq!(syscall_name(u64::MAX), None);
    }
}
