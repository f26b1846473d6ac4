//! The target's memory, read from outside; anything that can answer for it (a recording, a test) can take its place.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::address::RuntimeAddress;
use super::identity::Pid;

/// Memory of a process, by address.
pub trait TargetMemory {
    /// Fills `buffer` from `address`.
    ///
    /// # Errors
    /// When any byte of the range is not mapped, or the process has ended.
    fn read_into(&self, address: RuntimeAddress, buffer: &mut [u8]) -> io::Result<()>;

    /// The 64-bit word at `address`.
    ///
    /// # Errors
    /// As [`TargetMemory::read_into`].
    fn read_word(&self, address: RuntimeAddress) -> io::Result<u64> {
        let mut word = [0; 8];
        self.read_into(address, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }
}

/// A running process, through `/proc/PID/mem`. Reading it neither stops nor changes the process.
#[derive(Debug)]
pub struct ProcessMemory(File);

impl ProcessMemory {
    /// Opens the memory of a process. The open file stays tied to this process: if it ends or executes another program,
    /// reads fail.
    ///
    /// # Errors
    /// When the process is gone or CAP_SYS_PTRACE is missing.
    pub fn open(pid: Pid) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/mem")).map(Self)
    }
}

impl TargetMemory for ProcessMemory {
    fn read_into(&self, address: RuntimeAddress, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, address.0)
    }
}

/// No memory at all: for images looked at without a process.
#[derive(Clone, Copy, Debug)]
pub struct NoMemory;

impl TargetMemory for NoMemory {
    fn read_into(&self, _address: RuntimeAddress, _buffer: &mut [u8]) -> io::Result<()> {
        Err(io::Error::other("the target's memory is not at hand"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_read_and_the_null_page_is_not() {
        let value = Box::new(0x1234_5678_9abc_def0_u64);
        let memory = ProcessMemory::open(Pid(std::process::id())).expect("own memory");
        let address = RuntimeAddress((&raw const *value).addr() as u64);
        assert_eq!(memory.read_word(address).expect("mapped"), *value);
        assert!(memory.read_word(RuntimeAddress(0)).is_err());
    }
}
