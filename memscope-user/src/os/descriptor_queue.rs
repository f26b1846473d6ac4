//! Asks a pipe or socket of the target how much waits in it, through a borrowed descriptor.
//!
//! Opening `/proc/PID/fd/N` of a pipe would make us one of its readers; pidfd_getfd(2) gives the descriptor itself. It is
//! held for microseconds: if the target closes its own meanwhile, the other end learns of that so much later.

use std::io;
use std::os::fd::{OwnedFd, RawFd};

use rustix::process::{Pid as ProcessId, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::target::identity::Pid;

/// Borrows descriptors of one process.
pub struct Borrower(OwnedFd);

/// Of a thread that is not the main one (Linux 6.9, include/uapi/linux/pidfd.h).
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

/// A pipe's fill.
#[derive(Clone, Copy, Debug)]
pub struct PipeQueue {
    /// Bytes in it.
    pub queued: u64,
    /// Bytes it can hold.
    pub capacity: u64,
}

impl Borrower {
    /// Of a process, by the id of its main thread or, where that has ended, of another.
    pub fn of(pid: Pid) -> io::Result<Self> {
        let number = i32::try_from(pid.0).ok().and_then(ProcessId::from_raw);
        let number = number.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        let opened = pidfd_open(number, PidfdFlags::empty()).or_else(|_| pidfd_open(number, PIDFD_THREAD));
        Ok(Self(opened?))
    }

    /// How full a pipe is.
    pub fn pipe(&self, fd: RawFd) -> io::Result<PipeQueue> {
        let borrowed = self.borrow(fd)?;
        Ok(PipeQueue {
            queued: rustix::io::ioctl_fionread(&borrowed)?,
            capacity: rustix::pipe::fcntl_getpipe_size(&borrowed)? as u64,
        })
    }

    /// Bytes to be received from a socket.
    pub fn socket(&self, fd: RawFd) -> io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(self.borrow(fd)?)?)
    }

    fn borrow(&self, fd: RawFd) -> io::Result<OwnedFd> {
        Ok(pidfd_getfd(&self.0, fd, PidfdGetfdFlags::empty())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn what_waits_in_a_pipe_and_a_socket_is_counted() {
        let borrower = Borrower::of(Pid(std::process::id())).unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"twelve bytes").unwrap();
        let queue = borrower.pipe(reader.as_raw_fd()).unwrap();
        assert_eq!(queue.queued, 12);
        assert!(queue.capacity >= 4096);
        let (mut here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        here.write_all(b"seven b").unwrap();
        assert_eq!(borrower.socket(there.as_raw_fd()).unwrap(), 7);
    }
}
