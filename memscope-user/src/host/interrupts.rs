//! SIGINT and SIGTERM as something to wait for beside other descriptors. The few raw calls for it are here.

use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd};

/// The two signals, held back from this thread from now on: they are read instead of ending the process.
#[derive(Debug)]
pub struct Interrupts(File);

impl Interrupts {
    /// Holds them back. Call it before other threads are started; they inherit it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn hold_back() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset makes the set a value; the other calls read it, and it lives through them.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            if libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Whether one has come.
    pub fn came(&mut self) -> bool {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        self.0.read(&mut record).is_ok_and(|bytes| bytes > 0)
    }
}

impl AsFd for Interrupts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
